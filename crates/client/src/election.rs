//! Leader election by compare-and-swap.

use crate::client::Client;
use crate::error::{GetError, PutError, RequestError, TxnError};
use crate::replica::Replica;
use bytes::Bytes;
use syncline_wire::{Revision, Version};
use thiserror::Error;

/// An election. The value of its key is the name of the leader.
///
/// **Guarantee:** if each candidate has a unique name, at most one of them leads at any revision. Each [`Leadership`] has a
/// larger [`token`](Leadership::token) than all earlier ones.
///
/// A leader does not learn immediately that its key was deleted by another client. Use the token as a fencing token: pass
/// it to every resource that the leader writes to, and let the resource reject a token smaller than the largest one that it
/// has seen.
///
/// There are no leases yet. If a leader crashes, it keeps the key until it campaigns again under the same name, or until an
/// operator deletes the key.
#[derive(Debug)]
pub struct Election {
    replica: Replica,
    key: Bytes,
}

/// A candidate could not campaign, or a leader could not resign.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ElectionError {
    /// The key could not be watched, read, or written.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The key could not be deleted by [`Leadership::resign`].
    #[error(transparent)]
    Resign(#[from] PutError),
}

/// The leadership of a candidate that won an election.
#[derive(Clone, Debug)]
pub struct Leadership {
    replica: Replica,
    key: Bytes,
    version: Version,
    token: Revision,
}

impl Election {
    /// Opens the election under `key`.
    ///
    /// If the future is dropped, the key may still be watched for as long as the client exists.
    ///
    /// # Errors
    /// [`ElectionError::Request`] if the key cannot be watched.
    pub async fn new(client: &Client, key: impl Into<Bytes>) -> Result<Self, ElectionError> {
        let key = key.into();
        Ok(Self { replica: client.watch(key.clone()).await?, key })
    }

    /// Returns the name of the leader, as far as this client knows.
    pub fn leader(&self) -> Option<Bytes> {
        self.replica.get(&self.key).map(|found| found.value)
    }

    /// Waits until there is no leader, and becomes the leader. `name` must be unique to the candidate. If the key already
    /// holds the name, for example from before a restart, the candidate leads again at once, with a new token.
    ///
    /// If the future is dropped, the candidate may have become the leader.
    ///
    /// # Errors
    /// [`ElectionError::Request`] if the server cannot be reached, or refuses the request or the client. An unknown outcome is not an error: the
    /// candidate reads the key to find out.
    pub async fn campaign(&mut self, name: impl Into<Bytes>) -> Result<Leadership, ElectionError> {
        let (name, client) = (name.into(), self.replica.client().clone());
        loop {
            let current = match client.get(self.key.clone()).await {
                Ok(found) if found.value != name => {
                    self.wait_until_free(found.version).await?;
                    continue;
                }
                Ok(found) => found.version,
                Err(GetError::NotFound { deleted_at }) => deleted_at.unwrap_or(Version::ABSENT),
                Err(GetError::Request(error)) => return Err(error.into()),
            };
            let version = current.next().unwrap_or(Version::MAX);
            match client.txn().put(self.key.clone(), name.clone(), version).commit().await {
                Ok(token) => {
                    return Ok(Leadership { replica: self.replica.clone(), key: self.key.clone(), version, token });
                }
                // Another candidate was faster, or this one won without a response. The next read shows which.
                Err(TxnError::StaleKey { .. } | TxnError::OutcomeUnknown { .. }) => {}
                Err(TxnError::Request(error)) => return Err(error.into()),
            }
        }
    }

    /// Waits until the key is no longer at this version or an older one.
    async fn wait_until_free(&mut self, version: Version) -> Result<(), RequestError> {
        let mut was_seen = false;
        loop {
            match self.replica.get(&self.key) {
                // The replica shows this version, or will show it later, before it shows what replaces it.
                Some(found) => was_seen = found.version >= version,
                None if was_seen => return Ok(()),
                // The replica may not show this version yet, so read the key from the server.
                None => {
                    if !matches!(self.replica.client().get(self.key.clone()).await, Ok(found) if found.version == version)
                    {
                        return Ok(());
                    }
                }
            }
            self.replica.changed().await?;
        }
    }
}

impl Leadership {
    /// Returns the fencing token: the revision at which the leadership started. It grows with each leadership of the key.
    pub const fn token(&self) -> Revision {
        self.token
    }

    /// Returns whether the leadership continues, as far as this client knows. While the connection is lost, it may have ended
    /// already. A client that has given up because of a [refusal](Client#refusals) knows nothing, so it is not held.
    pub fn is_held(&self) -> bool {
        self.replica.client().refusal().is_none()
            && self.replica.get(&self.key).is_some_and(|found| found.version == self.version)
    }

    /// Waits until the leadership has ended, because another client deleted or wrote the key. Also returns if a server
    /// [refuses](Client#refusals) the client, because it then never learns of the end.
    ///
    /// Cancellation safe: the call can be repeated.
    pub async fn lost(&mut self) {
        while self.is_held() && self.replica.changed().await.is_ok() {}
    }

    /// Ends the leadership by deleting the key, so that another candidate can win.
    ///
    /// If the future is dropped, the leadership may have ended.
    ///
    /// # Errors
    /// [`ElectionError::Resign`] if the key could not be deleted. With [`PutError::StalePut`], the leadership had ended
    /// before.
    pub async fn resign(self) -> Result<(), ElectionError> {
        let version = self.version.next().unwrap_or(Version::MAX);
        Ok(self.replica.client().delete(self.key.clone(), version).await?)
    }
}
