//! Clients that do not read: they cost the server a bounded amount of memory, keep nobody else from being served, and
//! when they read at last, every request has its answer, in order, and the latest of every key is there.
//!
//! The server runs in this process, whose memory is measured; each bound stands far below what would pile up without
//! it.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(clippy::cast_possible_truncation, reason = "the numbers are small")]

mod support;

use bytes::Bytes;
use std::collections::HashMap;
use std::io::Write as _;
use std::thread;
use support::{Client, MIB, Memory, TestServer, TestStore, all_encoded, encoded, error, get, put};
use syncline_core::Operation;
use syncline_server::Config;
use syncline_wire::{Message, Put, Tag, Version};

const LARGE: usize = 60_000;

fn small_bounds(config: &mut Config) {
    config.recent_log = MIB;
    config.max_queue = MIB;
    config.limits.max_unsent = 256 * 1024;
}

/// The latest of every key that a connection was told, which never goes back.
#[derive(Default)]
struct Replica(HashMap<Bytes, Put>);

impl Replica {
    fn apply(&mut self, put: Put) {
        if let Some(before) = self.0.get(&put.key) {
            assert!(before.version <= put.version, "{put:?} after {before:?}");
        }
        self.0.insert(put.key.clone(), put);
    }

    /// Applies all that comes, up to the write of "the end"; answers how many bytes that were.
    fn catch_up(&mut self, client: &mut Client, memory: &mut Memory) -> usize {
        let mut bytes = 0;
        loop {
            let message = client.receive();
            bytes += message.encoded_length();
            memory.look();
            let Message::Put(put) = message else { panic!("a broadcast, not {message}") };
            let is_end = put.key == "the end";
            self.apply(put);
            if is_end {
                return bytes;
            }
        }
    }

    #[track_caller]
    fn expect(&self, key: &str, value: &str, version: u64) {
        let found = self.0.get(key.as_bytes()).map(|put| (put.value.clone(), put.version.get()));
        assert!(found == Some((Bytes::from(value.to_owned()), version)), "the latest of {key}");
    }
}

fn large(number: u64) -> String {
    format!("{number:0LARGE$}")
}

#[test]
fn a_client_that_asks_for_large_values_and_does_not_read_is_answered_them_all_when_it_does() {
    const GETS: u16 = 3_000;
    let server = TestServer::with(small_bounds);
    let mut bystander = server.connected();
    let value = large(1);
    bystander.expect(&put(1, "large", &value, 1), &put(1, "large", &value, 1));
    let mut client = Client::with_little_room(server.addr);
    let mut memory = Memory::watch();
    let requests: Vec<Message> =
        (1..=GETS).map(|tag| if tag % 10 == 0 { get(tag, "none") } else { get(tag, "large") }).collect();
    client.send_bytes(&all_encoded(&requests));
    for version in 1..=100 {
        bystander.expect_service("bystander", version);
        memory.look();
    }
    for tag in 1..=GETS {
        let expected = if tag % 10 == 0 { error(tag, "\"none\": not found") } else { put(tag, "large", &value, 1) };
        assert!(client.receive_answer() == expected, "the answer to {tag}");
        memory.look();
    }
    // Without a bound: 160 MiB.
    memory.expect_at_most(30 * MIB);
}

#[test]
fn clients_that_do_not_read_what_others_write_are_sent_the_latest_when_they_do() {
    const KEYS: u64 = 10;
    const ROUNDS: u64 = 150;
    let server = TestServer::with(small_bounds);
    let mut writer = server.connected();
    let mut slow: Vec<Client> = (0..5).map(|_| Client::with_little_room(server.addr)).collect();
    slow.iter_mut().for_each(Client::expect_silence);
    let mut memory = Memory::watch();
    for version in 1..=ROUNDS {
        for key in 0..KEYS {
            let key = format!("key {key}");
            writer.send(&put(1, &key, &large(version), version));
            assert_eq!(writer.receive().tag(), Tag::new(1));
        }
        memory.look();
    }
    writer.expect(&put(1, "the end", "", 1), &put(1, "the end", "", 1));
    for client in &mut slow {
        let mut replica = Replica::default();
        let bytes = replica.catch_up(client, &mut memory);
        for key in 0..KEYS {
            replica.expect(&format!("key {key}"), &large(ROUNDS), ROUNDS);
        }
        // 90 MB were written. What was left out was replaced by then.
        assert!(bytes < 45_000_000, "{bytes} bytes were sent to one that did not read");
        client.expect_silence();
    }
    // Without a bound: 86 MiB where it is shared, 430 where it is not.
    memory.expect_at_most(30 * MIB);
}

