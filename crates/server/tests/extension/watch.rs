//! WATCH: the first catch-up, changes as they commit, and resume. Each test covers one sentence of the protocol.

use crate::support::prelude::*;
use std::collections::BTreeSet;

// From the start

#[test]
fn a_watch_sends_the_latest_of_every_key_once_and_then_a_mark() {
    on_each_engine(|lab| {
        let mut writer = lab.put_keys(&["a/1", "b", "a/2", "a", "a/"]);
        writer.expect_echo(&put(1, "a/1", "w", 2));
        let mut client = lab.server.extended();
        client.send(&watch(7, "a/", 0));
        let mut received: Vec<Message> = (0..3).map(|_| client.receive()).collect();
        received.sort_by_key(|message| message.key().cloned());
        assert_eq!(received, [put(0, "a/", "v", 1), put(0, "a/1", "w", 2), put(0, "a/2", "v", 1)]);
        assert_eq!(client.receive(), mark(7, 6));
        client.expect_silence();
    });
}

#[test]
fn the_empty_prefix_matches_all_and_a_key_matches_itself() {
    on_each_engine(|lab| {
        lab.put_keys(&["", "k"]);
        let mut all = Watcher::of(lab.server.addr, lab.history(), "");
        assert_eq!((all.changes, all.marked), (2, 2));
        let mut key = Watcher::of(lab.server.addr, lab.history(), "k");
        assert_eq!((key.changes, key.marked), (1, 2));
        let none = Watcher::of(lab.server.addr, lab.history(), "kk");
        assert_eq!((none.changes, none.marked), (0, 2));
        lab.put_keys(&["kkk"]);
        all.until_marked(3);
        key.until_marked(3);
        assert_eq!((all.changes, key.changes), (3, 2));
    });
}

#[test]
fn a_prefix_is_bytes_and_not_text() {
    on_each_engine(|lab| {
        let mut writer = lab.server.extended();
        let written = |tag: u16, key: &[u8]| Message::put(Tag::new(tag), key.to_vec(), "v", Version::new(1));
        for key in [&b"\xff"[..], b"\xff\xff", b"\xff\xff\0", b"\xfe", b"\0"] {
            writer.expect_echo(&written(1, key));
        }
        let mut client = lab.server.extended();
        client.send(&Message::watch(Tag::new(2), &b"\xff\xff"[..], Revision::ZERO));
        client.expect_all(&[written(0, b"\xff\xff"), written(0, b"\xff\xff\0"), mark(2, 5)]);
        // Only the second key is under the prefix. The MARK after it has its revision.
        writer.expect_echo(&written(1, b"\xff\xfe"));
        writer.expect_echo(&written(1, b"\xff\xff\xff"));
        client.expect_all(&[written(0, b"\xff\xff\xff"), mark(0, 7)]);
        client.expect_silence();
    });
}

#[test]
fn a_watch_from_the_start_sends_no_tombstones() {
    on_each_engine(|lab| {
        let mut writer = lab.put_keys(&["a", "b"]);
        writer.expect_echo(&delete(1, "a", 2));
        let mut client = lab.server.extended();
        client.send(&watch(7, "", 0));
        client.expect_all(&[put(0, "b", "v", 1), mark(7, 3)]);
        client.expect_silence();
    });
}

#[test]
fn a_watch_of_an_empty_store_gets_a_mark_of_0() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect(&watch(7, "a/", 0), &mark(7, 0));
        lab.put_keys(&["a/1"]);
        client.expect_all(&[put(0, "a/1", "v", 1), mark(0, 1)]);
    });
}

// Since a revision

#[test]
fn a_watch_since_a_revision_sends_the_latest_of_what_changed() {
    on_each_engine(|lab| {
        let mut writer = lab.put_keys(&["a/1", "a/2", "a/3", "b"]);
        for (request, _) in
            [(put(1, "a/2", "w", 2), 5), (delete(1, "a/1", 2), 6), (put(1, "b", "w", 2), 7), (put(1, "a/2", "x", 3), 8)]
        {
            writer.expect_echo(&request);
        }
        let since = |revision: u64| {
            let mut client = lab.server.extended();
            client.send(&watch(7, "a/", revision));
            let mut received = Vec::new();
            loop {
                match client.receive() {
                    response if response.tag() == Tag::new(7) => {
                        assert_eq!(response, mark(7, 8));
                        client.expect_silence();
                        return received;
                    }
                    change => received.push(change),
                }
            }
        };
        assert_eq!(since(4), [delete(0, "a/1", 2), put(0, "a/2", "x", 3)]);
        assert_eq!(since(6), [put(0, "a/2", "x", 3)]);
        assert_eq!(since(1), [put(0, "a/3", "v", 1), delete(0, "a/1", 2), put(0, "a/2", "x", 3)]);
        assert_eq!(since(8), []);
    });
}

