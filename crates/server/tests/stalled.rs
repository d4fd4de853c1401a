//! Watchers that stall take a bounded amount of memory. When they read again, they receive a small part of the writes, and
//! end with the latest version of every key.
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
use support::prelude::*;

/// More keys than fit into one page of the store, so that a catch-up takes several pages.
const KEYS: u64 = 500;
const PUTS: u64 = 30_000;
const VALUE: usize = 1_024;

/// Returns the write with this revision.
fn write(revision: u64) -> Message {
    let number = revision - 1;
    put(1, &format!("k/{}", number % KEYS), &format!("{revision:0VALUE$}"), number / KEYS + 1)
}

/// The state of a watcher: for each key, the revision of its last write, which is in the value.
#[derive(Default)]
struct Held {
    /// Whether the first catch-up is complete. Before, a MARK promises nothing.
    complete: bool,
    keys: BTreeMap<String, u64>,
    bytes: usize,
    marks: usize,
}

impl Held {
    /// Applies everything up to a MARK of this revision. Checks at each MARK that every key has its last write before it.
    #[track_caller]
    fn until_marked(&mut self, client: &mut Client, revision: u64, memory: &mut Memory) {
        loop {
            let message = client.receive();
            self.bytes += message.encoded_length();
            memory.sample();
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
fn a_stalled_watcher_is_sent_few_changes_and_ends_with_the_latest() {
    for engine in [Engine::memory(), Engine::disk()] {
        let server = TestServer::on(engine, |config| {
            config.recent_log = 64 * 1024;
            config.heartbeat = NEVER;
        });
        let mut writer = server.extended();
        let mut memory = Memory::watch();
        let mut stalled: Vec<(Client, Held)> = (0..5)
            .map(|_| {
                let mut client = Client::with_small_buffer(server.addr);
                client.hello();
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
                memory.sample();
            }
        });
        for (client, held) in &mut stalled {
            held.until_marked(client, PUTS, &mut memory);
            assert_eq!(held.keys.len() as u64, KEYS);
            // 30 MB were written. The contents of the kernel's buffers arrive too.
            assert!(held.bytes < PUTS as usize * VALUE / 5, "{} bytes in {} groups", held.bytes, held.marks);
            client.expect_silence();
        }
        // Without a limit: 30 MiB if the memory is shared, otherwise 150.
        memory.expect_at_most(20 * MIB);
    }
}

#[test]
fn a_watcher_that_stalls_in_its_first_catch_up_ends_with_the_latest() {
    for engine in [Engine::memory(), Engine::disk()] {
        let server = TestServer::on(engine, |config| {
            config.recent_log = 64 * 1024;
            config.heartbeat = NEVER;
        });
        let mut writer = server.extended();
        let mut put_all = |revisions: std::ops::RangeInclusive<u64>| {
            for revision in revisions {
                writer.expect_echo(&write(revision));
            }
        };
        put_all(1..=KEYS);
        let mut memory = Memory::watch();
        let mut client = Client::with_small_buffer(server.addr);
        client.hello();
        client.send(&watch(2, "k/", 0));
        put_all(KEYS + 1..=10 * KEYS);
        Held::default().until_marked(&mut client, 10 * KEYS, &mut memory);
        client.expect_silence();
    }
}
