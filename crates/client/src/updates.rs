//! What changes in a replica, change by change.

use crate::{Replica, Snapshot};
use bytes::Bytes;
use futures_core::Stream;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use syncline_core::client::{Difference, Versioned};
use syncline_wire::Revision;

/// A key of a replica that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Which key.
    pub key: Bytes,
    /// What it holds now; `None`: it was deleted.
    pub now: Option<Versioned>,
    /// The revision that the replica showed then. All updates up to here have the same where they came together.
    pub revision: Revision,
}

/// What changes in a replica, one group after the other; within one, in the order of the keys. Also a [`Stream`]. Ends only
/// with the runtime that the client lives on.
///
/// It holds no queue of what has happened: each group is what differs between two snapshots. Whoever reads slowly is
/// therefore told of each key once, at its latest, and holds up nobody; whoever applies all groups, to the last of a
/// revision, holds just what the store held then. Costs what differs.
#[derive(Debug)]
pub struct Updates {
    replica: Replica,
    /// What was told.
    last: Snapshot,
    /// What was not told yet of what makes it so.
    waiting: VecDeque<Update>,
}

impl Updates {
    pub(crate) const fn new(replica: Replica, since: Snapshot) -> Self {
        Self { replica, last: since, waiting: VecDeque::new() }
    }

    /// Waits for the next change. May be cancelled: nothing is lost.
    pub async fn next(&mut self) -> Option<Update> {
        poll_fn(|context| self.poll_update(context)).await
    }

    fn poll_update(&mut self, context: &mut Context<'_>) -> Poll<Option<Update>> {
        loop {
            if let Some(update) = self.waiting.pop_front() {
                return Poll::Ready(Some(update));
            }
            let now = self.replica.snapshot();
            if now.at() != self.last.at() {
                self.waiting = differences(&self.last, &now);
                self.last = now;
                continue;
            }
            if ready!(self.replica.poll_bell(context)).is_none() {
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
