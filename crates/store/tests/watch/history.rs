//! What has happened in the store, so that its state at any revision is known.

use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use syncline_core::{Dialect, RecentLog};
use syncline_wire::{Decoded, Message, Revision, Version, decode};

/// The keys that are there, each with its value and version.
pub(crate) type State = BTreeMap<Bytes, (Bytes, Version)>;

/// The state of a store at each revision.
#[derive(Default)]
pub(crate) struct History {
    states: BTreeMap<Revision, State>,
}

impl History {
    /// Takes in what a log holds that has forgotten nothing.
    pub(crate) fn follow(&mut self, log: &RecentLog) {
        let (last, mut state) = match self.states.last_key_value() {
            None => (Revision::ZERO, State::new()),
            Some((last, state)) => (*last, state.clone()),
        };
        for unread in log.after(last).unwrap() {
            for (place, committed) in unread.commits().iter().enumerate() {
                let mut frames = BytesMut::from(unread.frames(Dialect::Extended, place..place + 1).as_ref());
                while let Ok(Decoded::Frame(message)) = decode(&mut frames) {
                    apply(&mut state, &message);
                }
                self.states.insert(committed.revision, state.clone());
            }
        }
    }

    /// What the store held at a revision.
    pub(crate) fn at(&self, revision: Revision) -> State {
        self.states.range(..=revision).next_back().map(|(_, state)| state.clone()).unwrap_or_default()
    }

    /// Whether a key had this value and version at some revision of a range.
    pub(crate) fn ever_held(&self, from: Revision, to: Revision, message: &Message) -> bool {
        let Message::Put(put) = message else { return false };
        let first = self.at(from);
        let held = |state: &State| state.get(&put.key) == Some(&(put.value.clone(), put.version));
        held(&first) || self.states.range(from..=to).any(|(_, state)| held(state))
    }
}

/// What a change makes of a state.
pub(crate) fn apply(state: &mut State, message: &Message) {
    match message {
        Message::Put(put) => drop(state.insert(put.key.clone(), (put.value.clone(), put.version))),
        Message::Delete(delete) => drop(state.remove(&delete.key)),
        other => panic!("no change: {other}"),
    }
}
