//! LIST: asks for the keys under a prefix, in order.
//!
//! ```text
//!  0      1        3            5          5 + p        7 + p     7 + p + a   11 + p + a
//!  ┌──────┬────────┬────────────┬──────────┬────────────┬─────────┬───────────┐
//!  │ 0x08 │  tag   │ length = p │ prefix … │ length = a │ after … │   limit   │
//!  └──────┴────────┴────────────┴──────────┴────────────┴─────────┴───────────┘
//! ```

use crate::decode::HEADER_LENGTH;
use crate::{EncodeError, Kind, Tag, string};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The bytes that a limit takes.
pub(crate) const LIMIT_BYTES: usize = 4;

/// Asks for the keys under a prefix, in order. Answered with a PUT for each, and then a MARK, all of the same tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Which request this is.
    pub tag: Tag,
    /// What the keys start with; empty: all keys.
    pub prefix: Bytes,
    /// Where to start: strictly after this key.
    pub after: Bytes,
    /// The most keys that are asked for.
    pub limit: u32,
}

impl List {
    const OVERHEAD: usize = HEADER_LENGTH + 2 * string::LENGTH_BYTES + LIMIT_BYTES;

    /// Takes the frame off the front of `buffer`; says how long it is at the least where it is not whole.
    pub(crate) fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        let prefix_length = string::find(buffer, HEADER_LENGTH)?;
        let after_start = string::ONLY_OVERHEAD + prefix_length;
        let after_length = string::find(buffer, after_start)?;
        let limit_start = after_start + string::LENGTH_BYTES + after_length;
        let Some(limit) = buffer.get(limit_start..).and_then(<[u8]>::first_chunk::<LIMIT_BYTES>) else {
            return Err(limit_start + LIMIT_BYTES);
        };
        let limit = u32::from_le_bytes(*limit);
        let prefix = string::take(buffer, HEADER_LENGTH, prefix_length);
        let after = string::take(buffer, 0, after_length);
        buffer.advance(LIMIT_BYTES);
        Ok(Self { tag, prefix, after, limit })
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        let prefix_length = string::length("prefix", &self.prefix)?;
        let after_length = string::length("key to start after", &self.after)?;
        out.put_u8(Kind::List.byte());
        out.put_u16_le(self.tag.get());
        string::put(out, prefix_length, &self.prefix);
        string::put(out, after_length, &self.after);
        out.put_u32_le(self.limit);
        Ok(())
    }

    pub(crate) fn encoded_length(&self) -> usize {
        Self::OVERHEAD + self.prefix.len() + self.after.len()
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
    fn too_long_leaves_the_buffer_as_it_was() {
        let mut out = BytesMut::new();
        let after = vec![0; 65_536].into();
        let bad = List { tag: Tag::new(6), prefix: Bytes::new(), after, limit: 1 }.encode(&mut out).unwrap_err();
        assert_eq!(bad.field, "key to start after");
        assert!(out.is_empty());
    }
}
