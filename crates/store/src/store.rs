//! The trait [`Store`], and the types of its methods.

use bytes::Bytes;
use std::future::Future;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use syncline_core::{Committed, Entry, KeyPage, Outcome, Page, StoreId, Transaction};
use syncline_wire::Revision;
use thiserror::Error;

/// An ordered history of transactions, and the latest state of every key that follows from it.
///
/// Several processes may write to the same history through engines of their own. [`Store::follow`] therefore feeds
/// the transactions of all of them, and every decision is made against the history, not only against what this
/// process has written.
///
/// # Promises of every engine
/// 1. **Order.** Each accepted transaction has its own revision, greater than those of all transactions before it.
///    This holds across restarts.
/// 2. **Compare-and-swap.** A transaction is accepted if and only if [`Transaction::check`] succeeds against the
///    history before it, including earlier transactions of the same batch.
/// 3. **Atomicity.** All writes of a transaction become part of the history, or none.
/// 4. **Durability.** A transaction is durable, to the degree that the engine documents, before it becomes visible,
///    is fed, or is reported as [`Outcome::Accepted`].
/// 5. **Visible, then fed, then answered.** A committed transaction is visible to [`Store::get`] and
///    [`Store::changed_since`] before it is fed, and it is fed before [`Store::commit`] returns. So a client that has
///    received a change never reads an older state afterwards.
/// 6. **Refused means not written.** A refused transaction was not written and never will be. An engine that cannot
///    be sure of that returns [`Outcome::Unknown`]. The state that a transaction was refused against is visible. The
///    revision of [`Outcome::Stale`] is that of the last transaction before the refused one: it exceeds neither
///    [`Store::head`] nor any revision that is assigned later.
/// 7. **Completeness.** [`Store::changed_since`] returns the latest state of every key that changed.
pub trait Store: Send + Sync + 'static {
    /// Returns the id of the history.
    fn id(&self) -> StoreId;

    /// Returns the revision of the last visible transaction.
    fn head(&self) -> Revision;

    /// Calls `feed` with every batch that is committed from now on, by any process, in order and without gaps. A
    /// batch is never empty. Returns the head of the history after which the feed begins. A later call replaces
    /// the feed.
    ///
    /// The feed must return quickly, and must not call the store.
    fn follow(&self, feed: Feed) -> Revision;

    /// Checks the transactions in order, makes the accepted ones durable together, and returns the outcome of
    /// each at its position.
    ///
    /// If [`Store::blocks`] returns `true`, this may wait for a disk or a network: call it from a thread that
    /// does nothing else. Calls from several threads run one at a time.
    fn commit(&self, batch: Vec<Transaction>) -> Vec<Outcome>;

    /// Returns whether [`Store::commit`] waits for anything except the processor and other calls of it.
    fn blocks(&self) -> bool {
        true
    }

    /// Returns the latest state of a key, or `None` if the key was never written or its tombstone is forgotten.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if the engine cannot read for now.
    fn get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Entry>, Unavailable>> + Send;

    /// Returns the latest states of the first of `keys`, in their order. The result has an entry for the first
    /// key, and for further keys until keys and values fill `max_bytes`; the last entry may exceed that. The
    /// states may be of the same revision or of later and later ones. The default reads one key after the other:
    /// engines that read several keys faster together override it.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if the engine cannot read for now.
    fn get_all(
        &self,
        keys: &[Bytes],
        max_bytes: usize,
    ) -> impl Future<Output = Result<Vec<Option<Entry>>, Unavailable>> + Send {
        async move {
            let (mut entries, mut bytes) = (Vec::with_capacity(keys.len()), 0);
            for key in keys {
                if !entries.is_empty() && bytes >= max_bytes {
                    break;
                }
                let entry = self.get(key).await?;
                bytes += entry.as_ref().map_or(0, Entry::bytes);
                entries.push(entry);
            }
            Ok(entries)
        }
    }

    /// Returns a page of the keys under a prefix that changed after a revision: each key once, in its latest
    /// state, in the order of revisions. A page ends with the transaction that fills `max_bytes`, after a bounded
    /// amount of work, or at the head. An entry counts with its key, its value and
    /// [`Put::OVERHEAD`](syncline_wire::Put::OVERHEAD). The end of a page is after `since` unless `since` is the
    /// head.
    ///
    /// A reader without any state should [`Store::list`] the keys instead of asking for the changes since
    /// revision 0: once any tombstone has been forgotten, its second page would be refused.
    ///
    /// # Errors
    /// Returns [`ChangedError`] if the engine no longer knows what changed, or cannot read for now.
    fn changed_since(
        &self,
        since: Revision,
        prefix: &[u8],
        max_bytes: usize,
    ) -> impl Future<Output = Result<Page, ChangedError>> + Send;

    /// Returns a page of the keys under a prefix that have a value, in the order of keys, beginning after
    /// `after`. A page holds at most `max_entries`. It ends with the entry that fills `max_bytes`, counted as for
    /// [`Store::changed_since`], or after a bounded amount of work: a page may be empty although more pages
    /// follow. Each page has the state of its own head.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if the engine cannot read for now.
    fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        max_entries: NonZeroUsize,
        max_bytes: usize,
    ) -> impl Future<Output = Result<KeyPage, Unavailable>> + Send;

    /// Returns figures of the engine, for people and tools.
    fn stats(&self) -> Stats;

    /// Returns whether the engine accepts writes, as far as it knows: it does not touch the disk to find out, and
    /// does not wait for a commit.
    ///
    /// # Errors
    /// Returns [`Unavailable`] with the reason, for people, if the engine refuses writes. Reads may still succeed.
    fn accepts_writes(&self) -> Result<(), Unavailable>;
}

