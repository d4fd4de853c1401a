//! The handle that users hold.

use crate::changes::{Changes, Readers};
use crate::connection::{self, Command, Failure, Withdrawal, Withdrawn};
use crate::{ConnectError, GetError, Options, PutError, UpdateError};
use bytes::Bytes;
use syncline_core::client::{Answer, Request};
use syncline_wire::Version;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// How many requests wait for the connection's task; more wait with their callers.
const MAX_WAITING: usize = 1024;

/// How often [`Client::update`] tries: each attempt that fails means that somebody else's has not.
const MAX_UPDATE_ATTEMPTS: usize = 256;

/// A handle on a connection to a Syncline server. Cheap to clone; all clones share the connection, which ends with the
/// last of them.
///
/// Every request ends within [`Options::request_timeout`]. Reads that were in flight when the connection was lost are
/// asked again on the next one; writes are not, for their fate is not known: they end with
/// [`PutError::OutcomeUnknown`].
#[derive(Clone)]
pub struct Client {
    options: Options,
    commands: mpsc::Sender<Command>,
    readers: Readers,
}

/// A value, and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// What the key holds.
    pub value: Bytes,
    /// The version of that. The next write must carry this plus 1.
    pub version: Version,
}

impl Client {
    /// Connects to a server at `HOST:PORT`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ConnectError`] where the first attempt fails. Later, a lost connection is made again by itself.
    pub async fn connect(address: impl Into<String>) -> Result<Self, ConnectError> {
        Self::connect_with(address, Options::default()).await
    }

    /// As [`Client::connect`], with other options than the default ones.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_with(address: impl Into<String>, options: Options) -> Result<Self, ConnectError> {
        let address = address.into();
        let stream = connection::connect(&address, options.connect_timeout).await?;
        let (commands, received) = mpsc::channel(MAX_WAITING);
        let readers = Readers::default();
        tokio::spawn(connection::run(address, options, stream, received, readers.clone()));
        Ok(Self { options, commands, readers })
    }

    /// The latest value of a key.
    ///
    /// # Errors
    /// [`GetError::NotFound`] where the key is not there, and others.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Versioned, GetError> {
        match self.request(Request::Get { key: key.into() }).await {
            Ok(Answer::Value { value, version }) => Ok(Versioned { value, version }),
            Ok(Answer::NotFound { deleted_at }) => Err(GetError::NotFound { deleted_at }),
            Ok(Answer::TooLarge { text }) => Err(GetError::TooLarge { text }),
            Ok(Answer::Unavailable { reason }) => Err(GetError::Unavailable { reason }),
            Ok(Answer::Refused { text }) => Err(GetError::Refused { text }),
            Ok(Answer::Written | Answer::Stale) => Err(GetError::Refused { text: "an answer to a PUT".into() }),
            Err(Failure::BadMessage(bad)) => Err(GetError::TooLarge { text: bad.to_string() }),
            Err(Failure::NotSent { reason } | Failure::Lost { reason }) => Err(GetError::Unavailable { reason }),
        }
    }

    /// Writes a key. `version` is the one that the value will have: the current one plus 1, or 1 for a new key.
    ///
    /// # Errors
    /// [`PutError::StalePut`] where that is not the next version, [`PutError::OutcomeUnknown`] where the connection was
    /// lost meanwhile, and others, which all mean that nothing was written.
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>, version: Version) -> Result<(), PutError> {
        match self.request(Request::Put { key: key.into(), value: value.into(), version }).await {
            Ok(Answer::Written) => Ok(()),
            Ok(Answer::Stale) => Err(PutError::StalePut),
            Ok(Answer::TooLarge { text }) => Err(PutError::TooLarge { text }),
            Ok(Answer::Unavailable { reason }) => Err(PutError::Unavailable { reason }),
            Ok(Answer::Refused { text }) => Err(PutError::Refused { text }),
            Ok(Answer::Value { .. } | Answer::NotFound { .. }) => {
                Err(PutError::Refused { text: "an answer to a GET".into() })
            }
            Err(Failure::BadMessage(bad)) => Err(PutError::TooLarge { text: bad.to_string() }),
            Err(Failure::NotSent { reason }) => Err(PutError::Unavailable { reason }),
            Err(Failure::Lost { reason }) => Err(PutError::OutcomeUnknown { reason }),
        }
    }

    /// Reads a key, has `change` make a new value of the old one (`None`: it is not there), and writes that; again where
    /// somebody else was faster. Answers what was written.
    ///
    /// No update is lost: what is written was made of the value that it replaces. `change` may be called many times.
    ///
    /// # Errors
    /// [`UpdateError`] where the key can't be read or written, or others were faster 256 times.
    pub async fn update<V: Into<Bytes>>(
        &self,
        key: impl Into<Bytes>,
        mut change: impl FnMut(Option<&Bytes>) -> V,
    ) -> Result<Versioned, UpdateError> {
        let key = key.into();
        for _ in 0..MAX_UPDATE_ATTEMPTS {
            let (old, current) = match self.get(key.clone()).await {
                Ok(Versioned { value, version }) => (Some(value), version),
                Err(GetError::NotFound { deleted_at }) => (None, deleted_at.unwrap_or(Version::ABSENT)),
                Err(error) => return Err(UpdateError::Get(error)),
            };
            let value = change(old.as_ref()).into();
            // The last version is refused by the server, which says so better.
            let version = current.next().unwrap_or(Version::MAX);
            match self.put(key.clone(), value.clone(), version).await {
                Ok(()) => return Ok(Versioned { value, version }),
                Err(PutError::StalePut) => {}
                Err(error) => return Err(UpdateError::Put(error)),
            }
        }
        Err(UpdateError::Contended { attempts: MAX_UPDATE_ATTEMPTS })
    }

    /// What others write from now on, in the order of the commits. This client's own writes are not among it: they are
    /// answered.
    pub fn changes(&self) -> Changes {
        Changes::new(self.readers.add(self.options.max_waiting_changes), self.clone())
    }

    async fn request(&self, request: Request) -> Result<Answer, Failure> {
        let deadline = Instant::now() + self.options.request_timeout;
        let too_late = || format!("no answer within {:?}", self.options.request_timeout);
        let (reply, answer) = oneshot::channel();
        let withdrawal = Withdrawal::default();
        let command = Command { request, reply, withdrawal: withdrawal.clone() };
        match timeout_at(deadline, self.commands.send(command)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Failure::NotSent { reason: RUNTIME_GONE.into() }),
            Err(_) => return Err(Failure::NotSent { reason: too_late() }),
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Failure::Lost { reason: RUNTIME_GONE.into() }),
            Err(_) => match withdrawal.withdraw() {
                Withdrawn::NotSent => Err(Failure::NotSent { reason: too_late() }),
                Withdrawn::InFlight => Err(Failure::Lost { reason: too_late() }),
            },
        }
    }
}

const RUNTIME_GONE: &str = "the runtime that the client lives on has ended";
