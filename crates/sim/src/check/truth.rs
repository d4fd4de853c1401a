//! What each store held at each revision, as far as it is known.
//!
//! Each write has a range of revisions: it came after one revision, and not after another. In a simulated run the
//! commits are known, so the range contains one revision. In a real run the ranges are inferred (`infer.rs`), and the
//! methods here allow for the uncertainty: a checker asks whether an observation is *possible*, or whether something
//! is *certain*.
//!
//! A key is identified by its [`KeyId`], a store by its index in `History::stores`. A store that was restored from a
//! backup begins with the history of the earlier store up to the backup; only this file and `infer.rs` deal with
//! that.

use super::report::Violation;
use crate::history::{Key, Moment, Sight, Stamp, State};
use std::collections::HashMap;
use std::fmt::Write as _;

/// The number of a key. Ids have the same order as the keys.
pub type KeyId = usize;

/// A write that has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownWrite {
    /// The state of the key after it.
    pub state: State,
    /// The write's revision is greater than this one.
    pub after: u64,
    /// The write's revision is at most this one.
    pub through: u64,
    /// If the truth is exact ([`Truth::is_exact`]): when the write was visible. Otherwise: when it was first
    /// requested.
    pub at: Moment,
}

/// What is known about a key of a store.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyTruth {
    /// The writes of the key. Their versions and revisions grow.
    pub(super) writes: Vec<KnownWrite>,
    /// Deletions that may have happened, in the order of their versions.
    pub(super) possible_deletions: Vec<KnownWrite>,
    /// The versions that were written together with other keys, and the index of each transaction.
    pub(super) in_transactions: Vec<(u64, usize)>,
}

/// A transaction that wrote several keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTransaction {
    /// The index of the store.
    pub store: usize,
    /// The keys, and the version that each was given.
    pub writes: Vec<(KeyId, u64)>,
}

/// What each store held at each revision.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub(super) keys: Vec<Key>,
    pub(super) ids: HashMap<Key, KeyId>,
    pub(super) under: HashMap<Key, Vec<KeyId>>,
    pub(super) stores: Vec<Vec<KeyTruth>>,
    pub(super) transactions: Vec<KnownTransaction>,
    pub(super) contradictions: Vec<Violation>,
    pub(super) is_exact: bool,
}

/// What a reader holds of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The state that it received last.
    State(State),
    /// The state that the store held at this revision, which the reader received earlier.
    AsOf(u64),
    /// The key does not exist.
    Absent,
}

/// Why a held state cannot be that of the store at a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The key was written again before the revision.
    TooOld,
    /// The state was written after the revision.
    TooNew,
    /// The state was never written.
    NeverWritten,
}

impl Truth {
    /// Starts a store with the writes of an earlier one up to a revision.
    pub(super) fn restore(&mut self, store: usize, parent: usize, through: u64) {
        let Some(keys) = self.stores.get(parent) else { return };
        let kept = |known: &KnownWrite| known.through <= through;
        let keys = keys.iter().map(|key| {
            let writes: Vec<KnownWrite> = key.writes.iter().copied().filter(kept).collect();
            KeyTruth { writes, ..KeyTruth::default() }
        });
        let keys: Vec<KeyTruth> = keys.collect();
        if let Some(index) = self.stores.get_mut(store) {
            *index = keys;
        }
        let inherited = self.transactions.iter().filter(|together| together.store == parent);
        for KnownTransaction { writes, .. } in inherited.cloned().collect::<Vec<_>>() {
            let is_kept = |(key, version): &(KeyId, u64)| self.find(store, *key, *version).is_some();
            if writes.iter().all(is_kept) {
                self.add_transaction(store, writes);
            }
        }
    }

    /// Adds a transaction, unless it wrote a single key.
    pub(super) fn add_transaction(&mut self, store: usize, writes: Vec<(KeyId, u64)>) {
        if writes.len() < 2 {
            return;
        }
        let transaction = self.transactions.len();
        for (key, version) in &writes {
            if let Some(truth) = self.stores.get_mut(store).and_then(|keys| keys.get_mut(*key)) {
                let index = truth.in_transactions.partition_point(|(before, _)| before < version);
                truth.in_transactions.insert(index, (*version, transaction));
            }
        }
        self.transactions.push(KnownTransaction { store, writes });
    }

    /// Returns whether the commits are known, so that the revision of every write is exact.
    pub const fn is_exact(&self) -> bool {
        self.is_exact
    }

    /// Returns the observations that contradict each other, or that are impossible.
    pub fn contradictions(&self) -> &[Violation] {
        &self.contradictions
    }

    /// Returns the number of stores.
    pub const fn stores(&self) -> usize {
        self.stores.len()
    }

    /// Returns all keys in order. The index of a key is its id.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Returns the id of a key of this history.
    pub fn id(&self, key: &str) -> Option<KeyId> {
        self.ids.get(key).copied()
    }

    /// Returns the key of an id.
    pub fn key(&self, id: KeyId) -> &str {
        self.keys.get(id).map_or("", |key| key)
    }

    /// Returns the keys under a prefix, in order. The prefix must occur in the history.
    pub fn under(&self, prefix: &str) -> &[KeyId] {
        self.under.get(prefix).map_or(&[], Vec::as_slice)
    }

    /// Returns the transactions that wrote several keys.
    pub fn transactions(&self) -> &[KnownTransaction] {
        &self.transactions
    }

    /// Returns the transaction that gave a key a version together with other keys.
    pub(super) fn transaction_of(&self, store: usize, key: KeyId, version: u64) -> Option<usize> {
        let written = &self.key_truth(store, key)?.in_transactions;
        let index = written.binary_search_by_key(&version, |(version, _)| *version).ok()?;
        written.get(index).map(|(_, transaction)| *transaction)
    }

