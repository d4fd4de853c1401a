//! What is done to a store: a writer that chooses what to write, and a workload of writes, maintenance and reopening that
//! checks every answer on its way.

use super::faulty::{Disk, Faulty, Hook, Kind, Operation as Change};
use super::history::{self, History, KEYS, Model};
use super::{Clock, Db, Random, open_at};
use crate::disk::boot::Boot;
use crate::disk::{Durability, maintenance, record};
use crate::{OpenError, Store};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use syncline_core::{Operation, Outcome, StoreId, Transaction};
use syncline_wire::Version;

/// A batch is one record: so many bytes of transactions fit a segment.
const MOST: usize = 4000;

/// Chooses what to write. Every value that it writes is another.
pub(super) struct Writer {
    pub(super) random: Random,
    pub(super) clock: Clock,
    written: u64,
}

impl Writer {
    pub(super) fn new(seed: u64) -> Self {
        let clock = Clock::default();
        clock.set(1_000_000);
        Self { random: Random::new(seed), clock, written: 0 }
    }

    /// The clock goes on, mostly; it may jump ahead, and back.
    pub(super) fn pass_time(&mut self) {
        let now = self.clock.get();
        self.clock.set(match self.random.below(10) {
            0 => now.saturating_add(10_000),
            1 => now.saturating_sub(5_000),
            _ => now.saturating_add(1),
        });
    }

    /// A batch of transactions: mostly few, mostly at the version that fits.
    pub(super) fn batch(&mut self, model: &Model) -> Vec<Transaction> {
        let transactions = [1, 1, 1, 2, 3, 8, 20][self.random.below(7)];
        let mut after = model.clone();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for _ in 0..transactions {
            let transaction = self.transaction(&after);
            after.decide(std::slice::from_ref(&transaction), 0);
            bytes += record::length(&transaction);
            if bytes > MOST && !batch.is_empty() {
                break;
            }
            batch.push(transaction);
        }
        batch
    }

    fn transaction(&mut self, model: &Model) -> Transaction {
        let mut keys: BTreeSet<_> = BTreeSet::new();
        for _ in 0..[1, 1, 1, 2, 4][self.random.below(5)] {
            keys.insert(history::keys().nth(self.random.below(KEYS)).unwrap());
        }
        Transaction { origin: None, operations: keys.into_iter().map(|key| self.operation(model, key)).collect() }
    }

    fn operation(&mut self, model: &Model, key: Bytes) -> Operation {
        let current = model.keys.get(&key).map_or(0, |state| state.version);
        let skew = if self.random.percent(5) { self.random.below(3) as u64 } else { 1 };
        let version = Version::new(current + skew);
        match self.random.below(10) {
            0 => Operation::Check { key, version: Version::new(current + skew - u64::from(skew == 1)) },
            1 | 2 => Operation::Delete { key, version },
            _ => {
                let length = match self.random.below(20) {
                    0 => 300 + self.random.below(400),
                    1..=4 => self.random.below(200),
                    _ => 0,
                };
                self.written += 1;
                let mut value = self.written.to_string().into_bytes();
                value.resize(value.len() + length, b'.');
                Operation::Put { key, value: value.into(), version }
            }
        }
    }
}

/// One step of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Write,
    Spare,
    Checkpoint,
    CheckpointIfDue,
    Watermark,
    /// All that maintenance does by itself.
    Maintain,
    /// Forgets the tombstones of so long ago.
    Forget(u64),
    Close,
    Kill,
    PowerCut(u64),
}

impl Step {
    /// Mostly a write.
    pub(super) fn choose(random: &mut Random) -> Self {
        match random.below(40) {
            0..=2 => Self::Spare,
            3 if random.percent(50) => Self::Watermark,
            3 | 13..=14 => Self::Maintain,
            4..=5 => Self::Checkpoint,
            6..=8 => Self::CheckpointIfDue,
            9..=10 => Self::Forget(random.below(5_000) as u64),
            11 => Self::Close,
            12 => Self::Kill,
            _ => Self::Write,
        }
    }
}

/// How far a workload has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// The last revision that was acknowledged.
    pub(super) acknowledged: u64,
    /// The last that the writes would have which are under way.
    pub(super) under_way: u64,
    /// The last that is known to be synced.
    pub(super) synced: u64,
    /// Tombstones of before this time may be forgotten.
    pub(super) forgotten: u64,
    /// What clients have seen.
    pub(super) told: Option<Told>,
}

/// What clients of a store have seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// What the store's id is.
    pub(super) id: StoreId,
    /// Up to which revision they have seen it.
    pub(super) seen: u64,
    /// In which start of the machine; of none where a sync has failed since.
    pub(super) boot: Boot,
}

/// A disk as it was after a change, and how far the workload had come.
pub(super) struct Snapshot {
    pub(super) disk: Disk,
    pub(super) change: Change,
    pub(super) progress: Progress,
}

