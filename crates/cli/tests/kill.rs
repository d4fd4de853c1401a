//! The server is killed (`kill -9`) at random moments, again and again on the same data directory, while eight writers
//! write. No acknowledged write is lost. A watcher resumes after each kill and has the same state as the store.
//!
//! `SYNCLINE_KILLS=1000 cargo test --release --test kill` runs more kills.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use support::Server;
use syncline_load::Random;
use syncline_wire::{Decoder, Message, Revision, ServerHello, Tag, Version};
use tempfile::TempDir;

const WRITERS: u64 = 8;
const KEYS_EACH: u64 = 20;
const IN_FLIGHT: u64 = 16;
const KILLS: u64 = 50;

/// The versions of a key that its writer knows.
#[derive(Clone, Copy, Default)]
struct Known {
    /// The last acknowledged version.
    acknowledged: u64,
    /// The last version that a put was sent for.
    asked: u64,
}

/// A writer's keys.
type Keys = BTreeMap<u64, Known>;

fn key(writer: u64, number: u64) -> String {
    format!("writer{writer}/key{number}")
}

/// Returns the value of a key at a version: unique, and of a length that varies.
fn value(writer: u64, number: u64, version: u64) -> String {
    format!("{writer}.{number}.{version}.").repeat(1 + usize::try_from(version % 7).unwrap())
}

/// Writes the keys in turn, with several writes in flight, until the server is gone.
fn write(addr: &str, writer: u64, mut keys: Keys, acknowledged: &AtomicU64) -> Keys {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut decoder = Decoder::new(stream.try_clone().unwrap());
    let (mut sent, mut answered) = (0, 0);
    let send = |keys: &mut Keys, sent: &mut u64, stream: &mut TcpStream| {
        let number = *sent % KEYS_EACH;
        let known = keys.entry(number).or_default();
        known.asked += 1;
        let tag = Tag::new(u16::try_from(*sent % 60_000 + 1).unwrap());
        let message =
            Message::put(tag, key(writer, number), value(writer, number, known.asked), Version::new(known.asked));
        *sent += 1;
        let mut frame = Vec::new();
        message.encode(&mut frame).unwrap();
        stream.write_all(&frame)
    };
    loop {
        while sent < answered + IN_FLIGHT {
            // A failure means that the server is gone. Responses that it sent before can still be read.
            if send(&mut keys, &mut sent, &mut stream).is_err() {
                break;
            }
        }
        match decoder.read() {
            Ok(Some(message)) if message.tag() == Tag::BROADCAST => {}
            Ok(Some(Message::Put(put))) => {
                let known = keys.get_mut(&(answered % KEYS_EACH)).unwrap();
                known.acknowledged += 1;
                assert_eq!(put.version.get(), known.acknowledged, "responses must be in order");
                answered += 1;
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Some(other)) => panic!("{other}"),
            Ok(None) | Err(_) => return keys,
        }
    }
}

/// Compares the store with the versions known to the writer, and records which writes in flight were accepted.
fn check(addr: &str, writer: u64, keys: &mut Keys) {
    let mut stream = TcpStream::connect(addr).unwrap();
    let mut decoder = Decoder::new(stream.try_clone().unwrap());
    for (number, known) in keys {
        let mut frame = Vec::new();
        Message::get(Tag::new(1), key(writer, *number)).encode(&mut frame).unwrap();
        stream.write_all(&frame).unwrap();
        let found = match decoder.read().unwrap().unwrap() {
            Message::Put(put) => {
                let version = put.version.get();
                assert_eq!(put.value, value(writer, *number, version), "{} at {version}", key(writer, *number));
                version
            }
            Message::Error(error) if error.text.ends_with(b"not found") => 0,
            other => panic!("{other}"),
        };
        let expected = known.acknowledged..=known.asked;
        assert!(expected.contains(&found), "{} is at {found}, expected {expected:?}", key(writer, *number));
        *known = Known { acknowledged: found, asked: found };
    }
}

/// A watcher of all keys, over one connection after the other.
#[derive(Default)]
struct Watcher {
    /// The state at the last MARK.
    held: BTreeMap<Vec<u8>, (Vec<u8>, u64)>,
    at: Revision,
    store: Option<[u8; 16]>,
    /// The changes since the last MARK.
    gathered: Vec<Message>,
}

