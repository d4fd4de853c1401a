//! The protocol's strings: `length: u16` and that many bytes, any bytes.
//!
//! ```text
//!  0        2                 2 + length
//!  ┌────────┬─────────────────┐
//!  │ length │ bytes …         │
//!  └────────┴─────────────────┘
//! ```

use crate::decode::HEADER_LENGTH;
use crate::{EncodeError, Kind, Tag};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The most bytes that a string can hold, for its length is a `u16`.
pub const MAX_STRING_LENGTH: usize = u16::MAX as usize;

/// The bytes that a string's length takes.
pub(crate) const LENGTH_BYTES: usize = 2;

/// The length of the string that starts at `start` of `frame`.
///
/// # Errors
/// Where the string is not whole: the bytes that the frame has at the least.
#[inline]
pub(crate) fn find(frame: &[u8], start: usize) -> Result<usize, usize> {
    let body = start + LENGTH_BYTES;
    match frame.get(start..).and_then(<[u8]>::first_chunk::<LENGTH_BYTES>) {
        None => Err(body),
        Some(length) => {
            let length = usize::from(u16::from_le_bytes(*length));
            if frame.len() < body + length { Err(body + length) } else { Ok(length) }
        }
    }
}

/// Takes a string of this length out of `buffer`, behind `before` bytes and the string's own length.
///
/// Cannot panic where [`find`] has found the string there.
#[inline]
pub(crate) fn take(buffer: &mut BytesMut, before: usize, length: usize) -> Bytes {
    buffer.advance(before + LENGTH_BYTES);
    buffer.split_to(length).freeze()
}

/// The length of a string as it stands on the wire.
///
/// # Errors
/// [`EncodeError`] where it is longer than a string can be.
pub(crate) fn length(field: &'static str, string: &[u8]) -> Result<u16, EncodeError> {
    let (expected, found) = (MAX_STRING_LENGTH, string.len());
    u16::try_from(found).map_err(|_| EncodeError { field, unit: "bytes", expected, found })
}

/// Appends a string whose length [`length`] has told.
pub(crate) fn put(out: &mut impl BufMut, length: u16, string: &[u8]) {
    out.put_u16_le(length);
    out.put_slice(string);
}

/// The bytes of a frame whose body is one string, beside that string.
pub(crate) const ONLY_OVERHEAD: usize = HEADER_LENGTH + LENGTH_BYTES;

/// Takes a frame whose body is one string off the front of `buffer`, and answers the string.
///
/// # Errors
/// Where the frame is not whole: the bytes that it has at the least.
#[inline]
pub(crate) fn decode_only(buffer: &mut BytesMut) -> Result<Bytes, usize> {
    let length = find(buffer, HEADER_LENGTH)?;
    Ok(take(buffer, HEADER_LENGTH, length))
}

/// Appends a frame whose body is one string.
///
/// # Errors
/// [`EncodeError`] where the string is too long; `out` is as it was then.
pub(crate) fn encode_only(
    out: &mut impl BufMut,
    kind: Kind,
    tag: Tag,
    field: &'static str,
    string: &[u8],
) -> Result<(), EncodeError> {
    let length = length(field, string)?;
    out.put_u8(kind.byte());
    out.put_u16_le(tag.get());
    put(out, length, string);
    Ok(())
}