#[test]
fn a_watch_since_a_future_revision_starts_over() {
    on_each_engine(|lab| {
        let mut writer = lab.put_keys(&["a/1", "a/2", "b"]);
        writer.expect_echo(&delete(1, "a/2", 2));
        for unknown in [5, 1_000, u64::MAX] {
            let mut client = lab.server.extended();
            client.send(&watch(7, "a/", unknown));
            client.expect_all(&[mark(7, 0), put(0, "a/1", "v", 1), mark(7, 4)]);
            client.expect_silence();
        }
    });
}

#[test]
fn a_watch_since_before_forgotten_tombstones_starts_over() {
    on_each_engine(|lab| {
        let mut writer = lab.put_keys(&["a/1", "a/2", "b"]);
        writer.expect_echo(&delete(1, "a/2", 2));
        lab.store.forget_tombstones();
        writer.expect_echo(&put(1, "a/3", "v", 1));
        for forgotten in [1, 3] {
            let mut client = lab.server.extended();
            client.send(&watch(7, "a/", forgotten));
            client.expect_all(&[mark(7, 0), put(0, "a/1", "v", 1), put(0, "a/3", "v", 1), mark(7, 5)]);
            client.expect_silence();
        }
        let mut client = lab.server.extended();
        client.send(&watch(7, "a/", 4));
        client.expect_all(&[put(0, "a/3", "v", 1), mark(7, 5)]);
    });
}

// Changes as they commit

#[test]
fn each_commit_is_followed_by_a_mark() {
    on_each_engine(|lab| {
        let mut client = lab.server.watching("a/");
        let mut writer = lab.server.extended();
        for (revision, version) in (1..).step_by(4).zip((1..=20).step_by(2)) {
            let mut write = |request: &Message| writer.expect_echo(request);
            write(&put(1, "a/k", "v", version));
            client.expect_all(&[put(0, "a/k", "v", version), mark(0, revision)]);
            write(&put(1, "b", "v", version));
            write(&delete(1, "a/k", version + 1));
            client.expect_all(&[delete(0, "a/k", version + 1), mark(0, revision + 2)]);
            write(&delete(1, "b", version + 1));
        }
        client.expect_silence();
    });
}

#[test]
fn a_batch_is_followed_by_one_mark() {
    on_each_engine(|lab| {
        let mut client = lab.server.watching("");
        lab.store.write_all(["a", "b", "c"].map(|key| puts(key, "v", 1)));
        client.expect_all(&["a", "b", "c"].map(|key| put(0, key, "v", 1)));
        client.expect_all(&[mark(0, 3)]);
        client.expect_silence();
    });
}

#[test]
fn a_transaction_is_followed_by_one_mark() {
    on_each_engine(|lab| {
        let mut client = lab.server.watching("a/");
        let mut writer = lab.server.extended();
        writer.send(&txn(1, [puts("a/1", "v", 1), puts("b", "v", 1), puts("a/2", "v", 1)]));
        client.expect_all(&[put(0, "a/1", "v", 1), put(0, "a/2", "v", 1), mark(0, 1)]);
        writer.send(&txn(2, [checks("b", 1), deletes("a/2", 2), puts("a/1", "w", 2)]));
        client.expect_all(&[delete(0, "a/2", 2), put(0, "a/1", "w", 2), mark(0, 2)]);
        writer.send(&txn(3, [checks("b", 1)]));
        client.expect_silence();
    });
}

