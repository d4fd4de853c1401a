//! The background work of the disk engine: it creates spares, takes checkpoints, writes the watermark, and forgets
//! tombstones. Writers and readers do not wait for any of it.

use super::checkpoint;
use super::files::FileSystem;
use super::log::make_spare;
use super::names;
use super::ownership::{CHECK_INTERVAL, Inspector};
use super::state::{CHECKPOINT_SEGMENTS, EngineState, LOG_TO_CHECKPOINT, is_checkpoint_due};
use super::watermark;
use crate::index::Record;
use crate::now;
use std::io;
use std::time::{Duration, Instant};
use syncline_wire::Revision;
use tracing::{debug, error};

/// A closing store takes a checkpoint of at most this size, if that saves the next opening from reading more than a
/// segment of the log.
const CLOSING_CHECKPOINT: u64 = 256 * 1024 * 1024;

/// The number of spares that are kept beyond those that the log needs until the next checkpoint; further ones are
/// removed.
const SURPLUS_SPARES: u64 = 2;

/// How many records are read under one lock.
const STEP: usize = 1024;

/// How many tombstones are forgotten under one lock.
const FORGOTTEN_AT_ONCE: usize = 32;

/// The interval between searches for old tombstones.
const SWEEP: Duration = Duration::from_secs(60);

/// Does the pending work, until the engine is closed.
pub(crate) fn run<F: FileSystem>(shared: &EngineState<F>) {
    let mut sweep = Instant::now() + SWEEP;
    let mut inspector = Inspector::default();
    let mut inspection = Instant::now();
    loop {
        let pending = shared.maintenance.wait(sweep.min(inspection));
        if pending.closing {
            return;
        }
        if Instant::now() >= inspection {
            inspector.inspect(shared);
            inspection = Instant::now() + CHECK_INTERVAL;
        }
        let mut done = Ok(());
        if pending.spare {
            done = done.and_then(|()| spare(shared));
        }
        if pending.watermark {
            done = done.and_then(|()| write_watermark(shared));
        }
        if pending.checkpoint {
            done = done.and_then(|()| checkpoint_if_due(shared));
        }
        if Instant::now() >= sweep {
            forget(shared, now().saturating_sub(millis(shared.options.tombstones)));
            sweep = Instant::now() + SWEEP;
        }
        if let Err(error) = done {
            error!(%error, "maintenance has failed, and will be tried again");
            if shared.maintenance.pause() {
                return;
            }
        }
    }
}

/// Creates a spare if there is none, so that it is ready when the segment is full.
pub(crate) fn spare<F: FileSystem>(shared: &EngineState<F>) -> io::Result<()> {
    let number = {
        let mut commit_state = shared.commit_state.lock();
        if !commit_state.log.spares.is_empty() || shared.health.has_failed() {
            return Ok(());
        }
        commit_state.log.next_number += 1;
        commit_state.log.next_number - 1
    };
    let spare = make_spare(&*shared.files, number, shared.identity.segment_size)?;
    shared.commit_state.lock().log.spares.push(spare);
    Ok(())
}

/// Writes the durable watermark, so that the loss of the segment that was begun would be noticed.
pub(crate) fn write_watermark<F: FileSystem>(shared: &EngineState<F>) -> io::Result<()> {
    let mut commit_state = shared.commit_state.lock();
    // A watermark without a log counts as damage, so it is written only after the first record.
    let begun = commit_state.log.current.as_ref().filter(|current| current.offset > 0);
    let Some(segment) = begun.map(|current| current.id) else { return Ok(()) };
    let head = shared.index.read().head();
    commit_state.sync(head)?;
    drop(commit_state);
    watermark::write(&*shared.files, shared.identity.seed, head)?;
    shared.commit_state.lock().log.watermark = segment;
    Ok(())
}

