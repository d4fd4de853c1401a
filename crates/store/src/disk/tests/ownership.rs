//! A data directory that is moved, replaced or removed while the engine is open, and a second process that writes to it.

use super::SEGMENT;
use super::faulty::{Faulty, Kind};
use crate::disk::boot::Boot;
use crate::disk::files::{Directory, FileHandle, FileSystem};
use crate::disk::maintenance::{checkpoint_if_due, take_checkpoint};
use crate::disk::open::DiskEngine;
use crate::disk::ownership::Inspector;
use crate::{DiskOptions, DiskStore, Durability, Feed, OpenError, Store, restore};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use syncline_core::{Operation, Outcome, Transaction};
use syncline_wire::{Revision, Version};
use tempfile::TempDir;

fn options() -> DiskOptions {
    DiskOptions { segment_size: SEGMENT, ..DiskOptions::default() }
}

/// Opens a data directory without its lock, and without a maintenance thread.
fn open(path: &Path) -> DiskEngine<Directory> {
    DiskEngine::open(Directory::make(path).unwrap(), options(), Box::new(|| 0), Boot::UNKNOWN, None).unwrap()
}

fn put(store: &impl Store, key: u64) -> Outcome {
    let operation = Operation::Put {
        key: key.to_be_bytes().to_vec().into(),
        value: vec![b'v'; 100].into(),
        version: Version::new(1),
    };
    store.commit(vec![Transaction { origin: None, operations: [operation].into() }]).remove(0)
}

fn is_accepted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Accepted { .. })
}

#[track_caller]
fn assert_refused(outcome: &Outcome, expected: &str) {
    match outcome {
        Outcome::Unavailable { reason } => assert!(reason.contains(expected), "{reason}"),
        other => panic!("expected a refusal with {expected:?}, found {other:?}"),
    }
}

/// Returns how many keys a data directory holds.
fn keys(path: &Path) -> usize {
    DiskStore::open(path, options()).unwrap().stats().keys
}

fn files(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// Moves a directory, and puts something else in its place.
type Displace = fn(&Path, &Path);

#[test]
fn a_displaced_directory_refuses_writes_and_keeps_what_it_has() {
    let ways: [(&str, Displace); 4] = [
        ("nothing is at its path now", |_, _| {}),
        ("another directory is at its path now", |data, _| fs::create_dir(data).unwrap()),
        ("something else is at its path now", |data, _| fs::write(data, "").unwrap()),
        ("another directory is at its path now", |data, root| {
            fs::create_dir(root.join("third")).unwrap();
            std::os::unix::fs::symlink(root.join("third"), data).unwrap();
        }),
    ];
    for (found, displace) in ways {
        let root = TempDir::new().unwrap();
        let (data, moved) = (root.path().join("data"), root.path().join("moved"));
        let store = open(&data);
        assert!((0..40).all(|key| is_accepted(&put(&store, key))));
        fs::rename(&data, &moved).unwrap();
        displace(&data, root.path());
        assert_refused(&put(&store, 40), &format!("was moved, replaced or removed: {found}"));
        assert!(store.accepts_writes().is_err());
        assert_eq!(store.stats().keys, 40, "reads go on");
        drop(store);
        assert_eq!(keys(&moved), 40);
    }
}

#[test]
fn writes_are_accepted_again_when_the_directory_is_back() {
    let root = TempDir::new().unwrap();
    let (data, moved) = (root.path().join("data"), root.path().join("moved"));
    let store = open(&data);
    assert!(is_accepted(&put(&store, 0)));
    for key in 1..4 {
        fs::rename(&data, &moved).unwrap();
        assert_refused(&put(&store, key), "data directory");
        fs::rename(&moved, &data).unwrap();
        assert!(is_accepted(&put(&store, key)));
        assert_eq!(store.accepts_writes(), Ok(()));
    }
    drop(store);
    assert_eq!(keys(&data), 4);
}

#[test]
fn a_restored_directory_at_the_same_path_is_left_alone() {
    let root = TempDir::new().unwrap();
    let (data, moved, backup) = (root.path().join("data"), root.path().join("moved"), root.path().join("backup"));
    let store = open(&data);
    assert!((0..40).all(|key| is_accepted(&put(&store, key))));
    let report: crate::Report = Arc::new(|_| {});
    crate::backup(&data, &backup, &report).unwrap();
    fs::rename(&data, &moved).unwrap();
    restore(&backup, &data, options(), &report).unwrap();
    let before = files(&data);
    assert_refused(&put(&store, 40), "another directory");
    take_checkpoint(&store.shared).unwrap();
    checkpoint_if_due(&store.shared).unwrap();
    drop(store);
    assert_eq!(files(&data), before);
    assert_eq!((keys(&data), keys(&moved)), (40, 40));
}

#[test]
fn a_directory_that_is_moved_during_a_write_leaves_its_outcome_unknown() {
    let root = TempDir::new().unwrap();
    let (data, moved) = (root.path().join("data"), root.path().join("moved"));
    let store = open(&data);
    let (from, to) = (data.clone(), moved.clone());
    // The feed is called between the sync and the acknowledgement.
    let feed: Feed = Box::new(move |_| fs::rename(&from, &to).unwrap());
    store.follow(feed);
    let outcome = put(&store, 0);
    assert!(matches!(&outcome, Outcome::Unknown { reason } if reason.contains("data directory")), "{outcome:?}");
    assert_refused(&put(&store, 1), "data directory");
    assert_eq!(store.head(), Revision::new(1), "the write is part of the history");
    drop(store);
    assert_eq!(keys(&moved), 1);
}

#[test]
fn a_removed_file_that_is_needed_refuses_writes() {
    for removed in ["identity", "segment-", "checkpoint-"] {
        let root = TempDir::new().unwrap();
        let data = root.path().join("data");
        let store = open(&data);
        assert!((0..40).all(|key| is_accepted(&put(&store, key))));
        take_checkpoint(&store.shared).unwrap();
        let mut inspector = Inspector::default();
        inspector.inspect(&store.shared);
        assert_eq!(store.accepts_writes(), Ok(()));
        let away = root.path().join("away");
        let found = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
        let file = found.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(removed)).max().unwrap();
        fs::rename(&file, &away).unwrap();
        inspector.inspect(&store.shared);
        assert_refused(&put(&store, 40), file.file_name().unwrap().to_str().unwrap());
        // The refusal holds until the file is back, whatever else is checked meanwhile.
        assert_refused(&put(&store, 40), "syncline export");
        fs::rename(&away, &file).unwrap();
        inspector.inspect(&store.shared);
        assert!(is_accepted(&put(&store, 40)));
        drop(store);
        assert_eq!(keys(&data), 41);
    }
}

