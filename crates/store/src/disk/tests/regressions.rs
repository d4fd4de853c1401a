//! Bugs that these tests have found, each named after its symptom.

use super::faulty::{Disk, EIO, ENOSPC, Fault, Faulty, Kind};
use super::{Db, open, open_equal};
use crate::Store;
use crate::disk::files::FileSystem;
use crate::disk::names;
use crate::disk::{Durability, OpenError, checkpoint, identity, maintenance, record};
use crate::index::Record;
use parking_lot::Mutex;
use std::sync::Arc;
use syncline_core::{Operation, Outcome, Transaction};
use syncline_wire::{Revision, Version};

fn put(store: &Db, version: u64, value: &[u8]) -> Outcome {
    let value = value.to_vec().into();
    let operation = Operation::Put { key: "key".into(), value, version: Version::new(version) };
    store.commit(vec![Transaction { origin: None, operations: [operation].into() }]).pop().unwrap()
}

#[track_caller]
fn accepted(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
}

/// The disk as it was just after a file got its name, which was not synced yet.
fn just_named(name: &str) -> Disk {
    let files = Faulty::new();
    let (name, found) = (name.to_owned(), Arc::new(Mutex::new(None)));
    let kept = found.clone();
    files.after_each_change(Arc::new(move |disk, change| {
        if change.kind == Kind::Rename && change.name == name {
            *kept.lock() = Some(disk.clone());
        }
    }));
    let store = open(&files, Durability::Fsync).unwrap();
    accepted(&put(&store, 1, b"value"));
    found.lock().take().unwrap()
}

#[test]
fn the_name_of_a_new_file_is_synced_before_it_is_written_after_a_kill() {
    for name in [names::IDENTITY, &names::segment(1)] {
        let files = just_named(name).kill();
        let store = open(&files, Durability::Fsync).unwrap();
        accepted(&put(&store, 1, b"value"));
        let left = files.disk().power_cut(0);
        assert_eq!(open(&left, Durability::Fsync).unwrap().head().get(), 1, "{name}");
    }
}

#[test]
fn what_is_shown_after_a_failed_sync_and_a_restart_is_there_for_good() {
    let mut shown = 0;
    for seed in 0..50 {
        let files = Faulty::new();
        let store = open_equal(&files, Durability::Fsync).unwrap();
        accepted(&put(&store, 1, b"value"));
        files.fail([Fault { operations: 0..u64::MAX, kinds: &[Kind::Sync], error: EIO, seed }]);
        assert!(matches!(put(&store, 2, &[b'v'; 1000]), Outcome::Unknown { .. }));
        let files = files.disk().kill();
        let store = open_equal(&files, Durability::Fsync).unwrap();
        shown += store.head().get() - 1;
        let left = files.disk().power_cut(0);
        assert_eq!(open_equal(&left, Durability::Fsync).unwrap().head(), store.head(), "seed {seed}");
    }
    assert_eq!(shown, 50);
}

#[test]
fn a_later_write_does_not_complete_a_torn_record() {
    let files = Faulty::new();
    let store = open(&files, Durability::Fsync).unwrap();
    accepted(&put(&store, 1, b"value"));
    let before = files.files();
    accepted(&put(&store, 2, &[b'v'; 2000]));
    let (name, whole) = (names::segment(1), files.files()[&names::segment(1)].clone());
    // Its front is there, its second half is not.
    let mut cut = before.clone();
    cut.get_mut(&name).unwrap()[..1024].copy_from_slice(&whole[..1024]);
    let files = Faulty::holding(cut);
    let store = open(&files, Durability::Fsync).unwrap();
    assert_eq!(store.head().get(), 1);
    // Another write brings just what was missing, and is cut short itself: its front is not there.
    let mut again = files.disk().power_cut(0).files();
    again.get_mut(&name).unwrap()[1024..].copy_from_slice(&whole[1024..]);
    assert_eq!(open(&Faulty::holding(again), Durability::Fsync).unwrap().head().get(), 1);
}

