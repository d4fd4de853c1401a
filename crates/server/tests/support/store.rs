//! A memory store in which the test has a hand: it can hold up commits, be in trouble, and write behind the server's
//! back.

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use syncline_core::{Entry, KeyPage, Operation, Outcome, Page, StoreId, Transaction};
use syncline_store::{ChangedError, Feed, MemoryStore, Stats, Store, Unavailable};
use syncline_wire::Revision;

/// The server has one, the test another: both are the same store.
#[derive(Clone)]
pub struct TestStore(Arc<Inner>);

struct Inner {
    memory: MemoryStore,
    gate: Mutex<Gate>,
    changed: Condvar,
    trouble: Mutex<Option<&'static str>>,
    panics: AtomicBool,
    pages: AtomicUsize,
    history: Mutex<Vec<Written>>,
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
        Self(Arc::new(Inner {
            memory: MemoryStore::new().unwrap(),
            gate: Mutex::default(),
            changed: Condvar::new(),
            trouble: Mutex::default(),
            panics: AtomicBool::new(false),
            pages: AtomicUsize::new(0),
            history: Mutex::default(),
        }))
    }

    /// How many there are that hold it, this one included.
    pub fn handles(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// Commits wait from now on.
    pub fn close_gate(&self) {
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

    /// What was accepted of clients, in the order of the commits.
    pub fn history(&self) -> Vec<Written> {
        self.0.history.lock().clone()
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
        let transaction = Transaction { origin: None, operations: vec![operation] };
        self.0.memory.commit(vec![transaction]).remove(0)
    }

    /// What another process writes in one go, each a transaction of its own.
    pub fn write_all(&self, operations: impl IntoIterator<Item = Operation>) {
        let transaction = |operation| Transaction { origin: None, operations: vec![operation] };
        let outcomes = self.0.memory.commit(operations.into_iter().map(transaction).collect());
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Accepted { .. })));
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
        self.0.memory.id()
    }

    fn head(&self) -> Revision {
        self.0.memory.head()
    }

    fn follow(&self, feed: Feed) -> Revision {
        self.0.memory.follow(feed)
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
            None => {
                let asked = batch.clone();
                let outcomes = self.0.memory.commit(batch);
                let mut history = self.0.history.lock();
                for (transaction, outcome) in asked.into_iter().zip(&outcomes) {
                    if let Outcome::Accepted { .. } = outcome {
                        history.extend(transaction.operations.into_iter().filter_map(written));
                    }
                }
                outcomes
            }
        }
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Entry>, Unavailable> {
        self.checked()?;
        self.0.memory.get(key).await
    }

    async fn changed_since(&self, since: Revision, prefix: &[u8], max_bytes: usize) -> Result<Page, ChangedError> {
        self.0.pages.fetch_add(1, Ordering::SeqCst);
        self.checked()?;
        self.0.memory.changed_since(since, prefix, max_bytes).await
    }

    async fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        max_entries: NonZeroUsize,
        max_bytes: usize,
    ) -> Result<KeyPage, Unavailable> {
        self.checked()?;
        self.0.memory.list(prefix, after, max_entries, max_bytes).await
    }

    fn stats(&self) -> Stats {
        self.0.memory.stats()
    }
}
