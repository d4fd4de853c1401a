//! What the disk engine does in the background: makes spares, takes checkpoints, forgets tombstones. Writers and readers
//! wait for none of it.

use super::checkpoint;
use super::committer::now;
use super::files::Files;
use super::log::{Log, make_spare};
use super::mark;
use super::open::Shared;
use crate::index::{Index, Record};
use parking_lot::{Condvar, Mutex, RwLock};
use std::io;
use std::time::{Duration, Instant};
use syncline_wire::Revision;
use tracing::{debug, error};

/// A checkpoint is taken when the log has grown by this many segments since the last one, and by twice what the checkpoint
/// will hold.
const CHECKPOINT_SEGMENTS: u64 = 2;

/// Spares are kept for what the log grows by until the next checkpoint, and these; more are removed.
const SURPLUS_SPARES: u64 = 2;

/// How many records are looked at under one lock.
const STEP: usize = 1024;

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
    mark: bool,
    closing: bool,
}

impl Maintenance {
    /// Looks whether the log needs something, and has it done.
    pub(crate) fn look<F: Files>(&self, log: &Log<F>, index: &RwLock<Index>) {
        let spare = log.spares.is_empty();
        let checkpoint = log.since_checkpoint >= CHECKPOINT_SEGMENTS * log.size && is_due(log, &index.read());
        let mark = log.current.as_ref().is_some_and(|current| current.id != log.marked);
        if spare || checkpoint || mark {
            let mut todo = self.todo.lock();
            todo.spare |= spare;
            todo.checkpoint |= checkpoint;
            todo.mark |= mark;
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
        while !(todo.spare || todo.checkpoint || todo.mark || todo.closing) {
            if self.changed.wait_until(&mut todo, deadline).timed_out() {
                break;
            }
        }
        let found = *todo;
        (todo.spare, todo.checkpoint, todo.mark) = (false, false, false);
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
        if todo.mark {
            done = done.and_then(|()| mark(shared));
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
fn is_due<F: Files>(log: &Log<F>, index: &Index) -> bool {
    log.since_checkpoint >= (2 * checkpoint::estimated_bytes(index)).max(CHECKPOINT_SEGMENTS * log.size)
}

/// Says beside the log how far it is durable, so that the segment which was begun will be missed when it is gone.
pub(crate) fn mark<F: Files>(shared: &Shared<F>) -> io::Result<()> {
    let mut committer = shared.committer.lock();
    // Where there is a mark, there must be a log.
    let begun = committer.log.current.as_ref().filter(|current| current.offset > 0);
    let Some(segment) = begun.map(|current| current.id) else { return Ok(()) };
    let head = shared.index.read().head();
    committer.sync(head)?;
    drop(committer);
    mark::write(&*shared.files, shared.identity.seal, head)?;
    shared.committer.lock().log.marked = segment;
    Ok(())
}

pub(crate) fn checkpoint_if_due<F: Files>(shared: &Shared<F>) -> io::Result<()> {
    let committer = shared.committer.lock();
    let is_due = committer.failed.is_none() && is_due(&committer.log, &shared.index.read());
    drop(committer);
    if is_due { take_checkpoint(shared) } else { Ok(()) }
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
        checkpoint::write(&*shared.files, shared.identity.seal, &name, through, forgotten, records.into_iter())?;
    debug!(%through, count, bytes, took = ?started.elapsed(), "checkpoint");

    let mut committer = shared.committer.lock();
    let synced = committer.synced;
    committer.log.recycle(through, synced);
    committer.log.since_checkpoint = committer.log.since_checkpoint.saturating_sub(before);
    let kept = (2 * bytes / committer.log.size).max(CHECKPOINT_SEGMENTS) + SURPLUS_SPARES;
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
    let mut records: Vec<Record> = Vec::new();
    let mut since = Revision::ZERO;
    loop {
        let index = shared.index.read();
        let before = records.len();
        for record in index.changed_since(since) {
            // Only between transactions.
            if records.len() >= before + STEP && records.last().is_some_and(|last| last.revision() < record.revision())
            {
                break;
            }
            records.push(record.clone());
        }
        match records.last() {
            Some(last) if records.len() >= before + STEP && last.revision() < index.head() => since = last.revision(),
            _ => return (records, index.head(), index.forgotten()),
        }
    }
}

/// Forgets the tombstones of before a time, in small steps.
pub(crate) fn forget<F: Files>(shared: &Shared<F>, before: u64) {
    let mut since = Revision::ZERO;
    loop {
        let index = shared.index.read();
        let mut looked_at = 0;
        let mut last = since;
        let mut old = Vec::new();
        for record in index.changed_since(since) {
            if looked_at >= STEP && last < record.revision() {
                break;
            }
            looked_at += 1;
            last = record.revision();
            if record.deleted_at().is_some_and(|time| time < before) {
                old.push(record.clone());
            }
        }
        drop(index);
        if !old.is_empty() {
            let mut index = shared.index.write();
            old.iter().for_each(|tombstone| index.forget(tombstone));
        }
        if looked_at < STEP {
            return;
        }
        since = last;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
