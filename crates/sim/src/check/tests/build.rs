//! Builds histories by hand, with the model of a store that executes requests at once and notifies all connections.

use crate::history::{
    Commit, Direction, Examination, Frame, Health, History, Incident, Invocation, Key, Moment, Operation, Outcome,
    Probe, Sight, Stamp, State, Step, Store, Transcript, Trouble, Write,
};
use std::collections::{BTreeMap, BTreeSet};

/// A connection of the model.
struct ModelConnection {
    index: usize,
    is_extended: bool,
    prefixes: BTreeSet<String>,
    next_tag: u16,
}

/// A history under construction.
pub(crate) struct HistoryBuilder {
    pub(crate) history: History,
    order: u64,
    stamp: u64,
    pub(super) head: u64,
    keys: BTreeMap<Key, State>,
    connections: Vec<ModelConnection>,
    /// By client: the prefix of its cursor, and the changes since its last step.
    cursors: BTreeMap<u64, (String, Vec<Write>)>,
    /// By revision: what each key held.
    past: Vec<BTreeMap<Key, State>>,
}

impl HistoryBuilder {
    pub(super) fn new() -> Self {
        let store = Store { id: "00".into(), restored: None, since: Moment::default() };
        Self {
            history: History { stores: vec![store], ..History::default() },
            order: 0,
            stamp: 0,
            head: 0,
            keys: BTreeMap::new(),
            connections: Vec::new(),
            cursors: BTreeMap::new(),
            past: vec![BTreeMap::new()],
        }
    }

    pub(super) fn now(&mut self) -> Moment {
        self.order += 1;
        Moment { order: self.order, micros: self.order * 10 }
    }

    pub(super) fn store(&self) -> usize {
        self.history.stores.len() - 1
    }

    fn next(&mut self, key: &str, is_deletion: bool) -> Write {
        let version = self.keys.get(key).map_or(1, |state| state.version + 1);
        self.stamp += 1;
        let value = (!is_deletion).then_some(Stamp(self.stamp));
        Write { key: key.into(), state: State { version, value } }
    }

    fn operation(&mut self, client: u64, asked_at: Moment, asked: Invocation, outcome: Outcome) {
        let ended_at = self.now();
        let store = Some(self.store());
        self.history.operations.push(Operation { client, store, asked_at, asked, ended_at, outcome });
    }

    fn frame(&mut self, connection: usize, direction: Direction, frame: Frame) {
        let at = self.now();
        self.history.transcripts[connection].frames.push((at, direction, frame));
    }

    pub(super) fn sent(&mut self, connection: usize, frame: Frame) {
        self.frame(connection, Direction::Sent, frame);
    }

    pub(super) fn received(&mut self, connection: usize, frame: Frame) {
        self.frame(connection, Direction::Received, frame);
    }

    /// Commits a transaction, and sends it to all connections except its origin.
    fn commit(&mut self, writes: &[Write], origin: Option<usize>) -> u64 {
        self.head += 1;
        for write in writes {
            self.keys.insert(write.key.clone(), write.state);
        }
        self.past.push(self.keys.clone());
        let (store, revision, at) = (self.store(), self.head, self.now());
        self.history.commits.push(Commit { store, revision, writes: writes.to_vec(), at });
        for index in 0..self.connections.len() {
            let ModelConnection { index: transcript, is_extended, prefixes, .. } = &self.connections[index];
            let (transcript, is_extended) = (*transcript, *is_extended);
            if self.history.transcripts[transcript].is_drained || Some(transcript) == origin {
                continue;
            }
            let sent: Vec<Write> = writes
                .iter()
                .filter(|write| !is_extended || prefixes.iter().any(|prefix| write.key.starts_with(prefix.as_str())))
                .cloned()
                .collect();
            let is_told = !sent.is_empty();
            for mut write in sent {
                if !is_extended {
                    write.state.value = write.state.value.or(Some(Stamp::TORN));
                }
                self.received(transcript, Frame::Write { tag: 0, write });
            }
            if is_extended && is_told {
                self.received(transcript, Frame::Mark { tag: 0, revision });
            }
        }
        for (prefix, changes) in self.cursors.values_mut() {
            changes.extend(writes.iter().filter(|write| write.key.starts_with(prefix.as_str())).cloned());
        }
        revision
    }

    pub(super) fn write(&mut self, client: u64, key: &str, is_deletion: bool) -> Write {
        let asked_at = self.now();
        let write = self.next(key, is_deletion);
        self.commit(std::slice::from_ref(&write), None);
        self.operation(client, asked_at, Invocation::Write(write.clone()), Outcome::Written);
        write
    }

    pub(super) fn put(&mut self, client: u64, key: &str) -> Write {
        self.write(client, key, false)
    }

    pub(super) fn delete(&mut self, client: u64, key: &str) -> Write {
        self.write(client, key, true)
    }

