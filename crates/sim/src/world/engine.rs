//! The store of the world: the production memory engine behind a simulated disk that is slow, fills up, fails and
//! crashes.
//!
//! The engine holds exactly what was synced: a batch reaches it when its sync ends. A crash before that keeps an
//! arbitrary prefix of the batch.
//!
//! The reasons of refusals are sent to clients, so their lengths affect the timing: a reworded one
//! changes the runs of all seeds.

use super::agenda::{Agenda, Event, Time};
use super::plan::Plan;
use super::record::Record;
use super::wrong::Wrong;
use crate::Random;
use crate::frame;
use crate::history::{Commit, Write};
use bytes::Bytes;
use pollster::block_on;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use syncline_core::{ConnId, Entry, KeyPage, Operation, Outcome, Page, PageError, StoreId, Transaction};
use syncline_store::{ChangedError, MemoryStore, Store};
use syncline_wire::{Revision, Version};

/// A transaction, and the connection that waits for its outcome.
#[derive(Clone, Debug)]
pub(super) struct Submission {
    pub(super) socket: u64,
    pub(super) transaction: Transaction,
}

/// Transactions that a front gives to the engine to commit together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) front: usize,
    /// The incarnation of the front.
    pub(super) incarnation: u64,
    pub(super) submissions: Vec<Submission>,
}

/// The state of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disk {
    Fine,
    Full,
    /// A sync has failed: nothing is written until the next start.
    Failed,
}

/// A backup: the index of its store, and its revision.
struct Backup {
    store: usize,
    revision: usize,
}

pub(super) struct Engine {
    store: MemoryStore,
    id: StoreId,
    /// All committed transactions in order: the transaction at index N has revision N+1.
    lineage: Vec<Transaction>,
    /// By key: the highest version that it was ever given.
    highest: BTreeMap<Bytes, Version>,
    clock: Arc<AtomicU64>,
    /// The difference between the server's clock and the virtual time, in milliseconds.
    skew: i64,
    tombstones: Duration,
    backups: Vec<Backup>,
    /// The lineages of earlier stores, which were replaced by a restore.
    replaced: Vec<Vec<Transaction>>,
    /// The batch that is being synced, and its number.
    syncing: Option<(u64, Batch)>,
    /// The batches behind it.
    waiting: Vec<Batch>,
    batches: u64,
    pub(super) disk: Disk,
    pub(super) fails_reads: bool,
    /// The maximum duration of a sync.
    pub(super) sync: Time,
    /// The transactions of a failed sync. A crash may keep an arbitrary prefix of them.
    doubtful: Vec<Transaction>,
    /// For [`Wrong::AcknowledgedBeforeSynced`]: the length of the synced part of the lineage.
    synced: usize,
    wrong: Option<Wrong>,
}

/// The server's clock at the start of the run, in milliseconds.
const EPOCH: i64 = 1_000_000_000_000;

impl Engine {
    pub(super) fn new(plan: &Plan, random: &mut Random, record: &mut Record, wrong: Option<Wrong>) -> Self {
        let clock = Arc::new(AtomicU64::new(0));
        let id = new_id(random);
        record.store(id, None);
        Self {
            store: empty(plan.tombstones, &clock),
            id,
            lineage: Vec::new(),
            highest: BTreeMap::new(),
            clock,
            skew: 0,
            tombstones: plan.tombstones,
            backups: Vec::new(),
            replaced: Vec::new(),
            syncing: None,
            waiting: Vec::new(),
            batches: 0,
            disk: Disk::Fine,
            fails_reads: false,
            sync: plan.sync,
            doubtful: Vec::new(),
            synced: 0,
            wrong,
        }
    }

    pub(super) const fn id(&self) -> StoreId {
        self.id
    }

    pub(super) fn head(&self) -> Revision {
        self.store.head()
    }

    /// Moves the clock by a number of milliseconds.
    pub(super) const fn step_clock(&mut self, by: i64) {
        self.skew += by;
    }

    /// Accepts a batch. Its sync starts after those of all earlier batches.
    pub(super) fn submit(&mut self, batch: Batch, agenda: &mut Agenda, random: &mut Random) {
        self.waiting.push(batch);
        self.go_on(agenda, random);
    }

    /// Starts to sync the next batch, if no sync is running.
    pub(super) fn go_on(&mut self, agenda: &mut Agenda, random: &mut Random) {
        if self.syncing.is_some() || self.waiting.is_empty() {
            return;
        }
        self.batches += 1;
        self.syncing = Some((self.batches, self.waiting.remove(0)));
        agenda.after(random.spread(10, self.sync), Event::Synced { batch: self.batches });
    }

    /// Returns the batch of this number, whose sync has ended, or `None` if a crash has discarded it.
    pub(super) fn synced(&mut self, batch: u64) -> Option<Batch> {
        self.syncing.take_if(|(number, _)| *number == batch).map(|(_, batch)| batch)
    }

