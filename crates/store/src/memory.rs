//! The engine that keeps everything in memory: for trying out, for tests, and for state that may be lost.

use crate::index::{Index, Record};
use crate::{ChangedError, Feed, Stats, Store, Unavailable, new_store_id};
use parking_lot::{Mutex, RwLock};
use std::num::NonZeroUsize;
use syncline_core::{Entry, KeyPage, Outcome, Page, StoreId, StretchBuilder, Transaction};
use syncline_wire::Revision;

/// Everything in memory; nothing survives the process.
pub struct MemoryStore {
    id: StoreId,
    index: RwLock<Index>,
    /// Held from the first decision of a batch until it was fed, so that stretches are fed in order.
    feed: Mutex<Feed>,
}

impl MemoryStore {
    /// An empty store, and so a new history.
    ///
    /// # Errors
    /// [`Unavailable`] where the system has no random numbers for the store id.
    pub fn new() -> Result<Self, Unavailable> {
        Ok(Self {
            id: new_store_id()?,
            index: RwLock::new(Index::new(Revision::ZERO)),
            feed: Mutex::new(Box::new(|_| {})),
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
        let mut current = self.feed.lock();
        *current = feed;
        self.index.read().head()
    }

    fn commit(&self, batch: Vec<Transaction>) -> Vec<Outcome> {
        let feed = self.feed.lock();
        let mut stretch = StretchBuilder::with_capacity(batch.iter().map(Transaction::bytes).sum());
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut index = self.index.write();
        for transaction in batch {
            outcomes.push(match (transaction.check(|key| index.version(key)), index.head().next()) {
                (Err(operation), _) => Outcome::Stale { operation, at: index.head() },
                (Ok(()), None) => Outcome::Unavailable { reason: "no revision is left".into() },
                (Ok(()), Some(revision)) => {
                    transaction
                        .operations
                        .iter()
                        .filter_map(|o| Record::after(revision, o, 0))
                        .for_each(|r| drop(index.insert(r)));
                    index.advance(revision);
                    stretch.push(revision, &transaction);
                    Outcome::Accepted { revision }
                }
            });
        }
        drop(index);
        feed(stretch.finish());
        outcomes
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Entry>, Unavailable> {
        let record = self.index.read().get(key).cloned();
        Ok(record.map(|record| record.entry()))
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
}
