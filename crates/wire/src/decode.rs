//! The incremental decoder: takes the next frame from the front of a growing buffer.

use crate::frame::Frame;
use crate::frame_scanner::{FrameScanner, FrameSkipper, Measured};
use crate::layout::HEADER_LENGTH;
use crate::{DecodeError, Kind, LimitExceeded, MAX_STRING_LENGTH, Message, Put, Tag};
use bytes::BytesMut;

/// The length of the longest frame of any kind except TXN and PUTL: a PUT of the longest key and the longest value.
pub const MAX_FRAME_LENGTH: usize = Put::OVERHEAD + 2 * MAX_STRING_LENGTH;

/// The length of the longest TXN or PUTL that [`decode()`] accepts.
///
/// The protocol lets operators allow up to 16 MiB of keys and values in one frame. The rest is for what stands between
/// them.
pub const MAX_LARGE_FRAME_LENGTH: usize = 17 * 1024 * 1024;

/// What [`decode()`] found at the front of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A whole frame, which was removed from the buffer.
    Frame(Message),
    /// The beginning of a frame, or nothing. The buffer is unchanged.
    Incomplete {
        /// The least length of the frame: more than the buffer holds, and no more than the decoder accepts. Once that
        /// many bytes have arrived, the frame may turn out to be longer.
        expected: usize,
    },
    /// The beginning of a frame that is larger than the decoder accepts. The buffer is unchanged. The connection can
    /// continue behind that frame.
    TooLarge {
        /// The kind of the frame.
        kind: Kind,
        /// The tag of the frame, so that a server can respond.
        tag: Tag,
        /// The limit that the frame exceeds.
        excess: LimitExceeded,
        /// Discards the frame: give it the buffer until it reports the end of the frame, and only then decode again.
        skip: FrameSkipper,
    },
}

/// Removes the next frame from the front of `buffer`, with [`MAX_LARGE_FRAME_LENGTH`] as the limit of
/// [`decode_within`].
///
/// ```
/// use bytes::BytesMut;
/// use syncline_wire::{Decoded, Message, Tag, decode};
///
/// // A GET of the key `name`, of which the last two bytes have not arrived yet.
/// let mut buffer = BytesMut::from(&b"\x00\x01\x00\x04\x00na"[..]);
/// assert_eq!(decode(&mut buffer)?, Decoded::Incomplete { expected: 9 });
///
/// buffer.extend_from_slice(b"me");
/// assert_eq!(decode(&mut buffer)?, Decoded::Frame(Message::get(Tag::new(1), "name")));
/// assert!(buffer.is_empty());
/// # Ok::<(), syncline_wire::DecodeError>(())
/// ```
///
/// # Errors
/// As [`decode_within`].
#[inline]
pub fn decode(buffer: &mut BytesMut) -> Result<Decoded, DecodeError> {
    decode_within(buffer, MAX_LARGE_FRAME_LENGTH)
}

/// Removes the next frame from the front of `buffer`.
///
/// Keys and values are not copied: they share the buffer's memory, which is freed once they and the buffer are dropped.
/// Copy a small value that is kept for long.
///
/// A TXN or a PUTL of more than `max_frame` bytes is [`Decoded::TooLarge`], as soon as the lengths that have arrived
/// claim so. Frames of all other kinds cannot exceed [`MAX_FRAME_LENGTH`], and are always accepted.
///
/// # Errors
/// [`DecodeError`] if the front of the buffer is not a frame. The buffer is unchanged. It is of no further use, because
/// the start of the next frame cannot be known.
#[inline]
pub fn decode_within(buffer: &mut BytesMut, max_frame: usize) -> Result<Decoded, DecodeError> {
    let Some(&[kind, low, high]) = buffer.first_chunk::<HEADER_LENGTH>() else {
        return Ok(Decoded::Incomplete { expected: HEADER_LENGTH });
    };
    let tag = Tag::new(u16::from_le_bytes([low, high]));
    let Some(kind) = Kind::from_byte(kind) else {
        return Err(DecodeError::UnknownKind { kind, tag });
    };
    if kind == Kind::Put {
        // Most frames are PUTs. Decoding them inline was measured to save a tenth of the time.
        return Ok(decoded(Put::decode(tag, buffer).map(Message::Put)));
    }
    decode_other(kind, tag, buffer, max_frame)
}

/// Removes the next frame from the front of `buffer`, if it has at most `max_frame` bytes. Larger frames of any kind are
/// [`Decoded::TooLarge`].
///
/// This is for connections that may not use much memory, such as unauthenticated ones.
///
/// # Errors
/// As [`decode_within`].
pub fn decode_bounded(buffer: &mut BytesMut, max_frame: usize) -> Result<Decoded, DecodeError> {
    if let Some(&[kind, low, high]) = buffer.first_chunk::<HEADER_LENGTH>()
        && let Some(kind) = Kind::from_byte(kind)
    {
        let tag = Tag::new(u16::from_le_bytes([low, high]));
        if let Some(refused) = refuse(kind, tag, buffer, max_frame)? {
            return Ok(refused);
        }
    }
    decode_within(buffer, max_frame)
}

#[inline(never)]
fn decode_other(kind: Kind, tag: Tag, buffer: &mut BytesMut, max_frame: usize) -> Result<Decoded, DecodeError> {
    if Message::is_large(kind)
        && let Some(refused) = refuse(kind, tag, buffer, max_frame)?
    {
        return Ok(refused);
    }
    Ok(decoded(Message::decode(kind, tag, buffer)))
}

