//! Transactions: checks, writes and deletions that are committed together.

use crate::client::Client;
use crate::error::TxnError;
use crate::failure::Failure;
use bytes::Bytes;
use syncline_core::Operation;
use syncline_core::client::{Request, Response};
use syncline_wire::{Revision, Version};

/// Checks, writes and deletions that are committed together under one revision, or not at all. [`Client::txn`] creates it.
///
/// Each key may occur once. A transaction has at most 1,024 operations. Its total size is limited to 1 MiB, or to the
/// largest entry that the server accepts if that is more.
///
/// ```no_run
/// # async fn run(client: syncline_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use syncline_client::Version;
/// let revision = client
///     .txn()
///     .check("dir", Version::new(4)) // the directory has not changed
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

impl Client {
    /// Returns an empty transaction. Nothing is sent before [`Txn::commit`].
    pub fn txn(&self) -> Txn {
        Txn { client: self.clone(), operations: Vec::new() }
    }
}

impl Txn {
    /// Adds a check: the transaction is accepted only if the key is at exactly this version. [`Version::ABSENT`] means that
    /// the key does not exist. A check writes nothing.
    pub fn check(mut self, key: impl Into<Bytes>, version: Version) -> Self {
        self.operations.push(Operation::Check { key: key.into(), version });
        self
    }

    /// Adds a write; see [`Client::put`].
    pub fn put(mut self, key: impl Into<Bytes>, value: impl Into<Bytes>, version: Version) -> Self {
        self.operations.push(Operation::Put { key: key.into(), value: value.into(), version });
        self
    }

    /// Adds a deletion; see [`Client::delete`].
    pub fn delete(mut self, key: impl Into<Bytes>, version: Version) -> Self {
        self.operations.push(Operation::Delete { key: key.into(), version });
        self
    }

    /// Commits all operations, or nothing. Returns the revision of all writes.
    ///
    /// If the future is dropped, the transaction may still be committed.
    ///
    /// # Errors
    /// [`TxnError::StaleKey`] with the first key that is at another version. [`TxnError::OutcomeUnknown`] if the connection
    /// was lost, or the time limit expired, while the transaction was in flight. With any other error nothing was written.
    pub async fn commit(self) -> Result<Revision, TxnError> {
        match self.client.request(Request::Txn { operations: self.operations }).await? {
            Response::Committed { revision } => Ok(revision),
            other => Err(Failure::Response(other).into()),
        }
    }
}
