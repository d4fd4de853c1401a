//! The writes of other connections, and the bounded channels that distribute them to subscribers.

use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use syncline_wire::{Redacted, Version};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// A change of the store that this client was sent.
#[derive(Clone, derive_more::Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Another connection wrote or deleted a key.
    Put {
        /// The key.
        key: Bytes,
        /// The new value; empty if the key was deleted.
        #[debug("{:?}", Redacted(value))]
        value: Bytes,
        /// The version of the value or tombstone.
        version: Version,
    },
    /// Changes may be missing here, because the connection was lost or the subscriber was too slow. Read the keys that
    /// matter again.
    Gap,
}

/// The subscribers to changes. A slow subscriber receives a [`Change::Gap`], and never delays the others.
#[derive(Clone, Default)]
pub(crate) struct Subscribers(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    subscribers: Vec<Subscriber>,
    /// Whether there will be no further change.
    has_ended: bool,
}

struct Subscriber {
    changes: mpsc::Sender<Change>,
    /// Whether it missed changes and has not been sent a gap since.
    has_gap: bool,
}

impl Subscribers {
    /// Adds a subscriber. At most `max_pending` changes are queued for it.
    pub(crate) fn add(&self, max_pending: usize) -> mpsc::Receiver<Change> {
        let (changes, receiver) = mpsc::channel(max_pending.max(1));
        let mut state = self.0.lock();
        if !state.has_ended {
            state.subscribers.push(Subscriber { changes, has_gap: false });
        }
        receiver
    }

    /// Ends the streams of all subscribers, and of those that are added later.
    pub(crate) fn end(&self) {
        let mut state = self.0.lock();
        state.has_ended = true;
        state.subscribers.clear();
    }

    /// Sends a change to all subscribers, and removes those that dropped their receiver.
    pub(crate) fn send(&self, change: &Change) {
        self.0.lock().subscribers.retain_mut(|subscriber| subscriber.send(change));
    }
}

impl Subscriber {
    /// Returns whether the receiver still exists.
    fn send(&mut self, change: &Change) -> bool {
        let sent = if self.has_gap { self.changes.try_send(Change::Gap) } else { Ok(()) };
        let sent = sent.and_then(|()| {
            self.has_gap = false;
            self.changes.try_send(change.clone())
        });
        match sent {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.has_gap = true;
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(version: u64) -> Change {
        Change::Put { key: "k".into(), value: "v".into(), version: Version::new(version) }
    }

    fn queued(receiver: &mut mpsc::Receiver<Change>) -> Vec<Change> {
        std::iter::from_fn(|| receiver.try_recv().ok()).collect()
    }

    #[test]
    fn a_slow_subscriber_gets_a_gap_and_others_miss_nothing() {
        let subscribers = Subscribers::default();
        let (mut slow, mut quick) = (subscribers.add(2), subscribers.add(10));
        (1..=4).for_each(|version| subscribers.send(&put(version)));
        assert_eq!(queued(&mut slow), [put(1), put(2)]);
        subscribers.send(&put(5));
        assert_eq!(queued(&mut slow), [Change::Gap, put(5)]);
        subscribers.send(&put(6));
        assert_eq!(queued(&mut slow), [put(6)]);
        assert_eq!(queued(&mut quick), (1..=6).map(put).collect::<Vec<_>>());
    }

    #[test]
    fn a_gap_is_sent_even_if_the_change_after_it_does_not_fit() {
        let subscribers = Subscribers::default();
        let mut slow = subscribers.add(1);
        (1..=2).for_each(|version| subscribers.send(&put(version)));
        assert_eq!(queued(&mut slow), [put(1)]);
        // The gap fills the queue, so this change is missed as well and causes another gap.
        subscribers.send(&put(3));
        assert_eq!(queued(&mut slow), [Change::Gap]);
        subscribers.send(&put(4));
        assert_eq!(queued(&mut slow), [Change::Gap]);
    }

    #[test]
    fn a_dropped_subscriber_is_removed() {
        let subscribers = Subscribers::default();
        drop(subscribers.add(1));
        let mut kept = subscribers.add(1);
        subscribers.send(&put(1));
        assert_eq!(subscribers.0.lock().subscribers.len(), 1);
        assert_eq!(queued(&mut kept), [put(1)]);
    }

    #[test]
    fn the_end_comes_after_what_is_queued_and_holds_for_later_subscribers() {
        let subscribers = Subscribers::default();
        let mut early = subscribers.add(10);
        subscribers.send(&put(1));
        subscribers.end();
        let mut late = subscribers.add(10);
        assert_eq!(early.try_recv(), Ok(put(1)));
        assert_eq!(early.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        assert_eq!(late.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
    }
}
