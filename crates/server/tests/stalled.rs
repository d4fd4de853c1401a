//! Watchers that stall: they cost the server a bounded amount of memory, and when they wake they are sent a small part of what
//! was written, and hold the latest of every key.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![cfg(target_os = "linux")]
#![allow(clippy::cast_possible_truncation, reason = "the numbers are small")]

mod support;

use std::collections::BTreeMap;
use std::thread;
use support::{Client, Engine, MIB, Memory, NEVER, TestServer, encoded, mark, put, watch};
use syncline_wire::{Message, Tag};

/// More than one page of the store holds, so that those who catch up do so in several steps.
const KEYS: u64 = 500;
const PUTS: u64 = 30_000;
const VALUE: usize = 1_024;

/// The write that makes a revision.
fn write(revision: u64) -> Message {
    let number = revision - 1;
    put(1, &format!("k/{}", number % KEYS), &format!("{revision:0VALUE$}"), number / KEYS + 1)
}

/// What is held, key by key: the revision that the value names, which is that of its write.
#[derive(Default)]
struct Held {
    /// Whether it was told all that there was at first: before, a MARK promises nothing.
    complete: bool,
    keys: BTreeMap<String, u64>,
    bytes: usize,
    marks: usize,
}

impl Held {
    /// Applies all up to a MARK of this revision. At each MARK, every key is at the last write before it.
    #[track_caller]
    fn until_marked(&mut self, client: &mut Client, revision: u64, memory: &mut Memory) {
        loop {
            let message = client.receive();
            self.bytes += message.encoded_length();
            memory.look();
            match message {
                Message::Put(put) => {
                    let written: u64 = str::from_utf8(&put.value).unwrap().parse().unwrap();
                    let before = self.keys.insert(String::from_utf8(put.key.to_vec()).unwrap(), written);
                    assert!(before.is_none_or(|before| before < written), "{put:?} after {before:?}");
                }
                Message::Mark(found) => {
                    self.marks += 1;
                    let at = found.revision.get();
                    self.complete |= found.tag != Tag::BROADCAST;
                    if !self.complete {
                        continue;
                    }
                    for number in 0..KEYS.min(at) {
                        // The last revision up to `at` that wrote this key.
                        let latest = at - (at - 1 - number) % KEYS;
                        assert_eq!(self.keys.get(&format!("k/{number}")), Some(&latest), "k/{number} at MARK {at}");
                    }
                    if at == revision {
                        return;
                    }
                }
                other => panic!("{other}"),
            }
        }
    }
}

#[test]
fn a_stalled_watcher_is_sent_a_small_part_and_holds_the_latest_of_every_key() {
    for engine in [Engine::memory(), Engine::disk()] {
        let server = TestServer::on(engine, |config| {
            config.recent_log = 64 * 1024;
            config.heartbeat = NEVER;
        });
        let mut writer = server.extended();
        let mut memory = Memory::watch();
        let mut stalled: Vec<(Client, Held)> = (0..5)
            .map(|_| {
                let mut client = Client::with_little_room(server.addr);
                client.greet();
                client.expect(&watch(2, "k/", 0), &mark(2, 0));
                (client, Held { complete: true, ..Held::default() })
            })
            .collect();
        thread::scope(|scope| {
            let mut stream = writer.stream.try_clone().unwrap();
            scope.spawn(move || {
                use std::io::Write as _;
                (1..=PUTS).for_each(|revision| stream.write_all(&encoded(&write(revision))).unwrap());
            });
            for _ in 1..=PUTS {
                assert_eq!(writer.receive().tag(), Tag::new(1));
                memory.look();
            }
        });
        for (client, held) in &mut stalled {
            held.until_marked(client, PUTS, &mut memory);
            assert_eq!(held.keys.len() as u64, KEYS);
            // Of 30 MB that were written. What lies in the kernel's buffers comes too.
            assert!(held.bytes < PUTS as usize * VALUE / 5, "{} bytes in {} groups", held.bytes, held.marks);
            client.expect_silence();
        }
        // Without a bound: 30 MiB where it is shared, 150 where it is not.
        memory.expect_at_most(20 * MIB);
    }
}

#[test]
fn a_watcher_that_stalls_while_all_is_told_at_first_holds_the_latest_of_every_key_too() {
    for engine in [Engine::memory(), Engine::disk()] {
        let server = TestServer::on(engine, |config| {
            config.recent_log = 64 * 1024;
            config.heartbeat = NEVER;
        });
        let mut writer = server.extended();
        let mut put_all = |revisions: std::ops::RangeInclusive<u64>| {
            for revision in revisions {
                writer.expect(&write(revision), &write(revision));
            }
        };
        put_all(1..=KEYS);
        let mut memory = Memory::watch();
        let mut client = Client::with_little_room(server.addr);
        client.greet();
        client.send(&watch(2, "k/", 0));
        put_all(KEYS + 1..=10 * KEYS);
        Held::default().until_marked(&mut client, 10 * KEYS, &mut memory);
        client.expect_silence();
    }
}
