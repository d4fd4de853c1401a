//! HELLO: a client says that it speaks the extension, and the server answers with its [`ServerHello`](crate::ServerHello).
//!
//! ```text
//!  0      1        3        5
//!  ┌──────┬────────┬────────┬────────┐
//!  │ 0x04 │  tag   │ length │ body … │
//!  └──────┴────────┴────────┴────────┘
//! ```

use crate::{EncodeError, Kind, Tag, string};
use bytes::{BufMut, Bytes, BytesMut};

/// Says that the extension is spoken (client, with an empty body), and what the server is (server).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Which request this is or answers.
    pub tag: Tag,
    /// Empty in a request; in an answer, a [`ServerHello`](crate::ServerHello).
    pub body: Bytes,
}

impl Hello {
    /// Takes the frame off the front of `buffer`; says how long it is at the least where it is not whole.
    pub(crate) fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        Ok(Self { tag, body: string::decode_only(buffer)? })
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        string::encode_only(out, Kind::Hello, self.tag, "body", &self.body)
    }

    pub(crate) fn encoded_length(&self) -> usize {
        string::ONLY_OVERHEAD + self.body.len()
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
