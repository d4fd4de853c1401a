//! Leader election by compare-and-swap.

use crate::{Client, GetError, PutError, Replica, RequestError, TxnError};
use bytes::Bytes;
use syncline_wire::{Revision, Version};
use thiserror::Error;

/// An election: whoever's name the key holds is the leader.
///
/// **Guarantee:** of the candidates of a key, each with a name of its own, at most one holds it at any revision; and each
/// [`Leadership`] has a larger [`token`](Leadership::token) than all before it. A leader whose key was deleted by somebody
/// else does not know at once that it leads no more: so let what it writes to be told the token, and refuse a smaller one
/// than the largest that it was told.
///
/// There are no leases yet: a leader that dies keeps the key until it comes back with its name, which takes it over, or an
/// operator deletes the key.
#[derive(Debug)]
pub struct Election {
    replica: Replica,
    key: Bytes,
}

/// A candidate could not find out whether it leads, or could not resign.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ElectionError {
    /// The key could not be watched.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The key could not be read.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The key could not be taken.
    #[error(transparent)]
    Txn(#[from] TxnError),
    /// The key could not be given up.
    #[error(transparent)]
    Put(#[from] PutError),
}

/// Somebody was elected, and this is the proof.
#[derive(Clone, Debug)]
pub struct Leadership {
    replica: Replica,
    key: Bytes,
    version: Version,
    token: Revision,
}

impl Election {
    /// The election whose leader's name stands under `key`.
    ///
    /// # Errors
    /// [`ElectionError::Request`] where the key can't be watched.
    pub async fn new(client: &Client, key: impl Into<Bytes>) -> Result<Self, ElectionError> {
        let key = key.into();
        Ok(Self { replica: client.watch(key.clone()).await?, key })
    }

    /// Who leads, as far as is known here.
    pub fn leader(&self) -> Option<Bytes> {
        self.replica.get(&self.key).map(|found| found.value)
    }

    /// Waits until the key is free, and takes it. `name` is the candidate's own: one that holds the key already, from a
    /// life before, has it again at once, with a new token. May be cancelled; then it may have been elected.
    ///
    /// # Errors
    /// [`ElectionError`] where the server can't be asked. An unknown outcome is none: it is found out.
    pub async fn campaign(&mut self, name: impl Into<Bytes>) -> Result<Leadership, ElectionError> {
        let (name, client) = (name.into(), self.replica.client().clone());
        loop {
            let current = match client.get(self.key.clone()).await {
                Ok(found) if found.value != name => {
                    self.wait_until_free(found.version).await;
                    continue;
                }
                Ok(found) => found.version,
                Err(GetError::NotFound { deleted_at }) => deleted_at.unwrap_or(Version::ABSENT),
                Err(error) => return Err(error.into()),
            };
            let version = current.next().unwrap_or(Version::MAX);
            match client.txn().put(self.key.clone(), name.clone(), version).commit().await {
                Ok(token) => {
                    return Ok(Leadership { replica: self.replica.clone(), key: self.key.clone(), version, token });
                }
                // Somebody else was faster; or it was this one, and is found to be.
                Err(TxnError::StaleKey { .. } | TxnError::OutcomeUnknown { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until the key is known not to be as it was at this version, nor older.
    async fn wait_until_free(&mut self, version: Version) {
        let mut was_seen = false;
        loop {
            match self.replica.get(&self.key) {
                // An older one will be followed by that one, a later one by its end.
                Some(found) => was_seen = found.version >= version,
                None if was_seen => return,
                // The replica may not have got there yet: the server knows.
                None => {
                    if !matches!(self.replica.client().get(self.key.clone()).await, Ok(found) if found.version == version)
                    {
                        return;
                    }
                }
            }
            self.replica.changed().await;
        }
    }
}

impl Leadership {
    /// Grows with each leadership of this key: the revision at which it began.
    pub const fn token(&self) -> Revision {
        self.token
    }

    /// Whether it goes on, as far as is known here. While the connection is lost, it may have ended without this being
    /// known.
    pub fn is_held(&self) -> bool {
        self.replica.get(&self.key).is_some_and(|found| found.version == self.version)
    }

    /// Waits until it has ended: somebody has deleted or taken the key.
    pub async fn lost(&mut self) {
        while self.is_held() {
            self.replica.changed().await;
        }
    }

    /// Ends it: the key is deleted, and the next candidate has it.
    ///
    /// # Errors
    /// [`ElectionError::Put`]; with [`PutError::StalePut`], it had ended before.
    pub async fn resign(self) -> Result<(), ElectionError> {
        let version = self.version.next().unwrap_or(Version::MAX);
        Ok(self.replica.client().delete(self.key.clone(), version).await?)
    }
}
