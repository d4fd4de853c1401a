//! The commit queue, and the committer, which passes the queued transactions to the store, one batch at a time.
//!
//! The committer runs on a thread of its own if commits block, and as a task if they do not.

use crate::broadcaster::{Broadcaster, ConnectionHandle};
use crate::notify::Notify;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use syncline_core::{ConnId, Transaction};
use syncline_store::Store;
use tokio::task::yield_now;

/// What a queued transaction counts beside its keys and values, so that the queue is bounded even if those are empty.
const SUBMISSION_BYTES: usize = 256;

/// A transaction, and the connection that waits for its outcome.
pub(crate) struct Submission {
    pub(crate) transaction: Transaction,
    pub(crate) handle: Arc<ConnectionHandle>,
}

/// The queued transactions, bounded in bytes.
pub(crate) struct CommitQueue {
    waiting: Mutex<Waiting>,
    /// Wakes the committer when there is something to commit, or when the queue is closed.
    notify: Notify,
    max_bytes: usize,
}

#[derive(Default)]
struct Waiting {
    submissions: Vec<Submission>,
    bytes: usize,
    /// The connections whose transactions were rejected since the queue was last emptied.
    turned_away: BTreeMap<ConnId, Arc<ConnectionHandle>>,
    closed: bool,
}

impl CommitQueue {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { waiting: Mutex::default(), notify: Notify::default(), max_bytes }
    }

    /// Queues a transaction, which must be [announced](Self::announce) afterwards.
    ///
    /// # Errors
    /// Returns the submission if the queue is full. The connection is woken when there is room again.
    pub(crate) fn submit(&self, submission: Submission) -> Result<(), Submission> {
        let bytes = SUBMISSION_BYTES + submission.transaction.bytes();
        let mut waiting = self.waiting.lock();
        // An empty queue takes any transaction, however large.
        if !waiting.submissions.is_empty() && waiting.bytes + bytes > self.max_bytes {
            waiting.turned_away.insert(submission.handle.id, submission.handle.clone());
            return Err(submission);
        }
        waiting.bytes += bytes;
        waiting.submissions.push(submission);
        Ok(())
    }

    /// Wakes the committer. A connection calls this once for all transactions that it has queued together:
    /// otherwise the first of them would be a batch of its own, and the others would wait for its sync.
    pub(crate) fn announce(&self) {
        self.notify.notify();
    }

    /// Closes the queue: the committer ends when it has committed what is queued.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.notify.notify();
    }

    /// Waits until something is queued, and returns `true`. Returns `false` if the queue is closed and empty.
    async fn has_some(&self) -> bool {
        poll_fn(|context| {
            // Registered first: an addition after the check below then wakes this task.
            self.notify.notified(context);
            let waiting = self.waiting.lock();
            match (waiting.submissions.is_empty(), waiting.closed) {
                (false, _) => Poll::Ready(true),
                (true, true) => Poll::Ready(false),
                (true, false) => Poll::Pending,
            }
        })
        .await
    }

    /// Removes and returns all queued transactions, and wakes the connections that were turned away.
    fn take(&self) -> Vec<Submission> {
        let mut waiting = self.waiting.lock();
        waiting.bytes = 0;
        let turned_away = std::mem::take(&mut waiting.turned_away);
        let submissions = std::mem::take(&mut waiting.submissions);
        drop(waiting);
        turned_away.values().for_each(|handle| handle.notify.notify());
        submissions
    }
}

/// Commits what is queued, batch after batch, until the queue is closed and empty.
pub(crate) async fn run(store: &impl Store, queue: &CommitQueue, broadcaster: &Broadcaster) {
    while queue.has_some().await {
        // A committer that is a task lets the ready tasks run first, so that their transactions join this
        // batch.
        yield_now().await;
        let batch = queue.take();
        let mut handles = Vec::with_capacity(batch.len());
        let mut transactions = Vec::with_capacity(batch.len());
        for Submission { transaction, handle } in batch {
            transactions.push(transaction);
            handles.push(handle);
        }
        let withheld = broadcaster.withhold();
        let outcomes = store.commit(transactions);
        debug_assert_eq!(outcomes.len(), handles.len(), "each transaction has one outcome");
        for (handle, outcome) in handles.iter().zip(outcomes) {
            handle.deliver(outcome);
        }
        drop(withheld);
    }
}
