//! The trait [`Store`], and the types of its methods.

use bytes::Bytes;
use std::future::Future;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;
use syncline_core::{Committed, Entry, KeyPage, Outcome, Page, StoreId, Transaction};
use syncline_wire::Revision;
use thiserror::Error;

/// An ordered history of transactions, and the latest state of every key that follows from it.
///
/// An engine may be one of many processes that write to the same history: what others commit comes out of
/// [`Store::follow`] as one's own does, and every decision is made against the history, not against what this process
/// has written.
///
/// # What every engine promises
/// 1. **Order.** Each accepted transaction has a revision of its own, greater than all before it, also across restarts.
/// 2. **Compare-and-swap.** A transaction is accepted exactly if [`Transaction::check`] holds against the history
///    before it, earlier transactions of the same batch included.
/// 3. **All or none** of a transaction is written.
/// 4. **Acknowledged means durable**, as durable as the engine says: [`Outcome::Accepted`] comes after that, and so
///    does everything below.
/// 5. **Visible, then fed, then answered.** What was committed is seen by [`Store::get`] and [`Store::changed_since`]
///    before it is handed to the feed, and is handed to the feed before [`Store::commit`] returns. So nobody who was
///    sent a change reads an older state afterwards.
/// 6. **Refused means nothing happened**, nor will: where the engine can't be sure of that, it answers
///    [`Outcome::Unknown`]. What a transaction was refused against is visible, and the revision of [`Outcome::Stale`] is
///    that of the last transaction before it: not after [`Store::head`], nor after any that was decided later.
/// 7. **Forgetting nothing of the latest state.** [`Store::changed_since`] tells of every key.
pub trait Store: Send + Sync + 'static {
    /// Names the history.
    fn id(&self) -> StoreId;

    /// The revision of the last transaction that is visible.
    fn head(&self) -> Revision;

    /// Hands every batch that is committed from now on to `feed`, in order and without a gap, whoever committed it.
    /// Answers the head from which on it does. A later call replaces the feed of an earlier one.
    ///
    /// The feed must return soon, and must not call the store.
    fn follow(&self, feed: Feed) -> Revision;

    /// Decides on each transaction in turn, makes those that it accepts durable together, and answers each, in order.
    ///
    /// It may block for as long as a disk or a network takes, where the engine [says](Store::blocks) so: call it from a
    /// thread that does nothing else. Calls from several threads are taken one after the other.
    fn commit(&self, batch: Vec<Transaction>) -> Vec<Outcome>;

    /// Whether [`Store::commit`] waits for more than other calls of it, and the processor.
    fn blocks(&self) -> bool {
        true
    }

    /// The latest state of a key; `None` where it was never written, or its tombstone is forgotten.
    ///
    /// # Errors
    /// [`Unavailable`] where the engine can't tell.
    fn get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Entry>, Unavailable>> + Send;

    /// The latest states of keys, as of the same time or one after the other, in their order: of the first, and of as many
    /// more as are there until keys and values fill `max_bytes`; the last may pass that. An engine that finds many keys
    /// sooner together than one by one does.
    ///
    /// # Errors
    /// [`Unavailable`] where the engine can't tell.
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

    /// What changed since a revision of the keys under a prefix: each key once, at its latest, in the order of revisions.
    /// A page ends with the transaction that fills `max_bytes` of PUT frames, or after a bounded amount of work, or at
    /// the head. It is after `since` wherever the head is.
    ///
    /// A reader that begins with nothing should [`Store::list`] the keys rather than ask for what changed since revision 0:
    /// where a tombstone was ever forgotten, its second page would be refused.
    ///
    /// # Errors
    /// [`ChangedError`] where the engine can't tell.
    fn changed_since(
        &self,
        since: Revision,
        prefix: &[u8],
        max_bytes: usize,
    ) -> impl Future<Output = Result<Page, ChangedError>> + Send;

    /// The keys under a prefix that have a value, in the order of keys, from the first one after `after` on. A page holds
    /// at most `max_entries`, and ends with the entry that fills `max_bytes` of PUT frames, or after a bounded amount of
    /// work: it may hold nothing, and not be the last. Each is true as of its own head.
    ///
    /// # Errors
    /// [`Unavailable`] where the engine can't tell.
    fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        max_entries: NonZeroUsize,
        max_bytes: usize,
    ) -> impl Future<Output = Result<KeyPage, Unavailable>> + Send;

    /// What there is to say of the engine, for people and tools.
    fn stats(&self) -> Stats;
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
}

/// What an engine says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// The keys that have a value.
    pub keys: usize,
    /// The keys that are remembered as deleted.
    pub tombstones: usize,
    /// The bytes of all keys and values.
    pub bytes: usize,
    /// What an acknowledged write survives, by the name of the option.
    pub durability: &'static str,
    /// Where the history is kept; `None`: nowhere but in memory.
    pub data: Option<PathBuf>,
}

/// What a store hands every committed batch to.
pub type Feed = Box<dyn Fn(&[Committed]) + Send + Sync>;

/// The engine can't, for now; why, for people.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the store is unavailable: {0}")]
pub struct Unavailable(pub Arc<str>);

impl From<Unavailable> for Arc<str> {
    fn from(unavailable: Unavailable) -> Self {
        unavailable.0
    }
}

/// Why a store can't tell what changed since a revision.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChangedError {
    /// Tombstones were forgotten since: a key that was deleted would not be told.
    #[error("what changed since revision {since} is forgotten: tombstones up to revision {forgotten} are")]
    Forgotten {
        /// The revision that was asked for.
        since: Revision,
        /// Tombstones up to here may be forgotten.
        forgotten: Revision,
    },
    /// The history has no such revision yet.
    #[error("revision {since} is unknown: the head is at revision {head}")]
    Unknown {
        /// The revision that was asked for.
        since: Revision,
        /// The last one that there is.
        head: Revision,
    },
    /// The engine can't, for now.
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

/// What tells the time: milliseconds since 1970. It may jump, in both directions.
pub type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// Milliseconds since 1970, as far as the clock knows.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Names a new history.
pub(crate) fn new_store_id() -> Result<StoreId, Unavailable> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| Unavailable(format!("no random store id: {error}").into()))?;
    Ok(StoreId::new(id))
}
