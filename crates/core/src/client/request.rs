//! What a client can request, and the frames that carry the requests.

use bytes::Bytes;
use syncline_wire::{Message, Operation, Redacted, Revision, Tag, Version};

/// A request of a client.
#[derive(Clone, derive_more::Debug, PartialEq, Eq)]
pub enum Request {
    /// Reads the latest value of a key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Writes a key. Accepted if `version` is the current version plus 1.
    Put {
        /// The key.
        key: Bytes,
        /// The new value.
        #[debug("{:?}", Redacted(value))]
        value: Bytes,
        /// The version that the value gets.
        version: Version,
    },
    /// Deletes a key. Accepted if `version` is the current version plus 1.
    Delete {
        /// The key.
        key: Bytes,
        /// The version that the tombstone gets.
        version: Version,
    },
    /// Keeps a replica of all keys under a prefix. Completes when the replica is shown.
    Watch {
        /// The prefix.
        prefix: Bytes,
    },
    /// Reports the writes of other connections as [`Event::Change`](super::Event::Change), from HELLO on at the latest. A
    /// server of the base protocol sends them without a request. Completes when the server has started.
    Follow,
    /// Completes when all replicas show everything that was committed before the server received the request.
    Barrier,
    /// Lists keys under a prefix, in key order.
    List {
        /// The prefix.
        prefix: Bytes,
        /// Only keys strictly after this one are listed.
        after: Bytes,
        /// The maximum number of keys.
        limit: u32,
    },
    /// Commits operations as one transaction: all of them, or nothing.
    Txn {
        /// The operations. Each key occurs at most once.
        operations: Vec<Operation>,
    },
    /// Reads the status of the server.
    Status,
}

impl Request {
    /// Returns whether the request changes nothing in the store. Such a request can be repeated if its response was lost.
    pub const fn is_read(&self) -> bool {
        !matches!(self, Self::Put { .. } | Self::Delete { .. } | Self::Txn { .. })
    }

    /// Returns whether a server that speaks only the base protocol can serve the request.
    pub const fn is_base(&self) -> bool {
        matches!(self, Self::Get { .. } | Self::Put { .. } | Self::Follow)
    }

    /// Returns whether the server sends the response in pieces, between the responses to other requests.
    pub(super) const fn is_concurrent(&self) -> bool {
        matches!(self, Self::Watch { .. } | Self::Follow | Self::List { .. })
    }

    /// Returns the frame of the request. `since` is the revision from which a WATCH resumes. With `is_base` every write is
    /// a PUT, because a server of the base protocol does not know PUTL.
    pub(super) fn message(&self, tag: Tag, since: Revision, is_base: bool) -> Message {
        match self.clone() {
            Self::Get { key } => Message::get(tag, key),
            Self::Put { key, value, version } if is_base => Message::put(tag, key, value, version),
            Self::Put { key, value, version } => Message::write(tag, key, value, version),
            Self::Delete { key, version } => Message::delete(tag, key, version),
            Self::Watch { prefix } => Message::watch(tag, prefix, since),
            Self::Follow => Message::watch(tag, "", since),
            Self::Barrier => Message::mark(tag, Revision::ZERO),
            Self::List { prefix, after, limit } => Message::list(tag, prefix, after, limit),
            Self::Txn { operations } => Message::txn(tag, operations),
            Self::Status => Message::status(tag, ""),
        }
    }

    /// Returns the keys that the request writes or deletes.
    pub(super) fn written_keys(&self) -> impl Iterator<Item = &Bytes> {
        let (key, operations) = match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => (Some(key), &[][..]),
            Self::Txn { operations } => (None, &operations[..]),
            _ => (None, &[][..]),
        };
        key.into_iter().chain(writes(operations, 0).map(|(_, operation)| operation.key()))
    }
}

/// Returns the writes among the operations of a transaction, which are all operations except checks, starting with the
/// operation number `first`. Each comes with its number.
pub(super) fn writes(operations: &[Operation], first: usize) -> impl Iterator<Item = (usize, &Operation)> {
    let operations = operations.iter().enumerate().skip(first);
    operations.filter(|(_, operation)| !matches!(operation, Operation::Check { .. }))
}
