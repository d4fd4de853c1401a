//! LIST: asks for the keys under a prefix, in order.
//!
//! ```text
//!  0      1        3            5          5 + p        7 + p     7 + p + a   11 + p + a
//!  ┌──────┬────────┬────────────┬──────────┬────────────┬─────────┬───────────┐
//!  │ 0x08 │  tag   │ length = p │ prefix … │ length = a │ after … │   limit   │
//!  └──────┴────────┴────────────┴──────────┴────────────┴─────────┴───────────┘
//! ```

use crate::frame::Frame;
use crate::layout::{self, Field, HEADER_LENGTH};
use crate::string::{self, Length};
use crate::{EncodeError, Kind, Tag, escaped_bytes, number};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::fmt;

/// Asks for the keys under a prefix, in the order of their bytes.
///
/// The response is a PUT or a PUTL for each key, then a MARK, all with the same tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The tag of the request.
    pub tag: Tag,
    /// The prefix of the keys. Empty: all keys.
    pub prefix: Bytes,
    /// Where to start: strictly after this key.
    pub after: Bytes,
    /// The most keys that the response may hold.
    pub limit: u32,
}

impl Frame for List {
    const LAYOUT: &'static [Field] = &[Field::String, Field::String, Field::U32];

    fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        let prefix_length = string::find::<u16>(buffer, HEADER_LENGTH)?;
        let after_start = HEADER_LENGTH + u16::BYTES + prefix_length;
        let after_length = string::find::<u16>(buffer, after_start)?;
        let limit = number::find(buffer, after_start + u16::BYTES + after_length)?;
        let prefix = string::take::<u16>(buffer, HEADER_LENGTH, prefix_length);
        let after = string::take::<u16>(buffer, 0, after_length);
        buffer.advance(limit.len());
        Ok(Self { tag, prefix, after, limit: u32::from_le_bytes(limit) })
    }

    fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        let prefix_length = string::length::<u16>("prefix", &self.prefix)?;
        let after_length = string::length::<u16>("key to start after", &self.after)?;
        layout::put_header(out, Kind::List, self.tag);
        string::put(out, prefix_length, &self.prefix);
        string::put(out, after_length, &self.after);
        out.put_u32_le(self.limit);
        Ok(())
    }

    fn encoded_length(&self) -> usize {
        Self::MIN_LENGTH + self.prefix.len() + self.after.len()
    }

    fn show_fields(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, after) = (escaped_bytes::clipped(&self.prefix), escaped_bytes::clipped(&self.after));
        write!(f, " prefix={prefix} after={after} limit={}", self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_wire() {
        let mut out = BytesMut::new();
        let list = List { tag: Tag::new(6), prefix: "a/".into(), after: "a/m".into(), limit: 1000 };
        list.encode(&mut out).unwrap();
        assert_eq!(out.as_ref(), b"\x08\x06\x00\x02\x00a/\x03\x00a/m\xe8\x03\0\0");
    }

    #[test]
    fn a_key_that_is_too_long_leaves_the_buffer_unchanged() {
        let mut out = BytesMut::new();
        let after = vec![0; 65_536].into();
        let bad = List { tag: Tag::new(6), prefix: Bytes::new(), after, limit: 1 }.encode(&mut out).unwrap_err();
        assert_eq!(bad.field, "key to start after");
        assert!(out.is_empty());
    }
}
