//! GET: asks for the latest value of a key.
//!
//! ```text
//!  0      1        3        5
//!  ┌──────┬────────┬────────┬───────┐
//!  │ 0x00 │  tag   │ length │ key … │
//!  └──────┴────────┴────────┴───────┘
//! ```

use crate::{EncodeError, Kind, Tag, string};
use bytes::{BufMut, Bytes, BytesMut};

/// Asks for the latest value of a key. Answered with a PUT of the same tag, or an ERROR that ends in `not found`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Get {
    /// Which request this is.
    pub tag: Tag,
    /// Whose value is asked for.
    pub key: Bytes,
}

impl Get {
    /// Takes the frame off the front of `buffer`; says how long it is at the least where it is not whole.
    #[inline]
    pub(crate) fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        Ok(Self { tag, key: string::decode_only(buffer)? })
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        string::encode_only(out, Kind::Get, self.tag, "key", &self.key)
    }

    pub(crate) fn encoded_length(&self) -> usize {
        string::ONLY_OVERHEAD + self.key.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_wire() {
        let mut out = BytesMut::new();
        Get { tag: Tag::new(0x0102), key: Bytes::from_static(b"name") }.encode(&mut out).unwrap();
        assert_eq!(out.as_ref(), b"\x00\x02\x01\x04\x00name");
    }
}
