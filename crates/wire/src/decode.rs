//! The incremental decoder: the next frame of a growing buffer.

use crate::{Auth, Error, Get, Kind, MAX_STRING_LENGTH, Malformed, Message, Put, Tag};
use bytes::BytesMut;

/// Kind and tag: what every frame starts with.
pub const HEADER_LENGTH: usize = 3;

/// The longest frame that there is: a PUT of the longest key and the longest value.
pub const MAX_FRAME_LENGTH: usize = Put::OVERHEAD + 2 * MAX_STRING_LENGTH;

/// What [`decode()`] found at the front of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A whole frame, which is no longer in the buffer.
    Frame(Message),
    /// The beginning of a frame, or nothing. The buffer is as it was.
    Incomplete {
        /// The bytes that the frame has at the least: more than the buffer holds, at most [`MAX_FRAME_LENGTH`]. Where
        /// they are there, it may turn out to be longer.
        expected: usize,
    },
}

/// Takes the next frame off the front of `buffer`.
///
/// Keys and values are not copied: they share the buffer's memory, which is free again once they and the buffer are
/// gone. Whoever keeps a small value for long should copy it.
///
/// # Errors
/// [`Malformed`] where the front of the buffer is no frame. The buffer is as it was then, and of no more use: where the
/// next frame starts can't be known.
#[inline]
pub fn decode(buffer: &mut BytesMut) -> Result<Decoded, Malformed> {
    let Some(&[kind, low, high]) = buffer.first_chunk::<HEADER_LENGTH>() else {
        return Ok(Decoded::Incomplete { expected: HEADER_LENGTH });
    };
    let tag = Tag::new(u16::from_le_bytes([low, high]));
    let Some(kind) = Kind::from_byte(kind) else {
        return Err(Malformed::UnknownKind { kind, tag });
    };
    if kind == Kind::Put {
        // The frame that there is most of, in place where it is used; measured to be worth a tenth of its decoding.
        return Ok(decoded(Put::decode(tag, buffer).map(Message::Put)));
    }
    Ok(decode_other(kind, tag, buffer))
}

#[inline(never)]
fn decode_other(kind: Kind, tag: Tag, buffer: &mut BytesMut) -> Decoded {
    decoded(match kind {
        Kind::Get => Get::decode(tag, buffer).map(Message::Get),
        Kind::Put => Put::decode(tag, buffer).map(Message::Put),
        Kind::Error => Error::decode(tag, buffer).map(Message::Error),
        Kind::Auth => Auth::decode(tag, buffer).map(Message::Auth),
    })
}

#[inline]
fn decoded(frame: Result<Message, usize>) -> Decoded {
    match frame {
        Ok(message) => Decoded::Frame(message),
        Err(expected) => Decoded::Incomplete { expected },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_shares_the_memory_of_the_buffer() {
        let mut buffer = BytesMut::from(&b"\x00\x01\x00\x04\x00name"[..]);
        let memory = buffer.as_ptr_range();
        let Ok(Decoded::Frame(Message::Get(get))) = decode(&mut buffer) else { panic!("no GET") };
        assert!(memory.contains(&get.key.as_ptr()), "the key was copied");
    }

    #[test]
    fn what_is_not_whole_stays() {
        let mut buffer = BytesMut::from(&b"\x01\x07\x00\x04\x00name\x04\x00ton"[..]);
        let before = buffer.clone();
        assert_eq!(decode(&mut buffer), Ok(Decoded::Incomplete { expected: 15 }));
        assert_eq!(buffer, before);
    }
}
