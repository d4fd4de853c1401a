//! What the threads of the disk engine share, and how the maintenance thread is woken.

use super::checkpoint;
use super::commit::CommitState;
use super::files::FileSystem;
use super::health::Health;
use super::identity::Identity;
use super::log::Log;
use super::options::DiskOptions;
use super::reserve::Reserve;
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
    pub(crate) reserve: Mutex<Reserve>,
}

/// A checkpoint is taken when the log has grown by at least this many segments since the previous one ...
pub(super) const CHECKPOINT_SEGMENTS: u64 = 2;

/// ... and by at least this many times the estimated size of the checkpoint.
pub(super) const LOG_TO_CHECKPOINT: u64 = 2;

/// How long the maintenance thread waits after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// How the maintenance thread is woken.
#[derive(Default)]
pub(crate) struct Maintenance {
    signals: Mutex<Signals>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct Signals {
    work: bool,
    closing: bool,
}

/// Why [`Maintenance::wait`] has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// There may be work.
    Work,
    /// The engine is being closed.
    Closing,
}

impl<F: FileSystem> EngineState<F> {
    /// Wakes the maintenance thread if there is work.
    pub(crate) fn look(&self, log: &Log<F>) {
        if log.spares.is_empty()
            || log.is_watermark_behind()
            || is_checkpoint_due(log, &self.index)
            || self.is_reserve_small()
        {
            self.maintenance.signals.lock().work = true;
            self.maintenance.changed.notify_one();
        }
    }

    /// Returns whether the reserve must grow. While maintenance is busy with the reserve, it must not.
    fn is_reserve_small(&self) -> bool {
        let Some(reserve) = self.reserve.try_lock() else { return false };
        reserve.size < reserve.needed(checkpoint::estimated_bytes(&self.index.read()), self.options.reserve)
    }
}

impl Maintenance {
    /// Makes the thread end.
    pub(crate) fn close(&self) {
        self.signals.lock().closing = true;
        self.changed.notify_one();
    }

    /// Waits until there is work or `deadline` has passed.
    pub(super) fn wait(&self, deadline: Instant) -> Woken {
        let mut signals = self.signals.lock();
        while !(signals.work || signals.closing) {
            if self.changed.wait_until(&mut signals, deadline).timed_out() {
                break;
            }
        }
        signals.work = false;
        if signals.closing { Woken::Closing } else { Woken::Work }
    }

    /// Waits after a failure.
    pub(super) fn pause(&self) {
        let deadline = Instant::now() + PAUSE;
        let mut signals = self.signals.lock();
        while !signals.closing && !self.changed.wait_until(&mut signals, deadline).timed_out() {}
        signals.work = true;
    }
}

/// Returns whether the log has grown enough since the last checkpoint for another one.
pub(super) fn is_checkpoint_due<F: FileSystem>(log: &Log<F>, index: &RwLock<Index>) -> bool {
    // The index is locked only if the log has grown enough.
    log.since_checkpoint >= CHECKPOINT_SEGMENTS * log.largest()
        && log.since_checkpoint >= LOG_TO_CHECKPOINT * checkpoint::estimated_bytes(&index.read())
}