#[test]
fn a_client_that_asks_and_does_not_read_while_others_write_is_sent_its_answers_and_the_latest() {
    const ROUNDS: u64 = 600;
    let server = TestServer::with(|config| {
        small_bounds(config);
        config.recent_log = 200_000;
    });
    let mut writer = server.connected();
    writer.expect(&put(1, "shared", &large(1), 1), &put(1, "shared", &large(1), 1));
    let mut client = Client::with_little_room(server.addr);
    client.send(&get(1, "none"));
    assert_eq!(client.receive(), error(1, "\"none\": not found"));
    let mut memory = Memory::watch();
    // Its own writes, and reads of what the other writes.
    let requests: Vec<Message> = (1..=900)
        .map(|tag| match tag % 3 {
            0 => get(tag, "shared"),
            1 => put(tag, "own", &format!("value {tag}"), u64::from(tag / 3 + 1)),
            _ => put(tag, "own", "stale", 1),
        })
        .collect();
    client.send_bytes(&all_encoded(&requests));
    for version in 2..=ROUNDS {
        assert_eq!(writer.ask(&put(1, "shared", &large(version), version)).tag(), Tag::new(1));
        memory.look();
    }
    let mut replica = Replica::default();
    for request in &requests {
        let answer = loop {
            memory.look();
            match client.receive() {
                Message::Put(put) if put.tag == Tag::BROADCAST => replica.apply(put),
                answer => break answer,
            }
        };
        match (request, answer) {
            (Message::Get(get), Message::Put(put)) => {
                assert_eq!((get.tag, &get.key), (put.tag, &put.key));
                assert!(put.value == large(put.version.get()), "the value of that version");
                replica.apply(put);
            }
            (Message::Put(asked), Message::Put(put)) => {
                assert_eq!(*asked, put);
                replica.apply(put);
            }
            (Message::Put(asked), answer) => {
                assert!(asked.value == "stale", "{answer}");
                assert_eq!(answer, error(asked.tag.get(), "stale put"));
            }
            (asked, answer) => panic!("{answer} to {asked}"),
        }
    }
    assert_eq!(writer.ask(&put(1, "the end", "", 1)), put(1, "the end", "", 1));
    replica.catch_up(&mut client, &mut memory);
    replica.expect("shared", &large(ROUNDS), ROUNDS);
    replica.expect("own", "value 898", 300);
    // Without a bound: 34 MiB of broadcasts and 17 of answers.
    memory.expect_at_most(20 * MIB);
}

#[test]
fn a_client_that_writes_and_does_not_read_is_not_read_from_and_loses_nothing() {
    const PUTS: u64 = 1_500;
    let server = TestServer::with(small_bounds);
    let mut bystander = server.connected();
    let mut client = Client::with_little_room(server.addr);
    let mut memory = Memory::watch();
    let request = |number: u64| put(number as u16, "k", &large(number), number);
    thread::scope(|scope| {
        let mut stream = client.stream.try_clone().unwrap();
        scope.spawn(move || {
            for number in 1..=PUTS {
                stream.write_all(&encoded(&request(number))).unwrap();
            }
        });
        for tag in 1..=100 {
            assert_eq!(bystander.ask(&get(tag, "none")), error(tag, "\"none\": not found"));
            memory.look();
        }
        for number in 1..=PUTS {
            assert!(client.receive() == request(number), "the answer to {number}");
            memory.look();
        }
    });
    memory.expect_at_most(30 * MIB);
}

