//! The state of the store at each revision.

use crate::support::commits_after;
use bytes::Bytes;
use std::collections::BTreeMap;
use syncline_core::{Dialect, RecentLog};
use syncline_wire::{Message, Revision, Version};

/// The keys that have a value, each with its value and version.
pub(crate) type State = BTreeMap<Bytes, (Bytes, Version)>;

/// The state of a store at each revision.
#[derive(Default)]
pub(crate) struct History {
    states: BTreeMap<Revision, State>,
}

impl History {
    /// Adds the latest commits of a log that holds every commit.
    pub(crate) fn follow(&mut self, log: &RecentLog) {
        let (last, mut state) = match self.states.last_key_value() {
            None => (Revision::ZERO, State::new()),
            Some((last, state)) => (*last, state.clone()),
        };
        for commit in commits_after(log, last, Dialect::Extended) {
            commit.writes.iter().for_each(|write| apply(&mut state, write));
            self.states.insert(commit.revision, state.clone());
        }
    }

    /// Returns what the store held at a revision.
    pub(crate) fn at(&self, revision: Revision) -> State {
        self.states.range(..=revision).next_back().map(|(_, state)| state.clone()).unwrap_or_default()
    }

    /// Returns whether a key had the value and version of `message` at some revision of a range.
    pub(crate) fn ever_held(&self, from: Revision, to: Revision, message: &Message) -> bool {
        let Message::Put(put) = message else { return false };
        let first = self.at(from);
        let held = |state: &State| state.get(&put.key) == Some(&(put.value.clone(), put.version));
        held(&first) || self.states.range(from..=to).any(|(_, state)| held(state))
    }
}

/// Applies a change to a state.
pub(crate) fn apply(state: &mut State, message: &Message) {
    match message {
        Message::Put(put) => drop(state.insert(put.key.clone(), (put.value.clone(), put.version))),
        Message::Delete(delete) => drop(state.remove(&delete.key)),
        other => panic!("expected a change, found {other}"),
    }
}
