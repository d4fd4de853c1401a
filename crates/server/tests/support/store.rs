//! A store that a test controls: it can block commits, fail, forget tombstones, and write as another process does. It
//! records every accepted write.

use super::{Engine, History};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use syncline_core::{Entry, KeyPage, Operation, Outcome, Page, StoreId, Transaction};
use syncline_store::{ChangedError, Feed, Stats, Store, Unavailable};
use syncline_wire::Revision;

/// A handle to a store. The server and the test each hold one.
#[derive(Clone)]
pub struct TestStore(Arc<Inner>);

struct Inner {
    engine: Engine,
    /// Whether the test can block commits.
    blocks: bool,
    gate: Mutex<Gate>,
    changed: Condvar,
    failure: Mutex<Option<&'static str>>,
    panics: AtomicBool,
    pages: AtomicUsize,
    history: History,
    /// Tombstones up to this revision are hidden from readers.
    forgotten: AtomicU64,
}

/// A write: key, value and version.
pub type Written = (Bytes, Bytes, u64);

#[derive(Default)]
struct Gate {
    closed: bool,
    /// Whether a commit waits at the gate.
    waiting: bool,
    /// The number of transactions of each commit.
    batches: Vec<usize>,
}

impl TestStore {
    pub fn new() -> Self {
        Self::gated(Engine::memory(), History::default())
    }

    /// Wraps an engine whose state is the result of this history. The test can block commits.
    pub fn gated(engine: Engine, history: History) -> Self {
        Self::of(engine, history, true)
    }

    /// Wraps an engine whose state is the result of this history. If commits of the engine never block, neither do these.
    pub fn over(engine: Engine, history: History) -> Self {
        let blocks = engine.blocks();
        Self::of(engine, history, blocks)
    }

    fn of(engine: Engine, history: History, blocks: bool) -> Self {
        Self(Arc::new(Inner {
            engine,
            blocks,
            gate: Mutex::default(),
            changed: Condvar::new(),
            failure: Mutex::default(),
            panics: AtomicBool::new(false),
            pages: AtomicUsize::new(0),
            history,
            forgotten: AtomicU64::new(0),
        }))
    }

    /// Returns the number of handles, including this one.
    pub fn handles(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// Blocks commits from now on.
    pub fn close_gate(&self) {
        assert!(self.0.blocks, "commits to this store must not block");
        self.0.gate.lock().closed = true;
    }

    /// Unblocks commits.
    pub fn open_gate(&self) {
        self.0.gate.lock().closed = false;
        self.0.changed.notify_all();
    }

    /// Waits until a commit is blocked.
    pub fn wait_for_commit(&self) {
        let mut gate = self.0.gate.lock();
        while !gate.waiting {
            let timed_out = self.0.changed.wait_for(&mut gate, super::TIMEOUT).timed_out();
            assert!(!timed_out, "a commit");
        }
    }

    /// Returns the number of transactions of each commit so far.
    pub fn batches(&self) -> Vec<usize> {
        self.0.gate.lock().batches.clone()
    }

    /// Returns the number of pages of changes that were read.
    pub fn pages(&self) -> usize {
        self.0.pages.load(Ordering::SeqCst)
    }

    /// Returns the accepted PUTs in commit order.
    pub fn history(&self) -> Vec<Written> {
        self.0.history.writes().into_iter().filter_map(|(_, operation)| written(operation)).collect()
    }

    /// Returns the history of accepted writes.
    pub fn all(&self) -> &History {
        &self.0.history
    }

    /// Hides the current tombstones from readers, as if they were forgotten.
    pub fn forget_tombstones(&self) {
        self.0.forgotten.store(self.head().get(), Ordering::SeqCst);
    }

    fn is_forgotten(&self, entry: &Entry) -> bool {
        entry.value.is_none() && entry.revision.get() <= self.0.forgotten.load(Ordering::SeqCst)
    }

    /// Lets every read and write fail with this reason, or succeed again.
    pub fn set_failure(&self, failure: Option<&'static str>) {
        *self.0.failure.lock() = failure;
    }

    /// Lets the next commit panic.
    pub fn panic_on_commit(&self) {
        self.0.panics.store(true, Ordering::SeqCst);
    }

    /// Writes as another process does.
    pub fn write(&self, operation: Operation) -> Outcome {
        self.apply(vec![Transaction { origin: None, operations: [operation].into() }]).remove(0)
    }

    /// Writes one batch as another process does, with a transaction for each operation.
    pub fn write_all(&self, operations: impl IntoIterator<Item = Operation>) {
        let transaction = |operation| Transaction { origin: None, operations: [operation].into() };
        let outcomes = self.apply(operations.into_iter().map(transaction).collect());
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Accepted { .. })));
    }

    fn apply(&self, batch: Vec<Transaction>) -> Vec<Outcome> {
        let transactions = batch.clone();
        let outcomes = self.0.engine.commit(batch);
        for (transaction, outcome) in transactions.into_iter().zip(&outcomes) {
            if let Outcome::Accepted { revision } = outcome {
                self.0.history.record(revision.get(), transaction.operations.to_vec());
            }
        }
        outcomes
    }

    fn failure(&self) -> Option<Arc<str>> {
        self.0.failure.lock().map(Arc::from)
    }

    fn checked(&self) -> Result<(), Unavailable> {
        self.failure().map_or(Ok(()), |reason| Err(Unavailable(reason)))
    }
}

