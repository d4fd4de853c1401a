//! The power is cut, or the process killed, after every operation of a workload in turn. Then the store is opened again:
//! - every acknowledged write is there, with its value, version and revision; of those that were under way, whole
//!   transactions from the first on, or none;
//! - where writes are acknowledged before they are synced, a power cut leaves the history up to some revision, not before
//!   the last sync;
//! - both orders agree, and the head is right;
//! - the store goes on from there: it writes, and is opened again after one more crash, be it during its recovery.

use super::faulty::Faulty;
use super::history::History;
use super::workload::{Progress, Snapshot, Step, Workload};
use super::{Random, seeds};
use crate::disk::Durability;
use std::collections::BTreeMap;

/// How many steps a workload has.
const STEPS: usize = 130;

/// Runs a workload, and answers the disk as it was after each change, and the history.
fn run(durability: Durability, seed: u64) -> (Vec<Snapshot>, History) {
    let mut workload = Workload::new(Faulty::new(), durability, seed);
    let snapshots = workload.record();
    workload.open(0..=0).unwrap();
    for number in 0..STEPS {
        let step = Step::choose(&mut workload.writer.random);
        workload.step(step).unwrap_or_else(|error| panic!("step {number}, {step:?}: {error}"));
    }
    workload.store = None;
    let snapshots = std::mem::take(&mut *snapshots.lock());
    (snapshots, workload.history)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crash {
    PowerCut,
    Kill,
}

/// Between which revisions a crash may leave the store.
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

/// Opens what a crash has left, checks it, goes on, and crashes again after each change that this makes, where that is
/// asked for.
fn go_on(
    snapshot: &Snapshot,
    history: &History,
    durability: Durability,
    crash: Crash,
    seed: u64,
    again: bool,
) -> Result<(), String> {
    let files = leave(snapshot, crash, seed);
    let mut workload = Workload::over(files, durability, history.clone(), seed);
    workload.progress.lock().forgotten = snapshot.progress.forgotten;
    let snapshots = if again { workload.record() } else { Default::default() };
    let revisions = left(durability, crash, snapshot.progress);
    // While it is opened, nothing is acknowledged or synced that was not before the crash.
    let mut progress = workload.progress.lock();
    (progress.acknowledged, progress.under_way) = (*revisions.start(), *revisions.end());
    progress.synced = snapshot.progress.synced;
    drop(progress);
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
            go_on(next, &workload.history, durability, crash, seed + number as u64, false)
                .map_err(|error| format!("then {crash:?} after change {number}, {:?}: {error}", next.change))?;
        }
    }
    Ok(())
}

fn crash_after_every_change(durability: Durability, crash: Crash, few: u64) {
    for seed in seeds(few) {
        let (snapshots, history) = run(durability, seed);
        for (number, snapshot) in snapshots.iter().enumerate() {
            // One after the other is followed by crashes of its own.
            let again = (number as u64 + seed) % 16 == 0;
            let seed = [0, 1, 2 + seed * 1000 + number as u64];
            for seed in seed.into_iter().take(if crash == Crash::Kill { 1 } else { 3 }) {
                go_on(snapshot, &history, durability, crash, seed, again).unwrap_or_else(|error| {
                    panic!("{crash:?} with seed {seed} after change {number}, {:?}: {error}", snapshot.change)
                });
            }
        }
    }
}

#[test]
fn the_workload_does_all_that_the_engine_can_do() {
    let (snapshots, _) = run(Durability::Fsync, 0);
    let mut changes: BTreeMap<_, usize> = BTreeMap::new();
    for Snapshot { change, .. } in &snapshots {
        let name = change.name.split('-').next().unwrap_or_default();
        *changes.entry((change.kind, name)).or_default() += 1;
    }
    println!("{} changes: {changes:?}", snapshots.len());
}

#[test]
fn a_power_cut_loses_nothing_acknowledged() {
    crash_after_every_change(Durability::Fsync, Crash::PowerCut, 2);
}

#[test]
fn a_killed_process_loses_nothing_acknowledged() {
    crash_after_every_change(Durability::Fsync, Crash::Kill, 1);
}

#[test]
fn a_power_cut_leaves_the_history_up_to_some_revision_where_nothing_else_was_promised() {
    crash_after_every_change(Durability::Os, Crash::PowerCut, 2);
}

#[test]
fn a_killed_process_loses_nothing_where_only_that_was_promised() {
    crash_after_every_change(Durability::Os, Crash::Kill, 1);
}
