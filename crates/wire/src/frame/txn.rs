//! TXN: several operations, all or none.
//!
//! ```text
//!  0      1        3       5
//!  ┌──────┬────────┬───────┬─────────────────────┐
//!  │ 0x09 │  tag   │ count │ count × operation … │
//!  └──────┴────────┴───────┴─────────────────────┘
//!
//!  an operation:                           an operation that writes a value, which is a u32 long under 0x0a:
//!  0      1            3       3 + k       0      1            3       3 + k        5 + k     5 + k + v
//!  ┌──────┬────────────┬───────┬─────────┐ ┌──────┬────────────┬───────┬────────────┬─────────┬─────────┐
//!  │ 0, 5 │ length = k │ key … │ version │ │ 1,10 │ length = k │ key … │ length = v │ value … │ version │
//!  └──────┴────────────┴───────┴─────────┘ └──────┴────────────┴───────┴────────────┴─────────┴─────────┘
//! ```

use crate::decode::HEADER_LENGTH;
use crate::frame_scanner::{self, OPERATION_HEAD_BYTES, OperationKind, VALUE_LENGTH_BYTES};
use crate::number::NUMBER_BYTES;
use crate::{EncodeError, Kind, Put, Redacted, Tag, Version, string};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The bytes that the number of operations takes.
pub(crate) const COUNT_BYTES: usize = 2;

/// Several operations, of which all are accepted, under one revision, or none. Answered with its writes and then a MARK,
/// all of the same tag; or with an ERROR that names the first operation at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// Which request this is.
    pub tag: Tag,
    /// What it does. A key stands at most once.
    pub operations: Vec<Operation>,
}

/// One step of a [`Txn`].
#[derive(Clone, derive_more::Debug, PartialEq, Eq)]
pub enum Operation {
    /// The key is at exactly this version (0: it is not there). Nothing is written.
    Check {
        /// Which key.
        key: Bytes,
        /// The version that it must be at.
        version: Version,
    },
    /// The key gets a value. How it travels depends on its size: see [`Put::MAX_ENTRY`].
    Put {
        /// Which key.
        key: Bytes,
        /// What it holds then.
        #[debug("{:?}", Redacted(value))]
        value: Bytes,
        /// The version that it has then.
        version: Version,
    },
    /// The key is deleted. Its tombstone keeps the version, so versions never start over.
    Delete {
        /// Which key.
        key: Bytes,
        /// The version of the deletion.
        version: Version,
    },
}

impl Operation {
    /// Which key it is about.
    pub const fn key(&self) -> &Bytes {
        match self {
            Self::Check { key, .. } | Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// The bytes of its key and value together.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Check { key, .. } | Self::Delete { key, .. } => key.len(),
            Self::Put { key, value, .. } => key.len() + value.len(),
        }
    }

    const fn kind(&self) -> OperationKind {
        match self {
            Self::Check { .. } => OperationKind::Check,
            Self::Delete { .. } => OperationKind::Delete,
            Self::Put { key, value, .. } if key.len() + value.len() > Put::MAX_ENTRY => OperationKind::PutLarge,
            Self::Put { .. } => OperationKind::Put,
        }
    }

    fn check(&self) -> Result<(), EncodeError> {
        string::length("key", self.key())?;
        match self {
            Self::Put { value, .. } => frame_scanner::value_length(value).map(drop),
            Self::Check { .. } | Self::Delete { .. } => Ok(()),
        }
    }

