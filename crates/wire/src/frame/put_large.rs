//! PUTL: a PUT whose value may exceed what a PUT can carry.
//!
//! ```text
//!  0      1        3            5       5 + k          9 + k     9 + k + v   17 + k + v
//!  ┌──────┬────────┬────────────┬───────┬──────────────┬─────────┬───────────┐
//!  │ 0x0a │  tag   │ length = k │ key … │  length = v  │ value … │  version  │
//!  └──────┴────────┴────────────┴───────┴──────────────┴─────────┴───────────┘
//!                      u16                    u32
//! ```

use crate::frame::{Frame, entry};
use crate::layout::Field;
use crate::{EncodeError, Kind, Redacted, Tag, Version};
use bytes::{BufMut, Bytes, BytesMut};

/// A PUT whose key and value together exceed [`Put::MAX_ENTRY`](crate::Put::MAX_ENTRY).
///
/// Smaller entries are sent as a PUT, so that every entry has exactly one encoding: see
/// [`Message::write`](crate::Message::write).
#[derive(Clone, derive_more::Debug, PartialEq, Eq)]
pub struct PutLarge {
    /// The tag of the request; [`Tag::BROADCAST`] if the frame responds to none.
    pub tag: Tag,
    /// The key that is written.
    pub key: Bytes,
    /// The value that the key gets, or has.
    #[debug("{:?}", Redacted(value))]
    pub value: Bytes,
    /// The version that the value will have, or has.
    pub version: Version,
}

impl PutLarge {
    /// The length of a PUTL frame without its key and value.
    pub const OVERHEAD: usize = Self::MIN_LENGTH;

    /// Appends a PUTL to `out`, from borrowed parts.
    ///
    /// # Errors
    /// [`EncodeError`] if the key is longer than 65,535 bytes, or the value is longer than a `u32` can express. `out` is
    /// unchanged then.
    pub fn encode_parts(
        out: &mut impl BufMut,
        tag: Tag,
        key: &[u8],
        value: &[u8],
        version: Version,
    ) -> Result<(), EncodeError> {
        entry::encode::<u32>(out, Kind::PutLarge, tag, (key, value, version))
    }

    /// Returns the length of the frame on the wire, in bytes.
    pub fn encoded_length(&self) -> usize {
        Self::OVERHEAD + self.key.len() + self.value.len()
    }
}

impl Frame for PutLarge {
    const LAYOUT: &'static [Field] = &[Field::String, Field::LargeString, Field::U64];

    fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        entry::decode::<u32, _>(buffer, |key, value, version| Self { tag, key, value, version })
    }

    fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        Self::encode_parts(out, self.tag, &self.key, &self.value, self.version)
    }

    fn encoded_length(&self) -> usize {
        self.encoded_length()
    }

    #[inline]
    fn key(&self) -> Option<&Bytes> {
        Some(&self.key)
    }

    #[inline]
    fn value(&self) -> Option<&Bytes> {
        Some(&self.value)
    }

    #[inline]
    fn version(&self) -> Option<Version> {
        Some(self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_wire() {
        let mut out = BytesMut::new();
        PutLarge::encode_parts(&mut out, Tag::new(8), b"big", b"hello", Version::new(3)).unwrap();
        assert_eq!(out.as_ref(), b"\x0a\x08\x00\x03\x00big\x05\0\0\0hello\x03\0\0\0\0\0\0\0");
        assert_eq!(out.len(), PutLarge::OVERHEAD + 8);
    }
}