/// A store, and what it must show.
pub(super) struct Workload {
    pub(super) files: Faulty,
    /// None between two steps only after it could not be opened.
    pub(super) store: Option<Db>,
    pub(super) durability: Durability,
    pub(super) writer: Writer,
    /// What the store must show now.
    pub(super) live: Model,
    pub(super) history: History,
    /// Batches with an unknown outcome: none of them is part of the history, or one.
    pub(super) unknown: Vec<Vec<(Transaction, u64)>>,
    pub(super) progress: Arc<Mutex<Progress>>,
    pub(super) hook: Option<Hook>,
}

impl Workload {
    /// A store that is not open yet.
    pub(super) fn new(files: Faulty, durability: Durability, seed: u64) -> Self {
        let (writer, history) = (Writer::new(seed), History::new());
        let (live, progress) = (Model::default(), Arc::default());
        Self { files, store: None, durability, writer, live, history, unknown: Vec::new(), progress, hook: None }
    }

    /// A store on what is left of another.
    pub(super) fn over(files: Faulty, of: &Self, seed: u64) -> Self {
        let next = Self::new(files, of.durability, seed);
        *next.progress.lock() = *of.progress.lock();
        Self { history: of.history.clone(), unknown: of.unknown.clone(), ..next }
    }

    /// Keeps the disk as it is after each change from now on.
    pub(super) fn record(&mut self) -> Arc<Mutex<Vec<Snapshot>>> {
        let snapshots: Arc<Mutex<Vec<Snapshot>>> = Arc::default();
        let (of_hook, progress) = (snapshots.clone(), self.progress.clone());
        let hook: Hook = Arc::new(move |disk, change| {
            let mut progress = progress.lock();
            if change.kind == Kind::Sync && crate::disk::names::segment_number(&change.name).is_some() {
                // Of the log, only its end is ever synced, after all before it.
                progress.synced = progress.acknowledged;
            }
            of_hook.lock().push(Snapshot { disk: disk.clone(), change: change.clone(), progress: *progress });
        });
        self.files.after_each_change(hook.clone());
        self.hook = Some(hook);
        snapshots
    }

    /// Opens the store, and checks that it shows a state of the history; between which revisions, the caller says.
    pub(super) fn open(&mut self, revisions: RangeInclusive<u64>) -> Result<(), String> {
        // Where a test has something fail, it is tried again; in the end, on another disk.
        for attempt in 0.. {
            let failed = self.files.failed();
            match open_at(&self.files, self.durability, &self.writer.clock) {
                Ok(store) => return self.take(store, revisions),
                Err(OpenError::Io { .. }) if self.files.failed() > failed => {}
                Err(error) => return Err(error.to_string()),
            }
            if attempt == 20 {
                self.files.fail([]);
            }
        }
        Ok(())
    }

    fn take(&mut self, store: Db, revisions: RangeInclusive<u64>) -> Result<(), String> {
        let head = store.head().get();
        if !revisions.contains(&head) {
            return Err(format!("the head is {head}, expected {revisions:?}"));
        }
        let mut perhaps: Vec<_> = vec![self.history.clone()];
        for batch in std::mem::take(&mut self.unknown) {
            let mut history = self.history.clone();
            batch.iter().for_each(|(transaction, time)| history.push(transaction, *time));
            perhaps.push(history);
        }
        let forgotten = self.progress.lock().forgotten;
        let mut agree = perhaps.into_iter().map(|history| {
            history.at(head)?.agrees(&store, forgotten)?;
            Ok(history)
        });
        let first: Result<History, String> = agree.next().unwrap_or_else(|| Err(String::new()));
        self.history = first.or_else(|error| agree.find_map(Result::ok).ok_or(error))?;
        let state = self.history.at(head)?.clone();
        let latest = state.keys.values().filter(|state| state.value.is_none()).map(|state| state.time).max();
        let time = store.shared.commit_state.lock().time.now();
        if latest.is_some_and(|latest| time < latest) {
            return Err(format!("the time went back from {latest:?} to {time}"));
        }
        // What had been forgotten may be back, and what was not may be forgotten.
        self.live = Model::of(&store, &state);
        self.history.goes_on_from(state);
        let mut progress = self.progress.lock();
        (progress.acknowledged, progress.under_way) = (head, head);
        let told = Told { id: store.id(), seen: head, boot: self.files.boot() };
        if let Some(before) = progress.told.replace(told) {
            judge_id(self.durability, before, told)?;
        }
        drop(progress);
        self.store = Some(store);
        Ok(())
    }

