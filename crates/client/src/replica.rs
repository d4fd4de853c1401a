//! A replica: the keys under a prefix, kept up to date by the server, and read without asking it.

use crate::shared::Shared;
use crate::{Client, Position, RequestError, Updates};
use bytes::Bytes;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use syncline_core::StoreId;
use syncline_core::client::{Keys, Shown, Versioned, View};
use syncline_wire::Revision;
use tokio::sync::mpsc;

/// The keys under a prefix, kept up to date by the server. Made by [`Client::watch`].
///
/// # What is promised
/// - What it shows is what the store held at one revision, [`Replica::revision`]: never half of a transaction.
/// - It never goes back in time, but for a store whose own history was rewound or replaced: then it shows the old state,
///   not current, until the new one is whole, and never anything in between.
/// - Who has [put](Client::put), [deleted](Client::delete) or [committed](crate::Txn::commit) through the same client finds
///   that in it as soon as the call has succeeded.
/// - After [`Replica::barrier`] it shows all that had been committed anywhere when the call was made.
/// - While the connection is lost it keeps answering, and [`Replica::staleness`] says so. The next connection tells it only
///   what it has missed.
///
/// Reads take no lock and may be made from any thread. All replicas of a client share one connection and what overlaps of
/// their prefixes; what is watched once is kept up to date for as long as the client lives.
pub struct Replica {
    client: Client,
    prefix: Bytes,
    /// What [`Replica::changed`] has told last.
    seen: At,
    bell: mpsc::Receiver<()>,
}

/// A point in a history.
pub(crate) type At = Option<(StoreId, Revision)>;

/// How far what a replica shows may be behind the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staleness {
    /// The time since a MARK came, which says up to where everything was told. What is shown is older than that by no more
    /// than the MARK was on its way: on the network, and in buffers where it can't be read as fast as it is sent. After a
    /// [`barrier`](Client::barrier), what is shown is not older than the barrier, whatever was on its way.
    pub since_mark: Duration,
    /// Whether the server keeps it up to date. If not, the connection is lost, or what was missed is not all told yet.
    pub is_current: bool,
}

impl Replica {
    pub(crate) fn new(client: Client, prefix: Bytes) -> Self {
        let bell = client.shared().bell();
        let mut replica = Self { client, prefix, seen: None, bell };
        replica.seen = replica.snapshot().at();
        replica
    }

    /// What the keys start with.
    pub const fn prefix(&self) -> &Bytes {
        &self.prefix
    }

    /// What a key holds, and its version; `None` where it is not there, or not under the prefix.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Versioned> {
        let key = key.as_ref();
        self.view(|view| view.filter(|_| key.starts_with(&self.prefix))?.get(key).cloned())
    }

    /// The keys within bounds, in order. Of a [snapshot](Replica::snapshot), this takes no copies.
    pub fn range<'a>(&self, bounds: impl RangeBounds<&'a [u8]>) -> Vec<(Bytes, Versioned)> {
        self.snapshot().range(bounds).map(|(key, now)| (key.clone(), now.clone())).collect()
    }

    /// How many keys there are. Where a wider prefix is watched too, they are counted.
    pub fn len(&self) -> usize {
        self.view(|view| view.map_or(0, |view| view.len(&self.prefix)))
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.view(|view| view.is_none_or(|view| view.range(&self.prefix, ..).next().is_none()))
    }

    /// All keys as they are now, to be looked at for as long as one likes. Costs next to nothing.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { shown: self.shared().shown(), prefix: self.prefix.clone() }
    }

    /// The revision of what it shows.
    pub fn revision(&self) -> Revision {
        self.view(|view| view.map_or(Revision::ZERO, View::revision))
    }

    /// How far what it shows may be behind the store.
    pub fn staleness(&self) -> Staleness {
        let is_current = self.view(|view| view.is_some_and(View::is_current));
        Staleness { since_mark: self.shared().since_mark(), is_current }
    }

    /// Waits until it shows a later revision than the one that this told last, or that was shown when this handle was made;
    /// answers which. Also where that has changed nothing under its prefix. May be cancelled.
    pub async fn changed(&mut self) -> Revision {
        loop {
            let at = self.view(at);
            if let Some((_, revision)) = at.filter(|_| at != self.seen) {
                self.seen = at;
                return revision;
            }
            // The client lives as long as this handle, and the bell with it.
            let _ = self.bell.recv().await;
        }
    }

    /// What changes from now on: see [`Updates`].
    pub fn updates(&self) -> Updates {
        self.updates_since(self.snapshot())
    }

    /// What has changed since a snapshot, and what changes from now on: see [`Updates`].
    pub fn updates_since(&self, snapshot: Snapshot) -> Updates {
        Updates::new(self.clone(), snapshot)
    }

    /// Waits until it shows all that had been committed, by anybody, when this was called: what is read then is as good as
    /// asked of the server. Answers up to which revision that is so.
    ///
    /// # Errors
    /// [`RequestError::Unavailable`] where the server does not answer in time.
    pub async fn barrier(&self) -> Result<Revision, RequestError> {
        self.client.barrier().await
    }

    /// The client that it belongs to.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn poll_bell(&mut self, context: &mut Context<'_>) -> Poll<Option<()>> {
        self.bell.poll_recv(context)
    }

    fn shared(&self) -> &Arc<Shared> {
        self.client.shared()
    }

    fn view<R>(&self, look: impl FnOnce(Option<&View>) -> R) -> R {
        look(self.shared().look().view(&self.prefix))
    }
}

impl Clone for Replica {
    fn clone(&self) -> Self {
        let bell = self.shared().bell();
        Self { client: self.client.clone(), prefix: self.prefix.clone(), seen: self.seen, bell }
    }
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("prefix", &self.prefix).field("revision", &self.revision()).finish()
    }
}

fn at(view: Option<&View>) -> At {
    view.map(|view| (view.store(), view.revision()))
}

/// All keys under a prefix as the store held them at one revision. Cheap to clone, and never changes.
#[derive(Clone, Debug)]
pub struct Snapshot {
    shown: Arc<Shown>,
    prefix: Bytes,
}

impl Snapshot {
    /// What a key holds, and its version; `None` where it is not there, or not under the prefix.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<&Versioned> {
        let key = key.as_ref();
        self.view().filter(|_| key.starts_with(&self.prefix))?.get(key)
    }

    /// All keys, in order.
    pub fn iter(&self) -> Keys<'_> {
        self.range(..)
    }

    /// The keys within bounds, in order.
    pub fn range<'a>(&self, bounds: impl RangeBounds<&'a [u8]>) -> Keys<'_> {
        self.view().map_or_else(Keys::default, |view| view.range(&self.prefix, bounds))
    }

    /// How many keys there are. Where a wider prefix is watched too, they are counted.
    pub fn len(&self) -> usize {
        self.view().map_or(0, |view| view.len(&self.prefix))
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// As of when it is.
    pub fn revision(&self) -> Revision {
        self.view().map_or(Revision::ZERO, View::revision)
    }

    /// As of when it is, and in whose history.
    pub fn position(&self) -> Option<Position> {
        self.view().map(|view| Position { store: Some(view.store()), revision: view.revision() })
    }

    /// Whether the server kept the replica up to date when this was taken.
    pub fn is_current(&self) -> bool {
        self.view().is_some_and(View::is_current)
    }

    pub(crate) fn at(&self) -> At {
        at(self.view())
    }

    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    pub(crate) fn view(&self) -> Option<&View> {
        self.shown.view(&self.prefix)
    }
}
