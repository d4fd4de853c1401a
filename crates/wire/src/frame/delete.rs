//! DELETE: deletes a key, or reports that it was deleted.
//!
//! ```text
//!  0      1        3            5       5 + k     13 + k
//!  ┌──────┬────────┬────────────┬───────┬─────────┐
//!  │ 0x05 │  tag   │ length = k │ key … │ version │
//!  └──────┴────────┴────────────┴───────┴─────────┘
//! ```

use crate::frame::Frame;
use crate::layout::{Field, HEADER_LENGTH};
use crate::string::{self, Length};
use crate::{EncodeError, Kind, Tag, Version, number};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Deletes a key, or reports that it was deleted: a request, the response to it, or a change under a watched prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// The tag of the request; [`Tag::BROADCAST`] if the frame responds to none.
    pub tag: Tag,
    /// The key that is deleted.
    pub key: Bytes,
    /// The version that the deletion will have, or has.
    pub version: Version,
}

impl Delete {
    /// The length of a DELETE frame without its key.
    pub const OVERHEAD: usize = Self::MIN_LENGTH;

    /// Appends a DELETE to `out`, from borrowed parts.
    ///
    /// # Errors
    /// [`EncodeError`] if the key is longer than 65,535 bytes. `out` is unchanged then.
    pub fn encode_parts(out: &mut impl BufMut, tag: Tag, key: &[u8], version: Version) -> Result<(), EncodeError> {
        string::put_first(out, Kind::Delete, tag, "key", key)?;
        out.put_u64_le(version.get());
        Ok(())
    }
}

impl Frame for Delete {
    const LAYOUT: &'static [Field] = &[Field::String, Field::U64];

    fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        let length = string::find::<u16>(buffer, HEADER_LENGTH)?;
        let version = number::find(buffer, HEADER_LENGTH + u16::BYTES + length)?;
        let key = string::take::<u16>(buffer, HEADER_LENGTH, length);
        buffer.advance(version.len());
        Ok(Self { tag, key, version: Version::new(u64::from_le_bytes(version)) })
    }

    fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        Self::encode_parts(out, self.tag, &self.key, self.version)
    }

    fn encoded_length(&self) -> usize {
        Self::OVERHEAD + self.key.len()
    }

    #[inline]
    fn key(&self) -> Option<&Bytes> {
        Some(&self.key)
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
        Delete::encode_parts(&mut out, Tag::new(2), b"k", Version::new(7)).unwrap();
        assert_eq!(out.as_ref(), b"\x05\x02\x00\x01\x00k\x07\0\0\0\0\0\0\0");
    }
}
