//! Records the history of a run.

use super::agenda::Time;
use crate::frame;
use crate::history::{
    Commit, Direction, Frame, History, Invocation, Key, Moment, Operation, Outcome, Sight, State, Step, Store,
    Transcript, Write,
};
use bytes::BytesMut;
use std::collections::BTreeMap;
use syncline_core::StoreId;
use syncline_core::client::View;
use syncline_wire::{Decoded, decode};

/// The recorder of a run's history.
#[derive(Default)]
pub(super) struct Record {
    pub(super) history: History,
    now: Time,
    order: u64,
    /// By connection and direction: the beginning of a frame whose rest has not gone by.
    cut: BTreeMap<(u64, u8), BytesMut>,
    /// By connection: the index of its transcript.
    transcripts: BTreeMap<u64, usize>,
}

impl Record {
    pub(super) const fn set_now(&mut self, now: Time) {
        self.now = now;
    }

    pub(super) const fn now(&self) -> Time {
        self.now
    }

    pub(super) fn moment(&mut self) -> Moment {
        self.order += 1;
        Moment { order: self.order, micros: self.now }
    }

    pub(super) fn note(&mut self, text: String) {
        let moment = self.moment();
        self.history.notes.push((moment, text));
    }

    pub(super) fn count(&mut self, name: &str, times: u64) {
        self.history.count(name, times);
    }

    pub(super) fn gauge(&mut self, name: &str, found: usize, bound: usize) {
        let at = Moment { order: self.order, micros: self.now };
        self.history.gauge(name, at, found as u64, bound as u64);
    }

    /// Records that a store is served from now on.
    pub(super) fn store(&mut self, id: StoreId, restored: Option<(usize, u64)>) {
        let since = self.moment();
        self.history.stores.push(Store { id: id.to_string(), restored, since });
    }

    /// Returns the index of the store that is served now.
    pub(super) fn served(&self) -> usize {
        self.history.stores.len().saturating_sub(1)
    }

    /// Returns the index of the latest store with this id.
    pub(super) fn store_of(&self, id: StoreId) -> usize {
        let id = id.to_string();
        self.history.stores.iter().rposition(|store| store.id == id).unwrap_or(0)
    }

    /// Returns the id of a store.
    pub(super) fn id_of(&self, store: usize) -> Option<[u8; 16]> {
        let id = u128::from_str_radix(&self.history.stores.get(store)?.id, 16).ok()?;
        Some(id.to_be_bytes())
    }

    pub(super) fn commit(&mut self, commit: Commit) {
        let (store, at) = (self.served(), self.moment());
        self.history.commits.push(Commit { store, at, ..commit });
    }

    /// Replaces the recorded writes of a transaction that a wrong variant has torn by all of its writes.
    pub(super) fn torn(&mut self, whole: Vec<Write>) {
        let is_its = |commit: &&mut Commit| commit.writes.first() == whole.first();
        if let Some(commit) = self.history.commits.iter_mut().rfind(is_its) {
            commit.writes = whole;
        }
    }

    /// Removes the commits of the current store after a revision, which a wrong variant has lost.
    pub(super) fn forget_commits_after(&mut self, revision: usize) {
        let served = self.served();
        self.history.commits.retain(|commit| commit.store != served || commit.revision <= revision as u64);
    }

    /// Records that a connection was opened.
    pub(super) fn open(&mut self, connection: u64, client: u64, store: usize) {
        self.transcripts.insert(connection, self.history.transcripts.len());
        let transcript = Transcript { connection, client, store, frames: Vec::new(), is_drained: false };
        self.history.transcripts.push(transcript);
    }

    /// Records bytes that went over a connection.
    pub(super) fn bytes(&mut self, connection: u64, direction: Direction, bytes: &[u8]) {
        let Some(place) = self.transcripts.get(&connection).copied() else { return };
        let way = (connection, u8::from(direction == Direction::Sent));
        let mut buffer = self.cut.remove(&way).unwrap_or_default();
        buffer.extend_from_slice(bytes);
        while let Ok(Decoded::Frame(message)) = decode(&mut buffer) {
            let moment = self.moment();
            self.history.count("frames", 1);
            if let Some(transcript) = self.history.transcripts.get_mut(place) {
                transcript.frames.push((moment, direction, Frame::from(&message)));
            }
        }
        if !buffer.is_empty() {
            self.cut.insert(way, buffer);
        }
    }

    /// Returns the store that a connection leads to.
    pub(super) fn store_of_connection(&self, connection: u64) -> Option<usize> {
        let place = self.transcripts.get(&connection)?;
        self.history.transcripts.get(*place).map(|transcript| transcript.store)
    }

    /// Records that a connection has delivered everything that the server had to send.
    pub(super) fn drained(&mut self, connection: u64) {
        if let Some(transcript) =
            self.transcripts.get(&connection).and_then(|place| self.history.transcripts.get_mut(*place))
        {
            transcript.is_drained = true;
        }
    }

    /// Records an invocation. Returns its index for [`Record::end`].
    pub(super) fn ask(&mut self, client: u64, asked: Invocation) -> usize {
        let asked_at = self.moment();
        let outcome = Outcome::Unknown;
        let never = Moment { order: u64::MAX, micros: u64::MAX };
        self.history.operations.push(Operation { client, store: None, asked_at, asked, ended_at: never, outcome });
        self.history.operations.len() - 1
    }

    /// Records the outcome of an operation, and the store that it was sent to.
    pub(super) fn end(&mut self, place: usize, store: Option<usize>, outcome: Outcome) {
        let ended_at = self.moment();
        if let Some(operation) = self.history.operations.get_mut(place) {
            (operation.ended_at, operation.outcome, operation.store) = (ended_at, outcome, store);
        }
    }

    /// Ends the operations that are still open.
    pub(super) fn close(&mut self) {
        let ended_at = self.moment();
        for operation in self.history.operations.iter_mut().filter(|operation| operation.ended_at.order == u64::MAX) {
            operation.ended_at = ended_at;
        }
    }

    /// Records the contents of a replica.
    pub(super) fn sight(&mut self, client: u64, prefix: &Key, view: &View) -> Sight {
        let sight = Sight {
            client,
            at: self.moment(),
            prefix: prefix.clone(),
            store: self.store_of(view.store()),
            revision: view.revision().get(),
            is_current: view.is_current(),
            keys: keys(prefix, view).collect(),
        };
        self.history.sights.push(sight.clone());
        sight
    }

    /// Records that a replica still shows the same contents.
    pub(super) fn sight_again(&mut self, before: &Sight) -> Sight {
        let sight = Sight { at: self.moment(), ..before.clone() };
        self.history.sights.push(sight.clone());
        sight
    }

    pub(super) fn step(&mut self, step: Step) {
        let at = self.moment();
        self.history.steps.push(Step { at, ..step });
    }
}

/// Returns the keys of a view in the form that histories use.
fn keys<'a>(prefix: &'a Key, view: &'a View) -> impl Iterator<Item = (Key, State)> + 'a {
    view.range(prefix.as_bytes(), ..).map(|(key, found)| {
        let Write { key, state } = frame::write(key, Some(&found.value), found.version);
        (key, state)
    })
}
