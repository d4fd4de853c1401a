//! WATCH: subscribes to everything under a prefix.
//!
//! ```text
//!  0      1        3            5          5 + p     13 + p
//!  ┌──────┬────────┬────────────┬──────────┬─────────┐
//!  │ 0x06 │  tag   │ length = p │ prefix … │  since  │
//!  └──────┴────────┴────────────┴──────────┴─────────┘
//! ```

use crate::frame::Frame;
use crate::layout::{Field, HEADER_LENGTH};
use crate::string::{self, Length};
use crate::{EncodeError, Kind, Revision, Tag, escaped_bytes, number};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::fmt;

/// Asks for everything that changed under a prefix since a revision, and then for every further change.
///
/// The response is what changed so far, then a MARK with the same tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The tag of the request.
    pub tag: Tag,
    /// The prefix of the watched keys. Empty: all keys.
    pub prefix: Bytes,
    /// The revision up to which the client has everything. [`Revision::ZERO`]: it has nothing.
    pub since: Revision,
}

impl Frame for Watch {
    const LAYOUT: &'static [Field] = &[Field::String, Field::U64];

    fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        let length = string::find::<u16>(buffer, HEADER_LENGTH)?;
        let since = number::find(buffer, HEADER_LENGTH + u16::BYTES + length)?;
        let prefix = string::take::<u16>(buffer, HEADER_LENGTH, length);
        buffer.advance(since.len());
        Ok(Self { tag, prefix, since: Revision::new(u64::from_le_bytes(since)) })
    }

    fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        string::put_first(out, Kind::Watch, self.tag, "prefix", &self.prefix)?;
        out.put_u64_le(self.since.get());
        Ok(())
    }

    fn encoded_length(&self) -> usize {
        Self::MIN_LENGTH + self.prefix.len()
    }

    fn show_fields(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " prefix={} since={}", escaped_bytes::clipped(&self.prefix), self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_wire() {
        let mut out = BytesMut::new();
        Watch { tag: Tag::new(4), prefix: "a/".into(), since: Revision::new(99) }.encode(&mut out).unwrap();
        assert_eq!(out.as_ref(), b"\x06\x04\x00\x02\x00a/\x63\0\0\0\0\0\0\0");
    }
}
