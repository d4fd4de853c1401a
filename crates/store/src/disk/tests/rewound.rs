//! When a history gets a new store id: if and only if revisions may be lost that clients have seen.

use super::faulty::{EIO, Fault, Faulty, Kind};
use super::{Db, open};
use crate::disk::boot::Boot;
use crate::disk::identity::Identity;
use crate::disk::names;
use crate::disk::open::DiskEngine;
use crate::disk::options::DiskOptions;
use crate::disk::{Durability, maintenance};
use crate::{OpenError, Store};
use parking_lot::Mutex;
use std::sync::Arc;
use syncline_core::{Operation, Outcome, StoreId, Transaction};
use syncline_wire::{Revision, Version};

/// Puts a key, at as many versions as is said.
fn put(store: &Db, versions: std::ops::RangeInclusive<u64>) {
    for version in versions {
        let operation = Operation::Put { key: "key".into(), value: "value".into(), version: Version::new(version) };
        let outcome = store.commit(vec![Transaction { origin: None, operations: [operation].into() }]).pop().unwrap();
        assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
    }
}

/// A directory to which two writes were made, and the id of its store.
fn written(durability: Durability) -> (Faulty, Db, StoreId) {
    let files = Faulty::new();
    let store = open(&files, durability).unwrap();
    put(&store, 1..=2);
    let id = store.id();
    (files, store, id)
}

#[test]
fn a_power_cut_gives_a_new_id_to_a_store_that_had_not_synced() {
    let (files, store, id) = written(Durability::Os);
    maintenance::take_checkpoint(&store.shared).unwrap();
    put(&store, 3..=4);
    let left = files.disk().power_cut(0);
    let store = open(&left, Durability::Os).unwrap();
    assert_ne!(store.id(), id);
    assert_eq!(store.head(), Revision::new(2));
    // What is left is found by its seed, and the store goes on.
    put(&store, 3..=4);
    let id = store.id();
    drop(store);
    assert_eq!(open(&left, Durability::Os).unwrap().id(), id);
}

#[test]
fn every_way_to_open_a_store_that_had_not_synced_gives_it_a_new_id() {
    let (files, _store, id) = written(Durability::Os);
    for durability in [Durability::Os, Durability::Fsync] {
        assert_ne!(open(&files.disk().power_cut(1), durability).unwrap().id(), id, "{durability:?}");
    }
}

#[test]
fn a_store_keeps_its_id_when_its_process_is_killed() {
    for durability in [Durability::Os, Durability::Fsync] {
        let (files, _store, id) = written(durability);
        assert_eq!(open(&files.disk().kill(), durability).unwrap().id(), id, "{durability:?}");
    }
}

#[test]
fn a_closed_store_keeps_its_id() {
    for durability in [Durability::Os, Durability::Fsync] {
        let (files, store, id) = written(durability);
        drop(store);
        let store = open(&files.disk().power_cut(0), durability).unwrap();
        assert_eq!((store.id(), store.head().get()), (id, 2), "{durability:?}");
    }
}

#[test]
fn a_store_that_syncs_what_it_acknowledges_keeps_its_id() {
    let (files, _store, id) = written(Durability::Fsync);
    for seed in 0..20 {
        assert_eq!(open(&files.disk().power_cut(seed), Durability::Fsync).unwrap().id(), id);
    }
}

#[test]
fn a_store_that_was_made_durable_after_a_kill_keeps_its_id() {
    let (files, _store, id) = written(Durability::Os);
    let left = files.disk().kill();
    let store = open(&left, Durability::Fsync).unwrap();
    put(&store, 3..=3);
    let store = open(&left.disk().power_cut(0), Durability::Fsync).unwrap();
    assert_eq!((store.id(), store.head().get()), (id, 3));
}

#[test]
fn a_store_with_a_failed_sync_gets_a_new_id() {
    let (files, store, id) = written(Durability::Os);
    files.fail([Fault { operations: 0..u64::MAX, kinds: &[Kind::Sync], error: EIO, seed: 0 }]);
    assert!(maintenance::write_watermark(&store.shared).is_err());
    files.fail([]);
    drop(store);
    // The machine has not gone down.
    assert_ne!(open(&files.disk().kill(), Durability::Os).unwrap().id(), id);
}

#[test]
fn an_unknown_boot_counts_as_another_boot() {
    let open = |files: &Faulty| -> Result<Db, OpenError> {
        let options =
            DiskOptions { durability: Durability::Os, segment_size: super::SEGMENT, ..DiskOptions::default() };
        DiskEngine::open(files.clone(), options, Box::new(|| 0), Boot::UNKNOWN, None)
    };
    let files = Faulty::new();
    let first = open(&files).unwrap();
    put(&first, 1..=2);
    let left = files.disk().kill();
    let second = open(&left).unwrap();
    assert_ne!(second.id(), first.id());
    let id = second.id();
    drop(second);
    assert_eq!(open(&left).unwrap().id(), id, "it was closed");
}

#[test]
fn after_a_cut_while_the_id_is_replaced_the_old_id_never_returns() {
    let (files, store, id) = written(Durability::Os);
    maintenance::write_watermark(&store.shared).unwrap();
    put(&store, 3..=9);
    let left = files.disk().power_cut(0);
    let disks = Arc::new(Mutex::new(vec![left.disk()]));
    let kept = disks.clone();
    left.after_each_change(Arc::new(move |disk, _| kept.lock().push(disk.clone())));
    let next = open(&left, Durability::Os).unwrap();
    assert_ne!(next.id(), id);
    let disks = std::mem::take(&mut *disks.lock());
    let replaced = left.log().iter().filter(|o| o.kind == Kind::Rename && o.name == names::IDENTITY).count();
    assert_eq!((replaced, disks.len() > 5), (1, true));
    for (number, disk) in disks.iter().enumerate() {
        let cuts = (0..20).map(|seed| disk.power_cut(seed)).chain([disk.kill()]);
        for (cut, left) in cuts.enumerate() {
            let store = open(&left, Durability::Os).unwrap_or_else(|error| panic!("{number}, {cut}: {error}"));
            assert_ne!(store.id(), id, "after change {number}, cut {cut}");
            assert_eq!(store.head().get(), 2, "after change {number}, cut {cut}");
        }
    }
}

#[test]
fn the_identity_says_unsynced_from_before_the_first_write_until_close() {
    let files = Faulty::new();
    let unsynced = |files: &Faulty| Identity::read(files).unwrap().unsynced;
    let store = open(&files, Durability::Os).unwrap();
    assert_eq!(unsynced(&files.disk().power_cut(0)), Some(Boot::new(0)));
    drop(store);
    assert_eq!(unsynced(&files.disk().power_cut(0)), None);
    drop(open(&files, Durability::Fsync).unwrap());
    assert_eq!(unsynced(&files), None);
}