    pub(super) fn key_truth(&self, store: usize, key: KeyId) -> Option<&KeyTruth> {
        self.stores.get(store)?.get(key)
    }

    /// Returns the writes of a key, in order.
    pub fn writes(&self, store: usize, key: KeyId) -> &[KnownWrite] {
        self.key_truth(store, key).map_or(&[], |truth| &truth.writes)
    }

    /// Returns the write that gave a key a version.
    pub fn find(&self, store: usize, key: KeyId, version: u64) -> Option<&KnownWrite> {
        let writes = self.writes(store, key);
        writes.get(writes.binary_search_by_key(&version, |known| known.state.version).ok()?)
    }

    /// Returns the latest write of a key that is certainly not after a revision.
    pub fn certain_at(&self, store: usize, key: KeyId, revision: u64) -> Option<&KnownWrite> {
        let writes = self.writes(store, key);
        writes.get(writes.partition_point(|known| known.through <= revision).checked_sub(1)?)
    }

    /// Returns the possible states of a key at a revision, oldest first. `None` means that the key had not been
    /// written.
    pub fn possible_at(&self, store: usize, key: KeyId, revision: u64) -> impl Iterator<Item = Option<State>> + '_ {
        let (writes, maybe) =
            self.key_truth(store, key).map_or((&[][..], &[][..]), |truth| (&truth.writes, &truth.possible_deletions));
        let certain = writes.partition_point(|known| known.through <= revision);
        let possible = writes.partition_point(|known| known.after < revision);
        let since = certain.saturating_sub(1);
        let never = (certain == 0).then_some(None);
        let told = writes.get(since..possible).unwrap_or_default();
        let floor = told.first().filter(|_| certain > 0).map_or(0, |known| known.state.version);
        let deleted = maybe.iter().filter(move |known| known.after < revision && known.state.version > floor);
        never.into_iter().chain(told.iter().chain(deleted).map(|known| Some(known.state)))
    }

    /// Returns whether a key has certainly changed after one revision and not after another.
    pub fn has_changed(&self, store: usize, key: KeyId, since: u64, through: u64) -> bool {
        let writes = self.writes(store, key);
        let from = writes.partition_point(|known| known.after < since);
        writes.get(from).is_some_and(|known| known.through <= through)
    }

    /// Returns whether a key may have been deleted by a write of at least this version.
    pub fn may_be_deleted_since(&self, store: usize, key: KeyId, version: u64) -> bool {
        let Some(truth) = self.key_truth(store, key) else { return false };
        let is_later = |known: &KnownWrite| known.state.value.is_none() && known.state.version >= version;
        truth.writes.iter().rev().chain(truth.possible_deletions.iter().rev()).any(is_later)
    }

    /// Returns why a reader cannot hold this state of a key at a revision, or `None` if it can.
    pub fn mismatch(&self, store: usize, key: KeyId, held: Held, revision: u64) -> Option<Mismatch> {
        match held {
            Held::State(state) => {
                let writes = self.writes(store, key);
                let index = writes.binary_search_by_key(&state.version, |known| known.state.version);
                let Some(known) = index.ok().and_then(|index| writes.get(index)) else {
                    return Some(Mismatch::NeverWritten);
                };
                if known.state != state {
                    return Some(Mismatch::NeverWritten);
                }
                let next = index.ok().and_then(|index| writes.get(index + 1));
                match next {
                    Some(next) if next.through <= revision => Some(Mismatch::TooOld),
                    _ if known.after >= revision => Some(Mismatch::TooNew),
                    _ => None,
                }
            }
            Held::AsOf(since) => self.has_changed(store, key, since, revision).then_some(Mismatch::TooOld),
            Held::Absent => {
                let is_absent = |state: Option<State>| state.is_none_or(|state| state.value.is_none());
                (!self.possible_at(store, key, revision).any(is_absent)).then_some(Mismatch::TooOld)
            }
        }
    }

    /// Returns what a replica shows of each key under its prefix.
    pub(super) fn held_by_replica<'a>(&'a self, sight: &'a Sight) -> impl Iterator<Item = (KeyId, Held)> + 'a {
        let mut shown = sight.keys.iter().peekable();
        self.under(&sight.prefix).iter().map(move |key| {
            // Both sequences are in the order of the keys.
            while shown.next_if(|(other, _)| ***other < *self.key(*key)).is_some() {}
            let state = shown.next_if(|(other, _)| ***other == *self.key(*key));
            (*key, state.map_or(Held::Absent, |(_, state)| Held::State(*state)))
        })
    }

    /// Returns a description of the possible states of a key at a revision.
    pub fn expected(&self, store: usize, key: KeyId, revision: u64) -> String {
        let mut text = String::new();
        for (index, state) in self.possible_at(store, key, revision).enumerate() {
            let or = if index == 0 { "" } else { " or " };
            let state = state.as_ref().map_or_else(|| "nothing".into(), describe_state);
            // Writing to a string never fails.
            let _ = write!(text, "{or}{state}");
        }
        text
    }
}

/// Returns a description of a state.
pub(crate) fn describe_state(State { version, value }: &State) -> String {
    match value {
        None => format!("deleted at version {version}"),
        Some(Stamp::TORN) => format!("version {version}, torn"),
        Some(Stamp(stamp)) => format!("version {version} (#{stamp})"),
    }
}

/// Returns a description of a held state.
pub(crate) fn describe_held(held: Held) -> String {
    match held {
        Held::State(state) => describe_state(&state),
        Held::AsOf(revision) => format!("its state at revision {revision}"),
        Held::Absent => "nothing".into(),
    }
}
