//! ERROR: reports what went wrong.
//!
//! ```text
//!  0      1        3        5
//!  ┌──────┬────────┬────────┬────────┐
//!  │ 0x02 │  tag   │ length │ text … │
//!  └──────┴────────┴────────┴────────┘
//! ```

use crate::frame::Frame;
use crate::layout::Field;
use crate::{EncodeError, Kind, Tag, escaped_bytes, string};
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// Reports what went wrong with the request of the same tag, or, with [`Tag::BROADCAST`], with the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The tag of the failed request; [`Tag::BROADCAST`] if the whole connection failed.
    pub tag: Tag,
    /// What went wrong. Usually UTF-8, but any bytes may arrive.
    pub text: Bytes,
}

impl Frame for Error {
    const LAYOUT: &'static [Field] = &[Field::String];

    #[inline]
    fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        Ok(Self { tag, text: string::take_first(buffer)? })
    }

    fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        string::put_first(out, Kind::Error, self.tag, "text", &self.text)
    }

    fn encoded_length(&self) -> usize {
        Self::MIN_LENGTH + self.text.len()
    }

    fn show_fields(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " text={}", escaped_bytes::text(&self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_wire() {
        let mut out = BytesMut::new();
        Error { tag: Tag::new(44), text: Bytes::from_static(b"stale put") }.encode(&mut out).unwrap();
        assert_eq!(out.as_ref(), b"\x02\x2c\x00\x09\x00stale put");
    }
}
