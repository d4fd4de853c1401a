//! A counter that many clients share.

use crate::client::Client;
use crate::error::{GetError, RequestError, UpdateError};
use bytes::Bytes;
use thiserror::Error;

/// A counter that many clients may add to. Its key holds the number in decimal.
///
/// **Guarantee:** each successful addition is counted exactly once, and no two additions start from the same number. An
/// addition with an unknown outcome is counted once or not at all.
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

/// A counter could not be read or changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CounterError {
    /// The value of the key is not a number. Nothing was written.
    #[error("expected a decimal number, found {found} bytes of something else")]
    NotANumber {
        /// The length of the value, in bytes.
        found: usize,
    },
    /// The sum does not fit into an `i64`. Nothing was written.
    #[error("expected a sum that fits into 64 bits, found {found} plus {added}")]
    Overflow {
        /// The current number.
        found: i64,
        /// The number to add.
        added: i64,
    },
    /// The counter could not be read.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The counter could not be changed, or the outcome is unknown.
    #[error(transparent)]
    Update(#[from] UpdateError),
}

impl Counter {
    /// Returns the counter under this key. A key that does not exist counts as 0.
    pub fn new(client: Client, key: impl Into<Bytes>) -> Self {
        Self { client, key: key.into() }
    }

    /// Adds a number, and returns the sum.
    ///
    /// If the future is dropped, the number may still be added.
    ///
    /// # Errors
    /// [`CounterError::NotANumber`], [`CounterError::Overflow`] or [`CounterError::Update`]. If the last one wraps
    /// [`PutError::OutcomeUnknown`](crate::PutError::OutcomeUnknown), the number was added or not.
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

    /// Returns the current number.
    ///
    /// If the future is dropped, nothing changes.
    ///
    /// # Errors
    /// [`CounterError::NotANumber`] or [`CounterError::Request`].
    pub async fn get(&self) -> Result<i64, CounterError> {
        match self.client.get(self.key.clone()).await {
            Ok(found) => number(Some(&found.value)),
            Err(GetError::NotFound { .. }) => Ok(0),
            Err(GetError::Request(error)) => Err(error.into()),
        }
    }
}

fn number(value: Option<&Bytes>) -> Result<i64, CounterError> {
    let Some(value) = value else { return Ok(0) };
    let number = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.ok_or(CounterError::NotANumber { found: value.len() })
}
