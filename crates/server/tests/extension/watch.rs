//! WATCH: what a watcher is told at first, as things change, and when it resumes. One sentence of the protocol a test.

use crate::support::{
    Client, Lab, Model, Watcher, all_encoded, checks, delete, deletes, error, get, list, mark, on_each_engine,
    on_each_engine_with, on_each_gated_engine, put, puts, told, txn, watch,
};
use std::collections::BTreeSet;
use std::thread;
use syncline_core::Operation;
use syncline_wire::{Message, Revision, Tag, Version};

/// Puts each key once, and answers with whom that was done.
fn with_keys(lab: &Lab, keys: &[&str]) -> Client {
    let mut writer = lab.server.extended();
    for key in keys {
        writer.expect(&put(1, key, "v", 1), &put(1, key, "v", 1));
    }
    writer
}

// From the start

#[test]
fn every_key_under_the_prefix_is_told_once_at_its_latest_and_then_a_mark() {
    on_each_engine(|lab| {
        let mut writer = with_keys(lab, &["a/1", "b", "a/2", "a", "a/"]);
        writer.expect(&put(1, "a/1", "w", 2), &put(1, "a/1", "w", 2));
        let mut client = lab.server.extended();
        client.send(&watch(7, "a/", 0));
        let mut told: Vec<Message> = (0..3).map(|_| client.receive()).collect();
        told.sort_by_key(|message| message.key().cloned());
        assert_eq!(told, [put(0, "a/", "v", 1), put(0, "a/1", "w", 2), put(0, "a/2", "v", 1)]);
        assert_eq!(client.receive(), mark(7, 6));
        client.expect_silence();
    });
}

#[test]
fn the_empty_prefix_is_everything_and_a_key_is_under_itself() {
    on_each_engine(|lab| {
        with_keys(lab, &["", "k"]);
        let mut all = Watcher::of(lab.server.addr, lab.history(), "");
        assert_eq!((all.changes, all.marked), (2, 2));
        let mut key = Watcher::of(lab.server.addr, lab.history(), "k");
        assert_eq!((key.changes, key.marked), (1, 2));
        let none = Watcher::of(lab.server.addr, lab.history(), "kk");
        assert_eq!((none.changes, none.marked), (0, 2));
        with_keys(lab, &["kkk"]);
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
            writer.expect(&written(1, key), &written(1, key));
        }
        let mut client = lab.server.extended();
        client.send(&Message::watch(Tag::new(2), &b"\xff\xff"[..], Revision::ZERO));
        client.expect_all(&[written(0, b"\xff\xff"), written(0, b"\xff\xff\0"), mark(2, 5)]);
        // Only the second is under the prefix: the MARK behind it may tell of nothing later.
        writer.expect(&written(1, b"\xff\xfe"), &written(1, b"\xff\xfe"));
        writer.expect(&written(1, b"\xff\xff\xff"), &written(1, b"\xff\xff\xff"));
        client.expect_all(&[written(0, b"\xff\xff\xff"), mark(0, 7)]);
        client.expect_silence();
    });
}

#[test]
fn from_the_start_no_tombstones_are_told() {
    on_each_engine(|lab| {
        let mut writer = with_keys(lab, &["a", "b"]);
        writer.expect(&delete(1, "a", 2), &delete(1, "a", 2));
        let mut client = lab.server.extended();
        client.send(&watch(7, "", 0));
        client.expect_all(&[put(0, "b", "v", 1), mark(7, 3)]);
        client.expect_silence();
    });
}

#[test]
fn a_watch_of_an_empty_store_is_answered_with_a_mark_of_0() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect(&watch(7, "a/", 0), &mark(7, 0));
        with_keys(lab, &["a/1"]);
        client.expect_all(&[put(0, "a/1", "v", 1), mark(0, 1)]);
    });
}

// Since a revision

