//! DELETE: deletes a key, or tells that it was deleted.
//!
//! ```text
//!  0      1        3            5       5 + k     13 + k
//!  ┌──────┬────────┬────────────┬───────┬─────────┐
//!  │ 0x05 │  tag   │ length = k │ key … │ version │
//!  └──────┴────────┴────────────┴───────┴─────────┘
//! ```

use crate::decode::HEADER_LENGTH;
use crate::number::{self, NUMBER_BYTES};
use crate::{EncodeError, Kind, Tag, Version, string};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Deletes a key, or tells that it was deleted: a request, its answer, the answer of a GET, or a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// Which request this is or answers; [`Tag::BROADCAST`] where it answers none.
    pub tag: Tag,
    /// Which key is deleted.
    pub key: Bytes,
    /// The version that the deletion will have, or has.
    pub version: Version,
}

impl Delete {
    /// The bytes of a DELETE frame beside its key.
    pub const OVERHEAD: usize = string::ONLY_OVERHEAD + NUMBER_BYTES;

    /// Appends the frame to `out`, from parts that need not be owned.
    ///
    /// # Errors
    /// [`EncodeError`] where the key is longer than 65,535 bytes; `out` is as it was then.
    pub fn encode_parts(out: &mut impl BufMut, tag: Tag, key: &[u8], version: Version) -> Result<(), EncodeError> {
        string::encode_only(out, Kind::Delete, tag, "key", key)?;
        out.put_u64_le(version.get());
        Ok(())
    }

    /// Takes the frame off the front of `buffer`; says how long it is at the least where it is not whole.
    pub(crate) fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        let length = string::find(buffer, HEADER_LENGTH)?;
        let version = Version::new(number::find(buffer, string::ONLY_OVERHEAD + length)?);
        let key = string::take(buffer, HEADER_LENGTH, length);
        buffer.advance(NUMBER_BYTES);
        Ok(Self { tag, key, version })
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        Self::encode_parts(out, self.tag, &self.key, self.version)
    }

    pub(crate) fn encoded_length(&self) -> usize {
        Self::OVERHEAD + self.key.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_wire() {
        let mut out = BytesMut::new();
        Delete::encode_parts(&mut out, Tag::new(2), b"k", Version::new(7)).unwrap();
        assert_eq!(out.as_ref(), b"\x05\x02\x00\x01\x00k\x07\0\0\0\0\0\0\0");
    }
}
