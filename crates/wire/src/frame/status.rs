//! STATUS: asks how a server is.
//!
//! ```text
//!  0      1        3        5
//!  ┌──────┬────────┬────────┬────────┐
//!  │ 0x0b │  tag   │ length │ text … │
//!  └──────┴────────┴────────┴────────┘
//! ```

use crate::{EncodeError, Kind, Tag, string};
use bytes::{BufMut, Bytes, BytesMut};

/// Asks how a server is (client, with an empty text), or tells it (server).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which request this is or answers.
    pub tag: Tag,
    /// Empty in a request; in an answer, a JSON object.
    pub text: Bytes,
}

impl Status {
    /// Takes the frame off the front of `buffer`; says how long it is at the least where it is not whole.
    pub(crate) fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        Ok(Self { tag, text: string::decode_only(buffer)? })
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        string::encode_only(out, Kind::Status, self.tag, "text", &self.text)
    }

    pub(crate) fn encoded_length(&self) -> usize {
        string::ONLY_OVERHEAD + self.text.len()
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
