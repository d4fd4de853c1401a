//! All connections see one commit order, and responses arrive in the order of the requests, even under heavy pipelining.

use crate::support::prelude::*;
use std::collections::HashMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use syncline_wire::Put;

const CONNECTIONS: usize = 20;
const WRITERS: usize = 4;
const PUTS: usize = 1_500;
const KEYS: u64 = 5;

/// The versions of the keys that a writer knows, because its connection received them last.
type Known = [AtomicU64; KEYS as usize];

fn key(number: u64) -> String {
    format!("key {number}")
}

/// Returns the number of a key, if it is one of the contended keys.
fn number(key: &[u8]) -> Option<usize> {
    str::from_utf8(key).unwrap().strip_prefix("key ").map(|number| number.parse().unwrap())
}

/// A PUT that may be accepted or stale.
struct Attempt {
    message: Message,
    key: Bytes,
    version: u64,
    /// Whether its version builds on earlier PUTs of the writer that have no response yet.
    is_ahead: bool,
}

/// Sends the PUTs of one writer without waiting for responses. Most have the next version that the writer knows, some a
/// later or an earlier one.
fn write_contending(writer: usize, mut stream: impl std::io::Write, known: &Known) -> Vec<Attempt> {
    let mut random = Random::new(writer as u64);
    let mut sent = [0; KEYS as usize];
    let mut attempts = Vec::new();
    for count in 0..PUTS {
        let number = random.below(KEYS);
        let at = number as usize;
        let seen = known[at].load(Ordering::Relaxed);
        let version = match random.below(10) {
            0 => seen,
            1..5 => sent[at].max(seen) + 1,
            _ => seen + 1,
        };
        sent[at] = version;
        let message = put(count as u16 + 1, &key(number), &format!("{writer}/{count}"), version);
        stream.write_all(&encoded(&message)).unwrap();
        attempts.push(Attempt { message, key: key(number).into(), version, is_ahead: version > seen + 1 });
    }
    attempts
}

/// Everything that a connection received.
struct Seen {
    /// Broadcasts and own writes, in order.
    writes: Vec<Written>,
    /// Responses, each with the number of writes received before it.
    responses: Vec<(Message, usize)>,
    broadcasts: Vec<Put>,
}

fn watch(client: &mut Client, known: &Known, mut answered: impl FnMut(usize)) -> Seen {
    let mut seen = Seen { writes: Vec::new(), responses: Vec::new(), broadcasts: Vec::new() };
    loop {
        let message = client.receive();
        if let Message::Put(put) = &message {
            if let Some(number) = number(&put.key) {
                known[number].store(put.version.get(), Ordering::Relaxed);
            }
            seen.writes.push((put.key.clone(), put.value.clone(), put.version.get()));
        }
        match message {
            Message::Put(put) if put.tag == Tag::BROADCAST => {
                let is_end = put.key == "the end";
                seen.broadcasts.push(put);
                if is_end {
                    return seen;
                }
            }
            response => {
                seen.responses.push((response, seen.writes.len()));
                answered(seen.responses.len());
            }
        }
    }
}

/// Lets four of twenty connections write to the same keys. All connections must receive all writes in commit order. If the
/// recent log is short, they may miss overwritten ones, but must receive the latest version of every key.
fn contend(change: impl FnOnce(&mut Config), sees_all: bool) {
    let store = TestStore::new();
    let server = TestServer::on(store.clone(), change);
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| server.connected()).collect();
    let mut main = server.connected();
    let known: Vec<Known> = (0..CONNECTIONS).map(|_| Known::default()).collect();
    let (all_answered, answered) = mpsc::channel();

    let (attempts, seen) = thread::scope(|scope| {
        let writers: Vec<_> = clients[..WRITERS]
            .iter()
            .zip(&known)
            .enumerate()
            .map(|(writer, (client, known))| {
                let stream = client.stream.try_clone().unwrap();
                scope.spawn(move || write_contending(writer, stream, known))
            })
            .collect();
        let watchers: Vec<_> = clients
            .iter_mut()
            .zip(&known)
            .map(|(client, known)| {
                let all_answered = all_answered.clone();
                scope.spawn(move || {
                    watch(client, known, |count| {
                        if count == PUTS {
                            all_answered.send(()).unwrap();
                        }
                    })
                })
            })
            .collect();
        for _ in 0..WRITERS {
            answered.recv_timeout(TIMEOUT).unwrap();
        }
        assert_eq!(main.ask(&put(1, "the end", "", 1)), put(1, "the end", "", 1));
        let attempts: Vec<Vec<Attempt>> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        let seen: Vec<Seen> = watchers.into_iter().map(|watcher| watcher.join().unwrap()).collect();
        (attempts, seen)
    });

    let history = store.history();
    assert!(history.len() > KEYS as usize, "some puts were accepted: {}", history.len());
    assert!(history.len() < WRITERS * PUTS, "some puts were stale");
    for (connection, seen) in seen.iter().enumerate() {
        if sees_all {
            assert!(seen.writes == history, "connection {connection} received another order");
        } else {
            assert!(is_subsequence(&seen.writes, &history), "connection {connection} received another order");
            assert_eq!(
                latest(&seen.writes),
                latest(&history),
                "connection {connection} misses the latest version of a key"
            );
        }
    }
    for (writer, attempts) in attempts.iter().enumerate() {
        let own = format!("{writer}/");
        let own = own.as_bytes();
        let seen = &seen[writer];
        assert!(!seen.broadcasts.iter().any(|put| put.value.starts_with(own)), "a broadcast of its own write");
        assert_eq!(seen.responses.len(), PUTS);
        let mut accepted = 0;
        for (attempt, (response, before)) in attempts.iter().zip(&seen.responses) {
            if *response == attempt.message {
                accepted += 1;
                continue;
            }
            assert_eq!(*response, error(attempt.message.tag().get(), "stale put"), "writer {writer}");
            // A writer that was not ahead must have received the write that won before.
            if sees_all && !attempt.is_ahead && attempt.version > 0 {
                let faster = |write: &Written| write.0 == attempt.key && write.2 >= attempt.version;
                assert!(
                    seen.writes[..*before].iter().any(faster),
                    "writer {writer}: stale without a conflict: {response}"
                );
            }
        }
        let committed = history.iter().filter(|write| write.1.starts_with(own)).count();
        assert_eq!(accepted, committed, "writer {writer}: accepted responses and committed writes differ");
    }
}

