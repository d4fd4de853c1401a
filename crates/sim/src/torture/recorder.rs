//! Records everything that is observed during a round.
//!
//! Clients, proxy and nemesis run concurrently. The recorder assigns every moment, so that all records have one order.

use crate::check::{self, Report};
use crate::frame;
use crate::history::{
    History, Incident, Invocation, Key, Moment, Operation, Outcome, Sight, Stamp, State, Step, Store, Transcript, Write,
};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use syncline_client::{Position, Snapshot};
use syncline_core::StoreId;

/// The maximum number of notes in a history. More are dropped.
const MAX_NOTES: usize = 10_000;

/// The maximum number of findings besides violated promises. More are dropped.
const MAX_FINDINGS: usize = 20;

/// Records what is observed during a round.
#[derive(Debug)]
pub(super) struct Recorder {
    started: Instant,
    stamps: AtomicU64,
    connections: AtomicU64,
    clients: AtomicU64,
    records: Mutex<Records>,
}

#[derive(Debug, Default)]
struct Records {
    order: u64,
    history: History,
    /// For each store, the moment from which it is no longer served.
    ended: Vec<Option<Moment>>,
    /// For each key, the highest version of any attempted write.
    versions: BTreeMap<Key, u64>,
    findings: Vec<String>,
    /// What the machine does not allow, and why.
    skipped: BTreeMap<String, String>,
}

