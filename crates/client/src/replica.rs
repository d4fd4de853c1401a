//! A replica: the keys under a prefix, kept up to date by the server, and read locally.

use crate::client::Client;
use crate::error::RequestError;
use crate::failure::Failure;
use crate::shared::Shared;
use bytes::Bytes;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use syncline_core::StoreId;
use syncline_core::client::{Keys, Position, Request, Response, Versioned, View, Views};
use syncline_wire::Revision;
use tokio::sync::mpsc;

/// The keys under a prefix, kept up to date by the server. [`Client::watch`] creates it.
///
/// # Guarantees
/// - It shows what the store held at one revision, [`Replica::revision`]: never half of a transaction.
/// - It never goes back in time. The only exception is a store with a rewound or replaced history. Then the replica
///   shows the old state, not current, until the new one is complete, and nothing in between.
/// - A successful [put](Client::put), [deletion](Client::delete) or [commit](crate::Txn::commit) of the same client is
///   visible in it as soon as the call returns.
/// - After [`Replica::barrier`] it shows everything that was committed, by any client, before the call.
/// - While the connection is lost it can still be read, and [`Replica::staleness`] reports that. The next connection
///   receives only what changed meanwhile. If the server [refuses](Client#refusals) the client, there is no next one:
///   [`Replica::changed`] then returns an error.
///
/// Reads take no lock and may be made from any thread. All replicas of a client share one connection, and overlapping
/// prefixes share their keys. A watched prefix is kept up to date for as long as the client exists.
pub struct Replica {
    client: Client,
    prefix: Bytes,
    /// The position that [`Replica::changed`] returned last.
    seen: At,
    wakeups: mpsc::Receiver<()>,
}

/// A position in the history of a store.
pub(crate) type At = Option<(StoreId, Revision)>;

/// How far a replica may be behind the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Staleness {
    /// The time since the client received the last MARK, the watermark up to which it has every change.
    ///
    /// The replica may be older than that by the time that the MARK was in transit: on the network, and in buffers if the
    /// client reads more slowly than the server sends. After a [`barrier`](Client::barrier), the replica is not older than
    /// the barrier, regardless of what is in transit.
    pub since_mark: Duration,
    /// Whether the server keeps the replica up to date. It does not while the connection is lost, or while the replica
    /// catches up.
    pub is_current: bool,
}

impl Client {
    /// Returns a replica of all keys under a prefix; the empty prefix selects all keys. The replica is complete when this
    /// returns.
    ///
    /// If the future is dropped, the prefix may still be watched for as long as the client exists.
    ///
    /// # Errors
    /// [`RequestError::BaseOnly`] if the server does not support WATCH, and any other [`RequestError`].
    pub async fn watch(&self, prefix: impl Into<Bytes>) -> Result<Replica, RequestError> {
        let prefix = prefix.into();
        let request = Request::Watch { prefix: prefix.clone() };
        match self.request_within(request, self.options().watch_timeout).await? {
            Response::Watched => Ok(Replica::new(self.clone(), prefix)),
            other => Err(Failure::Response(other).into()),
        }
    }
}

impl Replica {
    fn new(client: Client, prefix: Bytes) -> Self {
        let wakeups = client.shared().subscribe();
        let mut replica = Self { client, prefix, seen: None, wakeups };
        replica.seen = replica.snapshot().at();
        replica
    }

    /// Returns the prefix of all keys.
    pub const fn prefix(&self) -> &Bytes {
        &self.prefix
    }

