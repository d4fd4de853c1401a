//! Transactions: checks, puts and deletions that are accepted together, or not at all.

use crate::TxnError;
use crate::client::Client;
use crate::failure::Failure;
use bytes::Bytes;
use syncline_core::Operation;
use syncline_core::client::{Request, Response};
use syncline_wire::{Revision, Version};

/// Checks, puts and deletions that are accepted together, under one revision, or not at all. Made by [`Client::txn`].
///
/// A key may stand in it once. At most 1,024 operations, and 1 MiB in all where the server takes no larger entries.
///
/// ```no_run
/// # async fn run(client: syncline_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use syncline_client::Version;
/// let revision = client
///     .txn()
///     .check("dir", Version::new(4)) // the directory is still what it was
///     .put("dir/new", "file", Version::new(1))
///     .delete("dir/old", Version::new(8))
///     .commit()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing is written before it is committed"]
pub struct Txn {
    client: Client,
    operations: Vec<Operation>,
}

impl Txn {
    pub(crate) const fn new(client: Client) -> Self {
        Self { client, operations: Vec::new() }
    }

    /// Only where the key is at exactly this version; [`Version::ABSENT`]: it is not there. Nothing is written.
    pub fn check(mut self, key: impl Into<Bytes>, version: Version) -> Self {
        self.operations.push(Operation::Check { key: key.into(), version });
        self
    }

    /// Writes a key: see [`Client::put`].
    pub fn put(mut self, key: impl Into<Bytes>, value: impl Into<Bytes>, version: Version) -> Self {
        self.operations.push(Operation::Put { key: key.into(), value: value.into(), version });
        self
    }

    /// Deletes a key: see [`Client::delete`].
    pub fn delete(mut self, key: impl Into<Bytes>, version: Version) -> Self {
        self.operations.push(Operation::Delete { key: key.into(), version });
        self
    }

    /// Has all of it done, or nothing; answers the revision that all its writes have.
    ///
    /// # Errors
    /// [`TxnError::StaleKey`] names the first key that is at another version, [`TxnError::OutcomeUnknown`] where the
    /// connection was lost meanwhile, and others, which all mean that nothing was written.
    pub async fn commit(self) -> Result<Revision, TxnError> {
        match self.client.request(Request::Txn { operations: self.operations }).await? {
            Response::Committed { revision } => Ok(revision),
            other => Err(Failure::Answered(other).into()),
        }
    }
}