#[test]
fn all_connections_see_one_commit_order() {
    contend(|_| {}, true);
}

#[test]
fn all_connections_see_one_order_with_a_short_recent_log() {
    contend(|config| config.recent_log = 2_000, false);
}

#[test]
fn all_connections_see_one_order_when_changes_come_from_the_store() {
    contend(|config| config.recent_log = 0, false);
}

#[test]
fn all_connections_see_one_order_under_small_limits() {
    let change = |config: &mut Config| {
        config.recent_log = 10_000;
        config.max_queue = 1;
        config.limits.max_requests = 3;
        config.limits.max_unsent = 100;
    };
    contend(change, false);
}

#[test]
fn a_hundred_thousand_pipelined_puts_get_responses_in_order() {
    const PUTS: u64 = 100_000;
    let server = TestServer::start();
    let mut watcher = server.connected();
    let mut client = server.connected();
    let message = |tag: u64, number: u64| {
        let tag = if tag == 0 { 0 } else { (number % 65_535 + 1) as u16 };
        put(tag, &format!("key {}", number % 1_000), "value", number / 1_000 + 1)
    };
    thread::scope(|scope| {
        let mut stream = client.stream.try_clone().unwrap();
        scope.spawn(move || {
            for start in (0..PUTS).step_by(1_000) {
                let piece: Vec<Message> = (start..start + 1_000).map(|number| message(1, number)).collect();
                stream.write_all(&all_encoded(&piece)).unwrap();
            }
        });
        scope.spawn(|| {
            for number in 0..PUTS {
                assert_eq!(watcher.receive(), message(0, number));
            }
        });
        for number in 0..PUTS {
            assert_eq!(client.receive(), message(1, number));
        }
    });
}

/// Returns requests on keys that no other connection uses, and the response to each.
fn mix(name: &str, seed: u64, count: u16) -> (Vec<Message>, Vec<Message>) {
    let mut random = Random::new(seed);
    let mut state: HashMap<String, (String, u64)> = HashMap::new();
    (1..=count)
        .map(|tag| {
            let key = format!("{name}/{}", random.below(10));
            let current = state.get(&key).cloned();
            match random.below(10) {
                0..4 => {
                    let response = match current {
                        None => error(tag, &format!("\"{key}\": not found")),
                        Some((value, version)) => put(tag, &key, &value, version),
                    };
                    (get(tag, &key), response)
                }
                4..8 => {
                    let version = current.map_or(1 + random.below(100), |(_, version)| version + 1);
                    let value = "v".repeat(random.below(100) as usize);
                    state.insert(key.clone(), (value.clone(), version));
                    (put(tag, &key, &value, version), put(tag, &key, &value, version))
                }
                8 => {
                    let version = current.map_or(0, |(_, version)| random.below(version + 1));
                    (put(tag, &key, "stale", version), error(tag, "stale put"))
                }
                _ => (put(tag, &key, "last", u64::MAX), error(tag, "version exhausted")),
            }
        })
        .unzip()
}

#[test]
fn pipelined_requests_get_the_responses_of_sequential_ones() {
    let server = TestServer::start();
    thread::scope(|scope| {
        for seed in 0..4 {
            let mut client = server.connected();
            scope.spawn(move || {
                let (requests, responses) = mix(&format!("of {seed}"), seed, 5_000);
                thread::scope(|scope| {
                    client.send_aside(scope, all_encoded(&requests));
                    for response in &responses {
                        let found = client.receive_response();
                        assert_eq!(found, *response, "seed {seed}");
                    }
                });
            });
        }
    });
}

#[test]
fn pipelined_requests_get_sequential_responses_under_small_limits() {
    for (max_requests, max_unsent) in [(1, 1), (1, 1 << 20), (2, 50), (4_096, 1), (7, 300)] {
        let server = TestServer::with(|config| {
            config.max_queue = 1;
            config.recent_log = 0;
            config.limits.max_requests = max_requests;
            config.limits.max_unsent = max_unsent;
        });
        let mut client = server.connected();
        let (requests, responses) = mix("k", 42, 1_000);
        thread::scope(|scope| {
            client.send_aside(scope, all_encoded(&requests));
            for response in &responses {
                assert_eq!(client.receive(), *response, "{max_requests} requests, {max_unsent} bytes");
            }
        });
        client.expect_silence();
    }
}
