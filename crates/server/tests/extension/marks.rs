//! MARK: barriers and heartbeats. Each test covers one sentence of the protocol.

use crate::support::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

// Barriers

#[test]
fn the_response_to_a_barrier_byte_for_byte() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect_echo(&put(1, "k", "v", 1));
        client.send_bytes(b"\x07\x05\x01\0\0\0\0\0\0\0\0");
        assert_eq!(client.receive_bytes(11), b"\x07\x05\x01\x01\0\0\0\0\0\0\0");
        client.expect_silence();
    });
}

#[test]
fn a_barrier_follows_everything_committed_before_its_arrival() {
    on_each_engine(|lab| {
        let mut client = Watcher::of(lab.server.addr, lab.history(), "");
        let mut writer = lab.server.extended();
        for version in 1..=200 {
            writer.expect_echo(&put(1, "k", "v", version));
            client.send(&mark(2, 0));
            let seen = client.until_response(2);
            assert_eq!(client.marked, version, "the watcher received: {seen:?}");
        }
        assert_eq!(client.changes, 200);
    });
}

#[test]
fn a_barrier_does_not_wait_for_uncommitted_writes() {
    on_each_gated_engine(|lab| {
        let mut client = lab.server.watching("");
        let mut writer = lab.server.extended();
        lab.store.close_gate();
        writer.send(&put(1, "k", "v", 1));
        lab.store.wait_for_commit();
        client.expect_echo(&mark(2, 0));
        lab.store.open_gate();
        client.expect_all(&[put(0, "k", "v", 1), mark(0, 1)]);
    });
}

#[test]
fn a_barrier_keeps_its_place_among_the_requests() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.send_bytes(&all_encoded(&[
            put(1, "k", "v", 1),
            mark(2, 0),
            put(3, "k", "v", 2),
            get(4, "k"),
            mark(5, 0),
            error(6, ""),
            mark(7, 0),
        ]));
        client.expect_all(&[put(1, "k", "v", 1), mark(2, 1), put(3, "k", "v", 2), put(4, "k", "v", 2), mark(5, 2)]);
        client.expect_all(&[error(6, "messages of kind ERROR cannot be applied"), mark(7, 2)]);
        client.expect_silence();
    });
}

#[test]
fn a_barrier_without_a_watch_returns_the_head() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect_echo(&mark(1, 0));
        let mut writer = lab.server.connect();
        writer.expect_echo(&put(1, "k", "v", 1));
        client.expect(&mark(1, 0), &mark(1, 1));
        client.expect(&mark(0, 0), &mark(0, 1));
        client.expect_silence();
    });
}

/// A reader waits for a barrier and then reads its local state. Every write that was acknowledged before the barrier must be
/// in it.
#[test]
fn a_barrier_and_a_local_read_are_a_linearizable_read() {
    for recent_log in [64 << 20, 0] {
        on_each_engine_with(
            |config| config.recent_log = recent_log,
            |lab| {
                const PUTS: u64 = 2_000;
                let acknowledged = AtomicU64::new(0);
                thread::scope(|scope| {
                    scope.spawn(|| {
                        let mut writer = lab.server.extended();
                        for version in 1..=PUTS {
                            writer.expect_echo(&put(1, "k", "v", version));
                            acknowledged.store(version, Ordering::SeqCst);
                        }
                    });
                    let mut reader = Watcher::of(lab.server.addr, lab.history(), "k");
                    loop {
                        let before = acknowledged.load(Ordering::SeqCst);
                        reader.send(&mark(2, 0));
                        reader.until_response(2);
                        let read = reader.version("k");
                        assert!(before <= read, "read version {read}, though {before} was acknowledged");
                        if read == PUTS {
                            break;
                        }
                    }
                });
            },
        );
    }
}

// Heartbeats

#[test]
fn heartbeats_arrive_while_nothing_changes() {
    on_each_engine_with(
        |config| config.heartbeat = Duration::from_millis(20),
        |lab| {
            let mut client = lab.server.watching("a/");
            for _ in 0..5 {
                assert_eq!(client.receive(), mark(0, 0));
            }
            let mut writer = lab.server.extended();
            writer.expect_echo(&put(1, "b", "v", 1));
            // The key is not under its prefix, so only a heartbeat carries this revision.
            let received = (0..).map(|_| client.receive()).find(|message| *message != mark(0, 0));
            assert_eq!(received, Some(mark(0, 1)));
            for _ in 0..5 {
                assert_eq!(client.receive(), mark(0, 1));
            }
        },
    );
}

#[test]
fn only_watching_connections_receive_heartbeats() {
    on_each_engine_with(
        |config| config.heartbeat = Duration::from_millis(5),
        |lab| {
            let mut base = lab.server.connected();
            let mut extended = lab.server.extended();
            let mut lister = lab.server.extended();
            lister.expect_echo(&mark(1, 0));
            let mut watchers: Vec<_> = (0..10).map(|_| lab.server.watching("")).collect();
            for watcher in &mut watchers {
                for _ in 0..20 {
                    assert_eq!(watcher.receive(), mark(0, 0));
                }
            }
            // By now these connections would have received some.
            for client in [&mut base, &mut extended, &mut lister] {
                client.expect_silence();
            }
        },
    );
}

#[test]
fn a_heartbeat_keeps_the_promise_of_every_mark() {
    on_each_engine_with(
        |config| {
            config.heartbeat = Duration::from_millis(1);
            config.recent_log = 0;
        },
        |lab| {
            const PUTS: u64 = 1_000;
            let mut watcher = Watcher::of(lab.server.addr, lab.history(), "a/");
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut writer = lab.server.extended();
                    for version in 1..=PUTS {
                        let key = if version % 10 == 0 { "a/k" } else { "b" };
                        let version = if version % 10 == 0 { version / 10 } else { version - version / 10 };
                        writer.expect_echo(&put(1, key, "v", version));
                    }
                });
                watcher.until_marked(PUTS);
            });
            assert_eq!(watcher.version("a/k"), PUTS / 10);
        },
    );
}

#[test]
fn a_heartbeat_arrives_while_a_request_is_incomplete() {
    on_each_engine_with(
        |config| config.heartbeat = Duration::from_millis(1),
        |lab| {
            let mut client = lab.server.watching("");
            let request = encoded(&put(1, "k", "v", 1));
            let (first, rest) = request.split_at(10);
            client.send_bytes(first);
            // Heartbeats arrive while the server waits for the rest of the frame.
            for _ in 0..5 {
                assert_eq!(client.receive(), mark(0, 0));
            }
            client.send_bytes(rest);
            assert_eq!(client.receive_response(), put(1, "k", "v", 1));
            assert_eq!(client.receive(), mark(0, 1));
        },
    );
}

// Groups

#[test]
fn every_mark_has_the_revision_of_the_changes_before_it() {
    on_each_engine(|lab| {
        let mut client = lab.server.watching("");
        let mut writer = lab.server.extended();
        let requests = [put(1, "k", "v", 1), delete(1, "k", 2), put(1, "l", "v", 7)];
        for (revision, request) in (1..).zip(&requests) {
            writer.expect_echo(request);
            assert_eq!(client.receive().tag(), Tag::BROADCAST);
            assert_eq!(client.receive(), mark(0, revision));
        }
        writer.send(&txn(1, [checks("l", 7)]));
        assert_eq!(writer.receive(), mark(1, 4));
        client.expect(&watch(2, "l", 3), &mark(2, 4));
    });
}