fn written(operation: Operation) -> Option<Written> {
    match operation {
        Operation::Put { key, value, version } => Some((key, value, version.get())),
        Operation::Check { .. } | Operation::Delete { .. } => None,
    }
}

impl Store for TestStore {
    fn id(&self) -> StoreId {
        self.0.engine.id()
    }

    fn head(&self) -> Revision {
        self.0.engine.head()
    }

    fn follow(&self, feed: Feed) -> Revision {
        self.0.engine.follow(feed)
    }

    fn commit(&self, batch: Vec<Transaction>) -> Vec<Outcome> {
        let mut gate = self.0.gate.lock();
        gate.batches.push(batch.len());
        while gate.closed {
            gate.waiting = true;
            self.0.changed.notify_all();
            self.0.changed.wait(&mut gate);
        }
        gate.waiting = false;
        drop(gate);
        assert!(!self.0.panics.load(Ordering::SeqCst), "a panic that the test requested");
        match self.failure() {
            Some(reason) => batch.iter().map(|_| Outcome::Unavailable { reason: reason.clone() }).collect(),
            None => self.apply(batch),
        }
    }

    fn blocks(&self) -> bool {
        self.0.blocks
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Entry>, Unavailable> {
        self.checked()?;
        Ok(self.0.engine.get(key).await?.filter(|entry| !self.is_forgotten(entry)))
    }

    async fn changed_since(&self, since: Revision, prefix: &[u8], max_bytes: usize) -> Result<Page, ChangedError> {
        self.0.pages.fetch_add(1, Ordering::SeqCst);
        self.checked()?;
        let forgotten = Revision::new(self.0.forgotten.load(Ordering::SeqCst));
        if Revision::ZERO < since && since < forgotten {
            return Err(ChangedError::Forgotten { since, forgotten });
        }
        let mut page = self.0.engine.changed_since(since, prefix, max_bytes).await?;
        page.entries.retain(|entry| !self.is_forgotten(entry));
        Ok(page)
    }

    async fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        max_entries: NonZeroUsize,
        max_bytes: usize,
    ) -> Result<KeyPage, Unavailable> {
        self.checked()?;
        self.0.engine.list(prefix, after, max_entries, max_bytes).await
    }

    fn stats(&self) -> Stats {
        self.0.engine.stats()
    }

    fn accepts_writes(&self) -> Result<(), Unavailable> {
        self.checked()?;
        self.0.engine.accepts_writes()
    }
}

/// Returns whether `whole` contains all of `part`, in the same order.
pub fn is_subsequence(part: &[Written], whole: &[Written]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|write| whole.any(|other| other == write))
}

/// Returns the last value and version of each key.
pub fn latest(writes: &[Written]) -> HashMap<Bytes, (Bytes, u64)> {
    writes.iter().map(|(key, value, version)| (key.clone(), (value.clone(), *version))).collect()
}
