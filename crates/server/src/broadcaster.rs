//! What the connections of a server share.

use crate::notify::Notify;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use syncline_core::{CommitBatch, Committed, ConnId, Outcome, RecentLog};
use syncline_store::Store;
use syncline_wire::Revision;

/// Where a connection's task finds what others have for it.
pub(crate) struct ConnectionHandle {
    pub(crate) id: ConnId,
    /// Rung when something is there, the log has grown that it waits for, there is room in the commit queue, other access
    /// control is in force, or the server shuts down.
    pub(crate) notify: Notify,
    waits_for_log: AtomicBool,
    /// Up to where the connection was sent what it follows; [`NO_CURSOR`] where it follows nothing.
    cursor: AtomicU64,
    /// What became of its transactions, in order. Bounded by its requests in flight.
    outcomes: Mutex<Vec<Outcome>>,
}

/// The cursor of a connection that follows nothing. No revision is as large.
const NO_CURSOR: u64 = u64::MAX;

impl ConnectionHandle {
    /// Whether the notify is to ring when the log grows. Where that is new, the log must be looked at once more: it may have
    /// grown before it was said.
    pub(crate) fn set_waits_for_log(&self, waits: bool) -> bool {
        let waited = self.waits_for_log.swap(waits, Ordering::AcqRel);
        waits && !waited
    }

    /// Says how far the connection is.
    pub(crate) fn set_cursor(&self, cursor: Option<Revision>) {
        self.cursor.store(cursor.map_or(NO_CURSOR, Revision::get), Ordering::Relaxed);
    }

    pub(crate) fn deliver(&self, outcome: Outcome) {
        self.outcomes.lock().push(outcome);
        self.notify.notify();
    }

    pub(crate) fn take(&self) -> Vec<Outcome> {
        std::mem::take(&mut self.outcomes.lock())
    }
}

/// The recent log, and everybody who follows it.
pub(crate) struct Broadcaster {
    pub(crate) log: RwLock<RecentLog>,
    handles: Mutex<BTreeMap<ConnId, Arc<ConnectionHandle>>>,
    /// Whether somebody commits who wakes those who wait for the log.
    withheld: AtomicBool,
    shutting_down: AtomicBool,
}

/// As long as it is there, nobody is woken for what comes into the log; then everybody who waits for that.
pub(crate) struct Withheld<'a> {
    broadcaster: &'a Broadcaster,
    /// The head of the log before.
    before: Revision,
}

impl Drop for Withheld<'_> {
    fn drop(&mut self) {
        self.broadcaster.withheld.store(false, Ordering::SeqCst);
        // Whoever has added something and woken nobody did so before.
        if self.broadcaster.log.read().head() != self.before {
            self.broadcaster.wake_waiting();
        }
    }
}

impl Broadcaster {
    /// Follows a store from its head on.
    pub(crate) fn follow(store: &impl Store, recent_log: usize) -> Arc<Self> {
        let broadcaster = Arc::new(Self {
            log: RwLock::new(RecentLog::new(Revision::ZERO, recent_log)),
            handles: Mutex::default(),
            withheld: AtomicBool::new(false),
            shutting_down: AtomicBool::new(false),
        });
        // Held until it is known where the log starts: others may be writing already.
        let mut log = broadcaster.log.write();
        let feed = broadcaster.clone();
        let head = store.follow(Box::new(move |committed| feed.append(committed)));
        *log = RecentLog::new(head, recent_log);
        drop(log);
        broadcaster
    }

    /// A connection has come in: from now on its notify rings when the log grows.
    pub(crate) fn register(self: &Arc<Self>, id: ConnId) -> Registration {
        let handle = Arc::new(ConnectionHandle {
            id,
            notify: Notify::default(),
            waits_for_log: AtomicBool::new(false),
            cursor: AtomicU64::new(NO_CURSOR),
            outcomes: Mutex::default(),
        });
        self.handles.lock().insert(id, handle.clone());
        Registration { handle, broadcaster: self.clone() }
    }

    /// Encodes what was committed, appends it to the log, and wakes the connections that wait for the log, unless that is
    /// [withheld](Self::withhold).
    pub(crate) fn append(&self, committed: &[Committed]) {
        if committed.is_empty() {
            return;
        }
        // Before the log is locked: connections read it meanwhile.
        let batch = CommitBatch::encode(committed);
        self.log.write().append(batch);
        if !self.withheld.load(Ordering::SeqCst) {
            self.wake_waiting();
        }
    }

    /// Wakes those who wait for the log only when what this answers is dropped: after those who wrote what comes into it. What
    /// they are told makes them write again, which goes on while the others are told.
    pub(crate) fn withhold(&self) -> Withheld<'_> {
        self.withheld.store(true, Ordering::SeqCst);
        Withheld { broadcaster: self, before: self.log.read().head() }
    }

    fn wake_waiting(&self) {
        let handles = self.handles.lock();
        let waiting = handles.values().filter(|handle| handle.waits_for_log.load(Ordering::Acquire));
        waiting.for_each(|handle| handle.notify.notify());
    }

    /// How many connections there are, and the cursor of the one that is farthest behind.
    pub(crate) fn connections(&self) -> (usize, Option<Revision>) {
        let handles = self.handles.lock();
        let cursors = handles.values().map(|handle| handle.cursor.load(Ordering::Relaxed));
        (handles.len(), cursors.filter(|cursor| *cursor != NO_CURSOR).min().map(Revision::new))
    }

    /// Tells every connection to end.
    pub(crate) fn shut_down(&self) {
        self.shutting_down.store(true, Ordering::Release);
        self.wake_all();
    }

    /// Has every connection look at what has changed.
    pub(crate) fn wake_all(&self) {
        self.handles.lock().values().for_each(|handle| handle.notify.notify());
    }

    pub(crate) fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Acquire)
    }
}

/// Held by a connection's task; when it is dropped, the connection is forgotten.
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
    fn who_waits_for_the_log_is_woken_after_those_who_wrote_and_by_others_at_once() {
        let broadcaster = Broadcaster::follow(&MemoryStore::new().unwrap(), 1024);
        let watcher = broadcaster.register(ConnId::new(1));
        watcher.handle.set_waits_for_log(true);
        let is_woken = || watcher.handle.notify.notified(&Context::from_waker(Waker::noop()));
        broadcaster.append(&[committed(1)]);
        assert!(is_woken(), "nobody has withheld it");
        let withheld = broadcaster.withhold();
        broadcaster.append(&[committed(2)]);
        assert!(!is_woken(), "while it is withheld");
        drop(withheld);
        assert!(is_woken(), "when it is not any more");
        drop(broadcaster.withhold());
        assert!(!is_woken(), "nothing has come");
        broadcaster.append(&[committed(3)]);
        assert!(is_woken(), "as before");
    }
}
