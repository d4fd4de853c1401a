//! Every operation of a workload fails in turn: a read, a part of a write, a sync, a change of names; once, for a
//! while, or from then on. The outcomes of the store must be true:
//! - what was accepted is there after any later crash;
//! - what was refused as unavailable is not there, and never will be;
//! - after a failed sync, the outcome of that batch is unknown, nothing more is written, and everything can still be
//!   read;
//! - after a full disk, writing continues without a restart as soon as there is space;
//! - a directory that cannot be opened because of an error of the system can be opened when the error is gone.

use super::faulty::{EIO, ENOSPC, Fault, Faulty, Kind};
use super::workload::{Step, Workload};
use super::{Random, open, seeds};
use crate::disk::Durability;
use crate::{Feed, Store};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use syncline_core::{Operation, Outcome, Transaction};
use syncline_wire::Version;

const STEPS: usize = 36;

const ALL: &[Kind] = &[Kind::Read, Kind::Create, Kind::Write, Kind::Sync, Kind::Rename, Kind::Remove, Kind::SyncNames];

/// Runs a workload while something fails, and crashes it at the end in several ways.
fn run(durability: Durability, seed: u64, faults: &[Fault]) -> Result<Workload, String> {
    let mut workload = Workload::new(Faulty::new(), durability, seed);
    workload.files.fail(faults);
    workload.open(0..=0)?;
    for number in 0..STEPS {
        let step = Step::choose(&mut workload.writer.random);
        workload.step(step).map_err(|error| format!("step {number}, {step:?}: {error}"))?;
    }
    Ok(workload)
}

/// Runs a workload while something fails, and crashes it in several ways.
fn survives(durability: Durability, seed: u64, fault: &Fault) -> Result<(), String> {
    let workload = run(durability, seed, std::slice::from_ref(fault))?;
    let head = workload.live.head;
    let crashes = match durability {
        Durability::Fsync => 0..4,
        // After a disk failure, only the operating system knows what was not synced.
        Durability::Os => 0..1,
    };
    for crash in crashes {
        let left = match crash {
            0 => workload.files.disk().kill(),
            1 => workload.files.disk().evict(fault.seed),
            number => workload.files.disk().power_cut(fault.seed + number - 2),
        };
        let mut next = Workload::over(left, &workload, seed);
        let error = |error| format!("after crash {crash}: {error}");
        next.open(head..=u64::MAX).map_err(error)?;
        // What is visible now is durable.
        let shown = next.live.head;
        for step in [Step::Write, Step::Spare, Step::Write] {
            let mut last = Workload::over(next.files.disk().power_cut(0), &next, seed);
            last.open(shown..=next.live.head).map_err(error)?;
            next.step(step).map_err(error)?;
        }
    }
    Ok(())
}

/// Makes each operation of some kinds fail, for a given number of operations.
fn fail_each(kinds: &'static [Kind], error: i32, last_for: u64, few: u64) {
    for durability in [Durability::Fsync, Durability::Os] {
        for seed in seeds(few) {
            let operations = run(durability, seed, &[]).unwrap().files.log();
            // Where none fails of these kinds, nothing is other than without faults.
            let of_kinds = operations.iter().enumerate().filter(|(_, operation)| kinds.contains(&operation.kind));
            for number in of_kinds.map(|(number, _)| number as u64) {
                let until = number.saturating_add(last_for);
                let fault = Fault { operations: number..until, kinds, error, seed: seed + number };
                survives(durability, seed, &fault)
                    .unwrap_or_else(|error| panic!("{durability:?}, seed {seed}, {fault:?}: {error}"));
            }
            println!("{durability:?}: {} operations", operations.len());
            assert!(operations.len() > 50, "{} operations are no workload", operations.len());
        }
    }
}

#[test]
fn each_sync_fails() {
    fail_each(&[Kind::Sync, Kind::SyncNames], EIO, 1, 1);
}

#[test]
fn each_write_fails_in_part() {
    fail_each(&[Kind::Write], EIO, 1, 1);
}

#[test]
fn each_change_of_names_and_each_read_fails() {
    fail_each(&[Kind::Create, Kind::Rename, Kind::Remove, Kind::Read], EIO, 1, 1);
}

#[test]
fn the_disk_is_full_for_a_while() {
    fail_each(&[Kind::Create, Kind::Write], ENOSPC, 7, 1);
}

#[test]
fn each_operation_fails_and_the_next_ones_too() {
    fail_each(ALL, EIO, 3, 1);
}

#[test]
fn the_disk_dies() {
    fail_each(ALL, EIO, u64::MAX, 1);
}

fn put(key: &str, version: u64, length: usize) -> Transaction {
    let value = Bytes::from(vec![b'v'; length]);
    let operation =
        Operation::Put { key: Bytes::copy_from_slice(key.as_bytes()), value, version: Version::new(version) };
    Transaction { origin: None, operations: [operation].into() }
}

fn commit(store: &impl Store, transaction: Transaction) -> Outcome {
    store.commit(vec![transaction]).pop().unwrap()
}

