//! The expected content of a store: a model of the latest state, and the history that leads to it.

use super::Db;
use crate::Store;
use bytes::Bytes;
use pollster::block_on;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use syncline_core::{Entry, Operation, Transaction};
use syncline_wire::{Revision, Version};

/// The state of a key in the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// The value, or `None` if the key is deleted.
    pub(super) value: Option<Bytes>,
    pub(super) version: u64,
    pub(super) revision: u64,
    /// By the clock, when it was written.
    pub(super) time: u64,
}

/// The latest state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) keys: BTreeMap<Bytes, State>,
    pub(super) head: u64,
}

impl Model {
    /// What a store shows: what it may have forgotten of the tombstones is taken from it.
    pub(super) fn of(store: &Db, times: &Self) -> Self {
        let entries = entries(store, usize::MAX);
        let state = |entry: Entry| {
            let time = times.keys.get(&entry.key).map_or(0, |state| state.time);
            let (version, revision) = (entry.version.get(), entry.revision.get());
            (entry.key, State { value: entry.value, version, revision, time })
        };
        Self { keys: entries.into_iter().map(state).collect(), head: store.head().get() }
    }

    /// Applies an accepted transaction.
    pub(super) fn apply(&mut self, transaction: &Transaction, time: u64) {
        self.head += 1;
        for operation in &*transaction.operations {
            let (key, value, version) = match operation {
                Operation::Check { .. } => continue,
                Operation::Put { key, value, version } => (key, Some(value.clone()), version.get()),
                Operation::Delete { key, version } => (key, None, version.get()),
            };
            self.keys.insert(key.clone(), State { value, version, revision: self.head, time });
        }
    }

    /// Returns the expected outcomes of a batch: the revision of each accepted transaction, and the operation at
    /// fault of each other one.
    pub(super) fn decide(&mut self, batch: &[Transaction], time: u64) -> Vec<Result<u64, usize>> {
        let decide = |transaction: &Transaction| {
            transaction.check(|key| self.keys.get(key).map(|state| Version::new(state.version)))?;
            self.apply(transaction, time);
            Ok(self.head)
        };
        batch.iter().map(decide).collect()
    }

    /// Forgets the tombstones of before a time.
    pub(super) fn forget(&mut self, before: u64) {
        self.keys.retain(|_, state| state.value.is_some() || state.time >= before);
    }

    /// Whether a store shows just this, in both orders. Of tombstones of before a time, it may show any.
    pub(super) fn agrees(&self, store: &Db, forgotten: u64) -> Result<(), String> {
        same("the head", &store.head().get(), &self.head)?;
        let found = entries(store, 100);
        same("pages of another size", &entries(store, usize::MAX), &found)?;
        let shown: BTreeSet<_> = found.iter().map(|entry| entry.key.clone()).collect();
        same("each key once", &found.len(), &shown.len())?;
        let may_lack = |state: &State| state.value.is_none() && state.time < forgotten;
        let mut expected: Vec<_> = self.keys.iter().collect();
        expected.retain(|(key, state)| shown.contains(*key) || !may_lack(state));
        expected.sort_by_key(|(key, state)| (state.revision, *key));
        let mut by_revision: Vec<_> = found.iter().collect();
        by_revision.sort_by_key(|entry| (entry.revision, &entry.key));
        let expected: Vec<_> = expected.into_iter().map(|(key, state)| entry(key, state)).collect();
        same("what changed", &by_revision, &expected.iter().collect())?;
        for key in keys() {
            let listed = found.iter().find(|entry| entry.key == key).cloned();
            same("what is at a key", &block_on(store.get(&key)).unwrap(), &listed)?;
        }
        Ok(())
    }
}

fn same<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?}, expected {expected:?}")) }
}

fn entry(key: &Bytes, state: &State) -> Entry {
    let (version, revision) = (Version::new(state.version), Revision::new(state.revision));
    Entry { key: key.clone(), value: state.value.clone(), version, revision }
}

/// Reads everything that a store holds, by pages.
pub(super) fn entries(store: &Db, page: usize) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut since = Revision::ZERO;
    while since < store.head() {
        // A later page may say that tombstones were forgotten since; the first page may not.
        let Ok(page) = block_on(store.changed_since(since, b"", page)) else {
            return self::entries(store, usize::MAX);
        };
        assert!(since < page.through, "a page that is no progress");
        assert!(page.entries.iter().all(|entry| since < entry.revision && entry.revision <= page.through));
        assert!(page.entries.is_sorted_by_key(|entry| entry.revision));
        entries.extend(page.entries);
        since = page.through;
    }
    entries
}

/// All keys that are ever written to.
pub(super) fn keys() -> impl Iterator<Item = Bytes> {
    let number = |number: usize| match number {
        0 => Bytes::new(),
        1 => Bytes::from(vec![b'k'; 200]),
        _ => Bytes::from(format!("key{number}")),
    };
    (0..KEYS).map(number)
}

pub(super) const KEYS: usize = 14;

/// All accepted transactions, in order.
#[derive(Clone)]
pub(super) struct History {
    /// As of each revision.
    states: Vec<Arc<Model>>,
}

impl History {
    pub(super) fn new() -> Self {
        Self { states: vec![Arc::default()] }
    }

    /// Continues from a known state.
    pub(super) fn goes_on_from(&mut self, state: Model) {
        self.states.truncate(usize::try_from(state.head).unwrap());
        self.states.push(Arc::new(state));
    }

    pub(super) fn push(&mut self, transaction: &Transaction, time: u64) {
        let mut state = Model::clone(self.states.last().unwrap());
        state.apply(transaction, time);
        self.states.push(Arc::new(state));
    }

    /// The last revision.
    pub(super) fn head(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    /// Returns the state as of a revision.
    pub(super) fn at(&self, revision: u64) -> Result<&Model, String> {
        let state = self.states.get(usize::try_from(revision).unwrap());
        state.map(AsRef::as_ref).ok_or_else(|| format!("revision {revision} was never written"))
    }
}
