//! What frames consist of: a header, then the fields of the kind, in order.
//!
//! ```text
//!  0      1        3
//!  ┌──────┬────────┬──────────┐
//!  │ kind │  tag   │ fields … │
//!  └──────┴────────┴──────────┘
//! ```
//!
//! A layout is a list of [`Field`]s. It holds all that is needed to find the end of a frame, and nothing about the
//! meaning of its fields.

use crate::{Kind, Tag};
use bytes::BufMut;

/// The length in bytes of a frame's header: its kind and its tag.
pub const HEADER_LENGTH: usize = 3;

/// A field of a frame, or of an operation of a TXN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// A field of this many bytes, such as a version: `Fixed(8)`.
    Fixed(usize),
    /// A string: a `u16`, and as many bytes.
    String,
    /// A string that may be larger: a `u32`, and as many bytes.
    LargeString,
    /// The operations of a TXN: a `u16`, and as many operations. Always the last field.
    Operations,
}

impl Field {
    /// A version or a revision.
    pub(crate) const U64: Self = Self::Fixed(size_of::<u64>());
    /// A limit, a duration, or another small number.
    pub(crate) const U32: Self = Self::Fixed(size_of::<u32>());

    /// Returns the least number of bytes that the field takes.
    const fn min_length(self) -> usize {
        match self {
            Self::Fixed(length) => length,
            Self::String | Self::Operations => size_of::<u16>(),
            Self::LargeString => size_of::<u32>(),
        }
    }
}

/// Returns the least number of bytes that these fields take: all strings empty, no operations.
pub(crate) const fn min_length(mut fields: &[Field]) -> usize {
    let mut length = 0;
    while let [field, rest @ ..] = fields {
        length += field.min_length();
        fields = rest;
    }
    length
}

/// Returns whether these fields may be larger than a decoder wants to hold, so that their length must be checked first.
pub(crate) const fn is_large(mut fields: &[Field]) -> bool {
    while let [field, rest @ ..] = fields {
        if matches!(field, Field::LargeString | Field::Operations) {
            return true;
        }
        fields = rest;
    }
    false
}

/// Appends the header of a frame.
pub(crate) fn put_header(out: &mut impl BufMut, kind: Kind, tag: Tag) {
    out.put_u8(kind.byte());
    out.put_u16_le(tag.get());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_length_counts_empty_strings() {
        assert_eq!(min_length(&[]), 0);
        assert_eq!(min_length(&[Field::U64, Field::U32]), 12);
        assert_eq!(min_length(&[Field::String, Field::LargeString, Field::Fixed(1)]), 7);
        assert_eq!(min_length(&[Field::Operations]), 2);
    }

    #[test]
    fn large_strings_and_operations_make_a_layout_large() {
        assert!(!is_large(&[Field::String, Field::String, Field::U64]));
        assert!(is_large(&[Field::String, Field::LargeString]));
        assert!(is_large(&[Field::Operations]));
    }
}
