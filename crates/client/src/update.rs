//! Read, change, write: the recipe under all others.

use crate::{Client, GetError, PutError, UpdateError};
use bytes::Bytes;
use syncline_core::client::Versioned;
use syncline_wire::Version;

/// How often [`Client::update`] tries: each attempt that fails means that somebody else's has not.
const MAX_ATTEMPTS: usize = 256;

impl Client {
    /// Reads a key, has `change` make a new value of the old one (`None`: it is not there), and writes that; again where
    /// somebody else was faster. Answers what was written.
    ///
    /// **Guarantee:** no update is lost: what is written was made of the value that it replaces. `change` may be called
    /// many times.
    ///
    /// # Errors
    /// [`UpdateError`] where the key can't be read or written, or others were faster 256 times.
    pub async fn update<V: Into<Bytes>>(
        &self,
        key: impl Into<Bytes>,
        mut change: impl FnMut(Option<&Bytes>) -> V,
    ) -> Result<Versioned, UpdateError> {
        self.try_update(key, |old| Ok::<_, UpdateError>(change(old))).await
    }

    /// As [`Client::update`], where `change` may refuse: then nothing is written.
    ///
    /// # Errors
    /// That of `change`, and those of [`Client::update`].
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
            // The last version is refused by the server, which says so better.
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
