//! MARK: says up to which revision all was told.
//!
//! ```text
//!  0      1        3          11
//!  ┌──────┬────────┬──────────┐
//!  │ 0x07 │  tag   │ revision │
//!  └──────┴────────┴──────────┘
//! ```

use crate::decode::HEADER_LENGTH;
use crate::number::{self, NUMBER_BYTES};
use crate::{Kind, Revision, Tag};
use bytes::{Buf, BufMut, BytesMut};

/// Says that all up to a revision was told (server), or asks for that (client, with revision 0: a barrier).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which request this is or answers; [`Tag::BROADCAST`] where it answers none.
    pub tag: Tag,
    /// The revision. [`Revision::ZERO`] under the tag of a WATCH: forget all under its prefix.
    pub revision: Revision,
}

impl Mark {
    /// The bytes of a MARK frame.
    pub const LENGTH: usize = HEADER_LENGTH + NUMBER_BYTES;

    /// Appends the frame to `out`.
    pub fn encode_parts(out: &mut impl BufMut, tag: Tag, revision: Revision) {
        out.put_u8(Kind::Mark.byte());
        out.put_u16_le(tag.get());
        out.put_u64_le(revision.get());
    }

    /// Takes the frame off the front of `buffer`; says how long it is where it is not whole.
    pub(crate) fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        let revision = Revision::new(number::find(buffer, HEADER_LENGTH)?);
        buffer.advance(Self::LENGTH);
        Ok(Self { tag, revision })
    }

    pub(crate) fn encode(self, out: &mut impl BufMut) {
        Self::encode_parts(out, self.tag, self.revision);
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
