//! PUT: writes a key, or tells its value.
//!
//! ```text
//!  0      1        3            5       5 + k          7 + k     7 + k + v   15 + k + v
//!  ┌──────┬────────┬────────────┬───────┬──────────────┬─────────┬───────────┐
//!  │ 0x01 │  tag   │ length = k │ key … │  length = v  │ value … │  version  │
//!  └──────┴────────┴────────────┴───────┴──────────────┴─────────┴───────────┘
//! ```

use crate::decode::HEADER_LENGTH;
use crate::number::{self, NUMBER_BYTES};
use crate::{EncodeError, Kind, Redacted, Tag, Version, string};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Writes a key, or tells its value: a request, its answer, the answer of a GET, or a broadcast.
#[derive(Clone, derive_more::Debug, PartialEq, Eq)]
pub struct Put {
    /// Which request this is or answers; [`Tag::BROADCAST`] where it answers none.
    pub tag: Tag,
    /// Which key is written.
    pub key: Bytes,
    /// What it holds then.
    #[debug("{:?}", Redacted(value))]
    pub value: Bytes,
    /// The version that the value will have, or has.
    pub version: Version,
}

impl Put {
    /// The bytes of a PUT frame beside its key and value.
    pub const OVERHEAD: usize = HEADER_LENGTH + 2 * string::LENGTH_BYTES + NUMBER_BYTES;

    /// The most bytes of key and value together that are sent in a PUT: decoders written in 16-bit arithmetic exist,
    /// which a longer one kills. What exceeds this travels as a [`PutLarge`](crate::PutLarge), where both sides know the
    /// extension.
    pub const MAX_ENTRY: usize = 65_525;

    /// Appends the frame to `out`, from parts that need not be owned.
    ///
    /// # Errors
    /// [`EncodeError`] where the key or the value is longer than 65,535 bytes; `out` is as it was then.
    pub fn encode_parts(
        out: &mut impl BufMut,
        tag: Tag,
        key: &[u8],
        value: &[u8],
        version: Version,
    ) -> Result<(), EncodeError> {
        let key_length = string::length("key", key)?;
        let value_length = string::length("value", value)?;
        out.put_u8(Kind::Put.byte());
        out.put_u16_le(tag.get());
        string::put(out, key_length, key);
        string::put(out, value_length, value);
        out.put_u64_le(version.get());
        Ok(())
    }

    /// Takes the frame off the front of `buffer`; says how long it is at the least where it is not whole.
    #[inline]
    pub(crate) fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        let key_length = string::find(buffer, HEADER_LENGTH)?;
        let value_start = HEADER_LENGTH + string::LENGTH_BYTES + key_length;
        let value_length = string::find(buffer, value_start)?;
        let version_start = value_start + string::LENGTH_BYTES + value_length;
        let version = Version::new(number::find(buffer, version_start)?);
        let key = string::take(buffer, HEADER_LENGTH, key_length);
        let value = string::take(buffer, 0, value_length);
        buffer.advance(NUMBER_BYTES);
        Ok(Self { tag, key, value, version })
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        Self::encode_parts(out, self.tag, &self.key, &self.value, self.version)
    }

    /// The bytes that the frame takes on the wire.
    pub fn encoded_length(&self) -> usize {
        Self::OVERHEAD + self.key.len() + self.value.len()
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
    fn too_long_leaves_the_buffer_as_it_was() {
        let mut out = BytesMut::from(&b"before"[..]);
        let found = Put::encode_parts(&mut out, Tag::new(7), b"name", &[0; 65_536], Version::new(1));
        assert_eq!(found, Err(EncodeError { field: "value", unit: "bytes", expected: 65_535, found: 65_536 }));
        assert_eq!(out.as_ref(), b"before");
    }
}
