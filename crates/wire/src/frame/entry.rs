//! The body that PUT and PUTL share: a key, a value, and a version. They differ in the length of the value, which is a
//! `u16` in a PUT and a `u32` in a PUTL.

use crate::layout::{self, HEADER_LENGTH};
use crate::string::{self, Length};
use crate::{EncodeError, Kind, Tag, Version, number};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Appends a frame of this kind, whose value has a length of type `L`.
///
/// # Errors
/// [`EncodeError`] if the key or the value is too long. `out` is unchanged then.
#[inline]
pub(crate) fn encode<L: Length>(
    out: &mut impl BufMut,
    kind: Kind,
    tag: Tag,
    (key, value, version): (&[u8], &[u8], Version),
) -> Result<(), EncodeError> {
    let key_length = string::length::<u16>("key", key)?;
    let value_length = string::length::<L>("value", value)?;
    layout::put_header(out, kind, tag);
    string::put(out, key_length, key);
    string::put(out, value_length, value);
    out.put_u64_le(version.get());
    Ok(())
}

/// Removes a frame, whose value has a length of type `L`, from the front of `buffer`, and makes an entry of its fields.
///
/// # Errors
/// The least length of the frame, if the buffer does not hold all of it. The buffer is unchanged then.
#[inline]
pub(crate) fn decode<L: Length, Entry>(
    buffer: &mut BytesMut,
    entry: impl FnOnce(Bytes, Bytes, Version) -> Entry,
) -> Result<Entry, usize> {
    let key_length = string::find::<u16>(buffer, HEADER_LENGTH)?;
    let value_start = HEADER_LENGTH + u16::BYTES + key_length;
    let value_length = string::find::<L>(buffer, value_start)?;
    let version_start = value_start + L::BYTES + value_length;
    let version = Version::new(u64::from_le_bytes(number::find(buffer, version_start)?));
    let key = string::take::<u16>(buffer, HEADER_LENGTH, key_length);
    let value = string::take::<L>(buffer, 0, value_length);
    buffer.advance(size_of::<u64>());
    Ok(entry(key, value, version))
}