    /// Does a step.
    pub(super) fn step(&mut self, step: Step) -> Result<(), String> {
        let shared = self.store.as_ref().unwrap().shared.clone();
        let done = match step {
            Step::Write => return self.write(),
            Step::Close => {
                self.store = None;
                if shared.health.has_failed()
                    && let Some(told) = &mut self.progress.lock().told
                {
                    told.boot = Boot::UNKNOWN;
                }
                drop(shared);
                return self.reopen(self.files.kill());
            }
            Step::Kill => return self.reopen(self.files.kill()),
            Step::PowerCut(seed) => {
                let left = self.files.disk().power_cut(seed);
                if self.durability == Durability::Fsync {
                    return self.reopen(left);
                }
                let synced = shared.commit_state.lock().synced.get();
                // What it does when it goes is too late.
                (self.store, self.files) = (None, left);
                return self.open(synced..=self.live.head);
            }
            Step::Spare => maintenance::spare(&shared),
            Step::Checkpoint => maintenance::take_checkpoint(&shared),
            Step::Watermark => maintenance::write_watermark(&shared),
            Step::Maintain => maintenance::attempt(&shared),
            Step::CheckpointIfDue => maintenance::checkpoint_if_due(&shared),
            Step::Forget(ago) => {
                let before = self.writer.clock.get().saturating_sub(ago);
                let mut progress = self.progress.lock();
                progress.forgotten = progress.forgotten.max(before);
                drop(progress);
                maintenance::forget(&shared, before);
                self.live.forget(before);
                Ok(())
            }
        };
        // Only where a test has it fail; what follows from it is checked by everything else.
        drop(done);
        self.agrees()
    }

    /// Opens the store on what is left of the files, of which nothing acknowledged is missing.
    pub(super) fn reopen(&mut self, left: Faulty) -> Result<(), String> {
        // What it does when it goes is too late.
        self.store = None;
        self.files = left;
        if let Some(hook) = &self.hook {
            self.files.after_each_change(hook.clone());
        }
        self.open(self.live.head..=u64::MAX)
    }

    /// Writes a batch, and checks each answer against the rule.
    pub(super) fn write(&mut self) -> Result<(), String> {
        self.writer.pass_time();
        let batch = self.writer.batch(&self.live);
        let store = self.store.as_ref().unwrap();
        let time = store.shared.commit_state.lock().time.now();
        let mut expected = self.live.clone();
        expected.decide(&batch, time);
        self.progress.lock().under_way = expected.head;
        let had_failed = store.accepts_writes().is_err();
        let failed = self.files.failed();
        let outcomes = store.commit(batch.clone());
        let fails = self.files.failed() > failed;
        // With what is unknown.
        let mut perhaps = self.live.clone();
        let mut unknown = Vec::new();
        for (transaction, outcome) in batch.iter().zip(&outcomes) {
            let decided_on = if matches!(outcome, Outcome::Unknown { .. }) { &perhaps } else { &self.live };
            let verdict = transaction.check(|key| decided_on.keys.get(key).map(|state| Version::new(state.version)));
            match (outcome, verdict) {
                (Outcome::Accepted { revision }, Ok(())) if revision.get() == self.live.head + 1 => {
                    self.live.apply(transaction, time);
                    self.history.push(transaction, time);
                    // It has taken the place of what was unknown.
                    self.unknown.clear();
                }
                (Outcome::Stale { operation, at }, Err(at_fault))
                    if *operation == at_fault && at.get() <= self.live.head => {}
                (Outcome::Unavailable { .. }, _) if fails || had_failed => {}
                (Outcome::Unknown { .. }, Ok(())) if fails => {
                    perhaps.apply(transaction, time);
                    unknown.push((transaction.clone(), time));
                }
                (outcome, verdict) => return Err(format!("{transaction:?}: {outcome:?}, expected {verdict:?}")),
            }
        }
        if outcomes.len() != batch.len() {
            return Err(format!("{} outcomes of {} transactions", outcomes.len(), batch.len()));
        }
        self.unknown.extend(Some(unknown).filter(|unknown| !unknown.is_empty()));
        let mut progress = self.progress.lock();
        (progress.acknowledged, progress.under_way) = (self.live.head, self.live.head);
        if let Some(told) = &mut progress.told {
            told.seen = self.live.head;
        }
        drop(progress);
        self.agrees()
    }

    /// Whether the store shows just what it must.
    pub(super) fn agrees(&self) -> Result<(), String> {
        self.live.agrees(self.store.as_ref().unwrap(), 0)
    }
}

/// Whether a store has the id that it must have: another where revisions are gone that were seen, the same where none can be.
fn judge_id(durability: Durability, before: Told, now: Told) -> Result<(), String> {
    let is_same = now.id == before.id;
    let must_be_same = durability == Durability::Fsync || now.boot.is_still(before.boot);
    if is_same && now.seen < before.seen {
        return Err(format!("revision {} was seen under the id of a store whose head is {}", before.seen, now.seen));
    }
    if must_be_same && !is_same {
        return Err("the store has got another id, though nothing can be missing".into());
    }
    Ok(())
}
