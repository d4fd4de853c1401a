//! What the threads of the disk engine share, and how the maintenance thread is woken.

use super::checkpoint;
use super::commit::CommitState;
use super::files::FileSystem;
use super::health::Health;
use super::identity::Identity;
use super::log::Log;
use super::options::DiskOptions;
use crate::index::Index;
use parking_lot::{Condvar, Mutex, RwLock};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the engine's threads share.
pub(crate) struct EngineState<F: FileSystem> {
    pub(crate) files: Arc<F>,
    pub(crate) identity: Identity,
    pub(crate) options: DiskOptions,
    pub(crate) index: RwLock<Index>,
    pub(crate) commit_state: Mutex<CommitState<F>>,
    pub(crate) maintenance: Maintenance,
    pub(crate) health: Arc<Health>,
}

/// A checkpoint is taken when the log has grown by at least this many segments since the previous one ...
pub(super) const CHECKPOINT_SEGMENTS: u64 = 2;

/// ... and by at least this many times the estimated size of the checkpoint.
pub(super) const LOG_TO_CHECKPOINT: u64 = 2;

/// How long the maintenance thread waits after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// What the maintenance thread has to do, and how it is woken.
#[derive(Default)]
pub(crate) struct Maintenance {
    pending: Mutex<PendingWork>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
pub(super) struct PendingWork {
    pub(super) spare: bool,
    pub(super) checkpoint: bool,
    pub(super) watermark: bool,
    pub(super) closing: bool,
}

impl Maintenance {
    /// Checks whether the log needs maintenance, and if so wakes the thread.
    pub(crate) fn look<F: FileSystem>(&self, log: &Log<F>, index: &RwLock<Index>) {
        let spare = log.spares.is_empty();
        let checkpoint = is_checkpoint_due(log, index);
        let watermark = log.current.as_ref().is_some_and(|current| current.id != log.watermark);
        if spare || checkpoint || watermark {
            let mut pending = self.pending.lock();
            pending.spare |= spare;
            pending.checkpoint |= checkpoint;
            pending.watermark |= watermark;
            self.changed.notify_one();
        }
    }

    /// Makes the thread end.
    pub(crate) fn close(&self) {
        self.pending.lock().closing = true;
        self.changed.notify_one();
    }

    /// Waits until there is work or `deadline` has passed, and takes the work.
    pub(super) fn wait(&self, deadline: Instant) -> PendingWork {
        let mut pending = self.pending.lock();
        while !(pending.spare || pending.checkpoint || pending.watermark || pending.closing) {
            if self.changed.wait_until(&mut pending, deadline).timed_out() {
                break;
            }
        }
        let found = *pending;
        (pending.spare, pending.checkpoint, pending.watermark) = (false, false, false);
        found
    }

    /// Waits after a failure. Returns whether the thread is to end.
    pub(super) fn pause(&self) -> bool {
        let deadline = Instant::now() + PAUSE;
        let mut pending = self.pending.lock();
        while !pending.closing && !self.changed.wait_until(&mut pending, deadline).timed_out() {}
        pending.closing
    }
}

/// Returns whether the log has grown enough since the last checkpoint for another one.
pub(super) fn is_checkpoint_due<F: FileSystem>(log: &Log<F>, index: &RwLock<Index>) -> bool {
    // The index is locked only if the log has grown enough.
    log.since_checkpoint >= CHECKPOINT_SEGMENTS * log.size
        && log.since_checkpoint >= LOG_TO_CHECKPOINT * checkpoint::estimated_bytes(&index.read())
}
