//! A stream of the changes of a replica.

use crate::replica::{Replica, Snapshot};
use bytes::Bytes;
use futures_core::Stream;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use syncline_core::client::{Difference, Versioned};
use syncline_wire::Revision;

/// A changed key of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The key.
    pub key: Bytes,
    /// The new value, or `None` if the key was deleted.
    pub now: Option<Versioned>,
    /// The revision that the replica showed then. All updates of one group have the same revision.
    pub revision: Revision,
}

/// The changes of a replica, in groups; within a group, in key order. Also a [`Stream`]. It ends if a server
/// [refuses](crate::Client#refusals) the client, and [`Client::refusal`](crate::Client::refusal) returns the error.
///
/// The stream has no queue of past changes: each group is the difference between two snapshots. A slow reader therefore
/// receives each key once, with its latest value, and delays nothing. A reader that applies all groups up to a revision
/// holds exactly what the store held at that revision. The cost is proportional to the number of differences.
#[derive(Debug)]
pub struct Updates {
    replica: Replica,
    /// The snapshot up to which `pending` leads.
    last: Snapshot,
    /// The rest of the current group.
    pending: VecDeque<Update>,
}

impl Replica {
    /// Returns the changes from now on; see [`Updates`].
    pub fn updates(&self) -> Updates {
        self.updates_since(self.snapshot())
    }

    /// Returns the changes since a snapshot of this replica; see [`Updates`].
    pub fn updates_since(&self, snapshot: Snapshot) -> Updates {
        Updates { replica: self.clone(), last: snapshot, pending: VecDeque::new() }
    }
}

impl Updates {
    /// Waits for the next change. Returns `None` only if the runtime of the client has shut down.
    ///
    /// Cancellation safe: if the future is dropped, no change is lost.
    pub async fn next(&mut self) -> Option<Update> {
        poll_fn(|context| self.poll_update(context)).await
    }

    fn poll_update(&mut self, context: &mut Context<'_>) -> Poll<Option<Update>> {
        loop {
            if let Some(update) = self.pending.pop_front() {
                return Poll::Ready(Some(update));
            }
            let now = self.replica.snapshot();
            if now.at() != self.last.at() {
                self.pending = differences(&self.last, &now);
                self.last = now;
                continue;
            }
            if ready!(self.replica.poll_wakeup(context)).is_none() {
                return Poll::Ready(None);
            }
        }
    }
}

fn differences(last: &Snapshot, now: &Snapshot) -> VecDeque<Update> {
    let revision = now.revision();
    let update = |Difference { key, now }| Update { key, now, revision };
    match (last.view(), now.view()) {
        (Some(last), Some(view)) => last.differences(view, now.prefix()).map(update).collect(),
        (None, _) => {
            now.iter().map(|(key, now)| Update { key: key.clone(), now: Some(now.clone()), revision }).collect()
        }
        (Some(_), None) => VecDeque::new(),
    }
}

impl Stream for Updates {
    type Item = Update;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Update>> {
        self.poll_update(context)
    }
}
