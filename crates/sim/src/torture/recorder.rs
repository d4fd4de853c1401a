//! What is seen of a round, put down as it happens.
//!
//! Clients, proxy and nemesis run side by side; every moment comes from here, one after the other, so that what is put down
//! is in one order.

use crate::check::{self, Report};
use crate::frame;
use crate::history::{
    Asked, History, Key, Moment, Operation, Outcome, Sight, Stamp, State, Step, Store, Transcript, Write,
};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use syncline_client::{Position, Snapshot};
use syncline_core::StoreId;

/// Notes that a history keeps; more are left out.
const MAX_NOTES: usize = 10_000;

/// What went wrong beside the promises: more says nothing new.
const MAX_FINDINGS: usize = 20;

/// Puts down what is seen of a round.
#[derive(Debug)]
pub(super) struct Recorder {
    begun: Instant,
    stamps: AtomicU64,
    connections: AtomicU64,
    clients: AtomicU64,
    records: Mutex<Records>,
}

#[derive(Debug, Default)]
struct Records {
    order: u64,
    history: History,
    /// Of each store, when it was known to be served no more.
    ended: Vec<Option<Moment>>,
    /// Of each key, the highest version that anybody has tried to give it.
    versions: BTreeMap<Key, u64>,
    findings: Vec<String>,
}

