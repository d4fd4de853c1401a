//! HELLO: a client asks for the extended protocol, and the server responds with its
//! [`ServerHello`](crate::ServerHello).
//!
//! ```text
//!  0      1        3        5
//!  ┌──────┬────────┬────────┬────────┐
//!  │ 0x04 │  tag   │ length │ body … │
//!  └──────┴────────┴────────┴────────┘
//! ```

use crate::frame::Frame;
use crate::layout::Field;
use crate::{EncodeError, Kind, Tag, string};
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// Starts the extended protocol (from a client, with an empty body), or describes the server (from the server).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The tag of the request.
    pub tag: Tag,
    /// Empty in a request; a [`ServerHello`](crate::ServerHello) in a response.
    pub body: Bytes,
}

impl Frame for Hello {
    const LAYOUT: &'static [Field] = &[Field::String];

    fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        Ok(Self { tag, body: string::take_first(buffer)? })
    }

    fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        string::put_first(out, Kind::Hello, self.tag, "body", &self.body)
    }

    fn encoded_length(&self) -> usize {
        Self::MIN_LENGTH + self.body.len()
    }

    fn show_fields(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " bytes={}", self.body.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_wire() {
        let mut out = BytesMut::new();
        Hello { tag: Tag::new(1), body: Bytes::new() }.encode(&mut out).unwrap();
        assert_eq!(out.as_ref(), b"\x04\x01\x00\x00\x00");
    }
}
