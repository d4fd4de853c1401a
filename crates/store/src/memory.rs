//! The engine that keeps everything in memory: for trying out, for tests, and for state that may be lost.

use crate::{Feed, Store, Unavailable};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use syncline_core::{Entry, Operation, Outcome, Page, StoreId, StretchBuilder, Transaction};
use syncline_wire::{Revision, Version};

/// Everything in memory; nothing survives the process.
pub struct MemoryStore {
    id: StoreId,
    state: RwLock<State>,
    /// Held from the first decision of a batch until it was fed, so that stretches are fed in order.
    feed: Mutex<Feed>,
}

#[derive(Default)]
struct State {
    head: Revision,
    by_key: BTreeMap<Bytes, Latest>,
    /// The same keys, in the order of their latest revisions.
    by_revision: BTreeSet<(Revision, Bytes)>,
}

struct Latest {
    value: Option<Bytes>,
    version: Version,
    revision: Revision,
}

impl MemoryStore {
    /// An empty store, and so a new history.
    ///
    /// # Errors
    /// [`Unavailable`] where the system has no random numbers for the store id.
    pub fn new() -> Result<Self, Unavailable> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| Unavailable(format!("no random store id: {error}").into()))?;
        Ok(Self { id: StoreId::new(id), state: RwLock::default(), feed: Mutex::new(Box::new(|_| {})) })
    }
}

impl State {
    fn entry(&self, key: &Bytes, latest: &Latest) -> Entry {
        Entry { key: key.clone(), value: latest.value.clone(), version: latest.version, revision: latest.revision }
    }

    fn apply(&mut self, revision: Revision, operation: &Operation) {
        let (key, value, version) = match operation {
            Operation::Check { .. } => return,
            Operation::Put { key, value, version } => (key, Some(value), *version),
            Operation::Delete { key, version } => (key, None, *version),
        };
        // Copies: what came in shares the memory of a connection's whole buffer.
        let latest = Latest { value: value.map(|value| Bytes::copy_from_slice(value)), version, revision };
        let key = match self.by_key.get_key_value(key) {
            Some((key, before)) => {
                let key = key.clone();
                self.by_revision.remove(&(before.revision, key.clone()));
                key
            }
            None => Bytes::copy_from_slice(key),
        };
        self.by_revision.insert((revision, key.clone()));
        self.by_key.insert(key, latest);
    }
}

impl Store for MemoryStore {
    fn id(&self) -> StoreId {
        self.id
    }

    fn head(&self) -> Revision {
        self.state.read().head
    }

    fn follow(&self, feed: Feed) -> Revision {
        let mut current = self.feed.lock();
        *current = feed;
        self.state.read().head
    }

    fn commit(&self, batch: Vec<Transaction>) -> Vec<Outcome> {
        let feed = self.feed.lock();
        let mut stretch = StretchBuilder::with_capacity(batch.iter().map(Transaction::bytes).sum());
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut state = self.state.write();
        for transaction in batch {
            let current = |key: &[u8]| state.by_key.get(key).map(|latest| latest.version);
            outcomes.push(match (transaction.check(current), state.head.next()) {
                (Err(operation), _) => Outcome::Stale { operation, at: state.head },
                (Ok(()), None) => Outcome::Unavailable { reason: "no revision is left".into() },
                (Ok(()), Some(revision)) => {
                    for operation in &transaction.operations {
                        state.apply(revision, operation);
                    }
                    state.head = revision;
                    stretch.push(revision, &transaction);
                    Outcome::Accepted { revision }
                }
            });
        }
        drop(state);
        feed(stretch.finish());
        outcomes
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Entry>, Unavailable> {
        let state = self.state.read();
        Ok(state.by_key.get_key_value(key).map(|(key, latest)| state.entry(key, latest)))
    }

    async fn changed_since(&self, since: Revision, max_bytes: usize) -> Result<Page, Unavailable> {
        let state = self.state.read();
        let Some(first) = since.next() else { return Ok(Page { entries: Vec::new(), through: state.head }) };
        let mut page = Page { entries: Vec::new(), through: state.head };
        let mut bytes = 0;
        let from = Bound::Included((first, Bytes::new()));
        for (revision, key) in state.by_revision.range((from, Bound::Unbounded)) {
            if let Some(last) = page.entries.last().map(|entry: &Entry| entry.revision)
                && bytes >= max_bytes
                && last < *revision
            {
                page.through = last;
                break;
            }
            if let Some(latest) = state.by_key.get(key) {
                bytes += key.len() + latest.value.as_ref().map_or(0, Bytes::len);
                page.entries.push(state.entry(key, latest));
            }
        }
        Ok(page)
    }
}

impl From<Unavailable> for Arc<str> {
    fn from(unavailable: Unavailable) -> Self {
        unavailable.0
    }
}
