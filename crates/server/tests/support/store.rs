//! A store in which the test has a hand: it can hold up commits, be in trouble, forget, and write behind the server's
//! back. It knows all that was accepted.

use super::{Engine, History};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use syncline_core::{Entry, KeyPage, Operation, Outcome, Page, StoreId, Transaction};
use syncline_store::{ChangedError, Feed, Stats, Store, Unavailable};
use syncline_wire::Revision;

/// The server has one, the test another: both are the same store.
#[derive(Clone)]
pub struct TestStore(Arc<Inner>);

struct Inner {
    engine: Engine,
    /// Whether commits may be made to wait.
    blocks: bool,
    gate: Mutex<Gate>,
    changed: Condvar,
    trouble: Mutex<Option<&'static str>>,
    panics: AtomicBool,
    pages: AtomicUsize,
    history: History,
    /// Tombstones up to this revision are forgotten.
    forgotten: AtomicU64,
}

/// An accepted PUT: key, value and version.
pub type Written = (Bytes, Bytes, u64);

#[derive(Default)]
struct Gate {
    closed: bool,
    /// Whether a commit waits at the gate.
    waiting: bool,
    /// How many transactions each commit had.
    batches: Vec<usize>,
}

impl TestStore {
    pub fn new() -> Self {
        Self::gated(Engine::memory(), History::default())
    }

    /// What the engine holds was accepted in this history. Commits may be made to wait.
    pub fn gated(engine: Engine, history: History) -> Self {
        Self::of(engine, history, true)
    }

    /// What the engine holds was accepted in this history. Commits never wait where the engine's don't: there is no gate.
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
            trouble: Mutex::default(),
            panics: AtomicBool::new(false),
            pages: AtomicUsize::new(0),
            history,
            forgotten: AtomicU64::new(0),
        }))
    }

    /// How many there are that hold it, this one included.
    pub fn handles(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// Commits wait from now on.
    pub fn close_gate(&self) {
        assert!(self.0.blocks, "whoever commits to it must not be made to wait");
        self.0.gate.lock().closed = true;
    }

    /// Commits go on.
    pub fn open_gate(&self) {
        self.0.gate.lock().closed = false;
        self.0.changed.notify_all();
    }

    /// Waits until a commit waits at the gate.
    pub fn wait_for_commit(&self) {
        let mut gate = self.0.gate.lock();
        while !gate.waiting {
            let patience_is_over = self.0.changed.wait_for(&mut gate, super::PATIENCE).timed_out();
            assert!(!patience_is_over, "a commit");
        }
    }

    /// How many transactions each commit had so far.
    pub fn batches(&self) -> Vec<usize> {
        self.0.gate.lock().batches.clone()
    }

    /// How many pages of "what changed since" were asked for.
    pub fn pages(&self) -> usize {
        self.0.pages.load(Ordering::SeqCst)
    }

    /// The PUTs that were accepted, in the order of the commits.
    pub fn history(&self) -> Vec<Written> {
        self.0.history.writes().into_iter().filter_map(|(_, operation)| written(operation)).collect()
    }

    /// All that was accepted.
    pub fn all(&self) -> &History {
        &self.0.history
    }

    /// The tombstones that there are are forgotten, as far as readers can see.
    pub fn forget_tombstones(&self) {
        self.0.forgotten.store(self.head().get(), Ordering::SeqCst);
    }

    fn is_forgotten(&self, entry: &Entry) -> bool {
        entry.value.is_none() && entry.revision.get() <= self.0.forgotten.load(Ordering::SeqCst)
    }

    /// From now on nothing can be read or written, for this reason.
    pub fn set_trouble(&self, trouble: Option<&'static str>) {
        *self.0.trouble.lock() = trouble;
    }

    /// The next commit panics.
    pub fn panic_on_commit(&self) {
        self.0.panics.store(true, Ordering::SeqCst);
    }

    /// What another process does.
    pub fn write(&self, operation: Operation) -> Outcome {
        self.apply(vec![Transaction { origin: None, operations: [operation].into() }]).remove(0)
    }

    /// What another process writes in one go, each a transaction of its own.
    pub fn write_all(&self, operations: impl IntoIterator<Item = Operation>) {
        let transaction = |operation| Transaction { origin: None, operations: [operation].into() };
        let outcomes = self.apply(operations.into_iter().map(transaction).collect());
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Accepted { .. })));
    }

    fn apply(&self, batch: Vec<Transaction>) -> Vec<Outcome> {
        let asked = batch.clone();
        let outcomes = self.0.engine.commit(batch);
        for (transaction, outcome) in asked.into_iter().zip(&outcomes) {
            if let Outcome::Accepted { revision } = outcome {
                self.0.history.record(revision.get(), transaction.operations.to_vec());
            }
        }
        outcomes
    }

    fn trouble(&self) -> Option<Arc<str>> {
        self.0.trouble.lock().map(Arc::from)
    }

    fn checked(&self) -> Result<(), Unavailable> {
        self.trouble().map_or(Ok(()), |reason| Err(Unavailable(reason)))
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
        assert!(!self.0.panics.load(Ordering::SeqCst), "the store was told to panic");
        match self.trouble() {
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
}
