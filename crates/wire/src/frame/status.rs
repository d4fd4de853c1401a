//! STATUS: asks for the state of a server, or reports it.
//!
//! ```text
//!  0      1        3        5
//!  ┌──────┬────────┬────────┬────────┐
//!  │ 0x0b │  tag   │ length │ text … │
//!  └──────┴────────┴────────┴────────┘
//! ```

use crate::frame::Frame;
use crate::layout::Field;
use crate::{EncodeError, Kind, Tag, escaped_bytes, string};
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// Asks for the state of a server (from a client, with an empty text), or reports it (from the server).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The tag of the request.
    pub tag: Tag,
    /// Empty in a request; a JSON object in a response.
    pub text: Bytes,
}

impl Frame for Status {
    const LAYOUT: &'static [Field] = &[Field::String];

    fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        Ok(Self { tag, text: string::take_first(buffer)? })
    }

    fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        string::put_first(out, Kind::Status, self.tag, "text", &self.text)
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
        Status { tag: Tag::new(9), text: Bytes::from_static(b"{}") }.encode(&mut out).unwrap();
        assert_eq!(out.as_ref(), b"\x0b\x09\x00\x02\x00{}");
    }
}
