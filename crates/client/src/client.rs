//! The handle that users hold.

use crate::changes::{Changes, Readers};
use crate::connection::{self, Command, Setup};
use crate::dialer::Dialer;
use crate::failure::Failure;
use crate::link;
use crate::send_guard::{SendGuard, Withdrawn};
use crate::shared::Shared;
use crate::{ConnectError, Endpoints, GetError, Options, Pages, PutError, Replica, RequestError, Txn};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use syncline_core::client::{Request, Response, Versioned};
use syncline_wire::{Revision, Version};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// How many requests wait for the connection's task; more wait with their callers.
const MAX_WAITING: usize = 1024;

/// A handle on a connection to a Syncline server. Cheap to clone; all clones share the connection, which ends with the
/// last of them.
///
/// Every request ends within [`Options::request_timeout`], a [`watch`](Client::watch) within [`Options::watch_timeout`].
/// Reads that were in flight when the connection was lost are asked again on the next one; writes are not, for their fate
/// is not known: they end with [`PutError::OutcomeUnknown`].
///
/// A server that speaks only the base protocol is spoken to in that: [`get`](Client::get), [`put`](Client::put),
/// [`update`](Client::update) and [`changes`](Client::changes) work, all else ends with [`BaseOnly`](crate::BaseOnly).
#[derive(Clone)]
pub struct Client {
    options: Arc<Options>,
    commands: mpsc::Sender<Command>,
    readers: Readers,
    shared: Arc<Shared>,
}

impl Client {
    /// Connects to a server at an [`Endpoint`](crate::Endpoint), or to the first that answers of several. Must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// [`ConnectError`] where the first attempt fails, with each of them. Later, a lost connection is made again by itself.
    pub async fn connect(endpoints: impl Into<Endpoints>) -> Result<Self, ConnectError> {
        Self::connect_with(endpoints, Options::default()).await
    }

