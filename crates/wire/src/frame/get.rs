//! GET: asks for the latest value of a key.
//!
//! ```text
//!  0      1        3        5
//!  ┌──────┬────────┬────────┬───────┐
//!  │ 0x00 │  tag   │ length │ key … │
//!  └──────┴────────┴────────┴───────┘
//! ```

use crate::frame::Frame;
use crate::layout::Field;
use crate::{EncodeError, Kind, Tag, string};
use bytes::{BufMut, Bytes, BytesMut};

/// Asks for the latest value of a key.
///
/// The response is a PUT or a PUTL with the same tag, or an ERROR whose text ends in `not found`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Get {
    /// The tag of the request.
    pub tag: Tag,
    /// The key whose value is asked for.
    pub key: Bytes,
}

impl Frame for Get {
    const LAYOUT: &'static [Field] = &[Field::String];

    #[inline]
    fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        Ok(Self { tag, key: string::take_first(buffer)? })
    }

    fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        string::put_first(out, Kind::Get, self.tag, "key", &self.key)
    }

    fn encoded_length(&self) -> usize {
        Self::MIN_LENGTH + self.key.len()
    }

    #[inline]
    fn key(&self) -> Option<&Bytes> {
        Some(&self.key)
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
