//! The broadcaster: the recent log, and the connections that are woken when it grows.
//!
//! It encodes what the store feeds, once for all connections, and appends it to the log. It never decides what a
//! connection is sent.

use crate::notify::Notify;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use syncline_core::{CommitBatch, Committed, ConnId, Outcome, RecentLog};
use syncline_store::Store;
use syncline_wire::Revision;

/// The broadcaster's and the committer's side of a connection: they leave outcomes here, and wake its task.
pub(crate) struct ConnectionHandle {
    pub(crate) id: ConnId,
    /// Wakes the connection's task. Notified when an outcome is delivered, when the log grows and the connection
    /// waits for it, when the commit queue has room again, when access control changes, and when the server shuts
    /// down.
    pub(crate) notify: Notify,
    waits_for_log: AtomicBool,
    /// Whether the connection is sent all changes as a client of the base protocol.
    is_base: AtomicBool,
    /// The revision up to which the connection was sent what it follows, or [`NO_CURSOR`] if it follows nothing.
    cursor: AtomicU64,
    /// The outcomes of its transactions, in order. Bounded by its requests in flight.
    outcomes: Mutex<Vec<Outcome>>,
}

/// The cursor of a connection that follows nothing. It exceeds every revision.
const NO_CURSOR: u64 = u64::MAX;

impl ConnectionHandle {
    /// Sets whether the connection is woken when the log grows. Returns `true` if it was not before: then the
    /// caller must look at the log once more, because it may have grown in between.
    pub(crate) fn set_waits_for_log(&self, waits: bool) -> bool {
        let waited = self.waits_for_log.swap(waits, Ordering::AcqRel);
        waits && !waited
    }

    /// Records how far the connection has been sent what it follows.
    pub(crate) fn set_cursor(&self, cursor: Option<Revision>) {
        self.cursor.store(cursor.map_or(NO_CURSOR, Revision::get), Ordering::Relaxed);
    }

    /// Records whether the connection is sent all changes as a client of the base protocol.
    pub(crate) fn set_base(&self, is_base: bool) {
        self.is_base.store(is_base, Ordering::Relaxed);
    }

    pub(crate) fn deliver(&self, outcome: Outcome) {
        self.outcomes.lock().push(outcome);
        self.notify.notify();
    }

    pub(crate) fn take(&self) -> Vec<Outcome> {
        std::mem::take(&mut self.outcomes.lock())
    }
}

/// The recent log, and the connections that follow it.
pub(crate) struct Broadcaster {
    pub(crate) log: RwLock<RecentLog>,
    handles: Mutex<BTreeMap<ConnId, Arc<ConnectionHandle>>>,
    /// Whether a committer is at work that wakes the waiting connections itself.
    withheld: AtomicBool,
    shutting_down: AtomicBool,
}

/// Figures of all connections.
pub(crate) struct Connections {
    pub(crate) total: usize,
    /// How many are sent all changes as clients of the base protocol.
    pub(crate) base: usize,
    /// The lowest cursor of those that follow anything.
    pub(crate) slowest_cursor: Option<Revision>,
}

/// While this exists, growth of the log wakes no connection. When it is dropped, the waiting connections are woken if
/// the log has grown.
pub(crate) struct Withheld<'a> {
    broadcaster: &'a Broadcaster,
    /// The head of the log when this was created.
    before: Revision,
}

impl Drop for Withheld<'_> {
    fn drop(&mut self) {
        self.broadcaster.withheld.store(false, Ordering::SeqCst);
        // An append that saw the flag set, and woke nothing, happened before this.
        if self.broadcaster.log.read().head() != self.before {
            self.broadcaster.wake_waiting();
        }
    }
}

impl Broadcaster {
    /// Creates a broadcaster that follows a store from its head on.
    pub(crate) fn follow(store: &impl Store, recent_log: usize) -> Arc<Self> {
        let broadcaster = Arc::new(Self {
            log: RwLock::new(RecentLog::new(Revision::ZERO, recent_log)),
            handles: Mutex::default(),
            withheld: AtomicBool::new(false),
            shutting_down: AtomicBool::new(false),
        });
        // Locked until the start of the log is known: other processes may be writing already.
        let mut log = broadcaster.log.write();
        let feed = broadcaster.clone();
        let head = store.follow(Box::new(move |committed| feed.append(committed)));
        *log = RecentLog::new(head, recent_log);
        drop(log);
        broadcaster
    }

