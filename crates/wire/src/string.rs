//! Strings: a length, and that many bytes of any kind.
//!
//! ```text
//!  0        2                        0        4
//!  ┌────────┬─────────────┐          ┌────────┬─────────────┐
//!  │ length │ bytes …     │          │ length │ bytes …     │
//!  └────────┴─────────────┘          └────────┴─────────────┘
//!     u16: keys and all but           u32: values that a PUT
//!     large values                    cannot carry
//! ```

use crate::layout::{self, HEADER_LENGTH};
use crate::{EncodeError, Kind, Tag};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The most bytes that a string can hold, because its length is a `u16`.
pub const MAX_STRING_LENGTH: usize = u16::MAX as usize;

/// The integer in front of a string: `u16`, or `u32` for large values.
pub(crate) trait Length: Copy + TryFrom<usize> {
    /// How many bytes the integer takes.
    const BYTES: usize;
    /// The most bytes that a string can hold.
    const MAX_LENGTH: usize;

    /// Splits the length of a string from the front of `bytes`, or returns `None` if it is not all there.
    fn split(bytes: &[u8]) -> Option<(usize, &[u8])>;

    /// Appends the length.
    fn put(self, out: &mut impl BufMut);
}

impl Length for u16 {
    const BYTES: usize = size_of::<Self>();
    const MAX_LENGTH: usize = MAX_STRING_LENGTH;

    #[inline]
    fn split(bytes: &[u8]) -> Option<(usize, &[u8])> {
        let (length, rest) = bytes.split_first_chunk()?;
        Some((usize::from(Self::from_le_bytes(*length)), rest))
    }

    #[inline]
    fn put(self, out: &mut impl BufMut) {
        out.put_u16_le(self);
    }
}

impl Length for u32 {
    const BYTES: usize = size_of::<Self>();
    const MAX_LENGTH: usize = Self::MAX as usize;

    #[inline]
    fn split(bytes: &[u8]) -> Option<(usize, &[u8])> {
        let (length, rest) = bytes.split_first_chunk()?;
        // A string that the machine cannot even address exceeds every limit anyway.
        Some((usize::try_from(Self::from_le_bytes(*length)).unwrap_or(usize::MAX), rest))
    }

    #[inline]
    fn put(self, out: &mut impl BufMut) {
        out.put_u32_le(self);
    }
}

/// Returns the length of the string that starts at `start` of `frame`.
///
/// # Errors
/// The least length of the frame, if the frame does not hold all of the string.
#[inline]
pub(crate) fn find<L: Length>(frame: &[u8], start: usize) -> Result<usize, usize> {
    match frame.get(start..).and_then(L::split) {
        None => Err(start + L::BYTES),
        Some((length, _)) => {
            let end = (start + L::BYTES).saturating_add(length);
            if frame.len() < end { Err(end) } else { Ok(length) }
        }
    }
}

/// Removes a string of `length` bytes from `buffer`, and the `before` bytes in front of it.
///
/// Cannot panic if [`find`] has found the string there.
#[inline]
pub(crate) fn take<L: Length>(buffer: &mut BytesMut, before: usize, length: usize) -> Bytes {
    buffer.advance(before + L::BYTES);
    buffer.split_to(length).freeze()
}

/// Returns the length of `string` as it is encoded.
///
/// # Errors
/// [`EncodeError`] if the string is too long.
pub(crate) fn length<L: Length>(field: &'static str, string: &[u8]) -> Result<L, EncodeError> {
    let (expected, found) = (L::MAX_LENGTH, string.len());
    L::try_from(found).map_err(|_| EncodeError { field, unit: "bytes", expected, found })
}

/// Appends `string`, whose length is `length`.
pub(crate) fn put(out: &mut impl BufMut, length: impl Length, string: &[u8]) {
    length.put(out);
    out.put_slice(string);
}

/// Removes a frame whose first field is the string from the front of `buffer`, up to the end of that string.
///
/// # Errors
/// The least length of the frame, if the buffer does not hold all of the string.
#[inline]
pub(crate) fn take_first(buffer: &mut BytesMut) -> Result<Bytes, usize> {
    let length = find::<u16>(buffer, HEADER_LENGTH)?;
    Ok(take::<u16>(buffer, HEADER_LENGTH, length))
}

/// Appends the header of a frame, and the string that is its first field.
///
/// # Errors
/// [`EncodeError`] if the string is too long. `out` is unchanged then.
pub(crate) fn put_first(
    out: &mut impl BufMut,
    kind: Kind,
    tag: Tag,
    field: &'static str,
    string: &[u8],
) -> Result<(), EncodeError> {
    let length = length::<u16>(field, string)?;
    layout::put_header(out, kind, tag);
    put(out, length, string);
    Ok(())
}
