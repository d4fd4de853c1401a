//! The incremental decoder: the next frame of a growing buffer.

use crate::frame_scanner::{FrameScanner, Measured};
use crate::{
    Auth, DecodeError, Delete, Error, FrameSkipper, Get, Hello, Kind, LimitExceeded, List, MAX_STRING_LENGTH, Mark,
    Message, Put, PutLarge, Status, Tag, Txn, Watch,
};
use bytes::BytesMut;

/// Kind and tag: what every frame starts with.
pub const HEADER_LENGTH: usize = 3;

/// The longest frame that there is of any kind but TXN and PUTL: a PUT of the longest key and the longest value.
pub const MAX_FRAME_LENGTH: usize = Put::OVERHEAD + 2 * MAX_STRING_LENGTH;

/// The longest TXN or PUTL that [`decode()`] takes: room for the largest that the protocol allows an operator to allow
/// (16 MiB of keys and values), and what stands between them.
pub const MAX_LARGE_FRAME_LENGTH: usize = 17 * 1024 * 1024;

/// What [`decode()`] found at the front of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A whole frame, which is no longer in the buffer.
    Frame(Message),
    /// The beginning of a frame, or nothing. The buffer is as it was.
    Incomplete {
        /// The bytes that the frame has at the least: more than the buffer holds, and no more than is taken at all.
        /// Where they are there, it may turn out to be longer.
        expected: usize,
    },
    /// The beginning of a frame that is larger than is taken. The buffer is as it was; the connection can go on
    /// behind that frame.
    TooLarge {
        /// What the frame is.
        kind: Kind,
        /// Its tag, so that the sender can be answered.
        tag: Tag,
        /// What exceeds what.
        excess: LimitExceeded,
        /// Passes over the frame: hand it the buffer until it has ended, and only then decode again.
        skip: FrameSkipper,
    },
}

/// Takes the next frame off the front of `buffer`: [`decode_within`] [`MAX_LARGE_FRAME_LENGTH`].
///
/// # Errors
/// As [`decode_within`].
#[inline]
pub fn decode(buffer: &mut BytesMut) -> Result<Decoded, DecodeError> {
    decode_within(buffer, MAX_LARGE_FRAME_LENGTH)
}

/// Takes the next frame off the front of `buffer`.
///
/// Keys and values are not copied: they share the buffer's memory, which is free again once they and the buffer are
/// gone. Whoever keeps a small value for long should copy it.
///
/// A TXN or a PUTL of more than `max_frame` bytes is [`Decoded::TooLarge`] as soon as what is there of it claims so. The
/// other kinds are bounded by their format, to [`MAX_FRAME_LENGTH`], and are always taken.
///
/// # Errors
/// [`DecodeError`] where the front of the buffer is no frame. The buffer is as it was then, and of no more use: where the
/// next frame starts can't be known.
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
        // The frame that there is most of, in place where it is used; measured to be worth a tenth of its decoding.
        return Ok(decoded(Put::decode(tag, buffer).map(Message::Put)));
    }
    decode_other(kind, tag, buffer, max_frame)
}

/// Takes the next frame off the front of `buffer`, of whatever kind, if it has at most `max_frame` bytes: for frames of
/// somebody whom one does not want to give much room. All others are [`Decoded::TooLarge`].
///
/// # Errors
/// As [`decode_within`].
pub fn decode_bounded(buffer: &mut BytesMut, max_frame: usize) -> Result<Decoded, DecodeError> {
    if let Some(&[kind, low, high]) = buffer.first_chunk::<HEADER_LENGTH>()
        && let Some(kind) = Kind::from_byte(kind)
    {
        let tag = Tag::new(u16::from_le_bytes([low, high]));
        let walk = FrameScanner::new(kind, tag);
        match walk.measure(buffer, max_frame)? {
            Measured::Whole { .. } => {}
            Measured::Incomplete { expected } => return Ok(Decoded::Incomplete { expected }),
            Measured::TooLarge(excess) => {
                return Ok(Decoded::TooLarge { kind, tag, excess, skip: FrameSkipper::new(walk) });
            }
        }
    }
    decode_within(buffer, max_frame)
}