    /// Returns whether no batch is being synced or waiting.
    pub(super) const fn is_idle(&self) -> bool {
        self.syncing.is_none() && self.waiting.is_empty()
    }

    /// Commits the transactions of a synced batch, if the disk allows it.
    pub(super) fn commit(&mut self, transactions: Vec<Transaction>, record: &mut Record) -> Vec<Outcome> {
        let refused = |reason: &str| Outcome::Unavailable { reason: reason.into() };
        match self.disk {
            Disk::Fine => self.write(transactions, record),
            Disk::Full => transactions.iter().map(|_| refused("the disk is full")).collect(),
            Disk::Failed => transactions.iter().map(|_| refused("a sync has failed")).collect(),
        }
    }

    /// Fails the sync of a batch. Only the next start decides which of its transactions are kept.
    pub(super) fn fail(&mut self, transactions: Vec<Transaction>) -> Vec<Outcome> {
        self.disk = Disk::Failed;
        self.doubtful = transactions;
        self.doubtful.iter().map(|_| Outcome::Unknown { reason: "the sync has failed".into() }).collect()
    }

    fn write(&mut self, transactions: Vec<Transaction>, record: &mut Record) -> Vec<Outcome> {
        let now = i64::try_from(record.now() / 1000).unwrap_or(i64::MAX);
        self.clock.store(u64::try_from(EPOCH + now + self.skew).unwrap_or(0), Ordering::Relaxed);
        let repeats: Vec<_> = transactions.iter().map(|transaction| self.may_repeat(transaction)).collect();
        let asked = transactions.iter().zip(&repeats).filter(|(_, repeats)| !**repeats);
        let mut decided = self.store.commit(asked.map(|(transaction, _)| transaction.clone()).collect()).into_iter();
        let mut outcomes = Vec::with_capacity(transactions.len());
        for (transaction, repeats) in transactions.into_iter().zip(repeats) {
            let refused = || Outcome::Unavailable { reason: "the version was given to the key before".into() };
            let outcome = if repeats { refused() } else { decided.next().unwrap_or_else(refused) };
            if let Outcome::Accepted { revision } = outcome {
                record.commit(commit_of(&transaction, revision));
                self.remember(&transaction);
                self.lineage.push(transaction);
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    /// Returns whether a write may give a key the same version a second time, because its tombstone was dropped. The
    /// checkers identify writes by key and version, so such a write is refused.
    fn may_repeat(&self, transaction: &Transaction) -> bool {
        transaction.operations.iter().any(|operation| {
            let version = match operation {
                Operation::Check { .. } => return false,
                Operation::Put { version, .. } | Operation::Delete { version, .. } => version,
            };
            self.highest.get(operation.key()).is_some_and(|highest| version <= highest)
                && block_on(self.store.get(operation.key())).is_ok_and(|found| found.is_none_or(|e| e.value.is_none()))
        })
    }

    fn remember(&mut self, transaction: &Transaction) {
        for operation in &*transaction.operations {
            if let Operation::Put { key, version, .. } | Operation::Delete { key, version } = operation {
                self.highest.insert(key.clone(), *version);
            }
        }
    }

    /// Stops the engine at once. An arbitrary prefix of the batch that is being synced is kept.
    pub(super) fn crash(&mut self, random: &mut Random, record: &mut Record) {
        if self.wrong == Some(Wrong::AcknowledgedBeforeSynced) {
            record.forget_commits_after(self.synced);
            self.lineage.truncate(self.synced);
            self.rebuild(self.lineage.clone());
        }
        let mut doubtful = std::mem::take(&mut self.doubtful);
        if let Some((_, batch)) = self.syncing.take() {
            doubtful.extend(batch.submissions.into_iter().map(|submission| submission.transaction));
        }
        self.waiting.clear();
        doubtful.truncate(usize::try_from(random.between(0, doubtful.len() as u64)).unwrap_or(0));
        let mut whole = None;
        if self.wrong == Some(Wrong::TornByACrash)
            && let Some(torn) = doubtful.iter_mut().rfind(|transaction| transaction.operations.len() > 1)
        {
            whole = Some(commit_of(torn, Revision::ZERO).writes);
            torn.operations = torn.operations.iter().take(torn.operations.len() / 2).cloned().collect();
        }
        self.disk = Disk::Fine;
        if !doubtful.is_empty() {
            record.count("batches that a crash has left in part or whole", 1);
            self.write(doubtful, record);
        }
        if let Some(whole) = whole {
            record.torn(whole);
        }
    }

    /// Rebuilds the store from a lineage. Only the last write of each key is repeated, at its revision: an earlier
    /// one may have followed a deletion whose tombstone had been dropped, and would be refused now.
    fn rebuild(&mut self, lineage: Vec<Transaction>) {
        self.store = empty(self.tombstones, &self.clock);
        self.highest.clear();
        let mut last = BTreeMap::new();
        for (place, transaction) in lineage.iter().enumerate() {
            self.remember(transaction);
            last.extend(written(transaction).map(|operation| (operation.key().clone(), place)));
        }
        for (place, transaction) in lineage.iter().enumerate() {
            let operations = written(transaction).filter(|operation| last.get(operation.key()) == Some(&place));
            let thinned = Transaction { origin: None, operations: operations.cloned().collect() };
            let outcomes = self.store.commit(vec![thinned]);
            debug_assert!(matches!(outcomes[..], [Outcome::Accepted { .. }]), "{outcomes:?}");
        }
        self.lineage = lineage;
    }

    /// Makes a backup of the current state.
    pub(super) fn back_up(&mut self) {
        self.backups.push(Backup { store: self.replaced.len(), revision: self.lineage.len() });
    }

    /// Restores a backup as a new store. Returns whether there was one. The server must be stopped.
    pub(super) fn restore(&mut self, random: &mut Random, record: &mut Record) -> bool {
        let Some(Backup { store, revision }) = random.pick(&self.backups) else { return false };
        let (store, revision) = (*store, *revision);
        let of = self.replaced.get(store).unwrap_or(&self.lineage);
        let lineage = of.iter().take(revision).cloned().collect();
        self.replaced.push(std::mem::take(&mut self.lineage));
        self.rebuild(lineage);
        self.synced = self.lineage.len();
        let shown = if self.wrong == Some(Wrong::RestoredUnderTheOldId) { self.id } else { new_id(random) };
        self.id = shown;
        record.store(self.id, Some((store, revision as u64)));
        true
    }

    /// For [`Wrong::AcknowledgedBeforeSynced`]: notes that the whole lineage is synced.
    pub(super) fn note_synced(&mut self) {
        self.synced = self.lineage.len();
    }

    fn check_reads(&self) -> Result<(), Arc<str>> {
        if self.fails_reads { Err("reads fail".into()) } else { Ok(()) }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Entry>, Arc<str>> {
        self.check_reads()?;
        let entry = block_on(self.store.get(key)).map_err(|error| error.0)?;
        if self.wrong == Some(Wrong::StaleRead) {
            return Ok(self.earlier(key, entry));
        }
        Ok(entry)
    }

    /// Returns the state of a key before its last write.
    fn earlier(&self, key: &[u8], now: Option<Entry>) -> Option<Entry> {
        let writes = self.lineage.iter().enumerate().rev().filter_map(|(place, transaction)| {
            let operation = transaction.operations.iter().find(|operation| operation.key() == key)?;
            let Operation::Put { key, value, version } = operation else { return None };
            let revision = Revision::new(place as u64 + 1);
            Some(Entry { key: key.clone(), value: Some(value.clone()), version: *version, revision })
        });
        writes.take(2).nth(1).or(now)
    }

    pub(super) fn changed_since(&self, since: Revision, prefix: &[u8], max_bytes: usize) -> Result<Page, PageError> {
        self.check_reads().map_err(PageError::Unavailable)?;
        block_on(self.store.changed_since(since, prefix, max_bytes)).map_err(|error| match error {
            ChangedError::Unavailable(error) => PageError::Unavailable(error.0),
            untold => PageError::Untold(untold.to_string().into()),
        })
    }

    pub(super) fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        max_entries: NonZeroUsize,
        max_bytes: usize,
    ) -> Result<KeyPage, Arc<str>> {
        self.check_reads()?;
        block_on(self.store.list(prefix, after, max_entries, max_bytes)).map_err(|error| error.0)
    }
}

fn empty(tombstones: Duration, clock: &Arc<AtomicU64>) -> MemoryStore {
    let clock = clock.clone();
    let store = MemoryStore::with_clock(tombstones, Box::new(move || clock.load(Ordering::Relaxed)));
    #[allow(clippy::expect_used, reason = "without the system's random numbers the simulator cannot run")]
    store.expect("the system has random numbers")
}

/// Returns the writes of a transaction.
fn written(transaction: &Transaction) -> impl Iterator<Item = &Operation> {
    transaction.operations.iter().filter(|operation| !matches!(operation, Operation::Check { .. }))
}

fn new_id(random: &mut Random) -> StoreId {
    let mut id = [0; 16];
    let halves = id.split_at_mut(8);
    halves.0.copy_from_slice(&random.number().to_be_bytes());
    halves.1.copy_from_slice(&random.number().to_be_bytes());
    StoreId::new(id)
}

fn commit_of(transaction: &Transaction, revision: Revision) -> Commit {
    let writes = transaction.operations.iter().filter_map(|operation| -> Option<Write> {
        match operation {
            Operation::Check { .. } => None,
            Operation::Put { key, value, version } => Some(frame::write(key, Some(value), *version)),
            Operation::Delete { key, version } => Some(frame::write(key, None, *version)),
        }
    });
    Commit { store: 0, revision: revision.get(), writes: writes.collect(), at: Default::default() }
}

/// Returns a transaction with another origin: a front sees the transactions of other fronts without one.
pub(super) fn of_another(transaction: &Transaction, origin: Option<ConnId>) -> Transaction {
    Transaction { origin, operations: transaction.operations.clone() }
}
