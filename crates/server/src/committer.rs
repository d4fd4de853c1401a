//! The committer: gives what waits to the store, a batch at a time. It is a thread, or a task where no commit blocks.

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

/// What a waiting transaction takes beside its keys and values, so that empty ones count too.
const SUBMISSION_BYTES: usize = 256;

/// A transaction, and who wants to know what became of it.
pub(crate) struct Submission {
    pub(crate) transaction: Transaction,
    pub(crate) handle: Arc<ConnectionHandle>,
}

/// The transactions that wait for the committer, bounded in bytes.
pub(crate) struct CommitQueue {
    waiting: Mutex<Waiting>,
    /// Rung when there is something to commit, or nothing more will come.
    notify: Notify,
    max_bytes: usize,
}

#[derive(Default)]
struct Waiting {
    submissions: Vec<Submission>,
    bytes: usize,
    /// Those who were turned away since the queue was emptied last.
    turned_away: BTreeMap<ConnId, Arc<ConnectionHandle>>,
    closed: bool,
}

impl CommitQueue {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { waiting: Mutex::default(), notify: Notify::default(), max_bytes }
    }

    /// Adds a transaction, to be [announced](Self::announce). Handed back where the queue is full: the handle's notify
    /// rings when it is not.
    pub(crate) fn submit(&self, submission: Submission) -> Result<(), Submission> {
        let bytes = SUBMISSION_BYTES + submission.transaction.bytes();
        let mut waiting = self.waiting.lock();
        // One always fits, however large.
        if !waiting.submissions.is_empty() && waiting.bytes + bytes > self.max_bytes {
            waiting.turned_away.insert(submission.handle.id, submission.handle.clone());
            return Err(submission);
        }
        waiting.bytes += bytes;
        waiting.submissions.push(submission);
        Ok(())
    }

    /// Has the committer look at what was added: once for all that a connection adds together, or else it would go to
    /// the disk for the first of them alone, and the others would have to wait for that.
    pub(crate) fn announce(&self) {
        self.notify.notify();
    }

    /// No more will come: the committer ends when it has done what is there.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.notify.notify();
    }

    /// Waits for something to commit; answers whether more may come.
    async fn has_some(&self) -> bool {
        poll_fn(|context| {
            // First: who adds something after the look rings.
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

    /// Takes all that waits.
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

/// Commits what waits, batch after batch, until the queue is closed and empty.
pub(crate) async fn run(store: &impl Store, queue: &CommitQueue, broadcaster: &Broadcaster) {
    while queue.has_some().await {
        // As a task, it comes after those that are ready: what they have is of the same batch.
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
        debug_assert_eq!(outcomes.len(), handles.len(), "one outcome each");
        for (handle, outcome) in handles.iter().zip(outcomes) {
            handle.deliver(outcome);
        }
        drop(withheld);
    }
}
