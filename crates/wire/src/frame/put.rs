//! PUT: writes a key, or carries its value.
//!
//! ```text
//!  0      1        3            5       5 + k          7 + k     7 + k + v   15 + k + v
//!  ┌──────┬────────┬────────────┬───────┬──────────────┬─────────┬───────────┐
//!  │ 0x01 │  tag   │ length = k │ key … │  length = v  │ value … │  version  │
//!  └──────┴────────┴────────────┴───────┴──────────────┴─────────┴───────────┘
//! ```

use crate::frame::{Frame, entry};
use crate::layout::Field;
use crate::{EncodeError, Kind, Redacted, Tag, Version};
use bytes::{BufMut, Bytes, BytesMut};

/// Writes a key, or carries its value: a write request, the response to it or to a GET, or a broadcast.
#[derive(Clone, derive_more::Debug, PartialEq, Eq)]
pub struct Put {
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

impl Put {
    /// The length of a PUT frame without its key and value.
    pub const OVERHEAD: usize = Self::MIN_LENGTH;

    /// The most bytes of key and value together that are sent in a PUT.
    ///
    /// Decoders written in 16-bit arithmetic exist, and a larger PUT crashes them. Larger entries are sent as a
    /// [`PutLarge`](crate::PutLarge), if both sides speak the extended protocol.
    pub const MAX_ENTRY: usize = 65_525;

    /// Appends a PUT to `out`, from borrowed parts.
    ///
    /// # Errors
    /// [`EncodeError`] if the key or the value is longer than 65,535 bytes. `out` is unchanged then.
    pub fn encode_parts(
        out: &mut impl BufMut,
        tag: Tag,
        key: &[u8],
        value: &[u8],
        version: Version,
    ) -> Result<(), EncodeError> {
        entry::encode::<u16>(out, Kind::Put, tag, (key, value, version))
    }

    /// Returns the length of the frame on the wire, in bytes.
    pub fn encoded_length(&self) -> usize {
        Self::OVERHEAD + self.key.len() + self.value.len()
    }
}

impl Frame for Put {
    const LAYOUT: &'static [Field] = &[Field::String, Field::String, Field::U64];

    #[inline]
    fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        entry::decode::<u16, _>(buffer, |key, value, version| Self { tag, key, value, version })
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
        Put::encode_parts(&mut out, Tag::new(7), b"name", b"tony", Version::new(1)).unwrap();
        assert_eq!(out.as_ref(), b"\x01\x07\x00\x04\x00name\x04\x00tony\x01\0\0\0\0\0\0\0");
        assert_eq!(out.len(), Put::OVERHEAD + 8);
    }

    #[test]
    fn a_value_that_is_too_long_leaves_the_buffer_unchanged() {
        let mut out = BytesMut::from(&b"before"[..]);
        let found = Put::encode_parts(&mut out, Tag::new(7), b"name", &[0; 65_536], Version::new(1));
        assert_eq!(found, Err(EncodeError { field: "value", unit: "bytes", expected: 65_535, found: 65_536 }));
        assert_eq!(out.as_ref(), b"before");
    }
}
