//! MARK: carries a watermark, the revision up to which everything was sent. From a client, a barrier.
//!
//! ```text
//!  0      1        3          11
//!  ┌──────┬────────┬──────────┐
//!  │ 0x07 │  tag   │ revision │
//!  └──────┴────────┴──────────┘
//! ```

use crate::frame::Frame;
use crate::layout::{self, Field, HEADER_LENGTH};
use crate::{EncodeError, Kind, Revision, Tag, number};
use bytes::{Buf, BufMut, BytesMut};
use std::fmt;

/// A watermark (from the server): everything up to this revision was sent. From a client, with revision 0, a barrier: a
/// request for such a watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The tag of the request; [`Tag::BROADCAST`] if the frame responds to none.
    pub tag: Tag,
    /// The watermark. With the tag of a WATCH, [`Revision::ZERO`] is a reset: forget everything under its prefix.
    pub revision: Revision,
}

impl Mark {
    /// The length of a MARK frame.
    pub const LENGTH: usize = Self::MIN_LENGTH;

    /// Appends a MARK to `out`.
    pub fn encode_parts(out: &mut impl BufMut, tag: Tag, revision: Revision) {
        layout::put_header(out, Kind::Mark, tag);
        out.put_u64_le(revision.get());
    }
}

impl Frame for Mark {
    const LAYOUT: &'static [Field] = &[Field::U64];

    fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        let revision = number::find(buffer, HEADER_LENGTH)?;
        buffer.advance(Self::LENGTH);
        Ok(Self { tag, revision: Revision::new(u64::from_le_bytes(revision)) })
    }

    fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        Self::encode_parts(out, self.tag, self.revision);
        Ok(())
    }

    fn encoded_length(&self) -> usize {
        Self::LENGTH
    }

    fn show_fields(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " revision={}", self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_wire() {
        let mut out = BytesMut::new();
        Mark::encode_parts(&mut out, Tag::new(5), Revision::new(0x0102));
        assert_eq!(out.as_ref(), b"\x07\x05\x00\x02\x01\0\0\0\0\0\0");
    }
}
