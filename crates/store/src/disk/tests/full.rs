//! A disk with a limited capacity: whatever fills it, deletions are accepted, the log is recycled, and all writes are
//! accepted again when there is room, without a restart and after any crash.

use super::faulty::{ENOSPC, Fault, Faulty, Kind};
use super::{Clock, Db, open, open_at};
use crate::Store;
use crate::disk::{Durability, maintenance, names};
use bytes::Bytes;
use syncline_core::{Operation, Outcome, Transaction};
use syncline_wire::Version;

/// Enough for several segments and some live data.
const CAPACITY: usize = 40_000;

/// More writes than fit a disk of this capacity, if the log is not recycled.
const MANY: u64 = 400;

const VALUE: usize = 300;

fn key(number: u64) -> Bytes {
    format!("key{number}").into()
}

/// Commits an operation, and lets maintenance do its work.
fn commit(store: &Db, operation: Operation) -> Result<(), String> {
    let outcome = store.commit(vec![Transaction { origin: None, operations: [operation].into() }]).pop().unwrap();
    let _ = maintenance::attempt(&store.shared);
    match outcome {
        Outcome::Accepted { .. } => Ok(()),
        Outcome::Unavailable { reason } | Outcome::Unknown { reason } => Err(reason.to_string()),
        other => panic!("{other:?}"),
    }
}

fn put(store: &Db, number: u64, version: u64, length: usize) -> Result<(), String> {
    let (value, version) = (vec![b'v'; length].into(), Version::new(version));
    commit(store, Operation::Put { key: key(number), value, version })
}

fn delete(store: &Db, number: u64, version: u64) -> Result<(), String> {
    commit(store, Operation::Delete { key: key(number), version: Version::new(version) })
}

fn opened(files: &Faulty) -> Db {
    let store = open(files, Durability::Fsync).unwrap();
    let _ = maintenance::attempt(&store.shared);
    store
}

/// Writes keys until the disk refuses one. Returns their number.
fn fill(store: &Db) -> u64 {
    let (keys, refused) =
        (0..MANY).find_map(|number| put(store, number, 1, VALUE).err().map(|refused| (number, refused))).unwrap();
    assert_eq!(refused, "the disk refuses: No space left on device (os error 28)");
    assert!(store.accepts_writes().is_err(), "what STATUS shows is so");
    keys
}

fn limited() -> Faulty {
    let files = Faulty::new();
    files.limit(CAPACITY);
    files
}

#[test]
fn deletions_free_a_disk_full_of_live_data() {
    for is_killed in [false, true] {
        let mut files = limited();
        let mut store = opened(&files);
        let keys = fill(&store);
        assert!(keys > 10, "full after {keys}");
        for number in 0..keys {
            if is_killed {
                files = files.kill();
                store = opened(&files);
            }
            // Writes that need no more space are accepted as well.
            put(&store, number, 2, VALUE).unwrap();
            delete(&store, number, 3).unwrap();
        }
        maintenance::attempt(&store.shared).unwrap();
        (0..keys / 2).for_each(|number| put(&store, number, 4, VALUE).unwrap());
        assert!(store.accepts_writes().is_ok());
    }
}

#[test]
fn the_log_is_recycled_on_a_disk_that_another_program_fills() {
    for is_killed in [false, true] {
        let mut files = limited();
        let mut store = opened(&files);
        (0..10).for_each(|number| put(&store, number, 1, VALUE).unwrap());
        files.fill("ballast");
        for written in 0..MANY {
            put(&store, written % 10, written / 10 + 2, VALUE).unwrap();
            if is_killed && written % 50 == 0 {
                files = files.kill();
                store = opened(&files);
            }
        }
        let growing = (100..200).find_map(|number| put(&store, number, 1, VALUE).err()).unwrap();
        assert!(growing.contains("No space left"), "{growing}");
        crate::disk::files::FileSystem::remove(&files, "ballast").unwrap();
        maintenance::attempt(&store.shared).unwrap();
        (200..210).for_each(|number| put(&store, number, 1, VALUE).unwrap());
    }
}

#[test]
fn a_directory_without_a_reserve_on_a_full_disk_heals_when_there_is_room() {
    let files = limited();
    let store = opened(&files);
    (0..30).for_each(|number| put(&store, number, 1, VALUE).unwrap());
    maintenance::attempt(&store.shared).unwrap();
    crate::disk::files::FileSystem::remove(&files, "reserve").unwrap();
    files.fill("ballast");
    let files = files.kill();
    let store = opened(&files);
    assert!(put(&store, 100, 1, VALUE).is_err());
    delete(&store, 0, 2).unwrap();
    crate::disk::files::FileSystem::remove(&files, "ballast").unwrap();
    maintenance::attempt(&store.shared).unwrap();
    put(&store, 100, 1, VALUE).unwrap();
}

