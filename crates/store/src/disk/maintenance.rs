//! What the disk engine does in the background: makes spares, takes checkpoints, forgets tombstones. Writers and readers
//! wait for none of it.

use super::checkpoint;
use super::files::Files;
use super::log::{Log, make_spare};
use super::open::Shared;
use super::watermark;
use crate::index::{Index, Record};
use crate::now;
use parking_lot::{Condvar, Mutex, RwLock};
use std::io;
use std::time::{Duration, Instant};
use syncline_wire::Revision;
use tracing::{debug, error};

/// A checkpoint is taken when the log has grown by this many segments since the last one,
const CHECKPOINT_SEGMENTS: u64 = 2;

/// and by so many times what the checkpoint will hold.
const LOG_TO_CHECKPOINT: u64 = 2;

/// A store that is closed takes a checkpoint where that has at most so many bytes, and spares the next opening more than a
/// segment of the log.
const CLOSING_CHECKPOINT: u64 = 256 * 1024 * 1024;

/// Spares are kept for what the log grows by until the next checkpoint, and these; more are removed.
const SURPLUS_SPARES: u64 = 2;

/// How many records are looked at under one lock.
const STEP: usize = 1024;

/// How many tombstones are forgotten under one lock.
const FORGOTTEN_AT_ONCE: usize = 32;

/// How often old tombstones are looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// How long to wait after something has failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Wakes the maintenance thread.
#[derive(Default)]
pub(crate) struct Maintenance {
    todo: Mutex<Todo>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct Todo {
    spare: bool,
    checkpoint: bool,
    watermark: bool,
    closing: bool,
}

impl Maintenance {
    /// Looks whether the log needs something, and has it done.
    pub(crate) fn look<F: Files>(&self, log: &Log<F>, index: &RwLock<Index>) {
        let spare = log.spares.is_empty();
        let checkpoint = is_due(log, index);
        let watermark = log.current.as_ref().is_some_and(|current| current.id != log.watermark);
        if spare || checkpoint || watermark {
            let mut todo = self.todo.lock();
            todo.spare |= spare;
            todo.checkpoint |= checkpoint;
            todo.watermark |= watermark;
            self.changed.notify_one();
        }
    }

    /// Ends the thread.
    pub(crate) fn close(&self) {
        self.todo.lock().closing = true;
        self.changed.notify_one();
    }

    /// Waits for something to do, at most until `deadline`.
    fn wait(&self, deadline: Instant) -> Todo {
        let mut todo = self.todo.lock();
        while !(todo.spare || todo.checkpoint || todo.watermark || todo.closing) {
            if self.changed.wait_until(&mut todo, deadline).timed_out() {
                break;
            }
        }
        let found = *todo;
        (todo.spare, todo.checkpoint, todo.watermark) = (false, false, false);
        found
    }