#[test]
fn a_removed_segment_is_noticed_before_the_next_write() {
    let root = TempDir::new().unwrap();
    let data = root.path().join("data");
    let store = open(&data);
    assert!(is_accepted(&put(&store, 0)));
    for entry in fs::read_dir(&data).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert_refused(&put(&store, 1), "its file segment-");
    assert!(store.accepts_writes().is_err());
}

#[test]
fn a_second_store_is_kept_out_without_the_lock_file() {
    let root = TempDir::new().unwrap();
    let (data, moved) = (root.path().join("data"), root.path().join("moved"));
    let store = DiskStore::open(&data, options()).unwrap();
    let pid = std::process::id();
    let locked = |path: &Path, pid: Option<u32>| match DiskStore::open(path, options()).err() {
        Some(OpenError::Locked { pid: found, .. }) => assert_eq!(found, pid),
        other => panic!("{other:?}"),
    };
    locked(&data, Some(pid));
    fs::remove_file(data.join("lock")).unwrap();
    locked(&data, None);
    fs::rename(&data, &moved).unwrap();
    locked(&moved, None);
    drop(store);
    assert!(DiskStore::open(&moved, options()).is_ok());
}

#[test]
fn the_lock_file_alone_keeps_a_second_store_out() {
    let root = TempDir::new().unwrap();
    let data = root.path().join("data");
    drop(DiskStore::open(&data, options()).unwrap());
    let held = fs::File::open(data.join("lock")).unwrap();
    held.lock().unwrap();
    assert!(matches!(DiskStore::open(&data, options()), Err(OpenError::Locked { .. })));
}

