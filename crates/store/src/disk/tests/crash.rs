//! The power is cut, or the process killed, after every operation of a workload in turn. Then the store is opened
//! again, and this must hold:
//! - every acknowledged write is there, with its value, version and revision; of the transactions in progress, a
//!   prefix is there, each one complete;
//! - if writes are acknowledged before they are synced, a power cut leaves a prefix of the history that reaches at
//!   least to the last sync;
//! - both orders agree, and the head is right;
//! - the store continues: it accepts writes, and survives another crash, even during recovery.

use super::faulty::{Faulty, Kind, Operation};
use super::workload::{Progress, Snapshot, Step, Workload};
use super::{Random, seeds};
use crate::disk::names;
use crate::disk::{Durability, maintenance};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The number of steps of a workload.
const STEPS: usize = 130;

/// Runs a workload. Returns the disk after each change, and the history.
fn run(durability: Durability, seed: u64) -> (Vec<Snapshot>, Workload) {
    go_through(Workload::new(Faulty::new(), durability, seed), STEPS)
}

fn go_through(mut workload: Workload, steps: usize) -> (Vec<Snapshot>, Workload) {
    let head = workload.history.head();
    let snapshots = workload.record();
    workload.open(head..=head).unwrap();
    for number in 0..steps {
        let step = Step::choose(&mut workload.writer.random);
        workload.step(step).unwrap_or_else(|error| panic!("step {number}, {step:?}: {error}"));
    }
    workload.store = None;
    let snapshots = std::mem::take(&mut *snapshots.lock());
    (snapshots, workload)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crash {
    PowerCut,
    Kill,
}

/// The range of revisions that a crash may leave.
fn left(durability: Durability, crash: Crash, progress: Progress) -> std::ops::RangeInclusive<u64> {
    let lost_by = (durability, crash) == (Durability::Os, Crash::PowerCut);
    (if lost_by { progress.synced } else { progress.acknowledged })..=progress.under_way
}

fn leave(snapshot: &Snapshot, crash: Crash, seed: u64) -> Faulty {
    match crash {
        Crash::PowerCut => snapshot.disk.power_cut(seed),
        Crash::Kill => snapshot.disk.kill(),
    }
}

/// Opens what a crash has left, checks it, and continues. On request, also crashes again after each change that this
/// makes.
fn go_on(snapshot: &Snapshot, before: &Workload, crash: Crash, seed: u64, again: bool) -> Result<(), String> {
    let files = leave(snapshot, crash, seed);
    let mut workload = Workload::over(files, before, seed);
    let snapshots = if again { workload.record() } else { Default::default() };
    let revisions = left(before.durability, crash, snapshot.progress);
    // Opening acknowledges and syncs nothing that was not acknowledged or synced before the crash.
    let (acknowledged, under_way) = (*revisions.start(), *revisions.end());
    *workload.progress.lock() = Progress { acknowledged, under_way, ..snapshot.progress };
    workload.open(revisions)?;
    let mut random = Random::new(seed);
    let between = [Step::Spare, Step::Checkpoint, Step::CheckpointIfDue, Step::Write][random.below(4)];
    for step in [Step::Write, between, Step::Write] {
        workload.step(step).map_err(|error| format!("going on with {step:?}: {error}"))?;
    }
    workload.step([Step::Close, Step::Kill][random.below(2)]).map_err(|error| format!("opened once more: {error}"))?;
    workload.store = None;
    let snapshots = std::mem::take(&mut *snapshots.lock());
    for (number, next) in snapshots.iter().enumerate() {
        for crash in [Crash::PowerCut, Crash::Kill] {
            go_on(next, &workload, crash, seed + number as u64, false)
                .map_err(|error| format!("then {crash:?} after change {number}, {:?}: {error}", next.change))?;
        }
    }
    Ok(())
}

/// Crashes after each change of a workload, and continues from there.
fn crash_after_every_change(snapshots: &[Snapshot], workload: &Workload, crash: Crash, seed: u64) {
    for (number, snapshot) in snapshots.iter().enumerate() {
        // Some crashes are followed by crashes of their own.
        let again = (number as u64 + seed).is_multiple_of(16);
        let chosen = 2 + seed * 1000 + number as u64;
        let (durability, change) = (workload.durability, &snapshot.change);
        for of_crash in if crash == Crash::Kill { vec![chosen] } else { vec![0, 1, chosen] } {
            go_on(snapshot, workload, crash, of_crash, again).unwrap_or_else(|error| {
                panic!("{durability:?}, {seed}: {crash:?} with {of_crash} after change {number}, {change:?}: {error}")
            });
        }
    }
}

fn crash(durability: Durability, crash: Crash, few: u64) {
    for seed in seeds(few) {
        let (snapshots, workload) = run(durability, seed);
        crash_after_every_change(&snapshots, &workload, crash, seed);
    }
}

#[test]
fn the_workload_covers_all_operations_of_the_engine() {
    for durability in [Durability::Fsync, Durability::Os] {
        let (snapshots, _) = run(durability, 0);
        let mut changes: BTreeMap<_, usize> = BTreeMap::new();
        let mut held: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for Snapshot { disk, change, .. } in &snapshots {
            *changes.entry((change.kind, change.name.split('-').next().unwrap_or_default())).or_default() += 1;
            for (name, bytes) in
                disk.kill().files().into_iter().filter(|(name, _)| names::segment_number(name).is_some())
            {
                held.entry(name).or_default().insert(bytes.get(8..16).map(<[u8]>::to_vec));
            }
        }
        println!("{durability:?}: {} changes: {changes:?}", snapshots.len());
        for (kind, name, least) in [
            (Kind::Create, "segment", 3),
            (Kind::Rename, "checkpoint", 5),
            (Kind::Remove, "checkpoint", 4),
            (Kind::Rename, "mark", 3),
            (Kind::Write, "segment", 80),
        ] {
            let found = changes.get(&(kind, name)).copied().unwrap_or_default();
            assert!(found >= least, "{kind:?} {name}: {found}");
        }
        let most = held.values().map(BTreeSet::len).max();
        assert!(most > Some(3), "no file of the log was used again");
    }
}

/// Writes while a checkpoint is written, after each change that this makes. The disk after each of all these changes.
fn write_during_checkpoints(durability: Durability, seed: u64) -> (Vec<Snapshot>, Workload) {
    let mut workload = Workload::new(Faulty::new(), durability, seed);
    let snapshots = workload.record();
    workload.open(0..=0).unwrap();
    let (files, record) = (workload.files.clone(), workload.hook.clone().unwrap());
    let shared = workload.store.as_ref().unwrap().shared.clone();
    let workload = Arc::new(Mutex::new(workload));
    let writer = workload.clone();
    files.after_each_change(Arc::new(move |disk, change| {
        record(disk, change);
        // What the writer does itself changes something too.
        if change.name.starts_with("checkpoint-")
            && let Some(mut writer) = writer.try_lock()
        {
            (0..3).for_each(|_| writer.write().unwrap());
        }
    }));
    // After many writes there are more spares than are kept.
    for writes in [4, 50, 2] {
        (0..writes).for_each(|_| workload.lock().step(Step::Write).unwrap());
        maintenance::take_checkpoint(&shared).unwrap();
    }
    files.after_each_change(Arc::new(|_, _| {}));
    drop(shared);
    let mut workload = Arc::into_inner(workload).unwrap().into_inner();
    workload.store = None;
    let snapshots = std::mem::take(&mut *snapshots.lock());
    (snapshots, workload)
}

#[test]
fn writes_during_a_checkpoint_survive() {
    for durability in [Durability::Fsync, Durability::Os] {
        for seed in seeds(1) {
            let (snapshots, workload) = write_during_checkpoints(durability, seed);
            let removes =
                |change: &Operation| change.kind == Kind::Remove && names::segment_number(&change.name).is_some();
            assert!(snapshots.iter().any(|snapshot| removes(&snapshot.change)), "no spare was too many");
            // The second checkpoint is the large one.
            let begins = |s: &Snapshot| s.change.kind == Kind::Create && s.change.name.starts_with("checkpoint-");
            let first = snapshots.iter().position(begins).unwrap();
            let second = snapshots.iter().skip(first + 1).position(begins).unwrap() + first + 1;
            crash_after_every_change(&snapshots[second..], &workload, Crash::PowerCut, seed);
        }
    }
}

#[test]
fn a_store_that_begins_with_a_checkpoint_survives() {
    for durability in [Durability::Fsync, Durability::Os] {
        for seed in seeds(1) {
            let (_, mut before) = run(durability, seed);
            before.open(0..=u64::MAX).unwrap();
            before.step(Step::Checkpoint).unwrap();
            // As a backup is restored: without a log.
            let mut files = before.files.files();
            files.retain(|name, _| name == names::IDENTITY || names::checkpoint_revision(name).is_some());
            let workload = Workload::over(Faulty::holding(files), &before, seed);
            let (snapshots, workload) = go_through(workload, STEPS / 4);
            crash_after_every_change(&snapshots, &workload, Crash::PowerCut, seed);
        }
    }
}

#[test]
fn a_power_cut_loses_nothing_acknowledged() {
    crash(Durability::Fsync, Crash::PowerCut, 1);
}

#[test]
fn a_killed_process_loses_nothing_acknowledged() {
    crash(Durability::Fsync, Crash::Kill, 1);
}

#[test]
fn without_fsync_a_power_cut_leaves_a_prefix_of_the_history() {
    crash(Durability::Os, Crash::PowerCut, 1);
}

#[test]
fn without_fsync_a_killed_process_loses_nothing_acknowledged() {
    crash(Durability::Os, Crash::Kill, 1);
}