#[test]
fn what_changed_since_is_told_once_at_its_latest_deletions_too() {
    on_each_engine(|lab| {
        let mut writer = with_keys(lab, &["a/1", "a/2", "a/3", "b"]);
        for (request, _) in
            [(put(1, "a/2", "w", 2), 5), (delete(1, "a/1", 2), 6), (put(1, "b", "w", 2), 7), (put(1, "a/2", "x", 3), 8)]
        {
            writer.expect(&request, &request);
        }
        let since = |revision: u64| {
            let mut client = lab.server.extended();
            client.send(&watch(7, "a/", revision));
            let mut told = Vec::new();
            loop {
                match client.receive() {
                    answer if answer.tag() == Tag::new(7) => {
                        assert_eq!(answer, mark(7, 8));
                        client.expect_silence();
                        return told;
                    }
                    change => told.push(change),
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
fn a_revision_that_the_store_has_not_got_to_is_unknown_and_everything_is_told_again() {
    on_each_engine(|lab| {
        let mut writer = with_keys(lab, &["a/1", "a/2", "b"]);
        writer.expect(&delete(1, "a/2", 2), &delete(1, "a/2", 2));
        for unknown in [5, 1_000, u64::MAX] {
            let mut client = lab.server.extended();
            client.send(&watch(7, "a/", unknown));
            client.expect_all(&[mark(7, 0), put(0, "a/1", "v", 1), mark(7, 4)]);
            client.expect_silence();
        }
    });
}

#[test]
fn where_tombstones_were_forgotten_since_everything_is_told_again() {
    on_each_engine(|lab| {
        let mut writer = with_keys(lab, &["a/1", "a/2", "b"]);
        writer.expect(&delete(1, "a/2", 2), &delete(1, "a/2", 2));
        lab.store.forget_tombstones();
        writer.expect(&put(1, "a/3", "v", 1), &put(1, "a/3", "v", 1));
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

// As things change

#[test]
fn changes_come_as_they_commit_each_with_a_mark_behind_it() {
    on_each_engine(|lab| {
        let mut client = lab.server.watching("a/");
        let mut writer = lab.server.extended();
        for (revision, version) in (1..).step_by(4).zip((1..=20).step_by(2)) {
            let mut write = |request: &Message| writer.expect(request, request);
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
fn what_was_committed_together_comes_with_one_mark_behind_it() {
    on_each_engine(|lab| {
        let mut client = lab.server.watching("");
        let put = |key: &'static str| Operation::Put { key: key.into(), value: "v".into(), version: Version::new(1) };
        lab.store.write_all([put("a"), put("b"), put("c")]);
        client.expect_all(&["a", "b", "c"].map(|key| crate::support::put(0, key, "v", 1)));
        client.expect_all(&[mark(0, 3)]);
        client.expect_silence();
    });
}

#[test]
fn a_transaction_stands_between_two_marks() {
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

/// 1,024 writes of 1 KiB, again and again, while others watch, resume and lag behind: whoever sees half of a transaction
/// at a MARK fails.
#[test]
fn a_large_transaction_is_never_seen_in_half() {
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

// Its own writes

#[test]
fn own_writes_come_as_tagged_answers_in_their_place() {
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
fn own_writes_are_not_told_a_second_time() {
    on_each_engine(|lab| {
        let mut client = lab.server.watching("");
        let requests = [put(1, "k", "v", 1), put(2, "k", "v", 2), delete(3, "k", 3), put(4, "k", "v", 4)];
        for (revision, request) in (1..).zip(&requests) {
            client.expect(request, request);
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
fn own_writes_are_not_told_a_second_time_where_everything_comes_from_the_store() {
    on_each_engine_with(
        |config| config.recent_log = 0,
        |lab| {
            let mut client = Watcher::of(lab.server.addr, lab.history(), "");
            for version in 1..=200 {
                let request = put(2, "k", "v", version);
                client.send(&request);
                assert_eq!(client.until_answered(2).last(), Some(&request));
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
            writer.expect(&put(1, key, "v", 1), &put(1, key, "v", 1));
            revision += 1;
            if key.starts_with("a/") || key.starts_with('x') {
                client.expect_all(&[put(0, key, "v", 1), mark(0, revision)]);
            }
        }
        client.expect_silence();
    });
}

#[test]
fn each_prefix_has_its_own_answer() {
    on_each_engine(|lab| {
        with_keys(lab, &["a/1", "b/1", "c/1"]);
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
fn on_one_connection_256_prefixes_may_be_watched_and_not_one_more() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        for number in 0..256 {
            client.expect(&watch(1, &format!("{number}/"), 0), &mark(1, 0));
        }
        let text = "too large: expected at most 256 prefixes watched on one connection";
        client.expect(&watch(2, "more", 0), &error(2, text));
        with_keys(lab, &["7/k"]);
        client.expect_all(&[put(0, "7/k", "v", 1), mark(0, 1)]);
        with_keys(lab, &["more", "255/k"]);
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
fn a_watch_runs_beside_other_requests_so_that_it_delays_none() {
    on_each_engine(|lab| {
        let mut writer = lab.server.extended();
        let value = "v".repeat(60_000);
        for number in 0..100 {
            let request = put(1, &format!("k/{number}"), &value, 1);
            writer.expect(&request, &request);
        }
        let mut client = Watcher::on(Client::with_little_room(lab.server.addr), lab.history());
        let requests = [watch(2, "k/", 0), get(3, "none"), list(4, "k/9", "", 1), put(5, "k/mine", "v", 1)];
        client.send_all(&requests);
        // There is no room for all that is told: when the put is committed, much of it is still to come.
        lab.history().between(0, 101);
        let seen = client.until_answered(2);
        let place = |tag: u16| seen.iter().rposition(|message| message.tag() == Tag::new(tag)).unwrap_or(usize::MAX);
        for tag in [3, 4, 5] {
            assert!(place(tag) < place(2), "{tag} has waited until all was told");
        }
        let keys: BTreeSet<_> = seen.iter().filter_map(told).map(|(key, ..)| key).collect();
        assert_eq!(keys.len(), 101);
    });
}

/// Watchers that come and go while much is written: whatever is told at first, and what as it commits, each key comes
/// once, and at each MARK all is there.
#[test]
fn what_changes_while_a_watch_is_answered_comes_once() {
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
                    writer.expect(&write(number), &write(number));
                }
                thread::scope(|scope| {
                    let writer = &mut writer;
                    let written = scope.spawn(move || {
                        for number in KEYS..2 * KEYS {
                            writer.expect(&write(number), &write(number));
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
