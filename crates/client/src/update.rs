//! Read-modify-write with retry.

use crate::client::Client;
use crate::error::{GetError, PutError, UpdateError};
use bytes::Bytes;
use syncline_core::client::Versioned;
use syncline_wire::Version;

/// The number of attempts of [`Client::update`]. Each failed attempt means that another writer made progress.
const MAX_ATTEMPTS: usize = 256;

impl Client {
    /// Reads a key, computes a new value from the old one, and writes it. If another writer changed the key meanwhile, it
    /// tries again. Returns what was written.
    ///
    /// `change` receives `None` if the key does not exist. It may be called many times.
    ///
    /// **Guarantee:** no update is lost. The written value was computed from the value that it replaces.
    ///
    /// If the future is dropped, the value may still be written.
    ///
    /// # Errors
    /// [`UpdateError::Get`] or [`UpdateError::Put`] if the key cannot be read or written. [`UpdateError::Contended`] if
    /// other writers were faster 256 times.
    pub async fn update<V: Into<Bytes>>(
        &self,
        key: impl Into<Bytes>,
        mut change: impl FnMut(Option<&Bytes>) -> V,
    ) -> Result<Versioned, UpdateError> {
        self.try_update(key, |old| Ok::<_, UpdateError>(change(old))).await
    }

    /// Updates a key as [`Client::update`] does, with a `change` that may fail. If it fails, nothing is written.
    ///
    /// If the future is dropped, the value may still be written.
    ///
    /// # Errors
    /// The error of `change`, and the errors of [`Client::update`].
    pub async fn try_update<V: Into<Bytes>, E: From<UpdateError>>(
        &self,
        key: impl Into<Bytes>,
        mut change: impl FnMut(Option<&Bytes>) -> Result<V, E>,
    ) -> Result<Versioned, E> {
        let key = key.into();
        for _ in 0..MAX_ATTEMPTS {
            let (old, current) = match self.get(key.clone()).await {
                Ok(Versioned { value, version }) => (Some(value), version),
                Err(GetError::NotFound { deleted_at }) => (None, deleted_at.unwrap_or(Version::ABSENT)),
                Err(error) => return Err(UpdateError::Get(error).into()),
            };
            let value = change(old.as_ref())?.into();
            // At the maximum version, the server refuses the write with a text that explains why.
            let version = current.next().unwrap_or(Version::MAX);
            match self.put(key.clone(), value.clone(), version).await {
                Ok(()) => return Ok(Versioned { value, version }),
                Err(PutError::StalePut) => {}
                Err(error) => return Err(UpdateError::Put(error).into()),
            }
        }
        Err(UpdateError::Contended { attempts: MAX_ATTEMPTS }.into())
    }
}
