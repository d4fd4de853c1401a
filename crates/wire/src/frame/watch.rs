//! WATCH: asks for all that changes under a prefix.
//!
//! ```text
//!  0      1        3            5          5 + p     13 + p
//!  ┌──────┬────────┬────────────┬──────────┬─────────┐
//!  │ 0x06 │  tag   │ length = p │ prefix … │  since  │
//!  └──────┴────────┴────────────┴──────────┴─────────┘
//! ```

use crate::decode::HEADER_LENGTH;
use crate::number::{self, NUMBER_BYTES};
use crate::{EncodeError, Kind, Revision, Tag, string};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Asks for what has changed under a prefix since a revision, and then for all that changes. Answered with a MARK of the
/// same tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Which request this is.
    pub tag: Tag,
    /// What the keys start with; empty: all keys.
    pub prefix: Bytes,
    /// The revision up to which all is known already; [`Revision::ZERO`]: nothing is.
    pub since: Revision,
}

impl Watch {
    const OVERHEAD: usize = string::ONLY_OVERHEAD + NUMBER_BYTES;

    /// Takes the frame off the front of `buffer`; says how long it is at the least where it is not whole.
    pub(crate) fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        let length = string::find(buffer, HEADER_LENGTH)?;
        let since = Revision::new(number::find(buffer, string::ONLY_OVERHEAD + length)?);
        let prefix = string::take(buffer, HEADER_LENGTH, length);
        buffer.advance(NUMBER_BYTES);
        Ok(Self { tag, prefix, since })
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        string::encode_only(out, Kind::Watch, self.tag, "prefix", &self.prefix)?;
        out.put_u64_le(self.since.get());
        Ok(())
    }

    pub(crate) fn encoded_length(&self) -> usize {
        Self::OVERHEAD + self.prefix.len()
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