/// Commits transactions of 1,024 writes of 1 KiB while others watch, resume and fall behind. Watchers check at every MARK
/// that no transaction is incomplete.
#[test]
fn no_mark_splits_a_large_transaction() {
    const ROUNDS: u64 = 20;
    for recent_log in [64 << 20, 0] {
        on_each_engine_with(
            |config| config.recent_log = recent_log,
            |lab| {
                let mut early = Watcher::of(lab.server.addr, lab.history(), "");
                let mut part = Watcher::of(lab.server.addr, lab.history(), "key 1");
                thread::scope(|scope| {
                    let mut writer = lab.server.extended();
                    scope.spawn(move || {
                        let value = "v".repeat(900);
                        for round in 1..=ROUNDS {
                            let operations = (0..1_024).map(|key| puts(&format!("key {key}"), &value, round));
                            writer.send(&txn(1, operations));
                            while writer.receive() != mark(1, round) {}
                        }
                    });
                    scope.spawn(|| early.until_marked(ROUNDS));
                    scope.spawn(|| part.until_marked(ROUNDS));
                    loop {
                        let mut late = Watcher::of(lab.server.addr, lab.history(), "");
                        let seen = late.marked;
                        late.until_marked(seen + u64::from(seen < ROUNDS));
                        let mut resumed = late.resume(lab.server.addr, lab.history());
                        resumed.until_complete();
                        if resumed.marked >= ROUNDS {
                            break;
                        }
                    }
                });
            },
        );
    }
}

// Own writes

#[test]
fn own_writes_arrive_as_responses_in_commit_order() {
    on_each_gated_engine(|lab| {
        let mut client = lab.server.watching("");
        let mut other = lab.server.extended();
        lab.store.close_gate();
        other.send(&put(1, "first", "v", 1));
        lab.store.wait_for_commit();
        client.send(&put(9, "mine", "v", 1));
        lab.store.open_gate();
        let mut seen = Vec::new();
        while seen.len() < 3 {
            match client.receive() {
                Message::Mark(_) => {}
                message => {
                    if message.tag() == Tag::new(9) {
                        other.send(&put(2, "mine", "w", 2));
                    }
                    seen.push(message);
                }
            }
        }
        assert_eq!(seen, [put(0, "first", "v", 1), put(9, "mine", "v", 1), put(0, "mine", "w", 2)]);
    });
}

#[test]
fn own_writes_are_not_repeated() {
    on_each_engine(|lab| {
        let mut client = lab.server.watching("");
        let requests = [put(1, "k", "v", 1), put(2, "k", "v", 2), delete(3, "k", 3), put(4, "k", "v", 4)];
        for (revision, request) in (1..).zip(&requests) {
            client.expect_echo(request);
            assert_eq!(client.receive(), mark(0, revision));
        }
        client.expect(&put(5, "k", "v", 4), &error(5, "stale put"));
        client.send(&txn(6, [puts("k", "v", 5), puts("l", "v", 1)]));
        client.expect_all(&[put(6, "k", "v", 5), put(6, "l", "v", 1), mark(6, 5)]);
        assert_eq!(client.ask(&put(7, "m", "v", 1)), put(7, "m", "v", 1));
        assert_eq!(client.receive(), mark(0, 6));
        client.expect_silence();
    });
}

#[test]
fn own_writes_are_not_repeated_when_changes_come_from_the_store() {
    on_each_engine_with(
        |config| config.recent_log = 0,
        |lab| {
            let mut client = Watcher::of(lab.server.addr, lab.history(), "");
            for version in 1..=200 {
                let request = put(2, "k", "v", version);
                client.send(&request);
                assert_eq!(client.until_response(2).last(), Some(&request));
                client.until_marked(version);
            }
            assert_eq!(client.changes, 0);
        },
    );
}

// Several prefixes

#[test]
fn a_change_under_two_prefixes_is_sent_once() {
    on_each_engine(|lab| {
        let mut client = lab.server.watching("a/b");
        for (tag, prefix) in [(3, "a/"), (4, "a/b/c"), (5, "x"), (6, "a/")] {
            client.expect(&watch(tag, prefix, 0), &mark(tag, 0));
        }
        let mut writer = lab.server.extended();
        let mut revision = 0;
        for key in ["a/b/c/d", "a/c", "a/b", "x", "b", "", "xx"] {
            writer.expect_echo(&put(1, key, "v", 1));
            revision += 1;
            if key.starts_with("a/") || key.starts_with('x') {
                client.expect_all(&[put(0, key, "v", 1), mark(0, revision)]);
            }
        }
        client.expect_silence();
    });
}