    /// Appends an operation that was checked.
    fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        let kind = self.kind();
        out.put_u8(kind.byte());
        string::put(out, string::length("key", self.key())?, self.key());
        let version = match self {
            Self::Put { value, version, .. } => {
                if kind == OperationKind::PutLarge {
                    out.put_u32_le(frame_scanner::value_length(value)?);
                    out.put_slice(value);
                } else {
                    string::put(out, string::length("value", value)?, value);
                }
                version
            }
            Self::Check { version, .. } | Self::Delete { version, .. } => version,
        };
        out.put_u64_le(version.get());
        Ok(())
    }

    fn encoded_length(&self) -> usize {
        let value = match self {
            Self::Check { .. } | Self::Delete { .. } => 0,
            Self::Put { value, .. } if self.kind() == OperationKind::PutLarge => VALUE_LENGTH_BYTES + value.len(),
            Self::Put { value, .. } => string::LENGTH_BYTES + value.len(),
        };
        OPERATION_HEAD_BYTES + self.key().len() + value + NUMBER_BYTES
    }

    /// Takes an operation off a frame, of which the walk has found that it is one. Nothing here can panic therefore.
    fn decode(frame: &mut BytesMut) -> Option<Self> {
        let kind = OperationKind::from_byte(frame.get_u8())?;
        let key_length = usize::from(frame.get_u16_le());
        let key = frame.split_to(key_length).freeze();
        let value_length = match kind {
            OperationKind::Check | OperationKind::Delete => 0,
            OperationKind::Put => usize::from(frame.get_u16_le()),
            OperationKind::PutLarge => frame_scanner::as_length(frame.get_u32_le()),
        };
        let value = frame.split_to(value_length).freeze();
        let version = Version::new(frame.get_u64_le());
        Some(match kind {
            OperationKind::Check => Self::Check { key, version },
            OperationKind::Put | OperationKind::PutLarge => Self::Put { key, value, version },
            OperationKind::Delete => Self::Delete { key, version },
        })
    }
}

impl Txn {
    /// The most operations that a transaction can have.
    pub const MAX_OPERATIONS: usize = 1024;

    const OVERHEAD: usize = HEADER_LENGTH + COUNT_BYTES;

    /// What a whole frame says, of which the walk has found that it is one.
    pub(crate) fn decode(tag: Tag, mut frame: BytesMut) -> Self {
        frame.advance(HEADER_LENGTH);
        let count = frame.get_u16_le();
        Self { tag, operations: (0..count).map_while(|_| Operation::decode(&mut frame)).collect() }
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        let (expected, found) = (Self::MAX_OPERATIONS, self.operations.len());
        let too_many = EncodeError { field: "transaction", unit: "operations", expected, found };
        let count = u16::try_from(found).ok().filter(|_| found <= expected).ok_or(too_many)?;
        // First all, so that a refused one leaves nothing behind.
        self.operations.iter().try_for_each(Operation::check)?;
        out.put_u8(Kind::Txn.byte());
        out.put_u16_le(self.tag.get());
        out.put_u16_le(count);
        self.operations.iter().try_for_each(|operation| operation.encode(out))
    }

    pub(crate) fn encoded_length(&self) -> usize {
        Self::OVERHEAD + self.operations.iter().map(Operation::encoded_length).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(value: usize) -> Operation {
        Operation::Put { key: "k".into(), value: vec![7; value].into(), version: Version::new(1) }
    }

    fn encoded(operations: Vec<Operation>) -> BytesMut {
        let txn = Txn { tag: Tag::new(7), operations };
        let mut out = BytesMut::new();
        txn.encode(&mut out).unwrap();
        assert_eq!(out.len(), txn.encoded_length());
        out
    }

    #[test]
    fn on_the_wire() {
        let check = Operation::Check { key: "a".into(), version: Version::new(4) };
        let delete = Operation::Delete { key: "b".into(), version: Version::new(8) };
        let expected = b"\x09\x07\x00\x03\x00\
            \x00\x01\x00a\x04\0\0\0\0\0\0\0\
            \x01\x01\x00k\x02\x00\x07\x07\x01\0\0\0\0\0\0\0\
            \x05\x01\x00b\x08\0\0\0\0\0\0\0";
        assert_eq!(encoded(vec![check, put(2), delete]).as_ref(), expected);
    }

    #[test]
    fn a_value_travels_as_its_size_demands() {
        assert_eq!(encoded(vec![put(Put::MAX_ENTRY - 1)])[5], 1);
        assert_eq!(encoded(vec![put(Put::MAX_ENTRY)])[5], 10);
    }

    #[test]
    fn a_refused_one_leaves_the_buffer_as_it_was() {
        let long = Operation::Check { key: vec![0; 65_536].into(), version: Version::ABSENT };
        for (operations, shown) in [
            (vec![put(1), long], "bad message: expected a key of at most 65535 bytes, found 65536"),
            (vec![put(1); 1025], "bad message: expected a transaction of at most 1024 operations, found 1025"),
        ] {
            let mut out = BytesMut::new();
            let bad = Txn { tag: Tag::new(7), operations }.encode(&mut out).unwrap_err();
            assert_eq!(bad.to_string(), shown);
            assert!(out.is_empty());
        }
    }
}