    /// Registers a connection, which is woken from now on.
    pub(crate) fn register(self: &Arc<Self>, id: ConnId) -> Registration {
        let handle = Arc::new(ConnectionHandle {
            id,
            notify: Notify::default(),
            waits_for_log: AtomicBool::new(false),
            is_base: AtomicBool::new(false),
            cursor: AtomicU64::new(NO_CURSOR),
            outcomes: Mutex::default(),
        });
        self.handles.lock().insert(id, handle.clone());
        Registration { handle, broadcaster: self.clone() }
    }

    /// Encodes what was committed, appends it to the log, and wakes the connections that wait for the log, unless
    /// that is [withheld](Self::withhold).
    pub(crate) fn append(&self, committed: &[Committed]) {
        if committed.is_empty() {
            return;
        }
        // Encoded before the log is locked, so that connections can read it meanwhile.
        let batch = CommitBatch::encode(committed);
        self.log.write().append(batch);
        if !self.withheld.load(Ordering::SeqCst) {
            self.wake_waiting();
        }
    }

    /// Delays waking the connections that wait for the log until the returned value is dropped. So the
    /// connections whose transactions were committed are woken first: their clients send the next writes while
    /// the watchers are being served.
    pub(crate) fn withhold(&self) -> Withheld<'_> {
        self.withheld.store(true, Ordering::SeqCst);
        Withheld { broadcaster: self, before: self.log.read().head() }
    }

    fn wake_waiting(&self) {
        let handles = self.handles.lock();
        let waiting = handles.values().filter(|handle| handle.waits_for_log.load(Ordering::Acquire));
        waiting.for_each(|handle| handle.notify.notify());
    }

    /// Returns figures of the connections.
    pub(crate) fn connections(&self) -> Connections {
        let handles = self.handles.lock();
        let cursors = handles.values().map(|handle| handle.cursor.load(Ordering::Relaxed));
        Connections {
            total: handles.len(),
            base: handles.values().filter(|handle| handle.is_base.load(Ordering::Relaxed)).count(),
            slowest_cursor: cursors.filter(|cursor| *cursor != NO_CURSOR).min().map(Revision::new),
        }
    }

    /// Makes every connection end.
    pub(crate) fn shut_down(&self) {
        self.shutting_down.store(true, Ordering::Release);
        self.wake_all();
    }

    /// Wakes every connection.
    pub(crate) fn wake_all(&self) {
        self.handles.lock().values().for_each(|handle| handle.notify.notify());
    }

    pub(crate) fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Acquire)
    }
}

/// A connection's registration, held by its task. Dropping it removes the connection.
pub(crate) struct Registration {
    pub(crate) handle: Arc<ConnectionHandle>,
    pub(crate) broadcaster: Arc<Broadcaster>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.broadcaster.handles.lock().remove(&self.handle.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Waker};
    use syncline_core::Operation;
    use syncline_store::MemoryStore;
    use syncline_wire::Version;

    fn committed(revision: u64) -> Committed {
        let operation = Operation::Put { key: "k".into(), value: "v".into(), version: Version::new(revision) };
        Committed { revision: Revision::new(revision), origin: None, operations: [operation].into() }
    }

    #[test]
    fn watchers_are_woken_after_writers_of_the_same_server() {
        let broadcaster = Broadcaster::follow(&MemoryStore::new().unwrap(), 1024);
        let watcher = broadcaster.register(ConnId::new(1));
        watcher.handle.set_waits_for_log(true);
        let is_woken = || watcher.handle.notify.notified(&Context::from_waker(Waker::noop()));
        broadcaster.append(&[committed(1)]);
        assert!(is_woken(), "waking is not withheld");
        let withheld = broadcaster.withhold();
        broadcaster.append(&[committed(2)]);
        assert!(!is_woken(), "waking is withheld");
        drop(withheld);
        assert!(is_woken(), "waking is no longer withheld");
        drop(broadcaster.withhold());
        assert!(!is_woken(), "the log has not grown");
        broadcaster.append(&[committed(3)]);
        assert!(is_woken(), "waking is not withheld any more");
    }
}