/// Returns `None` if the whole frame is in the buffer and has at most `max_frame` bytes, otherwise why it cannot be
/// decoded.
fn refuse(kind: Kind, tag: Tag, buffer: &BytesMut, max_frame: usize) -> Result<Option<Decoded>, DecodeError> {
    let scanner = FrameScanner::new(Message::layout(kind), tag);
    Ok(match scanner.measure(buffer, max_frame)? {
        Measured::Whole => None,
        Measured::Incomplete { expected } => Some(Decoded::Incomplete { expected }),
        Measured::TooLarge(excess) => Some(Decoded::TooLarge { kind, tag, excess, skip: FrameSkipper::new(scanner) }),
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
    use crate::{Revision, Version};
    use bytes::Bytes;

    #[test]
    fn a_key_shares_the_memory_of_the_buffer() {
        let mut buffer = BytesMut::from(&b"\x00\x01\x00\x04\x00name"[..]);
        let memory = buffer.as_ptr_range();
        let Ok(Decoded::Frame(Message::Get(get))) = decode(&mut buffer) else { panic!("no GET") };
        assert!(memory.contains(&get.key.as_ptr()), "the key was copied");
    }

    #[test]
    fn a_frame_is_too_large_as_soon_as_its_lengths_claim_so() {
        let judged = |front: &[u8], max_frame| {
            let mut buffer = BytesMut::from(front);
            let found = decode_within(&mut buffer, max_frame);
            assert_eq!(buffer, front, "the buffer was changed");
            match found {
                Ok(Decoded::TooLarge { excess, tag, .. }) => {
                    assert_eq!(tag, Tag::new(7));
                    excess.to_string()
                }
                Ok(Decoded::Incomplete { expected }) => format!("incomplete, {expected}"),
                other => format!("{other:?}"),
            }
        };
        let large = b"\x0a\x07\x00\x01\x00k\x00\x00\x01\x00";
        assert_eq!(judged(large, 65_554), "incomplete, 65554");
        assert_eq!(judged(large, 65_553), "65554 bytes, expected at most 65553");
        // The key alone is too long, and the length of the value has not arrived yet.
        assert_eq!(judged(b"\x0a\x07\x00\xff\xff", 1000), "65552 bytes, expected at most 1000");
        // The number of operations alone is too large, or the sum of those that have arrived.
        assert_eq!(judged(b"\x09\x07\x00\x00\x04", 20_000), "incomplete, 11269");
        assert_eq!(judged(b"\x09\x07\x00\x00\x04", 11_268), "11269 bytes, expected at most 11268");
        assert_eq!(judged(b"\x09\x07\x00\x01\x04", 20_000), "1025 operations, expected at most 1024");
        let two = b"\x09\x07\x00\x02\x00\x00\x01\x00a\0\0\0\0\0\0\0\0\x05\xff\xff";
        assert_eq!(judged(two, 65_563), "incomplete, 65563");
        assert_eq!(judged(two, 65_562), "65563 bytes, expected at most 65562");
    }

    #[test]
    fn an_unknown_operation_is_refused_as_soon_as_it_arrives() {
        let mut buffer = BytesMut::from(&b"\x09\x07\x00\x02\x00\x00\x01\x00a\0\0\0\0\0\0\0\0\x02"[..]);
        let found = decode(&mut buffer);
        assert_eq!(found, Err(DecodeError::UnknownOperation { operation: 2, tag: Tag::new(7) }));
        let text = "unknown operation 2: expected 0 (CHECK), 1 (PUT), 5 (DELETE) or 10 (PUTL)";
        assert_eq!(found.unwrap_err().to_string(), text);
        let Ok(Decoded::TooLarge { mut skip, .. }) = decode_within(&mut buffer, 20) else { panic!("not too large") };
        assert_eq!(skip.skip(&mut buffer), Err(DecodeError::UnknownOperation { operation: 2, tag: Tag::new(7) }));
    }

    #[test]
    fn decode_bounded_knows_the_length_before_the_frame_has_arrived() {
        let tag = Tag::new(7);
        let (key, value) = (|| Bytes::from(vec![b'k'; 300]), || Bytes::from(vec![b'v'; 500]));
        let version = Version::new(9);
        let frames = [
            Message::get(tag, key()),
            Message::put(tag, key(), value(), version),
            Message::error(tag, value()),
            Message::auth(tag, value()),
            Message::hello(tag, value()),
            Message::delete(tag, key(), version),
            Message::watch(tag, key(), Revision::new(9)),
            Message::mark(tag, Revision::new(9)),
            Message::list(tag, key(), value(), 9),
            Message::status(tag, value()),
        ];
        for message in frames {
            let mut whole = BytesMut::new();
            message.encode(&mut whole).unwrap();
            let length = whole.len();
            for arrived in 0..length {
                let mut front = BytesMut::from(&whole[..arrived]);
                match decode_bounded(&mut front, length) {
                    Ok(Decoded::Incomplete { expected }) => {
                        assert!(arrived < expected && expected <= length, "{message}");
                    }
                    other => panic!("{arrived} bytes of {message}: {other:?}"),
                }
            }
            assert_eq!(decode_bounded(&mut whole.clone(), length), Ok(Decoded::Frame(message.clone())));
            let mut behind = whole.clone();
            behind.extend_from_slice(b"behind");
            let Ok(Decoded::TooLarge { kind, mut skip, .. }) = decode_bounded(&mut behind, length - 1) else {
                panic!("{message} exceeds the limit")
            };
            assert_eq!((kind, skip.skip(&mut behind)), (message.kind(), Ok(true)));
            assert_eq!(behind, "behind", "{message}");
        }
    }

    #[test]
    fn an_incomplete_frame_stays_in_the_buffer() {
        let mut buffer = BytesMut::from(&b"\x01\x07\x00\x04\x00name\x04\x00ton"[..]);
        let before = buffer.clone();
        assert_eq!(decode(&mut buffer), Ok(Decoded::Incomplete { expected: 15 }));
        assert_eq!(buffer, before);
    }
}
