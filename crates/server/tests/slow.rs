//! Clients that stop reading take a bounded amount of memory and block no other client. When they read again, they receive
//! the responses to all requests, in order, and the latest version of every key.
//!
//! The server runs in this process, whose memory is measured. Each limit is far below the memory that would accumulate
//! without backpressure.
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

use std::collections::HashMap;
use std::io::Write as _;
use support::prelude::*;
use syncline_wire::Put;

const LARGE: usize = 60_000;

fn small_bounds(config: &mut Config) {
    config.recent_log = MIB;
    config.max_queue = MIB;
    config.limits.max_unsent = 256 * 1024;
}

/// The latest version of every key that a connection received. Versions never decrease.
#[derive(Default)]
struct Replica(HashMap<Bytes, Put>);

impl Replica {
    fn apply(&mut self, put: Put) {
        if let Some(before) = self.0.get(&put.key) {
            assert!(before.version <= put.version, "{put:?} after {before:?}");
        }
        self.0.insert(put.key.clone(), put);
    }

    /// Applies everything up to the write of "the end", and returns the number of bytes received.
    fn catch_up(&mut self, client: &mut Client, memory: &mut Memory) -> usize {
        let mut bytes = 0;
        loop {
            let message = client.receive();
            bytes += message.encoded_length();
            memory.sample();
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
fn a_client_that_stops_reading_large_values_gets_all_of_them_later() {
    const GETS: u16 = 3_000;
    let server = TestServer::with(small_bounds);
    let mut bystander = server.connected();
    let value = large(1);
    bystander.expect_echo(&put(1, "large", &value, 1));
    let mut client = Client::with_small_buffer(server.addr);
    let mut memory = Memory::watch();
    let requests: Vec<Message> =
        (1..=GETS).map(|tag| if tag % 10 == 0 { get(tag, "none") } else { get(tag, "large") }).collect();
    client.send_bytes(&all_encoded(&requests));
    for version in 1..=100 {
        bystander.expect_service("bystander", version);
        memory.sample();
    }
    for tag in 1..=GETS {
        let expected = if tag % 10 == 0 { error(tag, "\"none\": not found") } else { put(tag, "large", &value, 1) };
        assert!(client.receive_response() == expected, "the response to {tag}");
        memory.sample();
    }
    // Without a limit: 160 MiB.
    memory.expect_at_most(30 * MIB);
}

#[test]
fn clients_that_stop_reading_broadcasts_are_sent_the_latest_later() {
    const KEYS: u64 = 10;
    const ROUNDS: u64 = 150;
    let server = TestServer::with(small_bounds);
    let mut writer = server.connected();
    let mut slow: Vec<Client> = (0..5).map(|_| Client::with_small_buffer(server.addr)).collect();
    slow.iter_mut().for_each(Client::expect_silence);
    let mut memory = Memory::watch();
    for version in 1..=ROUNDS {
        for key in 0..KEYS {
            let key = format!("key {key}");
            writer.send(&put(1, &key, &large(version), version));
            assert_eq!(writer.receive().tag(), Tag::new(1));
        }
        memory.sample();
    }
    writer.expect_echo(&put(1, "the end", "", 1));
    for client in &mut slow {
        let mut replica = Replica::default();
        let bytes = replica.catch_up(client, &mut memory);
        for key in 0..KEYS {
            replica.expect(&format!("key {key}"), &large(ROUNDS), ROUNDS);
        }
        // 90 MB were written. Only overwritten values may be left out.
        assert!(bytes < 45_000_000, "{bytes} bytes were sent to a client that did not read");
        client.expect_silence();
    }
    // Without a limit: 86 MiB if the memory is shared, otherwise 430.
    memory.expect_at_most(30 * MIB);
}

#[test]
fn a_client_that_stops_reading_amid_writes_gets_responses_and_the_latest() {
    const ROUNDS: u64 = 600;
    let server = TestServer::with(|config| {
        small_bounds(config);
        config.recent_log = 200_000;
    });
    let mut writer = server.connected();
    writer.expect_echo(&put(1, "shared", &large(1), 1));
    let mut client = Client::with_small_buffer(server.addr);
    client.send(&get(1, "none"));
    assert_eq!(client.receive(), error(1, "\"none\": not found"));
    let mut memory = Memory::watch();
    // Own writes, and reads of the key that the other client writes.
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
        memory.sample();
    }
    let mut replica = Replica::default();
    for request in &requests {
        let response = loop {
            memory.sample();
            match client.receive() {
                Message::Put(put) if put.tag == Tag::BROADCAST => replica.apply(put),
                response => break response,
            }
        };
        match (request, response) {
            (Message::Get(get), Message::Put(put)) => {
                assert_eq!((get.tag, &get.key), (put.tag, &put.key));
                assert!(put.value == large(put.version.get()), "the value of that version");
                replica.apply(put);
            }
            (Message::Put(request), Message::Put(put)) => {
                assert_eq!(*request, put);
                replica.apply(put);
            }
            (Message::Put(request), response) => {
                assert!(request.value == "stale", "{response}");
                assert_eq!(response, error(request.tag.get(), "stale put"));
            }
            (request, response) => panic!("{response} to {request}"),
        }
    }
    assert_eq!(writer.ask(&put(1, "the end", "", 1)), put(1, "the end", "", 1));
    replica.catch_up(&mut client, &mut memory);
    replica.expect("shared", &large(ROUNDS), ROUNDS);
    replica.expect("own", "value 898", 300);
    // Without a limit: 34 MiB of broadcasts and 17 MiB of responses.
    memory.expect_at_most(20 * MIB);
}

#[test]
fn a_client_that_only_writes_is_throttled_and_loses_nothing() {
    const PUTS: u64 = 1_500;
    let server = TestServer::with(small_bounds);
    let mut bystander = server.connected();
    let mut client = Client::with_small_buffer(server.addr);
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
            memory.sample();
        }
        for number in 1..=PUTS {
            assert!(client.receive() == request(number), "the response to {number}");
            memory.sample();
        }
    });
    memory.expect_at_most(30 * MIB);
}

