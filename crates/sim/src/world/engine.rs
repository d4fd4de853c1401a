//! The store of the world: the production engine in memory, behind a disk that takes its time, fills up, fails and crashes.
//!
//! What the engine holds is what is on the disk and was synced: a batch reaches it when its sync ends. A crash before that
//! leaves any beginning of the batch.

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

/// A transaction, and which connection wants to know what became of it.
#[derive(Clone, Debug)]
pub(super) struct Submission {
    pub(super) socket: u64,
    pub(super) transaction: Transaction,
}

/// What a front gives the engine to commit together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) front: usize,
    /// Of which of its lives.
    pub(super) incarnation: u64,
    pub(super) submissions: Vec<Submission>,
}

/// What is wrong with the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disk {
    Fine,
    Full,
    /// A sync has failed: until the next start nothing is written.
    Failed,
}

/// What is known of a store that was restored from elsewhere.
struct Backup {
    store: usize,
    revision: usize,
}

pub(super) struct Engine {
    store: MemoryStore,
    id: StoreId,
    /// What was committed, in order: the transaction at place N has revision N+1.
    lineage: Vec<Transaction>,
    /// The highest version that a key was ever given.
    highest: BTreeMap<Bytes, Version>,
    clock: Arc<AtomicU64>,
    /// How far the clock is from the time: milliseconds.
    skew: i64,
    tombstones: Duration,
    backups: Vec<Backup>,
    /// The lineages of stores that were replaced.
    former: Vec<Vec<Transaction>>,
    /// What is being synced, and the number of that batch.
    syncing: Option<(u64, Batch)>,
    /// Those who wait for that.
    waiting: Vec<Batch>,
    batches: u64,
    pub(super) disk: Disk,
    pub(super) fails_reads: bool,
    /// The longest sync.
    pub(super) sync: Time,
    /// A beginning of these may be on the disk, for their sync has failed.
    doubtful: Vec<Transaction>,
    /// Of the wrong variant that answers before it syncs: how much of the lineage was synced.
    synced: usize,
    wrong: Option<Wrong>,
}

/// Milliseconds of the server's clock when the run begins.
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
            former: Vec::new(),
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

    /// The clock jumps by so many milliseconds.
    pub(super) const fn step_clock(&mut self, by: i64) {
        self.skew += by;
    }

    /// Takes a batch, now or when those before it are done.
    pub(super) fn submit(&mut self, batch: Batch, agenda: &mut Agenda, random: &mut Random) {
        self.waiting.push(batch);
        self.go_on(agenda, random);
    }

    /// Begins to sync what waits.
    pub(super) fn go_on(&mut self, agenda: &mut Agenda, random: &mut Random) {
        if self.syncing.is_some() || self.waiting.is_empty() {
            return;
        }
        self.batches += 1;
        self.syncing = Some((self.batches, self.waiting.remove(0)));
        agenda.after(random.spread(10, self.sync), Event::Synced { batch: self.batches });
    }

    /// The batch of this number, whose sync has ended; none where that was over before.
    pub(super) fn synced(&mut self, batch: u64) -> Option<Batch> {
        self.syncing.take_if(|(number, _)| *number == batch).map(|(_, batch)| batch)
    }

    /// Whether something is being synced, or waits for that.
    pub(super) const fn is_idle(&self) -> bool {
        self.syncing.is_none() && self.waiting.is_empty()
    }

    /// The batch reaches the disk, as far as that is well.
    pub(super) fn commit(&mut self, transactions: Vec<Transaction>, record: &mut Record) -> Vec<Outcome> {
        let refused = |reason: &str| Outcome::Unavailable { reason: reason.into() };
        match self.disk {
            Disk::Fine => self.write(transactions, record),
            Disk::Full => transactions.iter().map(|_| refused("the disk is full")).collect(),
            Disk::Failed => transactions.iter().map(|_| refused("a sync has failed")).collect(),
        }
    }

    /// The sync of a batch fails: nobody knows what of it will be there at the next start.
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

    /// Whether a version might be given to a key a second time, because its tombstone is forgotten. The checkers tell writes
    /// apart by key and version, so such a write is refused.
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

    /// Everything ends at once. What was being synced is there by any beginning of it.
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

    /// Begins anew with what such a lineage has made. Of each key only the last write is repeated, in its place: the one
    /// before it may have been a deletion that was forgotten then, and is not now.
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

    /// Puts aside what there is.
    pub(super) fn back_up(&mut self) {
        self.backups.push(Backup { store: self.former.len(), revision: self.lineage.len() });
    }

    /// Goes on from a backup, as another store; answers whether there is one. Everything was stopped before.
    pub(super) fn restore(&mut self, random: &mut Random, record: &mut Record) -> bool {
        let Some(Backup { store, revision }) = random.pick(&self.backups) else { return false };
        let (store, revision) = (*store, *revision);
        let of = self.former.get(store).unwrap_or(&self.lineage);
        let lineage = of.iter().take(revision).cloned().collect();
        self.former.push(std::mem::take(&mut self.lineage));
        self.rebuild(lineage);
        self.synced = self.lineage.len();
        let shown = if self.wrong == Some(Wrong::RestoredUnderTheOldId) { self.id } else { new_id(random) };
        self.id = shown;
        record.store(self.id, Some((store, revision as u64)));
        true
    }

    /// Of the wrong variant that answers before it syncs: all that there is was synced.
    pub(super) fn note_synced(&mut self) {
        self.synced = self.lineage.len();
    }

    fn trouble(&self) -> Result<(), Arc<str>> {
        if self.fails_reads { Err("reads fail".into()) } else { Ok(()) }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Entry>, Arc<str>> {
        self.trouble()?;
        let entry = block_on(self.store.get(key)).map_err(|trouble| trouble.0)?;
        if self.wrong == Some(Wrong::StaleRead) {
            return Ok(self.earlier(key, entry));
        }
        Ok(entry)
    }

    /// The state of a key before its last write.
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
        self.trouble().map_err(PageError::Unavailable)?;
        block_on(self.store.changed_since(since, prefix, max_bytes)).map_err(|error| match error {
            ChangedError::Unavailable(trouble) => PageError::Unavailable(trouble.0),
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
        self.trouble()?;
        block_on(self.store.list(prefix, after, max_entries, max_bytes)).map_err(|trouble| trouble.0)
    }
}

fn empty(tombstones: Duration, clock: &Arc<AtomicU64>) -> MemoryStore {
    let clock = clock.clone();
    let store = MemoryStore::with_clock(tombstones, Box::new(move || clock.load(Ordering::Relaxed)));
    #[allow(clippy::expect_used, reason = "a simulator without random numbers for an id that nobody sees can't go on")]
    store.expect("the system has random numbers")
}

/// What a transaction writes.
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

/// A transaction as it looks to another front than that which it came through.
pub(super) fn of_another(transaction: &Transaction, origin: Option<ConnId>) -> Transaction {
    Transaction { origin, operations: transaction.operations.clone() }
}
