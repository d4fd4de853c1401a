//! Resume: it never fails, regardless of what happened to the server or its store in the meantime.

use crate::support::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use syncline_store::{MemoryStore, Report, backup, restore};
use tempfile::TempDir;

const KEYS: u64 = 200;

/// Writes each key once, with `round` as its version.
fn write_all(lab: &Lab, round: u64) {
    let mut writer = lab.server.extended();
    for number in 0..KEYS {
        let request = put(1, &format!("k/{number}"), "v", round);
        writer.expect_echo(&request);
    }
}

fn write(lab: &Lab, requests: &[Message]) {
    let mut writer = lab.server.extended();
    for request in requests {
        writer.expect_echo(request);
    }
}

/// Returns the keys of the changes, in order.
fn keys(messages: &[Message]) -> Vec<String> {
    messages.iter().filter_map(change_of).map(|(key, ..)| String::from_utf8(key.to_vec()).unwrap()).collect()
}

#[test]
fn a_resume_sends_only_what_changed() {
    on_each_engine(|lab| {
        write_all(lab, 1);
        let watcher = Watcher::of(lab.server.addr, lab.history(), "k/");
        write(lab, &[put(1, "k/7", "w", 2), delete(1, "k/8", 2), put(1, "other", "v", 1), put(1, "k/7", "x", 3)]);
        let mut watcher = watcher.resume(lab.server.addr, lab.history());
        assert_eq!(keys(&watcher.until_complete()), ["k/8", "k/7"], "each once");
        assert_eq!((watcher.version("k/7"), watcher.version("k/8")), (3, 2));
        write(lab, &[put(1, "k/9", "w", 2)]);
        watcher.until_marked(KEYS + 5);
    });
}

#[test]
fn repeated_resumes_miss_nothing() {
    on_each_engine(|lab| {
        write_all(lab, 1);
        let mut watcher = Watcher::of(lab.server.addr, lab.history(), "k/");
        thread::scope(|scope| {
            let written = scope.spawn(|| (2..10).for_each(|round| write_all(lab, round)));
            while !written.is_finished() || watcher.marked < lab.history().head() {
                watcher = std::mem::replace(&mut watcher, Watcher::connect(lab.server.addr, lab.history()))
                    .resume(lab.server.addr, lab.history());
                watcher.until_complete();
            }
        });
        assert_eq!(watcher.version("k/199"), 9);
    });
}

#[test]
fn a_restarted_server_continues_its_history() {
    let directory = TempDir::new().unwrap();
    let history = History::default();
    let lab = Lab::new(Engine::on(directory.path()), history.clone(), |_| {});
    write_all(&lab, 1);
    let mut watcher = Watcher::of(lab.server.addr, &history, "k/");
    write(&lab, &[put(1, "k/7", "w", 2), delete(1, "k/8", 2)]);
    watcher.until_marked(KEYS + 2);
    let store_id = watcher.store_id();
    // Changes while the watcher is away, before and after the restart.
    let away = watcher;
    write(&lab, &[put(1, "k/9", "w", 2), delete(1, "k/10", 2)]);
    lab.stop();

    let lab = Lab::new(Engine::on(directory.path()), history.clone(), |_| {});
    let hello = lab.server.connect().hello();
    assert_eq!((hello.store_id, hello.head.get()), (store_id, KEYS + 4), "the same history");
    write(&lab, &[put(1, "k/11", "w", 2), put(1, "k/8", "again", 3)]);
    let mut watcher = away.resume(lab.server.addr, &history);
    assert_eq!(keys(&watcher.until_complete()), ["k/9", "k/10", "k/11", "k/8"], "the changes since, in commit order");
    assert_eq!(watcher.marked, KEYS + 6, "revisions continue");

    // A resume after a restart without changes.
    lab.stop();
    let lab = Lab::new(Engine::on(directory.path()), history.clone(), |_| {});
    let mut watcher = watcher.resume(lab.server.addr, &history);
    assert_eq!(keys(&watcher.until_complete()), Vec::<String>::new());
    let fresh = Watcher::of(lab.server.addr, &history, "");
    assert_eq!(fresh.changes as u64, KEYS - 1, "all but the key that is deleted");
}

#[test]
fn deletions_and_transactions_survive_a_restart() {
    let directory = TempDir::new().unwrap();
    let history = History::default();
    let lab = Lab::new(Engine::on(directory.path()), history.clone(), |_| {});
    let mut writer = lab.server.extended();
    writer.send(&txn(1, [puts("a", "v", 1), puts("b", "v", 1), puts("c", "v", 1)]));
    while writer.receive() != mark(1, 1) {}
    write(&lab, &[delete(1, "b", 2)]);
    drop(writer);
    lab.stop();
    let lab = Lab::new(Engine::on(directory.path()), history, |_| {});
    let mut client = lab.server.extended();
    client.expect(&get(1, "b"), &delete(1, "b", 2));
    client.expect(&put(2, "b", "v", 2), &error(2, "stale put"));
    client.send(&watch(3, "", 1));
    client.expect_all(&[delete(0, "b", 2), mark(3, 2)]);
    client.expect_echo(&put(4, "b", "v", 3));
}