#[inline(never)]
fn decode_other(kind: Kind, tag: Tag, buffer: &mut BytesMut, max_frame: usize) -> Result<Decoded, DecodeError> {
    if matches!(kind, Kind::Txn | Kind::PutLarge) {
        let walk = FrameScanner::new(kind, tag);
        return Ok(match walk.measure(buffer, max_frame)? {
            Measured::Whole { length } => {
                let frame = buffer.split_to(length);
                Decoded::Frame(match kind {
                    Kind::PutLarge => Message::PutLarge(PutLarge::decode(tag, frame)),
                    _ => Message::Txn(Txn::decode(tag, frame)),
                })
            }
            Measured::Incomplete { expected } => Decoded::Incomplete { expected },
            Measured::TooLarge(excess) => Decoded::TooLarge { kind, tag, excess, skip: FrameSkipper::new(walk) },
        });
    }
    Ok(decoded(match kind {
        Kind::Get => Get::decode(tag, buffer).map(Message::Get),
        Kind::Put => Put::decode(tag, buffer).map(Message::Put),
        Kind::Error => Error::decode(tag, buffer).map(Message::Error),
        Kind::Auth => Auth::decode(tag, buffer).map(Message::Auth),
        Kind::Hello => Hello::decode(tag, buffer).map(Message::Hello),
        Kind::Delete => Delete::decode(tag, buffer).map(Message::Delete),
        Kind::Watch => Watch::decode(tag, buffer).map(Message::Watch),
        Kind::Mark => Mark::decode(tag, buffer).map(Message::Mark),
        Kind::List => List::decode(tag, buffer).map(Message::List),
        // The first two were taken above.
        Kind::Txn | Kind::PutLarge | Kind::Status => Status::decode(tag, buffer).map(Message::Status),
    }))
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
        // A key that alone is too long, whose value's length is not there yet.
        assert_eq!(judged(b"\x0a\x07\x00\xff\xff", 1000), "65552 bytes, expected at most 1000");
        // Operations that can't fit, whatever they are; and the sum of those that are there.
        assert_eq!(judged(b"\x09\x07\x00\x00\x04", 20_000), "incomplete, 11269");
        assert_eq!(judged(b"\x09\x07\x00\x00\x04", 11_268), "11269 bytes, expected at most 11268");
        assert_eq!(judged(b"\x09\x07\x00\x01\x04", 20_000), "1025 operations, expected at most 1024");
        let two = b"\x09\x07\x00\x02\x00\x00\x01\x00a\0\0\0\0\0\0\0\0\x05\xff\xff";
        assert_eq!(judged(two, 65_563), "incomplete, 65563");
        assert_eq!(judged(two, 65_562), "65563 bytes, expected at most 65562");
    }

    #[test]
    fn an_operation_that_is_none_is_refused_as_soon_as_it_is_there() {
        let mut buffer = BytesMut::from(&b"\x09\x07\x00\x02\x00\x00\x01\x00a\0\0\0\0\0\0\0\0\x02"[..]);
        let found = decode(&mut buffer);
        assert_eq!(found, Err(DecodeError::UnknownOperation { operation: 2, tag: Tag::new(7) }));
        let text = "unknown operation 2: expected 0 (CHECK), 1 (PUT), 5 (DELETE) or 10 (PUTL)";
        assert_eq!(found.unwrap_err().to_string(), text);
        let Ok(Decoded::TooLarge { mut skip, .. }) = decode_within(&mut buffer, 20) else { panic!("not too large") };
        assert_eq!(skip.skip(&mut buffer), Err(DecodeError::UnknownOperation { operation: 2, tag: Tag::new(7) }));
    }

    #[test]
    fn every_kind_has_a_length_that_is_known_before_it_is_there() {
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
            for there in 0..length {
                let mut front = BytesMut::from(&whole[..there]);
                match decode_bounded(&mut front, length) {
                    Ok(Decoded::Incomplete { expected }) => {
                        assert!(there < expected && expected <= length, "{message}");
                    }
                    other => panic!("{there} bytes of {message}: {other:?}"),
                }
            }
            assert_eq!(decode_bounded(&mut whole.clone(), length), Ok(Decoded::Frame(message.clone())));
            let mut behind = whole.clone();
            behind.extend_from_slice(b"behind");
            let Ok(Decoded::TooLarge { kind, mut skip, .. }) = decode_bounded(&mut behind, length - 1) else {
                panic!("{message} is longer than that")
            };
            assert_eq!((kind, skip.skip(&mut behind)), (message.kind(), Ok(true)));
            assert_eq!(behind, "behind", "{message}");
        }
    }

    #[test]
    fn what_is_not_whole_stays() {
        let mut buffer = BytesMut::from(&b"\x01\x07\x00\x04\x00name\x04\x00ton"[..]);
        let before = buffer.clone();
        assert_eq!(decode(&mut buffer), Ok(Decoded::Incomplete { expected: 15 }));
        assert_eq!(buffer, before);
    }
}
