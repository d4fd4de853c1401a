//! The handle to a client: basic reads and writes. Other files add the methods that return their types.

use crate::change::{Change, Subscribers};
use crate::connection::{self, Command, Setup};
use crate::dialer::Dialer;
use crate::endpoints::Endpoints;
use crate::error::{ConnectError, GetError, PutError, RequestError};
use crate::failure::Failure;
use crate::link;
use crate::options::Options;
use crate::send_guard::{Cancelled, SendGuard};
use crate::shared::Shared;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use syncline_core::client::{Request, Response, Versioned};
use syncline_wire::{Revision, Version};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// The number of requests that are queued for the connection task. Further callers wait until there is space.
const MAX_QUEUED: usize = 1024;

/// A handle to a connection to a Syncline server.
///
/// It is cheap to clone. All clones share one connection, which is closed when the last clone is dropped. If the connection
/// is lost, the client connects again, with growing pauses between attempts.
///
/// # Time limits and lost connections
/// Every request ends within [`Options::request_timeout`], and a [`watch`](Client::watch) within
/// [`Options::watch_timeout`]. Reads that were in flight when the connection was lost are repeated on the next one. Writes
/// are not, because they may have been accepted: they end with [`PutError::OutcomeUnknown`].
///
/// # Refusals
/// If a server refuses the client when it connects again, the client gives up for good: it never sends a wrong password
/// twice, because servers delay all clients of an address that does. These are refusals:
/// - The password is wrong, for example because the user was removed; or the server requires a password by now.
/// - The server does not accept the client certificate, or demands one.
/// - A replica cannot be resumed, because the user may no longer read the keys.
///
/// If several endpoints are given, all are tried before the client gives up. Then all pending and later requests fail
/// with [`RequestError::NotAuthorized`] or [`RequestError::NotPermitted`], and [`Client::refusal`] returns this error.
/// [`Replica::changed`](crate::Replica::changed) returns it too. [`Changes`](crate::Changes) and
/// [`Updates`](crate::Updates) end. Replicas can still be read, but are no longer
/// [current](crate::Staleness::is_current). To continue, for example with a new password, connect another client.
///
/// All other failures may be temporary, and the client connects again until it succeeds: no server responds, it has too
/// many connections, it shuts down, its certificate has expired, or another program listens on its port. Requests then
/// fail with [`RequestError::Unavailable`], which contains the last error.
///
/// # Cancellation
/// If the future of a request is dropped, the request may still be sent, and a write may still be accepted. Its response is
/// discarded.
///
/// # Servers of the base protocol
/// With a server that speaks only the base protocol, [`get`](Client::get), [`put`](Client::put),
/// [`update`](Client::update) and [`changes`](Client::changes) work. All other requests fail with
/// [`RequestError::BaseOnly`].
#[derive(Clone)]
pub struct Client {
    options: Arc<Options>,
    commands: mpsc::Sender<Command>,
    subscribers: Subscribers,
    shared: Arc<Shared>,
}

impl Client {
    /// Connects to a server with the default [`Options`]. If several [endpoints](crate::Endpoint) are given, the client
    /// connects to the first that responds. Must be called within a tokio runtime.
    ///
    /// Cancellation safe: if the future is dropped, the connection is closed.
    ///
    /// # Errors
    /// [`ConnectError`] if no endpoint can be connected to; [`ConnectError::All`] if there are several. Nothing is
    /// repeated. After this call has succeeded, the client reconnects by itself.
    pub async fn connect(endpoints: impl Into<Endpoints>) -> Result<Self, ConnectError> {
        Self::connect_with(endpoints, Options::default()).await
    }

    /// Connects to a server with the given [`Options`]; see [`Client::connect`].
    ///
    /// Cancellation safe: if the future is dropped, the connection is closed.
    ///
    /// # Errors
    /// As for [`Client::connect`]. Also if a certificate, key or password in the options cannot be used.
    pub async fn connect_with(endpoints: impl Into<Endpoints>, options: Options) -> Result<Self, ConnectError> {
        let endpoints = endpoints.into();
        let options = Arc::new(options);
        let dialer = Dialer::new(&endpoints, &options)?;
        let link = link::connect(&dialer, 0, false).await?;
        let (commands, received) = mpsc::channel(MAX_QUEUED);
        let (subscribers, shared) = (Subscribers::default(), Arc::new(Shared::new()));
        let setup = Setup {
            endpoints,
            dialer,
            options: options.clone(),
            subscribers: subscribers.clone(),
            shared: shared.clone(),
        };
        tokio::spawn(connection::run(setup, link, received));
        Ok(Self { options, commands, subscribers, shared })
    }

