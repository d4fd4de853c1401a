//! The engine in memory, for experiments, tests, and state that may be lost.

use crate::conflict_checker::ConflictChecker;
use crate::index::{Index, Record};
use crate::{
    ChangedError, Clock, DiskOptions, Feed, Stats, Store, StoreTime, Unavailable, monotonic_clock, new_store_id,
};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::num::NonZeroUsize;
use std::time::Duration;
use syncline_core::{Committed, Entry, KeyPage, Outcome, Page, StoreId, Transaction};
use syncline_wire::Revision;

/// How many records are examined per transaction when looking for tombstones to forget.
const SWEPT: usize = 2;

/// A store in memory; nothing survives the process.
pub struct MemoryStore {
    id: StoreId,
    index: RwLock<Index>,
    /// Locked from the first check of a batch until the batch is fed, so that batches are fed in order.
    commit_state: Mutex<CommitState>,
}

struct CommitState {
    feed: Feed,
    conflicts: ConflictChecker,
    /// How long a deleted key is remembered, in milliseconds.
    tombstones: u64,
    /// The time of tombstones.
    time: StoreTime,
    /// The revision up to which the current pass has looked for old tombstones. At the head, the next pass
    /// begins.
    swept: Revision,
}

impl CommitState {
    /// Examines some records, and forgets those that are old tombstones.
    fn sweep(&mut self, index: &mut Index, most: usize, now: u64) {
        if index.tombstones() == 0 {
            return;
        }
        let before = now.saturating_sub(self.tombstones);
        let mut old = Vec::new();
        let is_old = |record: &Record| record.deleted_at().is_some_and(|time| time < before);
        let next = index.step(self.swept, most, |record| old.extend(is_old(record).then(|| record.clone())));
        self.swept = next.unwrap_or_default();
        old.iter().for_each(|tombstone| index.forget(tombstone));
    }
}

impl MemoryStore {
    /// Creates an empty store with a new history. It remembers a deleted key for 7 days.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if the system has no random numbers for the store id.
    pub fn new() -> Result<Self, Unavailable> {
        Self::with_tombstones(DiskOptions::default().tombstones)
    }

    /// Creates an empty store, and so a new history, that remembers a deleted key for `tombstones`.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if the system has no random numbers for the store id.
    pub fn with_tombstones(tombstones: Duration) -> Result<Self, Unavailable> {
        Self::with_clock(tombstones, monotonic_clock())
    }

    /// Creates an empty store that remembers a deleted key for `tombstones`, measured by `clock`.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if the system has no random numbers for the store id.
    pub fn with_clock(tombstones: Duration, clock: Clock) -> Result<Self, Unavailable> {
        let commit_state = CommitState {
            feed: Box::new(|_| {}),
            conflicts: ConflictChecker::default(),
            tombstones: u64::try_from(tombstones.as_millis()).unwrap_or(u64::MAX),
            time: StoreTime::resume(0, clock),
            swept: Revision::ZERO,
        };
        Ok(Self {
            id: new_store_id()?,
            index: RwLock::new(Index::new(Revision::ZERO)),
            commit_state: Mutex::new(commit_state),
        })
    }
}

impl Store for MemoryStore {
    fn id(&self) -> StoreId {
        self.id
    }

    fn head(&self) -> Revision {
        self.index.read().head()
    }

    fn follow(&self, feed: Feed) -> Revision {
        let mut commit_state = self.commit_state.lock();
        commit_state.feed = feed;
        self.index.read().head()
    }

    fn blocks(&self) -> bool {
        false
    }

    fn commit(&self, batch: Vec<Transaction>) -> Vec<Outcome> {
        let mut commit_state = self.commit_state.lock();
        let commit_state = &mut *commit_state;
        let now = commit_state.time.advance();
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut index = self.index.write();
        commit_state.sweep(&mut index, SWEPT * batch.len(), now);
        commit_state.conflicts.begin(&index, &batch);
        for (place, transaction) in batch.iter().enumerate() {
            outcomes.push(match (commit_state.conflicts.decide(&batch, place), index.head().next()) {
                (Err(operation), _) => Outcome::Stale { operation, at: index.head() },
                (Ok(_), None) => Outcome::Unavailable { reason: "no revision is left".into() },
                (Ok(found), Some(revision)) => {
                    for (operation, found) in transaction.operations.iter().zip(found) {
                        if let Some(record) = Record::after(revision, operation, now) {
                            index.insert_found(*found, record);
                        }
                    }
                    index.advance(revision);
                    Outcome::Accepted { revision }
                }
            });
        }
        drop(index);
        let committed = Committed::accepted(batch, &outcomes);
        if !committed.is_empty() {
            (commit_state.feed)(&committed);
        }
        outcomes
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Entry>, Unavailable> {
        let record = self.index.read().get(key).cloned();
        Ok(record.map(|record| record.entry()))
    }

    async fn get_all(&self, keys: &[Bytes], max_bytes: usize) -> Result<Vec<Option<Entry>>, Unavailable> {
        let records = self.index.read().get_all(keys, max_bytes);
        Ok(Record::entries_of(&records))
    }

    async fn changed_since(&self, since: Revision, prefix: &[u8], max_bytes: usize) -> Result<Page, ChangedError> {
        self.index.read().page(since, prefix, max_bytes)
    }

    async fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        max_entries: NonZeroUsize,
        max_bytes: usize,
    ) -> Result<KeyPage, Unavailable> {
        Ok(self.index.read().list(prefix, after, max_entries, max_bytes))
    }

    fn stats(&self) -> Stats {
        self.index.read().stats("memory", None)
    }

    fn accepts_writes(&self) -> Result<(), Unavailable> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pollster::block_on;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use syncline_core::Operation;
    use syncline_wire::Version;

    fn commit(store: &MemoryStore, operation: Operation) -> Revision {
        match store.commit(vec![Transaction { origin: None, operations: [operation].into() }]).as_slice() {
            [Outcome::Accepted { revision }] => *revision,
            other => panic!("not accepted: {other:?}"),
        }
    }

    fn put(key: &'static str, version: u64) -> Operation {
        Operation::Put { key: key.into(), value: "value".into(), version: Version::new(version) }
    }

    #[test]
    fn old_tombstones_are_forgotten_as_writes_arrive() {
        let time = Arc::new(AtomicU64::new(1_000_000));
        let clock = time.clone();
        let tombstones = Duration::from_secs(1);
        let store = MemoryStore::with_clock(tombstones, Box::new(move || clock.load(Ordering::SeqCst))).unwrap();
        commit(&store, put("first", 1));
        commit(&store, put("gone", 1));
        let deleted = commit(&store, Operation::Delete { key: "gone".into(), version: Version::new(2) });
        let write = |version| assert!(commit(&store, put("other", version)) > deleted);
        (1..10).for_each(write);
        time.fetch_add(1000, Ordering::SeqCst);
        (10..20).for_each(write);
        assert_eq!(store.stats().tombstones, 1, "a tombstone is remembered for a second");
        time.fetch_add(1, Ordering::SeqCst);
        (20..30).for_each(write);
        assert_eq!((store.stats().tombstones, block_on(store.get(b"gone"))), (0, Ok(None)));

        let changed = |since| block_on(store.changed_since(since, b"", 0));
        let error = ChangedError::Forgotten { since: Revision::new(1), forgotten: deleted };
        assert_eq!(changed(Revision::new(1)), Err(error));
        assert!(changed(Revision::ZERO).is_ok() && changed(deleted).is_ok());
    }
}