    /// A trouble during which all writes are refused with `reason`, or accepted if there is none.
    pub(super) fn incident(&mut self, trouble: Trouble, reason: Option<&str>) {
        let is_unread = trouble == Trouble::LogUnread;
        let began_at = self.now();
        let during = (0..3).map(|_| self.examination(reason, is_unread)).collect();
        let log_during = reason.map(|reason| format!("ERROR writes are refused: {reason}")).into_iter().collect();
        let ended_at = self.now();
        let after = (0..3).map(|_| self.examination(None, is_unread)).collect();
        let said = if is_unread { " WARN 3 lines were dropped" } else { " INFO writes are accepted again" };
        self.history.incidents.push(Incident {
            trouble,
            began_at,
            during,
            log_during,
            strays: Vec::new(),
            ended_at,
            is_restarted: trouble == Trouble::DiskDead,
            after,
            log_after: vec![said.to_owned()],
        });
    }

    fn examination(&mut self, reason: Option<&str>, is_unread: bool) -> Examination {
        let probe = || reason.map_or(Probe::Accepted, |reason| Probe::Refused { reason: reason.to_owned() });
        let health = Health {
            accepts_writes: Some(reason.is_none()),
            reason: reason.map(str::to_owned),
            log_lines_dropped: Some(u64::from(is_unread)),
        };
        let exit_code = Some(i32::from(reason.is_some()));
        Examination { at: self.now(), before: probe(), health: Some(health), exit_code, after: probe() }
    }

    /// A write that is accepted, although its client receives no response.
    pub(super) fn put_unanswered(&mut self, client: u64, key: &str) {
        let asked_at = self.now();
        let write = self.next(key, false);
        self.commit(std::slice::from_ref(&write), None);
        self.operation(client, asked_at, Invocation::Write(write), Outcome::Unknown);
    }

    pub(super) fn put_stale(&mut self, client: u64, key: &str) {
        let asked_at = self.now();
        let mut write = self.next(key, false);
        write.state.version -= 1;
        self.operation(client, asked_at, Invocation::Write(write), Outcome::Stale { key: key.into() });
    }

    pub(super) fn txn(&mut self, client: u64, keys: &[&str]) -> Vec<Write> {
        let asked_at = self.now();
        let writes: Vec<Write> = keys.iter().map(|key| self.next(key, false)).collect();
        let revision = self.commit(&writes, None);
        let asked = Invocation::Txn { checks: Vec::new(), writes: writes.clone() };
        self.operation(client, asked_at, asked, Outcome::Committed { revision });
        writes
    }

    pub(super) fn get(&mut self, client: u64, key: &str) {
        let asked_at = self.now();
        let outcome = match self.keys.get(key) {
            None => Outcome::NotFound { deleted_at: None },
            Some(State { version, value: None }) => Outcome::NotFound { deleted_at: Some(*version) },
            Some(state) => Outcome::Found(*state),
        };
        self.operation(client, asked_at, Invocation::Get { key: key.into() }, outcome);
    }

    fn live(&self, prefix: &str) -> BTreeMap<Key, State> {
        let live = self.keys.iter().filter(|(key, state)| key.starts_with(prefix) && state.value.is_some());
        live.map(|(key, state)| (key.clone(), *state)).collect()
    }

    pub(super) fn list(&mut self, client: u64, prefix: &str) {
        let asked_at = self.now();
        let entries = self.live(prefix).into_iter().map(|(key, state)| Write { key, state }).collect();
        let asked = Invocation::List { prefix: prefix.into(), after: "".into(), limit: 1000 };
        self.operation(client, asked_at, asked, Outcome::Listed { entries });
    }

    pub(super) fn barrier(&mut self, client: u64) {
        let asked_at = self.now();
        self.operation(client, asked_at, Invocation::Barrier, Outcome::Passed { revision: self.head });
    }

    pub(super) fn sight(&mut self, client: u64, prefix: &str) {
        let (at, store, keys) = (self.now(), self.store(), self.live(prefix));
        let (revision, prefix) = (self.head, prefix.into());
        self.history.sights.push(Sight { client, at, prefix, store, revision, is_current: true, keys });
    }

    /// The next step of a cursor; the first one contains everything.
    pub(super) fn step(&mut self, client: u64, prefix: &str, is_reset: bool) {
        let (at, store) = (self.now(), self.store());
        let is_first = !self.cursors.contains_key(&client);
        let mut changes = match self.cursors.insert(client, (prefix.into(), Vec::new())) {
            Some((_, changes)) => changes,
            None => Vec::new(),
        };
        if is_first || is_reset {
            changes = self.live(prefix).into_iter().map(|(key, state)| Write { key, state }).collect();
        }
        let (revision, prefix) = (self.head, prefix.into());
        self.history.steps.push(Step { client, at, prefix, store, revision, is_reset, changes });
    }

    pub(super) fn connect(&mut self, client: u64) -> usize {
        let index = self.history.transcripts.len();
        let (connection, store) = (index as u64 + 1, self.store());
        self.history.transcripts.push(Transcript { connection, client, store, frames: Vec::new(), is_drained: false });
        self.connections.push(ModelConnection { index, is_extended: false, prefixes: BTreeSet::new(), next_tag: 1 });
        index
    }