#[test]
fn any_error_number_of_a_refused_write_heals_without_a_restart() {
    // EPERM, EFBIG, ENOSPC, EROFS, EDQUOT.
    for error in [1, 27, ENOSPC, 30, 122] {
        let files = Faulty::new();
        let store = opened(&files);
        put(&store, 0, 1, 10).unwrap();
        files.fail([Fault { operations: 0..u64::MAX, kinds: &[Kind::Create, Kind::Write], error, seed: 0 }]);
        for _ in 0..3 {
            let refused = put(&store, 1, 1, 10).unwrap_err();
            assert!(refused.starts_with("the disk refuses: "), "{refused}");
            assert!(store.accepts_writes().is_err(), "error {error} is not shown");
        }
        files.fail([]);
        maintenance::attempt(&store.shared).unwrap();
        put(&store, 1, 1, 10).unwrap();
        assert!(store.accepts_writes().is_ok());
    }
}

#[test]
fn a_power_cut_at_any_step_of_the_reserve_loses_nothing() {
    let files = limited();
    let store = opened(&files);
    let keys = fill(&store);
    let acknowledged = store.head();
    let disks = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let taken = disks.clone();
    files.after_each_change(std::sync::Arc::new(move |disk, _| taken.lock().push(disk.clone())));
    maintenance::take_checkpoint(&store.shared).unwrap();
    let _ = maintenance::attempt(&store.shared);
    let disks = std::mem::take(&mut *disks.lock());
    assert!(disks.len() > 5, "{} steps", disks.len());
    for (disk, seed) in disks.iter().flat_map(|disk| (0..4).map(move |seed| (disk, seed))) {
        let store = opened(&disk.power_cut(seed));
        assert_eq!(store.head(), acknowledged);
        (0..keys).for_each(|number| delete(&store, number, 2).unwrap());
        put(&store, 0, 3, VALUE).unwrap();
    }
}

#[test]
fn tombstones_are_forgotten_although_the_clock_was_ahead_once() {
    const DAY: u64 = 24 * 3600 * 1000;
    let (files, clock) = (Faulty::new(), Clock::default());
    // In the year 2200, and then right again.
    clock.set(84_000 * DAY);
    put(&open_at(&files, Durability::Fsync, &clock).unwrap(), 0, 1, 10).unwrap();
    clock.set(20_000 * DAY);
    let store = open_at(&files, Durability::Fsync, &clock).unwrap();
    delete(&store, 0, 2).unwrap();
    let sweep = || maintenance::forget(&store.shared, store.shared.commit_state.lock().time.now() - 7 * DAY);
    for (day, expected) in [(0, 1), (6, 1), (8, 0)] {
        clock.set((20_000 + day) * DAY);
        sweep();
        assert_eq!(store.stats().tombstones, expected, "after {day} days");
    }
}

/// Returns the sizes of the files of the log, in the order of their numbers.
fn segment_sizes(files: &Faulty) -> Vec<usize> {
    files
        .files()
        .iter()
        .filter(|(name, _)| names::segment_number(name).is_some())
        .map(|(_, bytes)| bytes.len())
        .collect()
}

#[test]
fn the_files_of_the_log_grow_with_its_use() {
    let files = Faulty::new();
    let store = open(&files, Durability::Fsync).unwrap();
    put(&store, 0, 1, 10).unwrap();
    maintenance::attempt(&store.shared).unwrap();
    assert_eq!(segment_sizes(&files), [1024, 1024]);
    for version in 2..100 {
        put(&store, 0, version, 200).unwrap();
        maintenance::attempt(&store.shared).unwrap();
    }
    let sizes = segment_sizes(&files);
    assert!(sizes.iter().all(|size| [1024, 2048, 4096].contains(size)) && sizes.contains(&4096), "{sizes:?}");
    assert!(sizes.iter().filter(|size| **size < 4096).count() <= 1, "small files are removed: {sizes:?}");
    drop(store);
    let store = open(&files, Durability::Fsync).unwrap();
    assert_eq!(store.head().get(), 99);
}

#[test]
fn a_large_record_gets_a_file_that_holds_it() {
    let files = Faulty::new();
    let store = open(&files, Durability::Fsync).unwrap();
    put(&store, 0, 1, 10).unwrap();
    put(&store, 1, 1, 3000).unwrap();
    assert_eq!(segment_sizes(&files), [1024, 1024, 4096]);
    drop(store);
    assert_eq!(open(&files, Durability::Fsync).unwrap().head().get(), 2);
}

#[test]
fn a_directory_whose_files_all_have_the_largest_size_is_opened() {
    let files = Faulty::new();
    let store = super::open_equal(&files, Durability::Fsync).unwrap();
    (0..100).for_each(|number| put(&store, number, 1, 100).unwrap());
    drop(store);
    assert!(segment_sizes(&files).iter().all(|size| *size == 4096));
    let store = open(&files, Durability::Fsync).unwrap();
    (100..200).for_each(|number| put(&store, number, 1, 100).unwrap());
    drop(store);
    assert_eq!(open(&files, Durability::Fsync).unwrap().head().get(), 200);
}