impl<S: Store> Store for Arc<S> {
    fn id(&self) -> StoreId {
        (**self).id()
    }

    fn head(&self) -> Revision {
        (**self).head()
    }

    fn follow(&self, feed: Feed) -> Revision {
        (**self).follow(feed)
    }

    fn commit(&self, batch: Vec<Transaction>) -> Vec<Outcome> {
        (**self).commit(batch)
    }

    fn blocks(&self) -> bool {
        (**self).blocks()
    }

    fn get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Entry>, Unavailable>> + Send {
        (**self).get(key)
    }

    fn get_all(
        &self,
        keys: &[Bytes],
        max_bytes: usize,
    ) -> impl Future<Output = Result<Vec<Option<Entry>>, Unavailable>> + Send {
        (**self).get_all(keys, max_bytes)
    }

    fn changed_since(
        &self,
        since: Revision,
        prefix: &[u8],
        max_bytes: usize,
    ) -> impl Future<Output = Result<Page, ChangedError>> + Send {
        (**self).changed_since(since, prefix, max_bytes)
    }

    fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        max_entries: NonZeroUsize,
        max_bytes: usize,
    ) -> impl Future<Output = Result<KeyPage, Unavailable>> + Send {
        (**self).list(prefix, after, max_entries, max_bytes)
    }

    fn stats(&self) -> Stats {
        (**self).stats()
    }

    fn accepts_writes(&self) -> Result<(), Unavailable> {
        (**self).accepts_writes()
    }
}

/// Figures of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// How many keys have a value.
    pub keys: usize,
    /// How many deleted keys are remembered.
    pub tombstones: usize,
    /// The total size of all keys and values, in bytes.
    pub bytes: usize,
    /// What an acknowledged write survives: the name of the durability option.
    pub durability: &'static str,
    /// The data directory, or `None` if the history is only in memory.
    pub data: Option<PathBuf>,
}

/// The function that a store calls with every committed batch.
pub type Feed = Box<dyn Fn(&[Committed]) + Send + Sync>;

/// The engine cannot serve a request for now. Holds the reason, for people.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the store is unavailable: {0}")]
pub struct Unavailable(pub Arc<str>);

impl From<Unavailable> for Arc<str> {
    fn from(unavailable: Unavailable) -> Self {
        unavailable.0
    }
}

/// Why a store cannot return what changed since a revision.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChangedError {
    /// Tombstones have been forgotten since then, so the page would miss deletions.
    #[error("what changed since revision {since} is forgotten: tombstones up to revision {forgotten} are")]
    Forgotten {
        /// The requested revision.
        since: Revision,
        /// Tombstones up to this revision may be forgotten.
        forgotten: Revision,
    },
    /// The history has not reached this revision.
    #[error("revision {since} is unknown: the head is at revision {head}")]
    Unknown {
        /// The requested revision.
        since: Revision,
        /// The head of the history.
        head: Revision,
    },
    /// The engine cannot read for now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<ChangedError> for Arc<str> {
    fn from(error: ChangedError) -> Self {
        match error {
            ChangedError::Unavailable(unavailable) => unavailable.into(),
            other => other.to_string().into(),
        }
    }
}

/// A clock: returns milliseconds, from any point in time on. A store counts how far it advances; a step back counts as no
/// time.
pub type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// Returns a random id for a new history.
pub(crate) fn new_store_id() -> Result<StoreId, Unavailable> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| Unavailable(format!("no random store id: {error}").into()))?;
    Ok(StoreId::new(id))
}