#[test]
fn files_of_a_data_directory_are_for_their_user_only() {
    use std::os::unix::fs::PermissionsExt;
    let root = TempDir::new().unwrap();
    let (data, backup) = (root.path().join("data"), root.path().join("backup"));
    let store = DiskStore::open(&data, options()).unwrap();
    assert!((0..40).all(|key| is_accepted(&put(&store, key))));
    drop(store);
    crate::backup(&data, &backup, &(Arc::new(|_| {}) as crate::Report)).unwrap();
    let files = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    for path in files.chain([backup]) {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
}

/// Two engines over one directory, as if no lock had kept the second one out.
fn two_writers(path: &Path) -> [DiskEngine<Directory>; 2] {
    let first = open(path);
    assert!(is_accepted(&put(&first, 0)));
    [first, open(path)]
}

const OTHER_WRITER: &str = "another process has written to the data directory";

#[test]
fn the_later_of_two_writers_stops_at_its_next_write() {
    for first in [0, 1] {
        let root = TempDir::new().unwrap();
        let stores = two_writers(root.path());
        let (first, second) = (&stores[first], &stores[1 - first]);
        assert!((1..9).all(|key| is_accepted(&put(first, key))));
        assert_refused(&put(second, 100), OTHER_WRITER);
        assert_refused(&put(second, 101), OTHER_WRITER);
        assert!(second.accepts_writes().is_err());
        assert!((9..60).all(|key| is_accepted(&put(first, key))), "the other one goes on");
        drop(stores);
        assert_eq!(keys(root.path()), 60);
    }
}

#[test]
fn an_idle_writer_notices_the_other_one() {
    let root = TempDir::new().unwrap();
    let [first, second] = two_writers(root.path());
    let mut inspector = Inspector::default();
    inspector.inspect(&second.shared);
    assert_eq!(second.accepts_writes(), Ok(()));
    assert!(is_accepted(&put(&first, 1)));
    inspector.inspect(&second.shared);
    assert!(second.accepts_writes().unwrap_err().0.contains(OTHER_WRITER));
    inspector.inspect(&first.shared);
    assert_eq!(first.accepts_writes(), Ok(()));
}

#[test]
fn a_record_that_another_writer_replaces_is_not_acknowledged() {
    let files = Faulty::new();
    let options = DiskOptions { durability: Durability::Fsync, ..options() };
    let engine = || DiskEngine::open(files.clone(), options, Box::new(|| 0), files.boot(), None).unwrap();
    let store = engine();
    assert!(is_accepted(&put(&store, 0)));
    let other = files.clone();
    let has_replaced = AtomicBool::new(false);
    files.after_each_change(Arc::new(move |_, operation| {
        if operation.kind == Kind::Sync && !has_replaced.swap(true, Ordering::Relaxed) {
            let segment = other.open(&operation.name).unwrap();
            let mut record = vec![0; 512];
            segment.read_at(&mut record, 0).unwrap();
            // Anything else than the record that was just synced, the last one in the file.
            segment.write_at(&[0xff; 8], last_record(&record)).unwrap();
        }
    }));
    let outcome = put(&store, 1);
    assert!(matches!(&outcome, Outcome::Unknown { reason } if reason.contains(OTHER_WRITER)), "{outcome:?}");
    assert_refused(&put(&store, 2), OTHER_WRITER);
}

/// Returns the offset of the last record of a file that holds two.
fn last_record(bytes: &[u8]) -> u64 {
    u64::from(u32::from_le_bytes(bytes[..4].try_into().unwrap())).next_multiple_of(8)
}

/// As [`put`], with a value of this length.
fn put_value(store: &impl Store, key: u64, length: usize) -> Outcome {
    let operation = Operation::Put {
        key: key.to_be_bytes().to_vec().into(),
        value: vec![b'v'; length].into(),
        version: Version::new(1),
    };
    store.commit(vec![Transaction { origin: None, operations: [operation].into() }]).remove(0)
}

#[test]
fn a_writer_that_begins_a_segment_is_noticed_by_one_that_still_has_room() {
    for (large, small) in [(0, 1), (1, 0)] {
        let root = TempDir::new().unwrap();
        let first = open(root.path());
        // Nearly fills the segment: a large record has no room, and a small one has.
        assert!(is_accepted(&put_value(&first, 0, usize::try_from(SEGMENT).unwrap() - 400)));
        let stores = [first, open(root.path())];
        assert!(is_accepted(&put_value(&stores[large], 1, 1000)));
        assert_refused(&put_value(&stores[small], 2, 10), OTHER_WRITER);
        assert!(is_accepted(&put_value(&stores[large], 3, 10)));
        drop(stores);
        assert_eq!(keys(root.path()), 3);
    }
}

#[test]
fn what_a_power_cut_leaves_behind_the_end_of_the_log_is_no_other_writer() {
    let files = Faulty::new();
    let options = DiskOptions { durability: Durability::Os, ..options() };
    let engine = |files: &Faulty| DiskEngine::open(files.clone(), options, Box::new(|| 0), files.boot(), None).unwrap();
    let store = engine(&files);
    assert!(is_accepted(&put(&store, 0)));
    let end = usize::try_from(store.shared.commit_state.lock().log.current.as_ref().unwrap().offset).unwrap();
    assert!((1..4).all(|key| is_accepted(&put(&store, key))));
    // Of the second record, the power cut has left nothing; of those behind it, all.
    let mut cut = files.files();
    cut.get_mut(&crate::disk::names::segment(1)).unwrap()[end..end + 64].fill(0);
    let store = engine(&Faulty::holding(cut));
    assert_eq!(store.head(), Revision::new(1));
    assert!((10..20).all(|key| is_accepted(&put(&store, key))));
}

#[test]
fn a_file_that_is_replaced_by_another_one_of_its_name_refuses_writes() {
    let root = TempDir::new().unwrap();
    let data = root.path().join("data");
    let store = open(&data);
    assert!((0..40).all(|key| is_accepted(&put(&store, key))));
    let mut inspector = Inspector::default();
    inspector.inspect(&store.shared);
    // As rsync does; the oldest segment is not written to any more.
    let segment = data.join("segment-000001");
    fs::copy(&segment, data.join("copy")).unwrap();
    fs::rename(data.join("copy"), &segment).unwrap();
    for key in 40..43 {
        inspector.inspect(&store.shared);
        assert!(store.accepts_writes().is_err());
        assert_refused(&put(&store, key), "its file segment-000001 is gone");
    }
}