#[test]
fn each_watch_has_its_own_response() {
    on_each_engine(|lab| {
        lab.put_keys(&["a/1", "b/1", "c/1"]);
        let mut client = lab.server.extended();
        client.send_bytes(&all_encoded(&[watch(1, "a/", 0), watch(2, "b/", 2), watch(3, "c/", 0)]));
        let seen: Vec<Message> = (0..5).map(|_| client.receive()).collect();
        let place = |message: &Message| seen.iter().position(|other| other == message).unwrap();
        assert!(place(&put(0, "a/1", "v", 1)) < place(&mark(1, 3)));
        assert!(place(&put(0, "c/1", "v", 1)) < place(&mark(3, 3)));
        assert!(place(&mark(2, 3)) < seen.len());
        client.expect_silence();
    });
}

#[test]
fn a_connection_may_watch_at_most_256_prefixes() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        for number in 0..256 {
            client.expect(&watch(1, &format!("{number}/"), 0), &mark(1, 0));
        }
        let text = "too large: expected at most 256 prefixes watched on one connection";
        client.expect(&watch(2, "more", 0), &error(2, text));
        lab.put_keys(&["7/k"]);
        client.expect_all(&[put(0, "7/k", "v", 1), mark(0, 1)]);
        lab.put_keys(&["more", "255/k"]);
        client.expect_all(&[put(0, "255/k", "v", 1), mark(0, 3)]);
    });
}

#[test]
fn a_prefix_over_the_limit_of_a_key_is_refused_and_the_connection_stays() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        let text = "too large: key of 4097 bytes, expected at most 4096";
        client.expect(&watch(2, &"p".repeat(4097), 0), &error(2, text));
        client.expect(&watch(2, &"p".repeat(4096), 0), &mark(2, 0));
        client.expect_silence();
    });
}

// Beside other requests

#[test]
fn a_watch_does_not_delay_other_requests() {
    on_each_engine(|lab| {
        let mut writer = lab.server.extended();
        let value = "v".repeat(60_000);
        for number in 0..100 {
            let request = put(1, &format!("k/{number}"), &value, 1);
            writer.expect_echo(&request);
        }
        let mut client = Watcher::on(Client::with_small_buffer(lab.server.addr), lab.history());
        let requests = [watch(2, "k/", 0), get(3, "none"), list(4, "k/9", "", 1), put(5, "k/mine", "v", 1)];
        client.send_all(&requests);
        // The kernel cannot buffer the whole catch-up. When the PUT is committed, much of it is still to be sent.
        lab.history().between(0, 101);
        let seen = client.until_response(2);
        let place = |tag: u16| seen.iter().rposition(|message| message.tag() == Tag::new(tag)).unwrap_or(usize::MAX);
        for tag in [3, 4, 5] {
            assert!(place(tag) < place(2), "request {tag} waited for the catch-up");
        }
        let keys: BTreeSet<_> = seen.iter().filter_map(change_of).map(|(key, ..)| key).collect();
        assert_eq!(keys.len(), 101);
    });
}

/// Watchers connect and disconnect during many writes. Each key is sent once, during the catch-up or as it commits, and the
/// state is complete at each MARK.
#[test]
fn changes_during_a_first_catch_up_are_sent_once() {
    for recent_log in [64 << 20, 10_000, 0] {
        on_each_engine_with(
            |config| config.recent_log = recent_log,
            |lab| {
                const KEYS: u64 = 3_000;
                let value = "v".repeat(100);
                let mut writer = lab.server.extended();
                let write = |number: u64| {
                    let (key, version) = (format!("{}/{}", number % 3, number % KEYS), number / KEYS + 1);
                    if number % 7 == 6 { delete(1, &key, version) } else { put(1, &key, &value, version) }
                };
                for number in 0..KEYS {
                    writer.expect_echo(&write(number));
                }
                thread::scope(|scope| {
                    let writer = &mut writer;
                    let written = scope.spawn(move || {
                        for number in KEYS..2 * KEYS {
                            writer.expect_echo(&write(number));
                        }
                    });
                    for round in 0_u64.. {
                        let mut watcher = Watcher::connect(lab.server.addr, lab.history());
                        watcher.send(&watch(1, &format!("{}/", round % 3), 0));
                        watcher.send(&watch(2, "", 0));
                        watcher.until_complete();
                        let mut watcher = watcher.resume(lab.server.addr, lab.history());
                        watcher.until_complete();
                        if written.is_finished() {
                            break;
                        }
                    }
                });
                let last = Watcher::of(lab.server.addr, lab.history(), "");
                assert_eq!(last.changes, Model::at(lab.history(), 2 * KEYS).live().count(), "each key once");
            },
        );
    }
}