#[test]
fn a_watcher_of_a_restored_backup_starts_over() {
    let room = TempDir::new().unwrap();
    let (data, file, restored) = (room.path().join("data"), room.path().join("backup"), room.path().join("restored"));
    let history = History::default();
    let lab = Lab::new(Engine::on(&data), history.clone(), |_| {});
    write_all(&lab, 1);
    write(&lab, &[delete(1, "k/0", 2)]);
    let report: Report = Arc::new(|_| {});
    backup(&data, &file, &report).unwrap();
    let rewound = history.fork();
    let mut watcher = Watcher::of(lab.server.addr, &history, "k/");
    // The watcher receives these writes. The backup does not contain them.
    write(&lab, &[put(1, "k/1", "lost", 2), put(1, "k/lost", "lost", 1)]);
    watcher.until_marked(KEYS + 3);
    lab.stop();

    restore(&file, &restored, disk_options(), &report).unwrap();
    let lab = Lab::new(Engine::on(&restored), rewound.clone(), |_| {});
    let hello = lab.server.connect().hello();
    assert_ne!(hello.store_id, watcher.store_id(), "another history");
    assert_eq!(hello.head.get(), KEYS + 1, "the head of the backup");
    let lost = watcher.marked;
    let mut watcher = watcher.resume(lab.server.addr, &rewound);
    watcher.until_complete();
    assert_eq!((watcher.version("k/1"), watcher.version("k/lost")), (1, 0));
    write(&lab, &[put(1, "k/1", "anew", 2)]);
    watcher.until_marked(KEYS + 2);

    // A watch since a revision of the other history, which this one has not reached, starts over.
    let mut client = lab.server.extended();
    client.send(&watch(5, "none/", lost));
    client.expect_all(&[mark(5, 0), mark(5, KEYS + 2)]);
}

#[test]
fn a_watcher_starts_over_if_tombstones_were_forgotten() {
    on_each_engine(|lab| {
        write_all(lab, 1);
        let away = Watcher::of(lab.server.addr, lab.history(), "k/");
        let back_in_time = Watcher::of(lab.server.addr, lab.history(), "k/");
        write(lab, &[delete(1, "k/5", 2)]);
        lab.store.forget_tombstones();
        write(lab, &[put(1, "k/6", "w", 2)]);
        let mut watcher = away.resume(lab.server.addr, lab.history());
        let seen = watcher.until_complete();
        assert_eq!(seen[0], mark(1, 0), "first of all");
        assert_eq!(keys(&seen).len() as u64, KEYS - 1);
        assert_eq!(seen.last(), Some(&mark(1, KEYS + 2)));

        // Keys change during the catch-up.
        let mut watcher = back_in_time.resume(lab.server.addr, lab.history());
        write_all_but(lab, 5);
        watcher.until_complete();
        watcher.until_marked(lab.history().head());
    });
}

fn write_all_but(lab: &Lab, left_out: u64) {
    let mut writer = lab.server.extended();
    for number in (0..KEYS).filter(|number| *number != left_out) {
        let version = if number == 6 { 3 } else { 2 };
        let request = put(1, &format!("k/{number}"), "w", version);
        writer.expect_echo(&request);
    }
}

#[test]
fn a_key_recreated_after_its_tombstone_was_forgotten_is_current() {
    let time = Arc::new(AtomicU64::new(1_000));
    let received = time.clone();
    let clock = Box::new(move || received.load(Ordering::SeqCst));
    let engine = Engine::Memory(Box::new(MemoryStore::with_clock(Duration::from_millis(10), clock).unwrap()));
    let lab = Lab::new(engine, History::default(), |_| {});
    write_all(&lab, 1);
    let away = Watcher::of(lab.server.addr, lab.history(), "k/");
    let still_there = Watcher::of(lab.server.addr, lab.history(), "k/6");
    write(&lab, &[delete(1, "k/5", 2), delete(1, "k/6", 2)]);
    time.store(2_000, Ordering::SeqCst);
    // Each write lets the store forget some old tombstones.
    for version in 1.. {
        write(&lab, &[put(1, "other", "v", version)]);
        if lab.store.stats().tombstones == 0 {
            break;
        }
    }
    write(&lab, &[put(1, "k/5", "anew", 1)]);
    let mut watcher = away.resume(lab.server.addr, lab.history());
    assert_eq!(watcher.until_complete()[0], mark(1, 0), "first of all");
    assert_eq!((watcher.version("k/5"), watcher.version("k/6")), (1, 0));
    let mut watcher = still_there.resume(lab.server.addr, lab.history());
    watcher.until_complete();
    assert_eq!(watcher.version("k/6"), 0);
}

#[test]
fn only_the_prefix_with_forgotten_tombstones_starts_over() {
    on_each_engine(|lab| {
        write(lab, &[put(1, "a/1", "v", 1), put(1, "b/1", "v", 1), put(1, "b/2", "v", 1)]);
        write(lab, &[delete(1, "b/2", 2)]);
        lab.store.forget_tombstones();
        let mut client = lab.server.extended();
        client.send(&watch(1, "a/", 4));
        assert_eq!(client.receive(), mark(1, 4));
        client.send(&watch(2, "b/", 3));
        client.expect_all(&[mark(2, 0), put(0, "b/1", "v", 1), mark(2, 4)]);
        write(lab, &[put(1, "a/2", "v", 1)]);
        client.expect_all(&[put(0, "a/2", "v", 1), mark(0, 5)]);
    });
}
