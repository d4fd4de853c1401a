//! ERROR: tells what went wrong.
//!
//! ```text
//!  0      1        3        5
//!  ┌──────┬────────┬────────┬────────┐
//!  │ 0x02 │  tag   │ length │ text … │
//!  └──────┴────────┴────────┴────────┘
//! ```

use crate::{EncodeError, Kind, Tag, string};
use bytes::{BufMut, Bytes, BytesMut};

/// Tells what went wrong with the request of the same tag, or, with [`Tag::BROADCAST`], with the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Which request went wrong; [`Tag::BROADCAST`] where it was none.
    pub tag: Tag,
    /// What went wrong. Usually UTF-8, but any bytes may come.
    pub text: Bytes,
}

impl Error {
    /// Takes the frame off the front of `buffer`; says how long it is at the least where it is not whole.
    #[inline]
    pub(crate) fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        Ok(Self { tag, text: string::decode_only(buffer)? })
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        string::encode_only(out, Kind::Error, self.tag, "text", &self.text)
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
        Error { tag: Tag::new(44), text: Bytes::from_static(b"stale put") }.encode(&mut out).unwrap();
        assert_eq!(out.as_ref(), b"\x02\x2c\x00\x09\x00stale put");
    }
}