    /// Returns the latest value of a key.
    ///
    /// If the future is dropped, nothing changes.
    ///
    /// # Errors
    /// [`GetError::NotFound`] if the key does not exist, [`GetError::Request`] if the request failed.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Versioned, GetError> {
        match self.request(Request::Get { key: key.into() }).await? {
            Response::Value(found) => Ok(found),
            other => Err(Failure::Response(other).into()),
        }
    }

    /// Writes a key. `version` is the version that the value gets: the current version plus 1, or 1 for a new key.
    ///
    /// If the future is dropped, the write may still be accepted.
    ///
    /// # Errors
    /// [`PutError::StalePut`] if `version` is not the next version. [`PutError::OutcomeUnknown`] if the connection was
    /// lost, or the time limit expired, while the write was in flight. With any other error nothing was written.
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>, version: Version) -> Result<(), PutError> {
        self.write(Request::Put { key: key.into(), value: value.into(), version }).await
    }

    /// Deletes a key. `version` is the version that the tombstone gets: the current version plus 1. The next write of the
    /// key must carry the version of the tombstone plus 1.
    ///
    /// If the future is dropped, the deletion may still be accepted.
    ///
    /// # Errors
    /// As for [`Client::put`]. [`RequestError::BaseOnly`] if the server does not support deletions.
    pub async fn delete(&self, key: impl Into<Bytes>, version: Version) -> Result<(), PutError> {
        self.write(Request::Delete { key: key.into(), version }).await
    }

    async fn write(&self, request: Request) -> Result<(), PutError> {
        match self.request(request).await? {
            Response::Written => Ok(()),
            other => Err(Failure::Response(other).into()),
        }
    }

    /// Waits until all replicas of this client show everything that was committed, by any client, before the call. Returns
    /// a revision that includes all of that.
    ///
    /// If the future is dropped, nothing changes.
    ///
    /// # Errors
    /// [`RequestError::Unavailable`] if the server does not respond in time, and any other [`RequestError`].
    pub async fn barrier(&self) -> Result<Revision, RequestError> {
        match self.request(Request::Barrier).await? {
            Response::Passed { revision } => Ok(revision),
            other => Err(Failure::Response(other).into()),
        }
    }

    /// Returns at most `limit` keys under a prefix, in key order, starting strictly after the key `after`. If it returns
    /// fewer keys than `limit`, there are no more.
    ///
    /// If the future is dropped, nothing changes.
    ///
    /// # Errors
    /// [`RequestError`] if the request failed.
    pub async fn list(
        &self,
        prefix: impl Into<Bytes>,
        after: impl Into<Bytes>,
        limit: u32,
    ) -> Result<Vec<(Bytes, Versioned)>, RequestError> {
        match self.request(Request::List { prefix: prefix.into(), after: after.into(), limit }).await? {
            Response::Listed { entries } => Ok(entries),
            other => Err(Failure::Response(other).into()),
        }
    }

    /// Returns the status of the server: a JSON object. Later versions of the server may add fields. A user that is no admin
    /// gets `accepts_writes` and `reason` only.
    ///
    /// If the future is dropped, nothing changes.
    ///
    /// # Errors
    /// [`RequestError`] if the request failed.
    pub async fn status(&self) -> Result<String, RequestError> {
        match self.request(Request::Status).await? {
            Response::Status { text } => Ok(text),
            other => Err(Failure::Response(other).into()),
        }
    }

    /// Returns why the client has given up for good, or `None` if it has not; see [Refusals](Client#refusals).
    pub fn refusal(&self) -> Option<RequestError> {
        self.shared.given_up().cloned()
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn subscribe_to_changes(&self) -> mpsc::Receiver<Change> {
        self.subscribers.add(self.options.max_waiting_changes)
    }

    pub(crate) async fn request(&self, request: Request) -> Result<Response, Failure> {
        self.request_within(request, self.options.request_timeout).await
    }

    pub(crate) async fn request_within(&self, request: Request, limit: Duration) -> Result<Response, Failure> {
        let deadline = Instant::now() + limit;
        let timed_out = || match self.shared.connect_error() {
            None => format!("no answer within {limit:?}"),
            Some(error) => format!("no answer within {limit:?}: {error}"),
        };
        let (reply, response) = oneshot::channel();
        let guard = SendGuard::default();
        let command = Command { request, reply, guard: guard.clone() };
        match timeout_at(deadline, self.commands.send(command)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => {
                let given_up = self.refusal().map(Failure::GivenUp);
                return Err(given_up.unwrap_or_else(|| Failure::NotSent { reason: RUNTIME_GONE.into() }));
            }
            Err(_) => return Err(Failure::NotSent { reason: timed_out() }),
        }
        match timeout_at(deadline, response).await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => Err(Failure::NoResponse { reason: RUNTIME_GONE.into() }),
            Err(_) => match guard.cancel() {
                Cancelled::NotSent => Err(Failure::NotSent { reason: timed_out() }),
                Cancelled::InFlight => Err(Failure::NoResponse { reason: timed_out() }),
            },
        }
    }
}

const RUNTIME_GONE: &str = "the runtime of the client has shut down";
