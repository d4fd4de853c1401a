//! PUTL: a PUT that is larger than a PUT can be.
//!
//! ```text
//!  0      1        3            5       5 + k          9 + k     9 + k + v   17 + k + v
//!  ┌──────┬────────┬────────────┬───────┬──────────────┬─────────┬───────────┐
//!  │ 0x0a │  tag   │ length = k │ key … │  length = v  │ value … │  version  │
//!  └──────┴────────┴────────────┴───────┴──────────────┴─────────┴───────────┘
//!                      u16                    u32
//! ```

use crate::decode::HEADER_LENGTH;
use crate::frame_scanner::{self, VALUE_LENGTH_BYTES};
use crate::number::NUMBER_BYTES;
use crate::{EncodeError, Kind, Redacted, Tag, Version, string};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A PUT whose key and value together exceed [`Put::MAX_ENTRY`](crate::Put::MAX_ENTRY). What does not is sent as a PUT, so
/// that there is one encoding for it; see [`Message::write`](crate::Message::write).
#[derive(Clone, derive_more::Debug, PartialEq, Eq)]
pub struct PutLarge {
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

impl PutLarge {
    /// The bytes of a PUTL frame beside its key and value.
    pub const OVERHEAD: usize = HEADER_LENGTH + string::LENGTH_BYTES + VALUE_LENGTH_BYTES + NUMBER_BYTES;

    /// Appends the frame to `out`, from parts that need not be owned.
    ///
    /// # Errors
    /// [`EncodeError`] where the key is longer than 65,535 bytes, or the value than a `u32` can say; `out` is as it was
    /// then.
    pub fn encode_parts(
        out: &mut impl BufMut,
        tag: Tag,
        key: &[u8],
        value: &[u8],
        version: Version,
    ) -> Result<(), EncodeError> {
        let key_length = string::length("key", key)?;
        let value_length = frame_scanner::value_length(value)?;
        out.put_u8(Kind::PutLarge.byte());
        out.put_u16_le(tag.get());
        string::put(out, key_length, key);
        out.put_u32_le(value_length);
        out.put_slice(value);
        out.put_u64_le(version.get());
        Ok(())
    }

    /// What a whole frame says, of which the walk has found that it is one. Nothing here can panic therefore.
    pub(crate) fn decode(tag: Tag, mut frame: BytesMut) -> Self {
        frame.advance(HEADER_LENGTH);
        let key_length = usize::from(frame.get_u16_le());
        let key = frame.split_to(key_length).freeze();
        let value_length = frame_scanner::as_length(frame.get_u32_le());
        let value = frame.split_to(value_length).freeze();
        Self { tag, key, value, version: Version::new(frame.get_u64_le()) }
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
        PutLarge::encode_parts(&mut out, Tag::new(8), b"big", b"hello", Version::new(3)).unwrap();
        assert_eq!(out.as_ref(), b"\x0a\x08\x00\x03\x00big\x05\0\0\0hello\x03\0\0\0\0\0\0\0");
        assert_eq!(out.len(), PutLarge::OVERHEAD + 8);
    }
}