    /// As [`Client::connect`], with other options than the default ones.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_with(endpoints: impl Into<Endpoints>, options: Options) -> Result<Self, ConnectError> {
        let endpoints = endpoints.into();
        let options = Arc::new(options);
        let dialer = Dialer::new(&endpoints, &options)?;
        let link = link::connect(&dialer, 0, options.connect_timeout, false).await?;
        let (commands, received) = mpsc::channel(MAX_WAITING);
        let (readers, shared) = (Readers::default(), Arc::new(Shared::new()));
        let setup =
            Setup { endpoints, dialer, options: options.clone(), readers: readers.clone(), shared: shared.clone() };
        tokio::spawn(connection::run(setup, link, received));
        Ok(Self { options, commands, readers, shared })
    }

    /// The latest value of a key.
    ///
    /// # Errors
    /// [`GetError::NotFound`] where the key is not there, and others.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Versioned, GetError> {
        match self.request(Request::Get { key: key.into() }).await? {
            Response::Value(found) => Ok(found),
            other => Err(Failure::Answered(other).into()),
        }
    }

    /// Writes a key. `version` is the one that the value will have: the current one plus 1, or 1 for a new key.
    ///
    /// # Errors
    /// [`PutError::StalePut`] where that is not the next version, [`PutError::OutcomeUnknown`] where the connection was
    /// lost meanwhile, and others, which all mean that nothing was written.
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>, version: Version) -> Result<(), PutError> {
        self.write(Request::Put { key: key.into(), value: value.into(), version }).await
    }

    /// Deletes a key. `version` is the one that the deletion will have: the current one plus 1. It is remembered, so that
    /// the next write of the key has to carry that plus 1.
    ///
    /// # Errors
    /// As [`Client::put`]; [`PutError::BaseOnly`] where the server knows no deletions.
    pub async fn delete(&self, key: impl Into<Bytes>, version: Version) -> Result<(), PutError> {
        self.write(Request::Delete { key: key.into(), version }).await
    }

    async fn write(&self, request: Request) -> Result<(), PutError> {
        match self.request(request).await? {
            Response::Written => Ok(()),
            other => Err(Failure::Answered(other).into()),
        }
    }

    /// Several operations that are accepted together, or not at all: see [`Txn`].
    pub fn txn(&self) -> Txn {
        Txn::new(self.clone())
    }

    /// A replica of all keys under a prefix; the empty one: of all that there are. It is whole when this returns.
    ///
    /// # Errors
    /// [`RequestError::BaseOnly`] where the server keeps nobody up to date, and others.
    pub async fn watch(&self, prefix: impl Into<Bytes>) -> Result<Replica, RequestError> {
        let prefix = prefix.into();
        match self.request_within(Request::Watch { prefix: prefix.clone() }, self.options.watch_timeout).await? {
            Response::Watched => Ok(Replica::new(self.clone(), prefix)),
            other => Err(Failure::Answered(other).into()),
        }
    }

    /// Waits until all replicas of this client show what had been committed, by anybody, when this was called. Answers up
    /// to which revision that is so.
    ///
    /// # Errors
    /// [`RequestError::Unavailable`] where the server does not answer in time, and others.
    pub async fn barrier(&self) -> Result<Revision, RequestError> {
        match self.request(Request::Barrier).await? {
            Response::Passed { revision } => Ok(revision),
            other => Err(Failure::Answered(other).into()),
        }
    }

    /// At most `limit` keys under a prefix, in order, strictly after `after`. Fewer than that: these were all.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn list(
        &self,
        prefix: impl Into<Bytes>,
        after: impl Into<Bytes>,
        limit: u32,
    ) -> Result<Vec<(Bytes, Versioned)>, RequestError> {
        match self.request(Request::List { prefix: prefix.into(), after: after.into(), limit }).await? {
            Response::Listed { entries } => Ok(entries),
            other => Err(Failure::Answered(other).into()),
        }
    }

    /// All keys under a prefix, page by page.
    pub fn pages(&self, prefix: impl Into<Bytes>) -> Pages {
        Pages::new(self.clone(), prefix.into())
    }

    /// How the server is: a JSON object, to which fields may be added.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn status(&self) -> Result<String, RequestError> {
        match self.request(Request::Status).await? {
            Response::Status { text } => Ok(text),
            other => Err(Failure::Answered(other).into()),
        }
    }

    /// What others write from now on, in the order of the commits. This client's own writes are not among it: they are
    /// answered. It may begin with what was written before, by anybody, since the client was connected; and while a
    /// [replica](Client::watch) is filled, it may tell again of a key that has not changed.
    pub fn changes(&self) -> Changes {
        let changes = Changes::new(self.readers.add(self.options.max_waiting_changes), self.clone());
        self.shared.follow();
        changes
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) async fn request(&self, request: Request) -> Result<Response, Failure> {
        self.request_within(request, self.options.request_timeout).await
    }

    async fn request_within(&self, request: Request, within: Duration) -> Result<Response, Failure> {
        let deadline = Instant::now() + within;
        let too_late = || match self.shared.trouble() {
            None => format!("no answer within {within:?}"),
            Some(trouble) => format!("no answer within {within:?}: {trouble}"),
        };
        let (reply, answer) = oneshot::channel();
        let guard = SendGuard::default();
        let command = Command { request, reply, guard: guard.clone() };
        match timeout_at(deadline, self.commands.send(command)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Failure::NotSent { reason: RUNTIME_GONE.into() }),
            Err(_) => return Err(Failure::NotSent { reason: too_late() }),
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Failure::Lost { reason: RUNTIME_GONE.into() }),
            Err(_) => match guard.withdraw() {
                Withdrawn::NotSent => Err(Failure::NotSent { reason: too_late() }),
                Withdrawn::InFlight => Err(Failure::Lost { reason: too_late() }),
            },
        }
    }
}

const RUNTIME_GONE: &str = "the runtime that the client lives on has ended";
