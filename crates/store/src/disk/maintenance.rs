//! The background work of the disk engine: it keeps the reserve, creates spares, takes checkpoints, writes the watermark,
//! and forgets tombstones. Writers and readers do not wait for any of it.

use super::checkpoint;
use super::files::FileSystem;
use super::health::{Condition, refusal};
use super::log::{Segment, make_spare};
use super::names;
use super::ownership::{CHECK_INTERVAL, Inspector};
use super::state::{CHECKPOINT_SEGMENTS, EngineState, LOG_TO_CHECKPOINT, Woken, is_checkpoint_due};
use super::watermark;
use crate::index::Record;
use std::io;
use std::time::{Duration, Instant};
use syncline_wire::Revision;
use tracing::{debug, info, warn};

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

/// The interval between searches if tombstones are remembered for a shorter time than that.
const SHORTEST_SWEEP: Duration = Duration::from_secs(1);

/// A reserve that is this many times too large is created again.
const SURPLUS_RESERVE: u64 = 4;

/// Does the pending work, until the engine is closed.
pub(crate) fn run<F: FileSystem>(shared: &EngineState<F>) {
    let sweep_interval = shared.options.tombstones.clamp(SHORTEST_SWEEP, SWEEP);
    let mut sweep = Instant::now();
    let mut inspector = Inspector::default();
    let mut inspection = Instant::now();
    let mut trouble = None;
    loop {
        if Instant::now() >= inspection {
            inspector.inspect(shared);
            inspection = Instant::now() + CHECK_INTERVAL;
        }
        if Instant::now() >= sweep {
            let now = shared.commit_state.lock().time.now();
            forget(shared, now.saturating_sub(millis(shared.options.tombstones)));
            sweep = Instant::now() + sweep_interval;
        }
        let done = attempt(shared);
        report(&mut trouble, done.as_ref().err());
        if done.is_err() {
            shared.maintenance.pause();
        }
        if shared.maintenance.wait(sweep.min(inspection)) == Woken::Closing {
            return;
        }
    }
}

/// Logs when maintenance begins to fail, fails for another reason, and succeeds again. It does not log each attempt.
fn report(trouble: &mut Option<String>, error: Option<&io::Error>) {
    let now = error.map(io::Error::to_string);
    if *trouble != now {
        match &now {
            Some(error) => warn!(%error, "maintenance has failed, and will be tried again"),
            None => info!("maintenance succeeds again"),
        }
        *trouble = now;
    }
}

/// Attempts all the work that is pending, each piece whatever becomes of the others. Returns the first error.
///
/// Writes that need space are accepted if and only if the reserve is large enough, a spare is ready, and the disk accepts
/// a write to the log.
pub(crate) fn attempt<F: FileSystem>(shared: &EngineState<F>) -> io::Result<()> {
    let is_elsewhere = |condition| shared.health.reason(condition).is_some();
    // In a directory that was removed, files cannot be created.
    if shared.health.has_failed() || is_elsewhere(Condition::Incomplete) || is_elsewhere(Condition::Misplaced) {
        return Ok(());
    }
    // If this fails, it is tried again below.
    let _ = extend_reserve(shared);
    let spare_made = spare_if_used(shared);
    let checkpoint = match &spare_made {
        Ok(()) => checkpoint_if_due(shared),
        Err(_) => free_a_segment(shared),
    };
    // The checkpoint has freed space, or has used that of the reserve.
    let reserve = extend_reserve(shared);
    let spare_made = spare_made.or_else(|_| spare_if_used(shared));
    let writable = reserve.and(spare_made).and_then(|()| probe(shared));
    match &writable {
        Ok(()) => shared.health.end(Condition::DiskRefuses),
        Err(error) => drop(shared.health.begin(Condition::DiskRefuses, refusal(error))),
    }
    let watermark = watermark_if_begun(shared);
    writable.and(checkpoint).and(watermark)
}

/// Makes the reserve large enough for the next checkpoint.
fn extend_reserve<F: FileSystem>(shared: &EngineState<F>) -> io::Result<()> {
    let slack = shared.options.reserve;
    let mut reserve = shared.reserve.lock();
    let needed = reserve.needed(checkpoint::estimated_bytes(&shared.index.read()), slack);
    if reserve.size > SURPLUS_RESERVE * needed {
        reserve.release(&*shared.files)?;
    }
    if reserve.size >= needed {
        return Ok(());
    }
    // Some more, so that it grows in few steps. The surplus may be refused.
    reserve
        .extend(&*shared.files, needed + slack)
        .or_else(|error| if reserve.size >= needed { Ok(()) } else { Err(error) })
}

