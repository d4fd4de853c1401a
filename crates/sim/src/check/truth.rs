//! What each store held at each revision, as far as that is known.
//!
//! Of every write it says between which revisions it is: after one, and not after another. Of a simulated run, whose
//! commits are known, that leaves one revision. Of a real run it is concluded (`infer.rs`), and the questions here have
//! answers that allow for what is not known: a checker asks whether what was seen *may* be, or whether something is *certain*.
//!
//! A key is named by its number, a store by its place in [`History::stores`]. A store that was restored from a backup
//! begins with what that held of the earlier store's history, which is done here and nowhere else.

use super::{Promise, Violation};
use crate::history::{Commit, Frame, History, Invocation, Key, Moment, Stamp, State, Write};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;

/// The number of a key: they have the order of the keys.
pub type KeyId = usize;

/// A write that has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownWrite {
    /// What the key has held from then on.
    pub state: State,
    /// It came after this revision.
    pub after: u64,
    /// It came at this revision, or before.
    pub through: u64,
    /// It was visible by then, or not asked for before; which of both, [`Truth::is_exact`] says.
    pub at: Moment,
}

/// What is known of a key in a store.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyTruth {
    /// What has happened to it: versions grow with revisions.
    pub(super) writes: Vec<KnownWrite>,
    /// Deletions of which nobody knows whether they have happened, in the order of their versions.
    pub(super) possible_deletions: Vec<KnownWrite>,
    /// The versions that were written together with other keys, and by which transaction.
    pub(super) in_transactions: Vec<(u64, usize)>,
}

/// Writes that were made together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTransaction {
    /// By which store.
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
    is_exact: bool,
}

/// What somebody holds of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// What it was told last.
    State(State),
    /// What the store held at this revision, which it was told before.
    AsOf(u64),
    /// The key is not there.
    Absent,
}

/// Why what somebody holds of a key can't be what the store held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// Something came later.
    TooOld,
    /// It came later itself.
    TooNew,
    /// It was never written.
    NeverWritten,
}

impl Truth {
    /// What a history tells.
    pub fn of(history: &History) -> Self {
        let mut truth = Self { is_exact: !history.commits.is_empty(), ..Self::named(history) };
        truth.stores = vec![vec![KeyTruth::default(); truth.keys.len()]; history.stores.len()];
        if truth.is_exact {
            truth.add_commits(history);
            truth.report_unwritten_states(history);
        } else {
            super::infer::infer(&mut truth, history);
        }
        truth
    }

    /// The names of a history, and nothing of what has happened.
    fn named(history: &History) -> Self {
        let (mut keys, mut prefixes) = (HashSet::new(), HashSet::new());
        for write in history.commits.iter().flat_map(|commit| &commit.writes) {
            keys.insert(&write.key);
        }
        for (_, _, frame) in history.transcripts.iter().flat_map(|transcript| &transcript.frames) {
            match frame {
                Frame::Get { key, .. } | Frame::Write { write: Write { key, .. }, .. } => drop(keys.insert(key)),
                Frame::Txn { checks, writes, .. } => {
                    keys.extend(checks.iter().map(|(key, _)| key).chain(writes.iter().map(|write| &write.key)));
                }
                Frame::Watch { prefix, .. } | Frame::List { prefix, .. } => drop(prefixes.insert(prefix)),
                _ => {}
            }
        }
        for operation in &history.operations {
            match &operation.asked {
                Invocation::Get { key } | Invocation::Write(Write { key, .. }) => drop(keys.insert(key)),
                Invocation::Txn { checks, writes } => {
                    keys.extend(checks.iter().map(|(key, _)| key).chain(writes.iter().map(|write| &write.key)));
                }
                Invocation::List { prefix, .. } => drop(prefixes.insert(prefix)),
                Invocation::Barrier => {}
            }
            if let crate::history::Outcome::Listed { entries } = &operation.outcome {
                keys.extend(entries.iter().map(|entry| &entry.key));
            }
        }
        for sight in &history.sights {
            prefixes.insert(&sight.prefix);
            keys.extend(sight.keys.keys());
        }
        for step in &history.steps {
            prefixes.insert(&step.prefix);
            keys.extend(step.changes.iter().map(|write| &write.key));
        }
        let keys: Vec<Key> = keys.into_iter().collect::<BTreeSet<_>>().into_iter().cloned().collect();
        let ids = keys.iter().enumerate().map(|(id, key)| (key.clone(), id)).collect();
        let under = |prefix: &str| {
            let under = keys.iter().enumerate().filter(|(_, key)| key.starts_with(prefix));
            under.map(|(id, _)| id).collect()
        };
        let under = prefixes.into_iter().map(|prefix| (prefix.clone(), under(prefix))).collect();
        Self { keys, ids, under, ..Self::default() }
    }