    /// Returns the value of a key with its version, or `None` if the key does not exist or is not under the prefix.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Versioned> {
        let key = key.as_ref();
        self.read(|view| view.filter(|_| key.starts_with(&self.prefix))?.get(key).cloned())
    }

    /// Returns the keys within bounds, in key order. The same method of a [snapshot](Replica::snapshot) copies nothing.
    pub fn range<'a>(&self, bounds: impl RangeBounds<&'a [u8]>) -> Vec<(Bytes, Versioned)> {
        self.snapshot().range(bounds).map(|(key, now)| (key.clone(), now.clone())).collect()
    }

    /// Returns how many keys there are. If the client also watches a shorter prefix, this counts the keys.
    pub fn len(&self) -> usize {
        self.read(|view| view.map_or(0, |view| view.len(&self.prefix)))
    }

    /// Returns whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.read(|view| view.is_none_or(|view| view.range(&self.prefix, ..).next().is_none()))
    }

    /// Returns an immutable snapshot of all keys. It is cheap, and can be kept for any time.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { views: self.shared().views(), prefix: self.prefix.clone() }
    }

    /// Returns the revision that the replica shows.
    pub fn revision(&self) -> Revision {
        self.read(|view| view.map_or(Revision::ZERO, View::revision))
    }

    /// Returns how far the replica may be behind the store.
    pub fn staleness(&self) -> Staleness {
        let is_current = self.read(|view| view.is_some_and(View::is_current));
        Staleness { since_mark: self.shared().since_mark(), is_current }
    }

    /// Waits until the replica shows another revision than the one that the last call returned, and returns it. The first
    /// call compares with the revision at which the handle was created. The new revision may change nothing under the
    /// prefix.
    ///
    /// Cancellation safe: if the future is dropped, the next call returns what this one would have returned, or something
    /// later.
    ///
    /// # Errors
    /// [`RequestError::NotAuthorized`] or [`RequestError::NotPermitted`] if the client has given up because a server
    /// [refuses](Client#refusals) it. The replica will never change again.
    pub async fn changed(&mut self) -> Result<Revision, RequestError> {
        loop {
            let at = self.read(at);
            if let Some((_, revision)) = at.filter(|_| at != self.seen) {
                self.seen = at;
                return Ok(revision);
            }
            if self.wakeups.recv().await.is_none()
                && let Some(refusal) = self.client.refusal()
            {
                return Err(refusal);
            }
        }
    }

    /// Waits until the replica shows everything that was committed, by any client, before the call. Local reads after that
    /// are as fresh as a [`get`](Client::get) at the time of the call. Returns a revision that includes all of that.
    ///
    /// If the future is dropped, nothing changes.
    ///
    /// # Errors
    /// [`RequestError::Unavailable`] if the server does not respond in time, and any other [`RequestError`].
    pub async fn barrier(&self) -> Result<Revision, RequestError> {
        self.client.barrier().await
    }

    /// Returns the client of the replica.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn poll_wakeup(&mut self, context: &mut Context<'_>) -> Poll<Option<()>> {
        self.wakeups.poll_recv(context)
    }

    fn shared(&self) -> &Arc<Shared> {
        self.client.shared()
    }

    fn read<R>(&self, read: impl FnOnce(Option<&View>) -> R) -> R {
        read(self.shared().peek().view(&self.prefix))
    }
}

impl Clone for Replica {
    fn clone(&self) -> Self {
        let wakeups = self.shared().subscribe();
        Self { client: self.client.clone(), prefix: self.prefix.clone(), seen: self.seen, wakeups }
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

/// All keys under a prefix as the store held them at one revision. It is immutable and cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshot {
    views: Arc<Views>,
    prefix: Bytes,
}

impl Snapshot {
    /// Returns the value of a key with its version, or `None` if the key does not exist or is not under the prefix.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<&Versioned> {
        let key = key.as_ref();
        self.view().filter(|_| key.starts_with(&self.prefix))?.get(key)
    }

    /// Returns all keys, in key order.
    pub fn iter(&self) -> Keys<'_> {
        self.range(..)
    }

    /// Returns the keys within bounds, in key order.
    pub fn range<'a>(&self, bounds: impl RangeBounds<&'a [u8]>) -> Keys<'_> {
        self.view().map_or_else(Keys::default, |view| view.range(&self.prefix, bounds))
    }

    /// Returns how many keys there are. If the client also watches a shorter prefix, this counts the keys.
    pub fn len(&self) -> usize {
        self.view().map_or(0, |view| view.len(&self.prefix))
    }

    /// Returns whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Returns the revision of the snapshot.
    pub fn revision(&self) -> Revision {
        self.view().map_or(Revision::ZERO, View::revision)
    }

    /// Returns the store and the revision of the snapshot.
    pub fn position(&self) -> Option<Position> {
        self.view().map(|view| Position { store: Some(view.store()), revision: view.revision() })
    }

    /// Returns whether the server kept the replica up to date when the snapshot was taken.
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
        self.views.view(&self.prefix)
    }
}
