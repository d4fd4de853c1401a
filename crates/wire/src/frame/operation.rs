//! The operations of a TXN.
//!
//! ```text
//!  CHECK (0) and DELETE (5):               PUT (1) and PUTL (10), where the length of the value is a u32 in a PUTL:
//!  0      1            3       3 + k       0      1            3       3 + k        5 + k     5 + k + v
//!  ┌──────┬────────────┬───────┬─────────┐ ┌──────┬────────────┬───────┬────────────┬─────────┬─────────┐
//!  │ 0, 5 │ length = k │ key … │ version │ │ 1,10 │ length = k │ key … │ length = v │ value … │ version │
//!  └──────┴────────────┴───────┴─────────┘ └──────┴────────────┴───────┴────────────┴─────────┴─────────┘
//! ```

use crate::layout::{self, Field};
use crate::string;
use crate::{EncodeError, Put, Redacted, Version};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// One step of a [`Txn`](crate::Txn).
#[derive(Clone, derive_more::Debug, PartialEq, Eq)]
pub enum Operation {
    /// Requires that the key is at exactly this version (0: it was never written). Writes nothing.
    Check {
        /// The key that is checked.
        key: Bytes,
        /// The version that it must be at.
        version: Version,
    },
    /// Writes the key. The encoding depends on the size of key and value: see [`Put::MAX_ENTRY`].
    Put {
        /// The key that is written.
        key: Bytes,
        /// The value that it gets.
        #[debug("{:?}", Redacted(value))]
        value: Bytes,
        /// The version that the value will have.
        version: Version,
    },
    /// Deletes the key. Its tombstone keeps the version, so versions never start over.
    Delete {
        /// The key that is deleted.
        key: Bytes,
        /// The version that the deletion will have.
        version: Version,
    },
}

/// The kind of an operation: its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum OperationKind {
    Check = 0,
    Put = 1,
    Delete = 5,
    PutLarge = 10,
}

impl OperationKind {
    /// The least length of an operation of any kind: an empty key and a version.
    pub(crate) const MIN_LENGTH: usize = layout::min_length(Self::Check.layout());

    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Check),
            1 => Some(Self::Put),
            5 => Some(Self::Delete),
            10 => Some(Self::PutLarge),
            _ => None,
        }
    }

    const fn byte(self) -> u8 {
        self as u8
    }

    /// Returns the fields of an operation of this kind, the first of which is the kind itself.
    pub(crate) const fn layout(self) -> &'static [Field] {
        const KIND: Field = Field::Fixed(1);
        match self {
            Self::Check | Self::Delete => &[KIND, Field::String, Field::U64],
            Self::Put => &[KIND, Field::String, Field::String, Field::U64],
            Self::PutLarge => &[KIND, Field::String, Field::LargeString, Field::U64],
        }
    }
}

impl Operation {
    /// Returns the key that the operation is about.
    pub const fn key(&self) -> &Bytes {
        match self {
            Self::Check { key, .. } | Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// Returns the length of its key and value together, in bytes.
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

    /// Checks that the operation can be encoded.
    pub(crate) fn check(&self) -> Result<(), EncodeError> {
        string::length::<u16>("key", self.key())?;
        match self {
            Self::Put { value, .. } => string::length::<u32>("value", value).map(drop),
            Self::Check { .. } | Self::Delete { .. } => Ok(()),
        }
    }

    /// Appends an operation that [`check`](Self::check) has accepted.
    pub(crate) fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        let kind = self.kind();
        out.put_u8(kind.byte());
        string::put(out, string::length::<u16>("key", self.key())?, self.key());
        let version = match self {
            Self::Put { value, version, .. } => {
                if kind == OperationKind::PutLarge {
                    string::put(out, string::length::<u32>("value", value)?, value);
                } else {
                    string::put(out, string::length::<u16>("value", value)?, value);
                }
                version
            }
            Self::Check { version, .. } | Self::Delete { version, .. } => version,
        };
        out.put_u64_le(version.get());
        Ok(())
    }

    /// Returns the length of the operation on the wire, in bytes.
    pub(crate) fn encoded_length(&self) -> usize {
        layout::min_length(self.kind().layout()) + self.bytes()
    }

    /// Removes an operation from the front of `buffer`.
    ///
    /// Cannot panic: a `FrameScanner` has found the whole operation there.
    pub(crate) fn decode(buffer: &mut BytesMut) -> Option<Self> {
        let kind = OperationKind::from_byte(buffer.get_u8())?;
        let key_length = buffer.get_u16_le();
        let key = buffer.split_to(key_length.into()).freeze();
        let value_length = match kind {
            OperationKind::Check | OperationKind::Delete => 0,
            OperationKind::Put => usize::from(buffer.get_u16_le()),
            OperationKind::PutLarge => usize::try_from(buffer.get_u32_le()).ok()?,
        };
        let value = buffer.split_to(value_length).freeze();
        let version = Version::new(buffer.get_u64_le());
        Some(match kind {
            OperationKind::Check => Self::Check { key, version },
            OperationKind::Put | OperationKind::PutLarge => Self::Put { key, value, version },
            OperationKind::Delete => Self::Delete { key, version },
        })
    }
}
