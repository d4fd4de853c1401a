//! What the connections of a server share.

use crate::bell::Bell;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use syncline_core::{ConnId, Outcome, RecentLog, Stretch};
use syncline_store::Store;
use syncline_wire::Revision;

/// Where a connection's task finds what others have for it.
pub(crate) struct Mailbox {
    pub(crate) id: ConnId,
    /// Rung when something is there, the log has grown, there is room in the commit queue, or the server shuts down.
    pub(crate) bell: Bell,
    /// What became of its transactions, in order. Bounded by its requests in flight.
    outcomes: Mutex<Vec<Outcome>>,
}

impl Mailbox {
    pub(crate) fn deliver(&self, outcome: Outcome) {
        self.outcomes.lock().push(outcome);
        self.bell.ring();
    }

    pub(crate) fn take(&self) -> Vec<Outcome> {
        std::mem::take(&mut self.outcomes.lock())
    }
}

/// The recent log, and everybody who follows it.
pub(crate) struct Hub {
    pub(crate) log: RwLock<RecentLog>,
    mailboxes: Mutex<BTreeMap<ConnId, Arc<Mailbox>>>,
    shutting_down: AtomicBool,
}

impl Hub {
    /// Follows a store from its head on.
    pub(crate) fn follow(store: &impl Store, recent_log: usize) -> Arc<Self> {
        let hub = Arc::new(Self {
            log: RwLock::new(RecentLog::new(Revision::ZERO, recent_log)),
            mailboxes: Mutex::default(),
            shutting_down: AtomicBool::new(false),
        });
        // Held until it is known where the log starts: others may be writing already.
        let mut log = hub.log.write();
        let feed = hub.clone();
        let head = store.follow(Box::new(move |stretch| feed.append(stretch)));
        *log = RecentLog::new(head, recent_log);
        drop(log);
        hub
    }

    /// A connection has come in: from now on its bell rings when the log grows.
    pub(crate) fn register(self: &Arc<Self>, id: ConnId) -> Registration {
        let mailbox = Arc::new(Mailbox { id, bell: Bell::default(), outcomes: Mutex::default() });
        self.mailboxes.lock().insert(id, mailbox.clone());
        Registration { mailbox, hub: self.clone() }
    }

    /// Adds to the log what was committed, and wakes everybody.
    pub(crate) fn append(&self, stretch: Stretch) {
        if stretch.last().is_some() {
            self.log.write().append(stretch);
            self.ring_all();
        }
    }

    /// Tells every connection to end.
    pub(crate) fn shut_down(&self) {
        self.shutting_down.store(true, Ordering::Release);
        self.ring_all();
    }

    pub(crate) fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Acquire)
    }

    fn ring_all(&self) {
        self.mailboxes.lock().values().for_each(|mailbox| mailbox.bell.ring());
    }
}

/// Held by a connection's task; when it is dropped, the connection is forgotten.
pub(crate) struct Registration {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) hub: Arc<Hub>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.hub.mailboxes.lock().remove(&self.mailbox.id);
    }
}