/// Sends requests that wait for the store, each together with other bytes. The waiting requests must not keep the buffers
/// that they were read into.
fn waiting_puts(connections: usize, puts: u16, beside: &[u8], bound: usize) {
    let (store, server) = TestServer::with_test_store(|_| {});
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
        // By now the server has probably read each of them separately.
        bystander.expect(&error(tag, ""), &error(tag, "messages of kind ERROR cannot be applied"));
    }
    store.wait_for_commit();
    memory.expect_at_most(bound);
    store.open_gate();
    for client in &mut clients {
        let mut tag = 0;
        while tag < puts {
            match client.receive_response() {
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
fn small_puts_read_one_by_one_take_only_the_memory_they_count() {
    // 24,000 requests of 24 bytes. If each kept the buffer that it was read into: 24,000 pages, 94 MiB.
    waiting_puts(16, 1_500, &[], 40 * MIB);
}

#[test]
fn small_puts_read_with_large_frames_take_only_the_memory_they_count() {
    // If each kept the buffer that it was read into: 138 MiB.
    let beside = encoded(&Message::auth(Tag::new(7), "p".repeat(12_000)));
    waiting_puts(8, 1_500, &beside, 40 * MIB);
}

#[test]
fn writers_are_throttled_while_the_commit_queue_is_full() {
    const CONNECTIONS: usize = 60;
    const PUTS: u16 = 400;
    let (store, server) = TestServer::with_test_store(|config| config.max_queue = 1);
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
                    // Stale, so that nothing is broadcast.
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
            memory.sample();
        }
        // Without backpressure, as much as may be in flight: 46 MiB.
        memory.expect_at_most(20 * MIB);
        store.open_gate();
    });
}

#[test]
fn clients_that_stop_reading_do_not_keep_committed_batches_in_memory() {
    const WRITES: u64 = 240;
    let (store, server) = TestServer::with_test_store(|config| config.recent_log = 16 * MIB);
    let mut bystander = server.connected();
    let value = Bytes::from(large(1));
    let mut slow = Vec::new();
    let mut memory = Memory::watch();
    for round in 0..16 {
        let mut client = Client::with_small_buffer(server.addr);
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
        memory.sample();
    }
    // If each kept the batch of 13.7 MiB that it stopped in: 219 MiB. The log, a batch and the store take 40 MiB.
    memory.expect_at_most(120 * MIB);
    bystander.expect_echo(&put(1, "the end", "", 1));
    for client in &mut slow {
        let mut replica = Replica::default();
        replica.catch_up(client, &mut memory);
        assert_eq!(replica.0.len(), 11);
    }
}