impl Recorder {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            stamps: AtomicU64::new(1),
            connections: AtomicU64::new(1),
            clients: AtomicU64::new(1),
            records: Mutex::default(),
        })
    }

    /// The next moment, at which nothing else is put down: what is looked at in there was so just then.
    fn with_moment<R>(&self, record: impl FnOnce(&mut Records, Moment) -> R) -> R {
        let mut records = self.records.lock();
        records.order += 1;
        let micros = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let at = Moment { order: records.order, micros };
        record(&mut records, at)
    }

    pub(super) fn now(&self) -> Moment {
        self.with_moment(|_, at| at)
    }

    /// A number for a value, which no other has.
    pub(super) fn next_stamp(&self) -> Stamp {
        Stamp(self.stamps.fetch_add(1, Ordering::Relaxed))
    }

    /// A number for a connection, which no other has.
    pub(super) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// A number for a client, which no other has.
    pub(super) fn next_client(&self) -> u64 {
        self.clients.fetch_add(1, Ordering::Relaxed)
    }

    /// The version to write a key with that was found at `current`; of one of which nothing is known, one that nobody has
    /// tried yet. Others are told to stay above it.
    pub(super) fn next_version(&self, key: &str, current: Option<u64>) -> u64 {
        let mut records = self.records.lock();
        let highest = records.versions.entry(key.into()).or_default();
        let next = current.unwrap_or(*highest) + 1;
        *highest = (*highest).max(next);
        next
    }

    /// Somebody asks something. What comes of it is put down when that is known.
    pub(super) fn begin(self: &Arc<Self>, client: u64, asked: Asked) -> PendingOperation {
        PendingOperation { recorder: self.clone(), client, asked_at: self.now(), asked: Some(asked) }
    }

    /// What a replica shows now.
    pub(super) fn record_replica(&self, client: u64, prefix: &str, look: impl FnOnce() -> Snapshot) -> Option<Sight> {
        self.with_moment(|records, at| {
            let snapshot = look();
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

    /// What a cursor has told.
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

    /// What went over a connection that is over.
    pub(super) fn add_transcript(&self, mut transcript: Transcript) {
        // Each way puts down its own, a little late.
        transcript.frames.sort_by_key(|(at, ..)| at.order);
        self.with_moment(|records, _| records.history.transcripts.push(transcript));
    }

    /// A server of this store is about to be started. The store may be one that is known.
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

    /// The store is served no more, and never will be again.
    pub(super) fn retire_store(&self, store: usize) {
        self.with_moment(|records, at| records.ended.get_mut(store).map(|ended| *ended = Some(at)));
    }

    /// Something has happened so many times.
    pub(super) fn count(&self, name: &str, times: u64) {
        self.records.lock().history.count(name, times);
    }

    /// How much there is of something that has a bound.
    pub(super) fn gauge(&self, name: &str, found: u64, bound: u64) {
        self.with_moment(|records, at| records.history.gauge(name, at, found, bound));
    }

    /// Something that is worth knowing for people.
    pub(super) fn note(&self, text: impl Into<String>) {
        self.with_moment(|records, at| {
            if records.history.notes.len() < MAX_NOTES {
                records.history.notes.push((at, text.into()));
            }
        });
    }

    /// Something that must not be, beside the promises.
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

    /// How often something has happened.
    pub(super) fn count_of(&self, name: &str) -> u64 {
        self.records.lock().history.counts.get(name).copied().unwrap_or(0)
    }

    /// Takes all that was put down, and checks it.
    pub(super) fn check(&self) -> (History, Vec<Report>) {
        let history = std::mem::take(&mut self.records.lock().history);
        let reports = check::check(&history);
        (history, reports)
    }
}

impl Records {
    /// The place of a store; one that nobody has served is a finding.
    fn store(&mut self, id: StoreId) -> Option<usize> {
        let id = id.to_string();
        let found = self.history.stores.iter().position(|store| store.id == id);
        if found.is_none() && self.findings.len() < MAX_FINDINGS {
            self.findings.push(format!("expected a store that was served, found {id}"));
        }
        found
    }

    /// The store that was served during the whole of this time, and no other.
    fn served(&self, asked: Moment, ended: Moment) -> Option<usize> {
        let stores = self.history.stores.iter().enumerate();
        let mut candidates = stores.filter(|(place, store)| {
            let is_over = self.ended.get(*place).copied().flatten().is_some_and(|over| over < asked);
            store.since < ended && !is_over
        });
        let first = candidates.next().map(|(place, _)| place);
        first.filter(|_| candidates.next().is_none())
    }
}

/// Something that was asked. Where nobody says what came of it, that is not known.
#[derive(Debug)]
pub(super) struct PendingOperation {
    recorder: Arc<Recorder>,
    client: u64,
    asked_at: Moment,
    asked: Option<Asked>,
}

impl PendingOperation {
    /// This came of it.
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

const fn name(asked: &Asked) -> &'static str {
    match asked {
        Asked::Get { .. } => "asked: GET",
        Asked::Write(Write { state: State { value: Some(_), .. }, .. }) => "asked: PUT",
        Asked::Write(_) => "asked: DELETE",
        Asked::Txn { .. } => "asked: TXN",
        Asked::List { .. } => "asked: LIST",
        Asked::Barrier => "asked: barrier",
    }
}

const fn result(asked: &Asked, outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Found(_) | Outcome::NotFound { .. } | Outcome::Listed { .. } | Outcome::Passed { .. } => {
            "answered reads"
        }
        Outcome::Written | Outcome::Committed { .. } => "accepted writes",
        Outcome::Stale { .. } => "stale",
        Outcome::Refused => "refused",
        Outcome::Unknown if matches!(asked, Asked::Write(_) | Asked::Txn { .. }) => "writes of unknown fate",
        Outcome::Unknown => "reads given up",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_of_a_store_only_where_no_other_was_served_meanwhile() {
        let recorder = Recorder::new();
        let ask = || recorder.begin(1, Asked::Barrier);
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
        // It was asked when the first was gone, and answered when the second was not there yet.
        let stores = [Some(0), None, None, Some(1), Some(1)];
        let (history, _) = recorder.check();
        assert_eq!(history.operations.iter().map(|operation| operation.store).collect::<Vec<_>>(), stores);
    }

    #[test]
    fn what_nobody_has_answered_is_unknown() {
        let recorder = Recorder::new();
        drop(recorder.begin(1, Asked::Barrier));
        let (history, _) = recorder.check();
        assert_eq!(history.operations[0].outcome, Outcome::Unknown);
    }

    #[test]
    fn of_a_key_of_which_nothing_is_known_a_version_is_taken_that_nobody_has_tried() {
        let recorder = Recorder::new();
        assert_eq!((recorder.next_version("a", None), recorder.next_version("a", Some(8))), (1, 9));
        assert_eq!((recorder.next_version("a", Some(3)), recorder.next_version("a", None)), (4, 10));
        assert_eq!(recorder.next_version("b", None), 1);
    }
}