    fn add_commits(&mut self, history: &History) {
        let mut by_store: Vec<Vec<&Commit>> = vec![Vec::new(); history.stores.len()];
        for commit in &history.commits {
            if let Some(commits) = by_store.get_mut(commit.store) {
                commits.push(commit);
            }
        }
        for (store, (told, commits)) in history.stores.iter().zip(by_store).enumerate() {
            if let Some((parent, through)) = told.restored {
                self.restore(store, parent, through);
            }
            for commit in commits {
                self.add_commit(store, commit);
            }
        }
    }

    /// A store begins with what an earlier one had written up to a revision.
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

    fn add_commit(&mut self, store: usize, commit: &Commit) {
        let Commit { revision, at, .. } = *commit;
        let mut together = Vec::new();
        for Write { key, state } in &commit.writes {
            let Some(id) = self.id(key) else { continue };
            together.push((id, state.version));
            let Some(truth) = self.stores.get_mut(store).and_then(|keys| keys.get_mut(id)) else { continue };
            let before = truth.writes.last();
            if before.is_some_and(|before| before.state.version >= state.version || before.through >= revision) {
                let text =
                    format!("{key:?}: expected versions that grow, found {} at {revision}", describe_state(state));
                self.contradictions.push(Violation { promise: Promise::Ordered, text, at });
                continue;
            }
            truth.writes.push(KnownWrite { state: *state, after: revision.saturating_sub(1), through: revision, at });
        }
        self.add_transaction(store, together);
    }

    /// These were written together.
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

    /// Whatever anybody was told or shown, somebody has written.
    fn report_unwritten_states(&mut self, history: &History) {
        let mut found = Vec::new();
        let mut look =
            |store: usize, write: (&Key, &State), at: Moment, promise: Promise, subject: &dyn Fn() -> String| {
                let (key, state) = write;
                let known = self.id(key).and_then(|id| self.find(store, id, state.version));
                if known.is_some_and(|known| known.state == *state) || found.len() >= super::MAX_VIOLATIONS {
                    return;
                }
                let expected =
                    known.map_or_else(|| "what somebody has written".into(), |known| describe_state(&known.state));
                let text = format!("{}: {key:?}: expected {expected}, found {}", subject(), describe_state(state));
                found.push(Violation { promise, text, at });
            };
        for sight in &history.sights {
            let subject = || format!("the replica {:?} of client {} at {}", sight.prefix, sight.client, sight.revision);
            for entry in &sight.keys {
                look(sight.store, entry, sight.at, Promise::Marked, &subject);
            }
        }
        for step in &history.steps {
            let subject = || format!("the cursor of client {} at {}", step.client, step.revision);
            for Write { key, state } in &step.changes {
                look(step.store, (key, state), step.at, Promise::Marked, &subject);
            }
        }
        self.contradictions.extend(found);
    }

    /// Whether the commits are known, and every write has one revision.
    pub const fn is_exact(&self) -> bool {
        self.is_exact
    }

    /// What can't be true together, or can't be at all.
    pub fn contradictions(&self) -> &[Violation] {
        &self.contradictions
    }

    /// How many stores there are.
    pub const fn stores(&self) -> usize {
        self.stores.len()
    }

