//! The requests that write: PUT, DELETE, PUTL and TXN. All of them are transactions.

use super::limits::Limits;
use crate::commit_batch::Dialect;
use crate::{ConnId, Operation, Transaction, text};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeSet;
use syncline_wire::{Delete, EncodeError, Mark, Message, Put, PutLarge, Revision, Tag, Txn, Version};

/// A transaction that a client requests, within the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) tag: Tag,
    pub(super) transaction: Transaction,
    /// Whether the request was a TXN, whose response ends with a MARK.
    is_txn: bool,
}

impl Write {
    /// Returns the write that a PUT of connection `origin` requests.
    ///
    /// # Errors
    /// The text of an ERROR if the protocol or the limits do not allow it.
    pub(super) fn put(origin: ConnId, put: Put, limits: &Limits) -> Result<Self, Bytes> {
        let Put { tag, key, value, version } = put;
        // Decoders exist that a larger PUT kills, whatever the configured limit is.
        let max = limits.max_entry.min(Limits::MAX_PUT);
        check_put(&key, &value, version, limits, max)?;
        Ok(Self::one(origin, tag, owned_put(&key, &value, version)))
    }

    /// As [`Write::put`].
    ///
    /// # Errors
    /// As [`Write::put`].
    pub(super) fn put_large(origin: ConnId, put: PutLarge, limits: &Limits) -> Result<Self, Bytes> {
        let PutLarge { tag, key, value, version } = put;
        check_put(&key, &value, version, limits, limits.max_entry)?;
        let length = key.len() + value.len();
        if length <= Limits::MAX_PUT {
            return Err(text::belongs_in_a_put(length));
        }
        Ok(Self::one(origin, tag, owned_put(&key, &value, version)))
    }

    /// As [`Write::put`].
    ///
    /// # Errors
    /// As [`Write::put`].
    pub(super) fn delete(origin: ConnId, delete: Delete, limits: &Limits) -> Result<Self, Bytes> {
        let Delete { tag, key, version } = delete;
        check_key(&key, limits)?;
        Ok(Self::one(origin, tag, Operation::Delete { key: copied(&key), version }))
    }

    /// As [`Write::put`].
    ///
    /// # Errors
    /// As [`Write::put`].
    pub(super) fn txn(origin: ConnId, txn: Txn, limits: &Limits) -> Result<Self, Bytes> {
        let Txn { tag, operations } = txn;
        let mut keys = BTreeSet::new();
        let mut bytes = 0;
        for operation in &operations {
            let key = match operation {
                Operation::Put { key, value, version } => {
                    check_put(key, value, *version, limits, limits.max_entry)?;
                    bytes += value.len();
                    key
                }
                Operation::Check { key, .. } | Operation::Delete { key, .. } => {
                    check_key(key, limits)?;
                    key
                }
            };
            bytes += key.len();
            if !keys.insert(key) {
                return Err(text::twice_in_a_transaction(key));
            }
        }
        if bytes > limits.max_transaction() {
            return Err(text::transaction_too_large(bytes, limits.max_transaction()));
        }
        let operations = operations.iter().map(owned).collect();
        Ok(Self { tag, transaction: Transaction { origin: Some(origin), operations }, is_txn: true })
    }

    fn one(origin: ConnId, tag: Tag, operation: Operation) -> Self {
        let transaction = Transaction { origin: Some(origin), operations: [operation].into() };
        Self { tag, transaction, is_txn: false }
    }

    /// Returns the bytes that the write counts as, both as a request and as a response.
    pub(super) fn bytes(&self) -> usize {
        self.transaction.operations.iter().map(|operation| Put::OVERHEAD + operation.bytes()).sum()
    }

    /// Appends the response to a write that was accepted as `revision`: its PUTs and DELETEs, and for a TXN a MARK.
    pub(super) fn encode_accepted(&self, out: &mut BytesMut, revision: Revision) -> Result<(), EncodeError> {
        for operation in &*self.transaction.operations {
            match operation {
                Operation::Check { .. } => {}
                Operation::Put { key, value, version } => {
                    Dialect::Extended.encode(out, self.tag, key, Some(value), *version)?;
                }
                Operation::Delete { key, version } => Dialect::Extended.encode(out, self.tag, key, None, *version)?,
            }
        }
        if self.is_txn {
            Message::Mark(Mark { tag: self.tag, revision }).encode(out)?;
        }
        Ok(())
    }

    /// Returns the response to a write that is stale at the operation of this index.
    pub(super) fn stale(&self, operation: usize) -> Message {
        match self.transaction.operations.get(operation) {
            Some(stale) if self.is_txn => Message::error(self.tag, text::stale_key(stale.key())),
            _ => Message::error(self.tag, text::STALE_PUT),
        }
    }
}

/// Returns the operation with memory of its own: see [`copied`].
fn owned(operation: &Operation) -> Operation {
    match operation {
        Operation::Check { key, version } => Operation::Check { key: copied(key), version: *version },
        Operation::Put { key, value, version } => owned_put(key, value, *version),
        Operation::Delete { key, version } => Operation::Delete { key: copied(key), version: *version },
    }
}

/// Returns a PUT whose key and value share one allocation of their own.
fn owned_put(key: &Bytes, value: &Bytes, version: Version) -> Operation {
    let mut both = BytesMut::with_capacity(key.len() + value.len());
    both.extend_from_slice(key);
    both.extend_from_slice(value);
    let mut value = both.freeze();
    Operation::Put { key: value.split_to(key.len()), value, version }
}

/// Checks the length of a key.
///
/// # Errors
/// The text of an ERROR if the key exceeds the limit.
pub(super) fn check_key(key: &[u8], limits: &Limits) -> Result<(), Bytes> {
    if key.len() > limits.max_key { Err(text::key_too_large(key.len(), limits.max_key)) } else { Ok(()) }
}

fn check_put(key: &[u8], value: &[u8], version: Version, limits: &Limits, max_entry: usize) -> Result<(), Bytes> {
    check_key(key, limits)?;
    let length = key.len() + value.len();
    if length > max_entry {
        return Err(text::entry_too_large(length, max_entry));
    }
    if version == Version::MAX { Err(text::VERSION_EXHAUSTED.into()) } else { Ok(()) }
}

/// Returns a copy of `bytes`. Decoded bytes share the memory of the whole input that was read with them, which may be a
/// thousand times larger than what the limits count.
pub(super) fn copied(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