    fn tag(&mut self, connection: usize) -> u16 {
        let next = &mut self.connections[connection].next_tag;
        *next += 1;
        *next
    }

    pub(super) fn hello(&mut self, connection: usize) {
        let tag = self.tag(connection);
        self.sent(connection, Frame::Hello { tag, server: None });
        self.connections[connection].is_extended = true;
        let server = Some((self.history.stores[self.store()].id.clone(), self.head));
        self.received(connection, Frame::Hello { tag, server });
    }

    /// Marks a connection as drained: nothing is in flight on it, and nothing more is sent.
    pub(super) fn drain(&mut self, connection: usize) {
        self.history.transcripts[connection].is_drained = true;
    }

    /// `is_known`: whether the server still knows the changes since the revision.
    pub(super) fn watch(&mut self, connection: usize, prefix: &str, since: u64, is_known: bool) {
        let tag = self.tag(connection);
        self.sent(connection, Frame::Watch { tag, prefix: prefix.into(), since });
        let sent: Vec<Write> = if since > 0 && is_known {
            let before = &self.past[usize::try_from(since).unwrap()];
            let changed = self.keys.iter().filter(|(key, state)| before.get(*key) != Some(state));
            let changed = changed.filter(|(key, _)| key.starts_with(prefix));
            changed.map(|(key, state)| Write { key: key.clone(), state: *state }).collect()
        } else {
            self.live(prefix).into_iter().map(|(key, state)| Write { key, state }).collect()
        };
        if since > 0 && !is_known {
            self.received(connection, Frame::Mark { tag, revision: 0 });
        }
        for write in sent {
            self.received(connection, Frame::Write { tag: 0, write });
        }
        self.connections[connection].prefixes.insert(prefix.into());
        self.received(connection, Frame::Mark { tag, revision: self.head });
    }

    pub(super) fn own_put(&mut self, connection: usize, key: &str) {
        let (tag, write) = (self.tag(connection), self.next(key, false));
        self.sent(connection, Frame::Write { tag, write: write.clone() });
        self.commit(std::slice::from_ref(&write), Some(connection));
        self.received(connection, Frame::Write { tag, write });
        self.mark_own(connection);
    }

    pub(super) fn own_txn(&mut self, connection: usize, keys: &[&str]) {
        let tag = self.tag(connection);
        let writes: Vec<Write> = keys.iter().map(|key| self.next(key, false)).collect();
        self.sent(connection, Frame::Txn { tag, checks: Vec::new(), writes: writes.clone() });
        let revision = self.commit(&writes, Some(connection));
        for write in writes {
            self.received(connection, Frame::Write { tag, write });
        }
        self.received(connection, Frame::Mark { tag, revision });
        self.mark_own(connection);
    }

    fn mark_own(&mut self, connection: usize) {
        let ModelConnection { is_extended, prefixes, .. } = &self.connections[connection];
        if *is_extended && !prefixes.is_empty() {
            self.received(connection, Frame::Mark { tag: 0, revision: self.head });
        }
    }

    pub(super) fn own_get(&mut self, connection: usize, key: &str) {
        let tag = self.tag(connection);
        self.sent(connection, Frame::Get { tag, key: key.into() });
        let answer = match self.keys.get(key) {
            Some(state) if state.value.is_some() => {
                Frame::Write { tag, write: Write { key: key.into(), state: *state } }
            }
            _ => Frame::Error { tag, text: format!("{key:?}: not found") },
        };
        self.received(connection, answer);
    }

    pub(super) fn own_barrier(&mut self, connection: usize) {
        let tag = self.tag(connection);
        self.sent(connection, Frame::Mark { tag, revision: 0 });
        self.received(connection, Frame::Mark { tag, revision: self.head });
    }

    pub(super) fn own_list(&mut self, connection: usize, prefix: &str) {
        let tag = self.tag(connection);
        self.sent(connection, Frame::List { tag, prefix: prefix.into(), after: "".into(), limit: 100 });
        for (key, state) in self.live(prefix) {
            self.received(connection, Frame::Write { tag, write: Write { key, state } });
        }
        self.received(connection, Frame::Mark { tag, revision: self.head });
    }

    /// Restores the state at a revision as another store. All connections are lost.
    pub(super) fn restore(&mut self, revision: u64) {
        let parent = self.store();
        let since = self.now();
        let id = format!("{:02x}", parent + 1);
        self.history.stores.push(Store { id, restored: Some((parent, revision)), since });
        self.head = revision;
        self.past.truncate(usize::try_from(revision).unwrap() + 1);
        self.keys = self.past.last().unwrap().clone();
        // The old connections receive nothing from the new store.
        for connection in &mut self.connections {
            connection.is_extended = true;
            connection.prefixes.clear();
        }
    }
}