#[test]
fn a_directory_that_is_damaged_keeps_its_older_checkpoint() {
    let files = Faulty::new();
    let store = open(&files, Durability::Fsync).unwrap();
    accepted(&put(&store, 1, b"value"));
    maintenance::take_checkpoint(&store.shared).unwrap();
    let older = files.files();
    (2..100).for_each(|version| accepted(&put(&store, version, b"value")));
    maintenance::take_checkpoint(&store.shared).unwrap();
    (100..110).for_each(|version| accepted(&put(&store, version, b"value")));
    let mut damaged = files.files();
    let name = names::checkpoint(Revision::new(1));
    damaged.insert(name.clone(), older[&name].clone());
    for bytes in damaged.iter_mut().filter(|(name, _)| names::segment_number(name).is_some()).map(|(_, bytes)| bytes) {
        bytes[100] ^= 1;
    }
    let left = Faulty::holding(damaged.clone());
    assert!(matches!(open(&left, Durability::Fsync), Err(OpenError::Damaged { .. })));
    assert_eq!(left.files(), damaged);
}

#[test]
fn a_full_disk_that_can_not_even_be_wiped_needs_no_restart() {
    for seed in 0..50 {
        let files = Faulty::new();
        let store = open(&files, Durability::Fsync).unwrap();
        accepted(&put(&store, 1, b"value"));
        let full = Fault { operations: 0..u64::MAX, kinds: &[Kind::Write, Kind::Create], error: ENOSPC, seed };
        files.fail([full]);
        // A part of it may be there, or all, or nothing.
        let refused = put(&store, 2, &[b'v'; 1000]);
        assert!(matches!(refused, Outcome::Unknown { .. } | Outcome::Unavailable { .. }));
        files.fail([]);
        maintenance::attempt(&store.shared).unwrap();
        // It has no room beside the other: the log goes on in the next segment, and must not be taken to go on here.
        accepted(&put(&store, 2, &[b'w'; 4000]));
        accepted(&put(&store, 3, b"value"));
        for left in [files.disk().kill(), files.disk().power_cut(seed)] {
            assert_eq!(open(&left, Durability::Fsync).unwrap().head().get(), 3, "seed {seed}");
        }
    }
}

#[test]
fn a_segment_is_reused_only_when_something_after_it_is_durable() {
    // The checkpoint ends with a segment, the next segment is begun while it is written, and nothing of it is synced.
    let files = Faulty::new();
    let store = Arc::new(open(&files, Durability::Os).unwrap());
    let mut version = 0;
    let mut put_next = |length| {
        version += 1;
        accepted(&put(&store, version, &vec![b'v'; length]));
    };
    for _ in 0..12 {
        // Two fill a segment.
        put_next(1900);
        put_next(1900);
    }
    let (writer, next) = (Arc::downgrade(&store), Mutex::new(version + 1));
    files.after_each_change(Arc::new(move |_, change| {
        if change.kind == Kind::Create && change.name.starts_with("checkpoint-") {
            accepted(&put(&writer.upgrade().unwrap(), *next.lock(), &[b'v'; 1900]));
        }
    }));
    maintenance::take_checkpoint(&store.shared).unwrap();
    for seed in 0..20 {
        let head = open(&files.disk().power_cut(seed), Durability::Os).unwrap_or_else(|error| panic!("{error}")).head();
        assert!((24..=25).contains(&head.get()), "{head}");
    }
}

#[test]
fn records_behind_a_cut_do_not_continue_later_writes() {
    let files = Faulty::new();
    let store = open(&files, Durability::Os).unwrap();
    accepted(&put(&store, 1, b"one"));
    let end = usize::try_from(store.shared.commit_state.lock().log.current.as_ref().unwrap().offset).unwrap();
    accepted(&put(&store, 2, b"two"));
    accepted(&put(&store, 3, b"three"));
    // Of the second, the power cut has left nothing; of the third, all.
    let mut cut = files.files();
    cut.get_mut(&names::segment(1)).unwrap()[end..end + 64].fill(0);
    let files = Faulty::holding(cut);
    let store = open(&files, Durability::Os).unwrap();
    assert_eq!(store.head().get(), 1);
    // Just as long as what was lost, so that what lies behind it fits.
    accepted(&put(&store, 2, b"TWO"));
    let left = files.disk().kill();
    let store = open(&left, Durability::Os).unwrap();
    assert_eq!(store.head().get(), 2);
    accepted(&put(&store, 3, b"THREE"));
}

