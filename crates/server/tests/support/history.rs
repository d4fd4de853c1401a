//! The history of accepted writes, and the state that results from it at each revision.

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};
use std::sync::Arc;
use syncline_core::Operation;

/// The writes that a store accepted. Clones share one history.
#[derive(Clone, Default)]
pub struct History(Arc<Inner>);

#[derive(Default)]
struct Inner {
    known: Mutex<Known>,
    grown: Condvar,
}

#[derive(Clone, Default)]
struct Known {
    transactions: BTreeMap<u64, Vec<Operation>>,
    /// Every revision up to this one is known.
    through: u64,
}

impl History {
    /// Records an accepted transaction. Concurrent ones may be recorded in any order.
    pub fn record(&self, revision: u64, operations: Vec<Operation>) {
        let mut known = self.0.known.lock();
        assert!(known.transactions.insert(revision, operations).is_none(), "revision {revision} was assigned twice");
        while known.transactions.contains_key(&(known.through + 1)) {
            known.through += 1;
        }
        self.0.grown.notify_all();
    }

    /// Returns a copy that is independent from now on, as a backup is.
    pub fn fork(&self) -> Self {
        let known = self.0.known.lock().clone();
        Self(Arc::new(Inner { known: Mutex::new(known), grown: Condvar::new() }))
    }

    /// Returns the writes after one revision up to another, each with its revision. Waits until they are recorded, because
    /// clients may receive them earlier.
    #[track_caller]
    pub fn between(&self, after: u64, through: u64) -> Vec<(u64, Operation)> {
        let mut known = self.0.known.lock();
        while known.through < through {
            let timed_out = self.0.grown.wait_for(&mut known, super::TIMEOUT).timed_out();
            assert!(!timed_out, "revision {through} was sent to a client, but never recorded");
        }
        let transactions = known.transactions.range((Excluded(after), Included(through.max(after))));
        let writes = |(revision, operations): (&u64, &Vec<Operation>)| {
            let (revision, operations) = (*revision, operations.clone());
            operations.into_iter().filter(is_write).map(move |operation| (revision, operation))
        };
        transactions.flat_map(writes).collect()
    }

    /// Returns all writes up to now, in order.
    pub fn writes(&self) -> Vec<(u64, Operation)> {
        let through = self.0.known.lock().through;
        self.between(0, through)
    }

    /// Returns the last revision.
    pub fn head(&self) -> u64 {
        self.0.known.lock().through
    }
}

const fn is_write(operation: &Operation) -> bool {
    !matches!(operation, Operation::Check { .. })
}

/// The state of a store at a revision: the value and version of each key. A deleted key has no value.
#[derive(Clone, Debug, Default)]
pub struct Model {
    at: u64,
    pub keys: BTreeMap<Bytes, (Option<Bytes>, u64)>,
}

impl Model {
    /// Creates the state of a history at a revision.
    pub fn at(history: &History, revision: u64) -> Self {
        let mut model = Self::default();
        model.advance(history, revision);
        model
    }

    /// Advances to a later revision.
    pub fn advance(&mut self, history: &History, through: u64) {
        for (_, operation) in history.between(self.at, through) {
            match operation {
                Operation::Put { key, value, version } => self.keys.insert(key, (Some(value), version.get())),
                Operation::Delete { key, version } => self.keys.insert(key, (None, version.get())),
                Operation::Check { .. } => None,
            };
        }
        self.at = self.at.max(through);
    }

    /// Returns the keys that have a value.
    pub fn live(&self) -> impl Iterator<Item = (&Bytes, &Bytes, u64)> {
        self.keys.iter().filter_map(|(key, (value, version))| Some((key, value.as_ref()?, *version)))
    }
}
