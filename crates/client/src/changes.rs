//! What others write, handed to whoever wants to know.

use crate::Client;
use bytes::Bytes;
use futures_core::Stream;
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use syncline_wire::{Redacted, Version};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Something that happened to the store, as far as this client is told.
#[derive(Clone, derive_more::Debug, PartialEq, Eq)]
pub enum Change {
    /// Somebody else's write was accepted.
    Put {
        /// Which key.
        key: Bytes,
        /// What it holds now; empty where it was deleted.
        #[debug("{:?}", Redacted(value))]
        value: Bytes,
        /// The version of that.
        version: Version,
    },
    /// Changes may have been missed here, for the connection was lost and made again, or this reader was too slow. Read
    /// again what matters.
    Gap,
}

/// What others write, from the call of [`Client::changes`] on, in the order of the commits. Also a [`Stream`].
pub struct Changes {
    changes: mpsc::Receiver<Change>,
    /// Keeps the connection alive.
    _client: Client,
}

impl Changes {
    pub(crate) const fn new(changes: mpsc::Receiver<Change>, client: Client) -> Self {
        Self { changes, _client: client }
    }

    /// Waits for the next change. May be cancelled: no change is lost.
    ///
    /// `None` only where the runtime that the client lives on has ended.
    pub async fn next(&mut self) -> Option<Change> {
        self.changes.recv().await
    }
}

impl Stream for Changes {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Change>> {
        self.changes.poll_recv(context)
    }
}

/// Everybody who wants to know. A slow one is given a gap, and never holds up the others.
#[derive(Clone, Default)]
pub(crate) struct Readers(Arc<Mutex<Vec<Reader>>>);

struct Reader {
    changes: mpsc::Sender<Change>,
    /// It missed changes, and was not told yet.
    missed: bool,
}

impl Readers {
    /// Adds a reader, for which at most `max_waiting` changes wait.
    pub(crate) fn add(&self, max_waiting: usize) -> mpsc::Receiver<Change> {
        let (changes, receiver) = mpsc::channel(max_waiting.max(1));
        self.0.lock().push(Reader { changes, missed: false });
        receiver
    }

    /// Tells everybody.
    pub(crate) fn tell(&self, change: &Change) {
        self.0.lock().retain_mut(|reader| reader.tell(change));
    }
}

impl Reader {
    /// Whether it is still there.
    fn tell(&mut self, change: &Change) -> bool {
        let told = if self.missed { self.changes.try_send(Change::Gap) } else { Ok(()) };
        let told = told.and_then(|()| {
            self.missed = false;
            // A gap that was told just now covers another one.
            self.changes.try_send(change.clone())
        });
        match told {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.missed = true;
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

    fn waiting(receiver: &mut mpsc::Receiver<Change>) -> Vec<Change> {
        std::iter::from_fn(|| receiver.try_recv().ok()).collect()
    }

    #[test]
    fn a_slow_reader_is_told_of_the_gap_and_others_miss_nothing() {
        let readers = Readers::default();
        let (mut slow, mut quick) = (readers.add(2), readers.add(10));
        (1..=4).for_each(|version| readers.tell(&put(version)));
        assert_eq!(waiting(&mut slow), [put(1), put(2)]);
        readers.tell(&put(5));
        assert_eq!(waiting(&mut slow), [Change::Gap, put(5)]);
        readers.tell(&put(6));
        assert_eq!(waiting(&mut slow), [put(6)]);
        assert_eq!(waiting(&mut quick), (1..=6).map(put).collect::<Vec<_>>());
    }

    #[test]
    fn a_gap_is_told_even_where_there_is_room_for_no_more() {
        let readers = Readers::default();
        let mut slow = readers.add(1);
        (1..=2).for_each(|version| readers.tell(&put(version)));
        assert_eq!(waiting(&mut slow), [put(1)]);
        // The gap takes the only place, so this change is missed too, which needs another gap.
        readers.tell(&put(3));
        assert_eq!(waiting(&mut slow), [Change::Gap]);
        readers.tell(&put(4));
        assert_eq!(waiting(&mut slow), [Change::Gap]);
    }

    #[test]
    fn a_reader_that_is_gone_is_forgotten() {
        let readers = Readers::default();
        drop(readers.add(1));
        let mut kept = readers.add(1);
        readers.tell(&put(1));
        assert_eq!(readers.0.lock().len(), 1);
        assert_eq!(waiting(&mut kept), [put(1)]);
    }
}