#[test]
fn a_segment_that_a_crash_has_cut_at_its_front_is_not_made_whole_later() {
    let files = Faulty::new();
    let store = open_equal(&files, Durability::Fsync).unwrap();
    accepted(&put(&store, 1, &[b'v'; 1900]));
    accepted(&put(&store, 2, &[b'v'; 1900]));
    let before = files.files();
    // It has no room beside the others, and begins a segment.
    accepted(&put(&store, 3, &[b'v'; 2000]));
    let name = names::segment(2);
    let whole = files.files()[&name].clone();
    let mut cut = before;
    cut.insert(name.clone(), [&whole[..1024], &[0; 3072]].concat());
    let files = Faulty::holding(cut);
    let store = open_equal(&files, Durability::Fsync).unwrap();
    assert_eq!(store.head().get(), 2);
    // What is shorter has room, and the log goes on where it was.
    accepted(&put(&store, 3, b"w"));
    maintenance::take_checkpoint(&store.shared).unwrap();
    accepted(&put(&store, 4, b"x"));
    let mut again = files.files();
    again.get_mut(&name).unwrap()[1024..].copy_from_slice(&whole[1024..]);
    let store = open_equal(&Faulty::holding(again), Durability::Fsync).unwrap();
    assert_eq!(store.head().get(), 4);
}

/// The checksum seed of backups is public, so their content may be forged.
#[test]
fn a_checkpoint_with_revisions_out_of_order_is_damaged() {
    let files = Faulty::new();
    let seed = record::ChecksumSeed(7);
    let record = |revision, key: &[u8]| Record::value_at(Revision::new(revision), Version::new(1), key, b"value");
    let load = |records: Vec<Record>| {
        let (through, name) = (Revision::new(5), names::checkpoint(Revision::new(5)));
        checkpoint::write(&files, seed, &name, through, Revision::ZERO, records.into_iter()).unwrap();
        checkpoint::load(&files.open(&name).unwrap(), seed, &files.path(&name)).map(|(index, _)| index.keys())
    };
    assert_eq!(load(vec![record(3, b"a"), record(3, b"b"), record(5, b"c")]).unwrap(), 3);
    for forged in [vec![record(4, b"a"), record(3, b"b")], vec![record(6, b"a")]] {
        assert!(matches!(load(forged), Err(OpenError::Damaged { .. })));
    }
}

/// Opening trusted a length whose checksum was right.
#[test]
fn a_record_that_claims_a_gigabyte_takes_no_more_memory_than_its_file_has() {
    const CLAIMED: u32 = 1 << 30;
    const CHECKED: usize = record::HEADER - 4;
    let files = Faulty::new();
    accepted(&put(&open(&files, Durability::Fsync).unwrap(), 1, b"value"));
    let seed = identity::Identity::read(&files).unwrap().seed;
    let mut forged = files.files();
    let segment = forged.get_mut(&names::segment(1)).unwrap();
    segment[..4].copy_from_slice(&CLAIMED.to_le_bytes());
    let checksum = crc32c::crc32c_append(seed.0, &segment[..CHECKED]);
    segment[CHECKED..record::HEADER].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(record::expected_length(seed, segment), Some(1 << 30), "it is believed");
    let largest_file = forged.values().map(Vec::len).max().unwrap();
    let files = Faulty::holding(forged);
    // Torn or damaged: the other tests tell.
    drop(open(&files, Durability::Fsync));
    // The identity is read with a buffer of 4 KiB.
    assert!(files.largest_read() <= largest_file.max(4096), "{} bytes at once", files.largest_read());
}