impl Watcher {
    /// Connects and resumes. Returns when the state is that of the store.
    fn resume(&mut self, addr: &str) -> Decoder<TcpStream> {
        self.gathered.clear();
        let mut stream = TcpStream::connect(addr).unwrap();
        let [hello, watch, barrier] = [1, 2, 3].map(Tag::new);
        let mut frames = Vec::new();
        for message in
            [Message::hello(hello, ""), Message::watch(watch, "", self.at), Message::mark(barrier, Revision::ZERO)]
        {
            message.encode(&mut frames).unwrap();
        }
        stream.write_all(&frames).unwrap();
        let mut decoder = Decoder::new(stream);
        loop {
            match decoder.read().unwrap().unwrap() {
                Message::Hello(printed) => {
                    let store = ServerHello::decode(&printed.body).unwrap().store_id;
                    assert_eq!(*self.store.get_or_insert(store), store, "a kill must not change the store id");
                }
                Message::Mark(mark) if mark.tag == watch => {
                    self.take(Message::Mark(mark));
                    return decoder;
                }
                told => self.take(told),
            }
        }
    }

    /// Applies changes until the server is gone.
    fn follow(mut self, mut decoder: Decoder<TcpStream>) -> Self {
        while let Ok(Some(told)) = decoder.read() {
            self.take(told);
        }
        self
    }

    fn take(&mut self, told: Message) {
        match told {
            Message::Mark(mark) => {
                assert!(
                    mark.revision >= self.at,
                    "back from {} to {}, although no deletion was forgotten",
                    self.at,
                    mark.revision
                );
                self.mark(mark.revision);
            }
            change => self.gathered.push(change),
        }
    }

    fn mark(&mut self, revision: Revision) {
        self.at = revision;
        for change in self.gathered.drain(..) {
            let Message::Put(put) = change else { panic!("{change}") };
            self.held.insert(put.key.into(), (put.value.into(), put.version.get()));
        }
    }

    /// Compares the state with the versions known to the writers.
    fn check(&self, all: &[Keys]) {
        let mut expected = BTreeMap::new();
        for (writer, keys) in (0..).zip(all) {
            for (number, known) in keys.iter().filter(|(_, known)| known.asked > 0) {
                let value = value(writer, *number, known.asked).into_bytes();
                expected.insert(key(writer, *number).into_bytes(), (value, known.asked));
            }
        }
        let names = |state: &BTreeMap<Vec<u8>, (Vec<u8>, u64)>| -> Vec<_> {
            state.iter().map(|(key, (_, version))| (String::from_utf8_lossy(key).into_owned(), *version)).collect()
        };
        assert_eq!(names(&self.held), names(&expected), "the keys of the watcher at revision {}", self.at);
        assert!(self.held == expected, "at revision {}, the watcher has other values than the store", self.at);
    }
}

#[test]
fn no_acknowledged_write_is_lost_when_the_server_is_killed() {
    let kills = std::env::var("SYNCLINE_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let data = Arc::new(TempDir::new().unwrap());
    let mut all: Vec<Keys> = (0..WRITERS).map(|_| Keys::new()).collect();
    let mut random = Random::new(0);
    let mut total = 0;
    let mut watcher = Watcher::default();
    for kill in 0..kills {
        // Both levels survive the death of the process.
        let durability = if kill % 2 == 0 { "fsync" } else { "os" };
        let server = Server::start_on(&data, &["--listen", "127.0.0.1:0", "--durability", durability], "off");
        for (writer, keys) in (0..).zip(&mut all) {
            check(&server.addr, writer, keys);
        }
        let following = watcher.resume(&server.addr);
        watcher.check(&all);
        let acknowledged = AtomicU64::new(0);
        let enough = random.below(2000);
        (all, watcher) = std::thread::scope(|scope| {
            let watching = scope.spawn(move || watcher.follow(following));
            let writers: Vec<_> = (0..)
                .zip(std::mem::take(&mut all))
                .map(|(writer, keys)| {
                    let (addr, acknowledged) = (&server.addr, &acknowledged);
                    scope.spawn(move || write(addr, writer, keys, acknowledged))
                })
                .collect();
            while acknowledged.load(Ordering::Relaxed) < enough {
                std::thread::yield_now();
            }
            server.process.signal("KILL");
            let all = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
            (all, watching.join().unwrap())
        });
        total += acknowledged.into_inner();
    }
    let server = Server::start_on(&data, &["--listen", "127.0.0.1:0"], "off");
    for (writer, keys) in (0..).zip(&mut all) {
        check(&server.addr, writer, keys);
    }
    drop(watcher.resume(&server.addr));
    watcher.check(&all);
    assert!(total > kills * 100, "only {total} writes were acknowledged, which is too little load");
}