    /// Waits after a failure; answers whether the thread is to end.
    fn pause(&self) -> bool {
        let deadline = Instant::now() + PAUSE;
        let mut todo = self.todo.lock();
        while !todo.closing && !self.changed.wait_until(&mut todo, deadline).timed_out() {}
        todo.closing
    }
}

/// Does what is to be done, until the engine is closed.
pub(crate) fn run<F: Files>(shared: &Shared<F>) {
    let mut sweep = Instant::now() + SWEEP;
    loop {
        let todo = shared.maintenance.wait(sweep);
        if todo.closing {
            return;
        }
        let mut done = Ok(());
        if todo.spare {
            done = done.and_then(|()| spare(shared));
        }
        if todo.watermark {
            done = done.and_then(|()| write_watermark(shared));
        }
        if todo.checkpoint {
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

/// Has a spare ready for when the segment is full.
pub(crate) fn spare<F: Files>(shared: &Shared<F>) -> io::Result<()> {
    let number = {
        let mut committer = shared.committer.lock();
        if !committer.log.spares.is_empty() || committer.failed.is_some() {
            return Ok(());
        }
        committer.log.next_number += 1;
        committer.log.next_number - 1
    };
    let spare = make_spare(&*shared.files, number, shared.identity.segment_size)?;
    shared.committer.lock().log.spares.push(spare);
    Ok(())
}

/// Whether the log has grown enough since the last checkpoint.
fn is_due<F: Files>(log: &Log<F>, index: &RwLock<Index>) -> bool {
    // The index is asked only where it matters.
    log.since_checkpoint >= CHECKPOINT_SEGMENTS * log.size
        && log.since_checkpoint >= LOG_TO_CHECKPOINT * checkpoint::estimated_bytes(&index.read())
}

/// Says beside the log how far it is durable, so that the segment which was begun will be missed when it is gone.
pub(crate) fn write_watermark<F: Files>(shared: &Shared<F>) -> io::Result<()> {
    let mut committer = shared.committer.lock();
    // Where there is a mark, there must be a log.
    let begun = committer.log.current.as_ref().filter(|current| current.offset > 0);
    let Some(segment) = begun.map(|current| current.id) else { return Ok(()) };
    let head = shared.index.read().head();
    committer.sync(head)?;
    drop(committer);
    watermark::write(&*shared.files, shared.identity.seed, head)?;
    shared.committer.lock().log.watermark = segment;
    Ok(())
}

pub(crate) fn checkpoint_if_due<F: Files>(shared: &Shared<F>) -> io::Result<()> {
    let committer = shared.committer.lock();
    let is_due = committer.failed.is_none() && is_due(&committer.log, &shared.index);
    drop(committer);
    if is_due { take_checkpoint(shared) } else { Ok(()) }
}

/// Takes a checkpoint before the store is closed, where that is quick, and makes the next opening much quicker.
pub(crate) fn checkpoint_before_closing<F: Files>(shared: &Shared<F>) -> io::Result<()> {
    let committer = shared.committer.lock();
    let is_worth_it = committer.failed.is_none() && committer.log.since_checkpoint > committer.log.size;
    drop(committer);
    let is_quick = checkpoint::estimated_bytes(&shared.index.read()) <= CLOSING_CHECKPOINT;
    if is_worth_it && is_quick { take_checkpoint(shared) } else { Ok(()) }
}

/// Writes the latest state to a checkpoint, and frees the log before it.
pub(crate) fn take_checkpoint<F: Files>(shared: &Shared<F>) -> io::Result<()> {
    let before = shared.committer.lock().log.since_checkpoint;
    let (records, through, forgotten) = collect(shared);
    // The checkpoint must not know more than the log: after a power cut, the log would end before it.
    let mut committer = shared.committer.lock();
    let head = shared.index.read().head();
    committer.sync(head)?;
    drop(committer);

    let started = Instant::now();
    let count = records.len();
    let name = checkpoint::name(through);
    let bytes =
        checkpoint::write(&*shared.files, shared.identity.seed, &name, through, forgotten, records.into_iter())?;
    debug!(%through, count, bytes, took = ?started.elapsed(), "checkpoint");

    let mut committer = shared.committer.lock();
    let synced = committer.synced;
    committer.log.recycle(through, synced);
    committer.log.since_checkpoint = committer.log.since_checkpoint.saturating_sub(before);
    let kept = (LOG_TO_CHECKPOINT * bytes / committer.log.size).max(CHECKPOINT_SEGMENTS) + SURPLUS_SPARES;
    let kept = usize::try_from(kept).unwrap_or(usize::MAX).min(committer.log.spares.len());
    let surplus = committer.log.spares.split_off(kept);
    drop(committer);
    for segment in surplus {
        shared.files.remove(&super::log::name(segment.number))?;
    }
    for name in shared.files.list()? {
        if checkpoint::revision(&name).is_some_and(|revision| revision < through) {
            shared.files.remove(&name)?;
        }
    }
    Ok(())
}

/// Every record, in the order of revisions, up to a head, and up to where tombstones are forgotten. Of a key that
/// changes meanwhile there are several.
fn collect<F: Files>(shared: &Shared<F>) -> (Vec<Record>, Revision, Revision) {
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

/// Forgets the tombstones of before a time, in small steps.
pub(crate) fn forget<F: Files>(shared: &Shared<F>, before: u64) {
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