    /// All keys, in their order: the number of each is its place.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The number of a key of this history.
    pub fn id(&self, key: &str) -> Option<KeyId> {
        self.ids.get(key).copied()
    }

    /// A key by its number.
    pub fn key(&self, id: KeyId) -> &str {
        self.keys.get(id).map_or("", |key| key)
    }

    /// The keys under a prefix that something in the history is about, in their order.
    pub fn under(&self, prefix: &str) -> &[KeyId] {
        self.under.get(prefix).map_or(&[], Vec::as_slice)
    }

    /// The transactions that wrote several keys.
    pub fn transactions(&self) -> &[KnownTransaction] {
        &self.transactions
    }

    /// The transaction that has given a key a version together with other keys.
    pub(super) fn transaction_of(&self, store: usize, key: KeyId, version: u64) -> Option<usize> {
        let written = &self.key_truth(store, key)?.in_transactions;
        let index = written.binary_search_by_key(&version, |(version, _)| *version).ok()?;
        written.get(index).map(|(_, transaction)| *transaction)
    }

    pub(super) fn key_truth(&self, store: usize, key: KeyId) -> Option<&KeyTruth> {
        self.stores.get(store)?.get(key)
    }

    /// What has happened to a key, in order.
    pub fn writes(&self, store: usize, key: KeyId) -> &[KnownWrite] {
        self.key_truth(store, key).map_or(&[], |truth| &truth.writes)
    }

    /// The write that has given a key a version.
    pub fn find(&self, store: usize, key: KeyId, version: u64) -> Option<&KnownWrite> {
        let writes = self.writes(store, key);
        writes.get(writes.binary_search_by_key(&version, |known| known.state.version).ok()?)
    }

    /// The latest write of a key that is certainly not after a revision.
    pub fn certain_at(&self, store: usize, key: KeyId, revision: u64) -> Option<&KnownWrite> {
        let writes = self.writes(store, key);
        writes.get(writes.partition_point(|known| known.through <= revision).checked_sub(1)?)
    }

    /// What a key may have held at a revision, oldest first; `None`: it had never been written.
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

    /// Whether a key has certainly changed after a revision and up to another.
    pub fn has_changed(&self, store: usize, key: KeyId, since: u64, through: u64) -> bool {
        let writes = self.writes(store, key);
        let from = writes.partition_point(|known| known.after < since);
        writes.get(from).is_some_and(|known| known.through <= through)
    }

    /// Whether a key may be deleted, or not there, by a write of at least this version.
    pub fn may_be_deleted_since(&self, store: usize, key: KeyId, version: u64) -> bool {
        let Some(truth) = self.key_truth(store, key) else { return false };
        let is_later = |known: &KnownWrite| known.state.value.is_none() && known.state.version >= version;
        truth.writes.iter().rev().chain(truth.possible_deletions.iter().rev()).any(is_later)
    }

    /// Why a key can't have been like this at a revision.
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

    /// What a key may have held at a revision, for people.
    pub fn expected(&self, store: usize, key: KeyId, revision: u64) -> String {
        let mut text = String::new();
        for (index, state) in self.possible_at(store, key, revision).enumerate() {
            let or = if index == 0 { "" } else { " or " };
            let state = state.as_ref().map_or_else(|| "nothing".into(), describe_state);
            // Writing to a string does not fail.
            let _ = write!(text, "{or}{state}");
        }
        text
    }
}

/// A state, for people.
pub(crate) fn describe_state(State { version, value }: &State) -> String {
    match value {
        None => format!("deleted at version {version}"),
        Some(Stamp::TORN) => format!("version {version}, torn"),
        Some(Stamp(stamp)) => format!("version {version} (#{stamp})"),
    }
}

/// What somebody holds, for people.
pub(crate) fn describe_held(held: Held) -> String {
    match held {
        Held::State(state) => describe_state(&state),
        Held::AsOf(revision) => format!("what it was at {revision}"),
        Held::Absent => "nothing".into(),
    }
}
