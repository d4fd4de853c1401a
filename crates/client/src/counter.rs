//! A counter that many share.

use crate::{Client, GetError, UpdateError};
use bytes::Bytes;
use thiserror::Error;

/// A number under a key, in decimal, which many may add to.
///
/// **Guarantee:** what was added with success is in it, once. Whatever number an addition answers, no other addition has
/// started from the same. Where one ends with an unknown outcome, it is in it once or not at all.
///
/// ```no_run
/// # async fn run(client: syncline_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use syncline_client::Counter;
/// let visits = Counter::new(client, "visits");
/// println!("visit number {}", visits.add(1).await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Counter {
    client: Client,
    key: Bytes,
}

/// A counter could not be read or added to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CounterError {
    /// The key holds something else.
    #[error("expected a number in decimal, found {found} bytes that are none")]
    NoNumber {
        /// How many bytes it holds.
        found: usize,
    },
    /// The sum is more than an `i64` holds. Nothing was written.
    #[error("{found} and {added} together are more than a counter can hold")]
    Overflow {
        /// What it holds.
        found: i64,
        /// What was to be added.
        added: i64,
    },
    /// The key could not be read.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The key could not be updated.
    #[error(transparent)]
    Update(#[from] UpdateError),
}

impl Counter {
    /// The counter under this key; one that is not there is at 0.
    pub fn new(client: Client, key: impl Into<Bytes>) -> Self {
        Self { client, key: key.into() }
    }

    /// Adds to it, and answers the sum.
    ///
    /// # Errors
    /// [`CounterError`]. Where it wraps an unknown outcome, this may have been added or not.
    pub async fn add(&self, added: i64) -> Result<i64, CounterError> {
        let mut sum = 0;
        let change = |old: Option<&Bytes>| {
            let found = number(old)?;
            sum = found.checked_add(added).ok_or(CounterError::Overflow { found, added })?;
            Ok::<_, CounterError>(sum.to_string())
        };
        self.client.try_update(self.key.clone(), change).await?;
        Ok(sum)
    }

    /// Where it is.
    ///
    /// # Errors
    /// [`CounterError`].
    pub async fn get(&self) -> Result<i64, CounterError> {
        match self.client.get(self.key.clone()).await {
            Ok(found) => number(Some(&found.value)),
            Err(GetError::NotFound { .. }) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

fn number(value: Option<&Bytes>) -> Result<i64, CounterError> {
    let Some(value) = value else { return Ok(0) };
    let number = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.ok_or(CounterError::NoNumber { found: value.len() })
}
