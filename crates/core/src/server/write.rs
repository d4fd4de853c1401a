//! The writes that a client asks for: PUT, DELETE, PUTL and TXN.

use super::Limits;
use crate::commit_batch::Dialect;
use crate::{Operation, text};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeSet;
use std::sync::Arc;
use syncline_wire::{Delete, EncodeError, Mark, Message, Put, PutLarge, Revision, Tag, Txn, Version};

/// Operations that a client asks for, within the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) tag: Tag,
    pub(super) operations: Arc<[Operation]>,
    /// Whether they came as a TXN.
    is_txn: bool,
}

impl Write {
    /// # Errors
    /// The text that refuses what the protocol or the limits don't allow.
    pub(super) fn put(Put { tag, key, value, version }: Put, limits: &Limits) -> Result<Self, Bytes> {
        // What one PUT may carry, whatever the limit of an entry: decoders exist that die of more.
        let max = limits.max_entry.min(Limits::MAX_PUT);
        check_put(&key, &value, version, limits, max)?;
        Ok(Self::one(tag, put(&key, &value, version)))
    }

    /// # Errors
    /// As [`Write::put`].
    pub(super) fn put_large(PutLarge { tag, key, value, version }: PutLarge, limits: &Limits) -> Result<Self, Bytes> {
        check_put(&key, &value, version, limits, limits.max_entry)?;
        let length = key.len() + value.len();
        if length <= Limits::MAX_PUT {
            return Err(text::belongs_in_a_put(length));
        }
        Ok(Self::one(tag, put(&key, &value, version)))
    }

    /// # Errors
    /// As [`Write::put`].
    pub(super) fn delete(Delete { tag, key, version }: Delete, limits: &Limits) -> Result<Self, Bytes> {
        check_key(&key, limits)?;
        Ok(Self::one(tag, Operation::Delete { key: copied(&key), version }))
    }

    /// # Errors
    /// As [`Write::put`].
    pub(super) fn txn(Txn { tag, operations }: Txn, limits: &Limits) -> Result<Self, Bytes> {
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
        Ok(Self { tag, operations: operations.iter().map(owned).collect(), is_txn: true })
    }

    fn one(tag: Tag, operation: Operation) -> Self {
        Self { tag, operations: [operation].into(), is_txn: false }
    }

    /// The bytes that it takes: while it is undecided, and as an answer.
    pub(super) fn bytes(&self) -> usize {
        self.operations.iter().map(|operation| Put::OVERHEAD + operation.bytes()).sum()
    }

    /// Appends the answer to one that was accepted as `revision`: its writes, and where it came as a TXN, the revision.
    pub(super) fn encode_accepted(&self, out: &mut BytesMut, revision: Revision) -> Result<(), EncodeError> {
        for operation in &*self.operations {
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

    /// The answer to one that was refused, for the operation of this index.
    pub(super) fn stale(&self, operation: usize) -> Message {
        match self.operations.get(operation) {
            Some(at_fault) if self.is_txn => Message::error(self.tag, text::stale_key(at_fault.key())),
            _ => Message::error(self.tag, text::STALE_PUT),
        }
    }
}

/// Returns the operation with memory of its own: see [`copied`].
fn owned(operation: &Operation) -> Operation {
    match operation {
        Operation::Check { key, version } => Operation::Check { key: copied(key), version: *version },
        Operation::Put { key, value, version } => put(key, value, *version),
        Operation::Delete { key, version } => Operation::Delete { key: copied(key), version: *version },
    }
}

fn put(key: &Bytes, value: &Bytes, version: Version) -> Operation {
    let mut both = BytesMut::with_capacity(key.len() + value.len());
    both.extend_from_slice(key);
    both.extend_from_slice(value);
    let mut value = both.freeze();
    Operation::Put { key: value.split_to(key.len()), value, version }
}

/// # Errors
/// The text that refuses a key over the limit.
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

/// Bytes on their own. What came in shares the memory of all that was read with it, which may be a thousand times more
/// than what is counted here.
pub(super) fn copied(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