pub(crate) fn checkpoint_if_due<F: FileSystem>(shared: &EngineState<F>) -> io::Result<()> {
    let commit_state = shared.commit_state.lock();
    let is_due = !shared.health.has_failed() && is_checkpoint_due(&commit_state.log, &shared.index);
    drop(commit_state);
    if is_due { take_checkpoint(shared) } else { Ok(()) }
}

/// Takes a checkpoint before the store is closed, if that is quick and makes the next opening much quicker.
pub(crate) fn checkpoint_before_closing<F: FileSystem>(shared: &EngineState<F>) -> io::Result<()> {
    let commit_state = shared.commit_state.lock();
    let is_worth_it = !shared.health.has_failed() && commit_state.log.since_checkpoint > commit_state.log.size;
    drop(commit_state);
    let is_quick = checkpoint::estimated_bytes(&shared.index.read()) <= CLOSING_CHECKPOINT;
    if is_worth_it && is_quick { take_checkpoint(shared) } else { Ok(()) }
}

/// Writes the latest state to a checkpoint, and frees the log before it.
pub(crate) fn take_checkpoint<F: FileSystem>(shared: &EngineState<F>) -> io::Result<()> {
    let before = shared.commit_state.lock().log.since_checkpoint;
    let (records, through, forgotten) = collect(shared);
    // The checkpoint must not be ahead of the log: after a power cut, the log would end before it.
    let mut commit_state = shared.commit_state.lock();
    let head = shared.index.read().head();
    commit_state.sync(head)?;
    drop(commit_state);

    let started = Instant::now();
    let count = records.len();
    let name = names::checkpoint(through);
    let bytes =
        checkpoint::write(&*shared.files, shared.identity.seed, &name, through, forgotten, records.into_iter())?;
    debug!(%through, count, bytes, took = ?started.elapsed(), "checkpoint");

    let mut commit_state = shared.commit_state.lock();
    let synced = commit_state.synced;
    commit_state.log.recycle(through, synced);
    commit_state.log.since_checkpoint = commit_state.log.since_checkpoint.saturating_sub(before);
    let kept = (LOG_TO_CHECKPOINT * bytes / commit_state.log.size).max(CHECKPOINT_SEGMENTS) + SURPLUS_SPARES;
    let kept = usize::try_from(kept).unwrap_or(usize::MAX).min(commit_state.log.spares.len());
    let surplus = commit_state.log.spares.split_off(kept);
    drop(commit_state);
    for segment in surplus {
        shared.files.remove(&names::segment(segment.number))?;
    }
    for name in shared.files.list()? {
        if names::checkpoint_revision(&name).is_some_and(|revision| revision < through) {
            shared.files.remove(&name)?;
        }
    }
    Ok(())
}

/// Returns every record in the order of revisions, the head, and the revision up to which tombstones may be
/// forgotten. A key that changes meanwhile has several records.
fn collect<F: FileSystem>(shared: &EngineState<F>) -> (Vec<Record>, Revision, Revision) {
    let mut records: Vec<Record> = Vec::with_capacity(shared.index.read().keys());
    let mut since = Revision::ZERO;
    loop {
        let index = shared.index.read();
        match index.step(since, STEP, |record| records.push(record.clone())) {
            Some(next) => since = next,
            None => return (records, index.head(), index.forgotten()),
        }
    }
}

/// Forgets the tombstones that are older than `before`, in small steps.
pub(crate) fn forget<F: FileSystem>(shared: &EngineState<F>, before: u64) {
    let mut since = Some(Revision::ZERO);
    while let Some(from) = since {
        let mut old = Vec::new();
        let is_old = |record: &Record| record.deleted_at().is_some_and(|time| time < before);
        since = shared.index.read().step(from, STEP, |record| old.extend(is_old(record).then(|| record.clone())));
        for some in old.chunks(FORGOTTEN_AT_ONCE) {
            let mut index = shared.index.write();
            some.iter().for_each(|tombstone| index.forget(tombstone));
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
