//! A watcher that was away: resume never fails, whatever has happened to the server or its store meanwhile.

use crate::support::{
    Engine, History, Lab, Watcher, delete, disk_options, mark, on_each_engine, put, puts, told, txn, watch,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use syncline_store::{MemoryStore, Report, Store, backup, restore};
use syncline_wire::Message;
use tempfile::TempDir;

const KEYS: u64 = 200;

/// Writes each key once; the versions go on from `round`.
fn write_all(lab: &Lab, round: u64) {
    let mut writer = lab.server.extended();
    for number in 0..KEYS {
        let request = put(1, &format!("k/{number}"), "v", round);
        writer.expect(&request, &request);
    }
}

fn write(lab: &Lab, requests: &[Message]) {
    let mut writer = lab.server.extended();
    for request in requests {
        writer.expect(request, request);
    }
}

/// The names of the keys that frames tell of, in order.
fn keys(messages: &[Message]) -> Vec<String> {
    messages.iter().filter_map(told).map(|(key, ..)| String::from_utf8(key.to_vec()).unwrap()).collect()
}

#[test]
fn what_changed_while_it_was_away_is_told_and_nothing_else() {
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
fn resumed_again_and_again_it_misses_nothing() {
    on_each_engine(|lab| {
        write_all(lab, 1);
        let mut watcher = Watcher::of(lab.server.addr, lab.history(), "k/");
        std::thread::scope(|scope| {
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
fn a_server_that_was_stopped_and_started_again_goes_on_where_it_was() {
    let directory = TempDir::new().unwrap();
    let history = History::default();
    let lab = Lab::new(Engine::on(directory.path()), history.clone(), |_| {});
    write_all(&lab, 1);
    let mut watcher = Watcher::of(lab.server.addr, &history, "k/");
    write(&lab, &[put(1, "k/7", "w", 2), delete(1, "k/8", 2)]);
    watcher.until_marked(KEYS + 2);
    let store_id = watcher.store_id();
    // While it is away, on this server and the next.
    let away = watcher;
    write(&lab, &[put(1, "k/9", "w", 2), delete(1, "k/10", 2)]);
    lab.stop();

    let lab = Lab::new(Engine::on(directory.path()), history.clone(), |_| {});
    let greeting = lab.server.connect().greet();
    assert_eq!((greeting.store_id, greeting.head.get()), (store_id, KEYS + 4), "the same history");
    write(&lab, &[put(1, "k/11", "w", 2), put(1, "k/8", "again", 3)]);
    let mut watcher = away.resume(lab.server.addr, &history);
    assert_eq!(keys(&watcher.until_complete()), ["k/9", "k/10", "k/11", "k/8"], "what changed since, in its order");
    assert_eq!(watcher.marked, KEYS + 6, "revisions go on");

    // Nothing has changed meanwhile.
    lab.stop();
    let lab = Lab::new(Engine::on(directory.path()), history.clone(), |_| {});
    let mut watcher = watcher.resume(lab.server.addr, &history);
    assert_eq!(keys(&watcher.until_complete()), Vec::<String>::new());
    let fresh = Watcher::of(lab.server.addr, &history, "");
    assert_eq!(fresh.changes as u64, KEYS - 1, "all but the key that is deleted");
}

#[test]
fn deletions_and_transactions_are_what_they_were_after_a_restart() {
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
    client.expect(&crate::support::get(1, "b"), &delete(1, "b", 2));
    client.expect(&put(2, "b", "v", 2), &crate::support::error(2, "stale put"));
    client.send(&watch(3, "", 1));
    client.expect_all(&[delete(0, "b", 2), mark(3, 2)]);
    client.expect(&put(4, "b", "v", 3), &put(4, "b", "v", 3));
}

#[test]
fn a_restored_backup_is_another_store_and_what_the_watcher_holds_is_forgotten() {
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
    // Told, and then undone by the backup.
    write(&lab, &[put(1, "k/1", "lost", 2), put(1, "k/lost", "lost", 1)]);
    watcher.until_marked(KEYS + 3);
    lab.stop();

    restore(&file, &restored, disk_options(), &report).unwrap();
    let lab = Lab::new(Engine::on(&restored), rewound.clone(), |_| {});
    let greeting = lab.server.connect().greet();
    assert_ne!(greeting.store_id, watcher.store_id(), "another history");
    assert_eq!(greeting.head.get(), KEYS + 1, "as of the backup");
    let lost = watcher.marked;
    let mut watcher = watcher.resume(lab.server.addr, &rewound);
    watcher.until_complete();
    assert_eq!((watcher.version("k/1"), watcher.version("k/lost")), (1, 0));
    write(&lab, &[put(1, "k/1", "anew", 2)]);
    watcher.until_marked(KEYS + 2);

    // One who asks for a revision of the other history that this one has not got to is told so.
    let mut client = lab.server.extended();
    client.send(&watch(5, "none/", lost));
    client.expect_all(&[mark(5, 0), mark(5, KEYS + 2)]);
}

#[test]
fn after_its_tombstones_were_forgotten_a_watcher_is_told_everything_again() {
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

        // While everything is told again, things go on changing.
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
        writer.expect(&request, &request);
    }
}

#[test]
fn a_key_that_begins_anew_after_its_tombstone_was_forgotten_is_what_it_is_now() {
    let time = Arc::new(AtomicU64::new(1_000));
    let told = time.clone();
    let clock = Box::new(move || told.load(Ordering::SeqCst));
    let engine = Engine::Memory(Box::new(MemoryStore::with_clock(Duration::from_millis(10), clock).unwrap()));
    let lab = Lab::new(engine, History::default(), |_| {});
    write_all(&lab, 1);
    let away = Watcher::of(lab.server.addr, lab.history(), "k/");
    let still_there = Watcher::of(lab.server.addr, lab.history(), "k/6");
    write(&lab, &[delete(1, "k/5", 2), delete(1, "k/6", 2)]);
    time.store(2_000, Ordering::SeqCst);
    // Each write looks whether some of the tombstones are old by now.
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
fn of_several_prefixes_only_what_is_forgotten_starts_over() {
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