/// Requests that wait for the store, each in one piece with others that don't: what they were read with must not stay.
fn waiting_puts(connections: usize, puts: u16, beside: &[u8], bound: usize) {
    let store = TestStore::new();
    let server = TestServer::on(store.clone(), |_| {});
    let mut bystander = server.connected();
    let mut clients: Vec<Client> = (0..connections).map(|_| server.connected()).collect();
    let mut memory = Memory::watch();
    store.close_gate();
    for tag in 1..=puts {
        for (number, client) in clients.iter_mut().enumerate() {
            let mut piece = encoded(&put(tag, &format!("of {number}"), "v", u64::from(tag)));
            piece.extend_from_slice(beside);
            client.send_bytes(&piece);
        }
        // By then the server has likely read them, each on its own.
        bystander.expect(&error(tag, ""), &error(tag, "messages of kind ERROR cannot be applied"));
    }
    store.wait_for_commit();
    memory.expect_at_most(bound);
    store.open_gate();
    for client in &mut clients {
        let mut tag = 0;
        while tag < puts {
            match client.receive_answer() {
                Message::Put(put) => {
                    tag += 1;
                    assert_eq!(put.tag, Tag::new(tag));
                }
                beside => assert_eq!(beside.tag(), Tag::new(7)),
            }
        }
    }
}

#[test]
fn small_puts_that_come_one_by_one_and_wait_take_no_more_memory_than_they_count() {
    // 24,000 of 24 bytes. Where each keeps the buffer that it was read into, that is 24,000 pages: 94 MiB.
    waiting_puts(16, 1_500, &[], 40 * MIB);
}

#[test]
fn small_puts_that_come_with_large_frames_and_wait_take_no_more_memory_than_they_count() {
    // Where each keeps the buffer that it was read into: 138 MiB.
    let beside = encoded(&Message::auth(Tag::new(7), "p".repeat(12_000)));
    waiting_puts(8, 1_500, &beside, 40 * MIB);
}

#[test]
fn while_the_commit_queue_is_full_who_writes_is_not_read_from() {
    const CONNECTIONS: usize = 60;
    const PUTS: u16 = 400;
    let store = TestStore::new();
    let server = TestServer::on(store.clone(), |config| config.max_queue = 1);
    let mut bystander = server.connected();
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| server.connected()).collect();
    let value = "v".repeat(2_000);
    let mut memory = Memory::watch();
    store.close_gate();
    thread::scope(|scope| {
        for (number, client) in clients.iter_mut().enumerate() {
            let mut stream = client.stream.try_clone().unwrap();
            let value = &value;
            scope.spawn(move || {
                for tag in 1..=PUTS {
                    // Stale, so that there is nothing to broadcast.
                    stream.write_all(&encoded(&put(tag, &format!("of {number}"), value, 0))).unwrap();
                }
            });
            scope.spawn(move || {
                for tag in 1..=PUTS {
                    assert_eq!(client.receive(), error(tag, "stale put"));
                }
            });
        }
        store.wait_for_commit();
        for tag in 1..=500 {
            bystander.expect(&get(tag, "none"), &error(tag, "\"none\": not found"));
            memory.look();
        }
        // Without that, as much as may be in flight: 46 MiB.
        memory.expect_at_most(20 * MIB);
        store.open_gate();
    });
}

#[test]
fn clients_that_stop_reading_do_not_each_keep_all_that_was_committed_together_in_memory() {
    const WRITES: u64 = 240;
    let store = TestStore::new();
    let server = TestServer::on(store.clone(), |config| config.recent_log = 16 * MIB);
    let mut bystander = server.connected();
    let value = Bytes::from(large(1));
    let mut slow = Vec::new();
    let mut memory = Memory::watch();
    for round in 0..16 {
        let mut client = Client::with_little_room(server.addr);
        client.expect_silence();
        slow.push(client);
        let write = |number| Operation::Put {
            key: format!("key {}", number % 10).into(),
            value: value.clone(),
            version: Version::new((round * WRITES + number) / 10 + 1),
        };
        store.write_all((0..WRITES).map(write));
        for _ in 0..WRITES {
            assert_eq!(bystander.receive().tag(), Tag::BROADCAST);
        }
        memory.look();
    }
    // Where each keeps the 13.7 MiB in whose middle it has stopped: 219 MiB. The log, a batch and the store take 40.
    memory.expect_at_most(120 * MIB);
    bystander.expect(&put(1, "the end", "", 1), &put(1, "the end", "", 1));
    for client in &mut slow {
        let mut replica = Replica::default();
        replica.catch_up(client, &mut memory);
        assert_eq!(replica.0.len(), 11);
    }
}