/// Creates a spare if there is none, once there is a log.
fn spare_if_used<F: FileSystem>(shared: &EngineState<F>) -> io::Result<()> {
    let is_used = shared.commit_state.lock().log.current.is_some();
    if is_used { spare(shared) } else { Ok(()) }
}

/// Takes a checkpoint if that turns a segment into a spare.
fn free_a_segment<F: FileSystem>(shared: &EngineState<F>) -> io::Result<()> {
    let frees = !shared.commit_state.lock().log.older.is_empty();
    if frees { take_checkpoint(shared) } else { Ok(()) }
}

/// Finds out whether the disk accepts a write to the log, if it has refused one.
fn probe<F: FileSystem>(shared: &EngineState<F>) -> io::Result<()> {
    let is_refusing = shared.health.reason(Condition::DiskRefuses).is_some();
    if is_refusing { shared.commit_state.lock().log.probe() } else { Ok(()) }
}

fn watermark_if_begun<F: FileSystem>(shared: &EngineState<F>) -> io::Result<()> {
    let begun = shared.commit_state.lock().log.is_watermark_behind();
    if begun { write_watermark(shared) } else { Ok(()) }
}

/// Creates a spare if there is none, so that it is ready when the segment is full.
pub(crate) fn spare<F: FileSystem>(shared: &EngineState<F>) -> io::Result<()> {
    let (number, size) = {
        let mut commit_state = shared.commit_state.lock();
        if !commit_state.log.spares.is_empty() || shared.health.has_failed() {
            return Ok(());
        }
        commit_state.log.next_number += 1;
        (commit_state.log.next_number - 1, commit_state.log.next_size(0))
    };
    let spare = make_spare(&*shared.files, number, size)?;
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
    let is_worth_it = !shared.health.has_failed() && commit_state.log.since_checkpoint > commit_state.log.largest();
    drop(commit_state);
    let is_quick = checkpoint::estimated_bytes(&shared.index.read()) <= CLOSING_CHECKPOINT;
    if is_worth_it && is_quick { take_checkpoint(shared).and_then(|()| extend_reserve(shared)) } else { Ok(()) }
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
    let write = || {
        let records = records.iter().cloned();
        checkpoint::write(&*shared.files, shared.identity.seed, &name, through, forgotten, records)
    };
    let bytes = write().or_else(|error| if make_room(shared, &error)? { write() } else { Err(error) })?;
    drop(records);
    debug!(%through, count, bytes, took = ?started.elapsed(), "checkpoint");

    shared.reserve.lock().checkpoint = bytes;

    let mut commit_state = shared.commit_state.lock();
    let synced = commit_state.synced;
    commit_state.log.recycle(through, synced);
    commit_state.log.since_checkpoint = commit_state.log.since_checkpoint.saturating_sub(before);
    let log = &mut commit_state.log;
    let largest = log.largest();
    // The larger ones are kept, and are used first. Files of a young log become too small as it grows.
    log.spares.sort_by_key(|spare| spare.size);
    let small = log.spares.iter().take_while(|spare| spare.size < largest).count();
    let kept = (LOG_TO_CHECKPOINT * bytes / largest).max(CHECKPOINT_SEGMENTS) + SURPLUS_SPARES;
    let surplus = log.spares.len().saturating_sub(usize::try_from(kept).unwrap_or(usize::MAX));
    // One is kept in any case.
    let removed = surplus.max(small).min(log.spares.len().saturating_sub(1));
    let surplus = log.spares.drain(..removed).collect();
    drop(commit_state);
    remove_spares(shared, surplus)?;
    for name in shared.files.list()? {
        if names::checkpoint_revision(&name).is_some_and(|revision| revision < through) {
            shared.files.remove(&name)?;
        }
    }
    Ok(())
}

/// Frees the space of the reserve, and of all spares except one, for a checkpoint that the disk has refused. Returns
/// whether there was any.
fn make_room<F: FileSystem>(shared: &EngineState<F>, error: &io::Error) -> io::Result<bool> {
    if shared.health.has_failed() {
        return Ok(false);
    }
    // Nothing that grows may be written until there is a reserve again.
    shared.health.begin(Condition::DiskRefuses, refusal(error));
    let was_reserved = shared.reserve.lock().release(&*shared.files)?;
    let mut commit_state = shared.commit_state.lock();
    let kept = commit_state.log.spares.len().min(1);
    let surplus = commit_state.log.spares.split_off(kept);
    drop(commit_state);
    let had_spares = !surplus.is_empty();
    remove_spares(shared, surplus)?;
    Ok(was_reserved || had_spares)
}

fn remove_spares<F: FileSystem>(shared: &EngineState<F>, spares: Vec<Segment<F::Handle>>) -> io::Result<()> {
    // A file that is still open keeps its space, so each is closed here.
    spares.into_iter().try_for_each(|spare| shared.files.remove(&names::segment(spare.number)))
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
