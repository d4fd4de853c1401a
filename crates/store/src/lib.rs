//! Where the history of Syncline is kept.
//!
//! [`Store`] is what every engine stands behind; `tests/contract.rs` holds what each of them must pass. Engines:
//! - [`MemoryStore`]: everything in memory, nothing survives the process;
//! - [`DiskStore`]: the history on disk, the latest state in memory.
//!
//! No engine knows of sockets or frames of clients; what is committed leaves it as [`Stretch`]es, which the server sends
//! on.

mod disk;
mod index;
mod memory;

pub use disk::{Contents, DiskOptions, DiskStore, Durability, OpenError, backup, check, restore};
pub use memory::MemoryStore;

use std::future::Future;
use std::sync::Arc;
use syncline_core::{Entry, Outcome, Page, StoreId, Stretch, Transaction};
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

    /// Hands every stretch that is committed from now on to `feed`, in order and without a gap, whoever committed it.
    /// Answers the head from which on it does. A later call replaces the feed of an earlier one.
    ///
    /// The feed must return soon, and must not call the store.
    fn follow(&self, feed: Feed) -> Revision;

    /// Decides on each transaction in turn, makes those that it accepts durable together, and answers each, in order.
    ///
    /// It may block for as long as a disk or a network takes: call it from a thread that does nothing else. Calls from
    /// several threads are taken one after the other.
    fn commit(&self, batch: Vec<Transaction>) -> Vec<Outcome>;

    /// The latest state of a key; `None` where it was never written, or its tombstone is forgotten.
    ///
    /// # Errors
    /// [`Unavailable`] where the engine can't tell.
    fn get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Entry>, Unavailable>> + Send;

    /// What changed since a revision: each key once, at its latest, in the order of revisions. A page ends with the
    /// transaction that fills `max_bytes` of PUT frames, or at the head. It is after `since` wherever the head is.
    ///
    /// # Errors
    /// [`Unavailable`] where the engine can't tell.
    fn changed_since(
        &self,
        since: Revision,
        max_bytes: usize,
    ) -> impl Future<Output = Result<Page, Unavailable>> + Send;
}

/// What a store hands every committed stretch to.
pub type Feed = Box<dyn Fn(Stretch) + Send + Sync>;

/// The engine can't, for now; why, for people.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the store is unavailable: {0}")]
pub struct Unavailable(pub Arc<str>);

impl From<Unavailable> for Arc<str> {
    fn from(unavailable: Unavailable) -> Self {
        unavailable.0
    }
}

/// Names a new history.
fn new_store_id() -> Result<StoreId, Unavailable> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| Unavailable(format!("no random store id: {error}").into()))?;
    Ok(StoreId::new(id))
}