impl Recorder {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            stamps: AtomicU64::new(1),
            connections: AtomicU64::new(1),
            clients: AtomicU64::new(1),
            records: Mutex::default(),
        })
    }

    /// Calls a function with the next moment, and makes no other record meanwhile. What the function observes belongs
    /// to that moment.
    fn with_moment<R>(&self, record: impl FnOnce(&mut Records, Moment) -> R) -> R {
        let mut records = self.records.lock();
        records.order += 1;
        let micros = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let at = Moment { order: records.order, micros };
        record(&mut records, at)
    }

    /// Returns the next moment.
    pub(super) fn now(&self) -> Moment {
        self.with_moment(|_, at| at)
    }

    /// Returns a unique stamp for a value.
    pub(super) fn next_stamp(&self) -> Stamp {
        Stamp(self.stamps.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns a unique number for a connection.
    pub(super) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns a unique number for a client.
    pub(super) fn next_client(&self) -> u64 {
        self.clients.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns the version for the next write to a key whose version is `current`. If that is unknown, returns a
    /// version above all attempted ones.
    pub(super) fn next_version(&self, key: &str, current: Option<u64>) -> u64 {
        let mut records = self.records.lock();
        let highest = records.versions.entry(key.into()).or_default();
        let next = current.unwrap_or(*highest) + 1;
        *highest = (*highest).max(next);
        next
    }

    /// Records the start of an operation. The operation is recorded as a whole when it is finished or dropped.
    pub(super) fn begin(self: &Arc<Self>, client: u64, asked: Invocation) -> PendingOperation {
        PendingOperation { recorder: self.clone(), client, asked_at: self.now(), asked: Some(asked) }
    }

    /// Records what a replica shows now.
    pub(super) fn record_replica(
        &self,
        client: u64,
        prefix: &str,
        take_snapshot: impl FnOnce() -> Snapshot,
    ) -> Option<Sight> {
        self.with_moment(|records, at| {
            let snapshot = take_snapshot();
            let Position { store, revision } = snapshot.position()?;
            let store = records.store(store?)?;
            let state = |(key, now): (&bytes::Bytes, &syncline_client::Versioned)| {
                let write = frame::write(key, Some(&now.value), now.version);
                (write.key, write.state)
            };
            let keys = snapshot.iter().map(state).collect();
            let (revision, is_current) = (revision.get(), snapshot.is_current());
            let sight = Sight { client, at, prefix: prefix.into(), store, revision, is_current, keys };
            records.history.sights.push(sight.clone());
            Some(sight)
        })
    }

    /// Records a step of a cursor.
    pub(super) fn record_step(&self, client: u64, prefix: &str, step: &syncline_client::Step) {
        self.with_moment(|records, at| {
            let Some(store) = step.at.store.and_then(|id| records.store(id)) else { return };
            let changes = step.changes.iter();
            let changes =
                changes.map(|change| frame::write(&change.key, change.value.as_ref(), change.version)).collect();
            let (revision, is_reset) = (step.at.revision.get(), step.is_reset);
            records.history.steps.push(Step { client, at, prefix: prefix.into(), store, revision, is_reset, changes });
        });
    }

    /// Records the transcript of a closed connection.
    pub(super) fn add_transcript(&self, mut transcript: Transcript) {
        // The two directions are recorded by different tasks, so frames may be out of order.
        transcript.frames.sort_by_key(|(at, ..)| at.order);
        self.with_moment(|records, _| records.history.transcripts.push(transcript));
    }

    /// Returns the index of a store, and registers it if it is new.
    pub(super) fn register_store(&self, id: &str, since: Moment, restored: Option<(usize, u64)>) -> usize {
        self.with_moment(|records, _| {
            if let Some(known) = records.history.stores.iter().position(|store| store.id == id) {
                return known;
            }
            records.history.stores.push(Store { id: id.to_owned(), restored, since });
            records.ended.push(None);
            records.history.stores.len() - 1
        })
    }

    /// Records that a store is never served again.
    pub(super) fn retire_store(&self, store: usize) {
        self.with_moment(|records, at| records.ended.get_mut(store).map(|ended| *ended = Some(at)));
    }

    /// Adds to a count.
    pub(super) fn count(&self, name: &str, times: u64) {
        self.records.lock().history.count(name, times);
    }

    /// Records the current value of a bounded quantity.
    pub(super) fn gauge(&self, name: &str, found: u64, bound: u64) {
        self.with_moment(|records, at| records.history.gauge(name, at, found, bound));
    }

    /// Records a note for human readers.
    pub(super) fn note(&self, text: impl Into<String>) {
        self.with_moment(|records, at| {
            if records.history.notes.len() < MAX_NOTES {
                records.history.notes.push((at, text.into()));
            }
        });
    }

    /// Records what the server said about itself during a trouble.
    pub(super) fn add_incident(&self, incident: Incident) {
        self.with_moment(|records, _| records.history.incidents.push(incident));
    }

    /// Records that the machine does not allow something.
    pub(super) fn skip(&self, what: &str, why: impl Into<String>) {
        let why = why.into();
        self.note(format!("skipped: {what}: {why}"));
        self.records.lock().skipped.insert(what.to_owned(), why);
    }

    /// Returns what the machine does not allow, and why.
    pub(super) fn skipped(&self) -> BTreeMap<String, String> {
        self.records.lock().skipped.clone()
    }

    /// Records a failure other than a violated promise.
    pub(super) fn add_finding(&self, text: impl Into<String>) {
        let text = text.into();
        self.note(format!("FOUND {text}"));
        let mut records = self.records.lock();
        if records.findings.len() < MAX_FINDINGS {
            records.findings.push(text);
        }
    }

    pub(super) fn findings(&self) -> Vec<String> {
        self.records.lock().findings.clone()
    }

    /// Returns the value of a count.
    pub(super) fn count_of(&self, name: &str) -> u64 {
        self.records.lock().history.counts.get(name).copied().unwrap_or(0)
    }

    /// Takes the recorded history, and checks it.
    pub(super) fn check(&self) -> (History, Vec<Report>) {
        let history = std::mem::take(&mut self.records.lock().history);
        let reports = check::check(&history);
        (history, reports)
    }
}

impl Records {
    /// Returns the index of a store. An unknown store is a finding.
    fn store(&mut self, id: StoreId) -> Option<usize> {
        let id = id.to_string();
        let found = self.history.stores.iter().position(|store| store.id == id);
        if found.is_none() && self.findings.len() < MAX_FINDINGS {
            self.findings.push(format!("expected the id of a served store, found {id}"));
        }
        found
    }

    /// Returns the store that was served during a period, if only one store can have been.
    fn served(&self, asked: Moment, ended: Moment) -> Option<usize> {
        let stores = self.history.stores.iter().enumerate();
        let mut candidates = stores.filter(|(index, store)| {
            let is_retired = self.ended.get(*index).copied().flatten().is_some_and(|retired| retired < asked);
            store.since < ended && !is_retired
        });
        let first = candidates.next().map(|(index, _)| index);
        first.filter(|_| candidates.next().is_none())
    }
}

/// An operation in progress. If it is dropped before it is finished, its outcome is unknown.
#[derive(Debug)]
pub(super) struct PendingOperation {
    recorder: Arc<Recorder>,
    client: u64,
    asked_at: Moment,
    asked: Option<Invocation>,
}

impl PendingOperation {
    /// Records the operation with its outcome.
    pub(super) fn finish(mut self, outcome: Outcome) {
        self.record(outcome);
    }

    fn record(&mut self, outcome: Outcome) {
        let Some(asked) = self.asked.take() else { return };
        self.recorder.with_moment(|records, ended_at| {
            records.history.count(name(&asked), 1);
            records.history.count(result(&asked, &outcome), 1);
            let store = records.served(self.asked_at, ended_at);
            let (client, asked_at) = (self.client, self.asked_at);
            records.history.operations.push(Operation { client, store, asked_at, asked, ended_at, outcome });
        });
    }
}

impl Drop for PendingOperation {
    fn drop(&mut self) {
        self.record(Outcome::Unknown);
    }
}

const fn name(asked: &Invocation) -> &'static str {
    match asked {
        Invocation::Get { .. } => "requests: GET",
        Invocation::Write(Write { state: State { value: Some(_), .. }, .. }) => "requests: PUT",
        Invocation::Write(_) => "requests: DELETE",
        Invocation::Txn { .. } => "requests: TXN",
        Invocation::List { .. } => "requests: LIST",
        Invocation::Barrier => "requests: barrier",
    }
}

const fn result(asked: &Invocation, outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Found(_) | Outcome::NotFound { .. } | Outcome::Listed { .. } | Outcome::Passed { .. } => {
            "successful reads"
        }
        Outcome::Written | Outcome::Committed { .. } => "accepted writes",
        Outcome::Stale { .. } => "stale",
        Outcome::Refused => "refused",
        Outcome::Unknown if matches!(asked, Invocation::Write(_) | Invocation::Txn { .. }) => {
            "writes with unknown outcome"
        }
        Outcome::Unknown => "abandoned reads",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_has_a_store_only_if_no_other_was_served_meanwhile() {
        let recorder = Recorder::new();
        let ask = || recorder.begin(1, Invocation::Barrier);
        assert_eq!(recorder.register_store("a", recorder.now(), None), 0);
        let (before, across) = (ask(), ask());
        before.finish(Outcome::Refused);
        recorder.retire_store(0);
        let (between, waits) = (ask(), ask());
        between.finish(Outcome::Refused);
        assert_eq!(recorder.register_store("b", recorder.now(), Some((0, 3))), 1);
        across.finish(Outcome::Refused);
        waits.finish(Outcome::Refused);
        ask().finish(Outcome::Refused);
        // The third operation began after the first store was retired, and ended before the second was registered.
        let stores = [Some(0), None, None, Some(1), Some(1)];
        let (history, _) = recorder.check();
        assert_eq!(history.operations.iter().map(|operation| operation.store).collect::<Vec<_>>(), stores);
    }

    #[test]
    fn a_dropped_operation_has_an_unknown_outcome() {
        let recorder = Recorder::new();
        drop(recorder.begin(1, Invocation::Barrier));
        let (history, _) = recorder.check();
        assert_eq!(history.operations[0].outcome, Outcome::Unknown);
    }

    #[test]
    fn a_key_of_unknown_version_gets_a_version_that_was_never_tried() {
        let recorder = Recorder::new();
        assert_eq!((recorder.next_version("a", None), recorder.next_version("a", Some(8))), (1, 9));
        assert_eq!((recorder.next_version("a", Some(3)), recorder.next_version("a", None)), (4, 10));
        assert_eq!(recorder.next_version("b", None), 1);
    }
}
