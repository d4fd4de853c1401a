//! Constructs the [`Truth`] of a history: from its commits, or by inference if it has none.

use super::infer::infer;
use super::report::{MAX_VIOLATIONS, Promise, Violation};
use super::truth::{KeyTruth, KnownWrite, Truth, describe_state};
use crate::history::{Commit, Frame, History, Invocation, Key, Moment, Outcome, State, Write};
use std::collections::{BTreeSet, HashSet};

impl Truth {
    /// Returns what a history shows about its stores.
    pub fn of(history: &History) -> Self {
        let mut truth = Self { is_exact: !history.commits.is_empty(), ..Self::named(history) };
        truth.stores = vec![vec![KeyTruth::default(); truth.keys.len()]; history.stores.len()];
        if truth.is_exact {
            truth.add_commits(history);
            truth.report_unwritten_states(history);
        } else {
            infer(&mut truth, history);
        }
        truth
    }

    /// Returns a truth that knows the keys and prefixes of a history, but no writes.
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
            if let Outcome::Listed { entries } = &operation.outcome {
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

    /// Reports every state in a replica or cursor that no client wrote.
    fn report_unwritten_states(&mut self, history: &History) {
        let mut found = Vec::new();
        let mut look =
            |store: usize, write: (&Key, &State), at: Moment, promise: Promise, subject: &dyn Fn() -> String| {
                let (key, state) = write;
                let known = self.id(key).and_then(|id| self.find(store, id, state.version));
                if known.is_some_and(|known| known.state == *state) || found.len() >= MAX_VIOLATIONS {
                    return;
                }
                let expected = known
                    .map_or_else(|| "a state that a client has written".into(), |known| describe_state(&known.state));
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
}