#[test]
fn after_a_failed_sync_nothing_is_written_and_everything_is_read() {
    let files = Faulty::new();
    let store = open(&files, Durability::Fsync).unwrap();
    let accepted = commit(&store, put("a", 1, 10));
    assert!(matches!(accepted, Outcome::Accepted { .. }));
    files.fail([Fault { operations: 0..u64::MAX, kinds: &[Kind::Sync], error: EIO, seed: 0 }]);
    let batch = vec![put("a", 2, 10), put("a", 1, 10), put("a", 2, 20)];
    let outcomes = store.commit(batch);
    assert!(matches!(outcomes[0], Outcome::Unknown { .. }), "{outcomes:?}");
    // Refused in any case, but the revision that caused the conflict may never exist.
    assert!(matches!(outcomes[1], Outcome::Unavailable { .. }), "{outcomes:?}");
    assert!(matches!(outcomes[2], Outcome::Unavailable { .. }), "{outcomes:?}");
    // The disk reports no more errors; what it has lost is unknown.
    files.fail([]);
    let changes = files.done();
    match commit(&store, put("b", 1, 10)) {
        Outcome::Unavailable { reason } => assert!(reason.contains("restart"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(files.done(), changes, "a failed log was touched");
    let entry = pollster::block_on(store.get(b"a")).unwrap().unwrap();
    assert_eq!((entry.version, store.head().get()), (Version::new(1), 1));
}

#[test]
fn a_batch_with_an_unknown_outcome_is_neither_visible_nor_fed() {
    let files = Faulty::new();
    let store = open(&files, Durability::Fsync).unwrap();
    let fed = Arc::new(AtomicUsize::new(0));
    let counter = fed.clone();
    let feed: Feed = Box::new(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    store.follow(feed);
    commit(&store, put("a", 1, 10));
    files.fail([Fault { operations: 0..u64::MAX, kinds: &[Kind::Sync], error: EIO, seed: 0 }]);
    commit(&store, put("a", 2, 10));
    assert_eq!(fed.load(Ordering::Relaxed), 1);
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_space() {
    for seed in 0..50 {
        let files = Faulty::new();
        let store = open(&files, Durability::Fsync).unwrap();
        assert!(matches!(commit(&store, put("a", 1, 10)), Outcome::Accepted { .. }));
        // The segment has no room for it, and the disk none for another.
        files.fail([Fault { operations: 0..u64::MAX, kinds: &[Kind::Create, Kind::Write], error: ENOSPC, seed }]);
        for _ in 0..3 {
            match commit(&store, put("b", 1, 4000)) {
                Outcome::Unavailable { reason } => assert!(reason.contains("No space left"), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
        files.fail([]);
        crate::disk::maintenance::attempt(&store.shared).unwrap();
        assert!(matches!(commit(&store, put("b", 1, 4000)), Outcome::Accepted { .. }));
        drop(store);
        assert_eq!(open(&files, Durability::Fsync).unwrap().head().get(), 2);
    }
}

#[test]
fn a_batch_that_is_larger_than_a_segment_is_written_in_parts() {
    let store = open(&Faulty::new(), Durability::Fsync).unwrap();
    let batch = (1..=100).map(|version| put("key", version, 100)).collect();
    for (number, outcome) in store.commit(batch).iter().enumerate() {
        assert!(
            matches!(outcome, Outcome::Accepted { revision } if revision.get() == number as u64 + 1),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_transaction_that_is_larger_than_a_segment_is_refused() {
    let store = open(&Faulty::new(), Durability::Fsync).unwrap();
    for transaction in [put("key", 1, 5000), put("key", 1, 70_000)] {
        assert!(matches!(commit(&store, transaction), Outcome::Unavailable { .. }));
    }
    assert!(matches!(commit(&store, put("key", 1, 1000)), Outcome::Accepted { .. }));
}

#[test]
fn a_spare_that_was_not_finished_leaves_no_file_behind() {
    for kind in [&[Kind::Write][..], &[Kind::Sync], &[Kind::Rename], &[Kind::SyncNames]] {
        let files = Faulty::new();
        let store = open(&files, Durability::Fsync).unwrap();
        let before: Vec<_> = files.files().into_keys().collect();
        files.fail([Fault { operations: 0..u64::MAX, kinds: kind, error: ENOSPC, seed: 0 }]);
        assert!(crate::disk::maintenance::spare(&store.shared).is_err());
        assert_eq!(files.files().into_keys().collect::<Vec<_>>(), before, "{kind:?}");
    }
}

#[test]
fn random_faults_one_after_the_other_lose_nothing() {
    for seed in seeds(60) {
        let mut random = Random::new(seed);
        let mut faults = Vec::new();
        for _ in 0..8 {
            let from = random.below(300) as u64;
            let kinds = [ALL, &[Kind::Write], &[Kind::Sync]][random.below(3)];
            faults.push(Fault { operations: from..from + random.below(4) as u64, kinds, error: EIO, seed });
        }
        let mut workload = run(Durability::Fsync, seed, &faults).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        workload.step(Step::Kill).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}
