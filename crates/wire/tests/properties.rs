//! What holds for all messages, all splits of a stream, and all bytes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use std::io::Read;
use syncline_wire::{
    Decoded, Decoder, MAX_FRAME_LENGTH, MAX_STRING_LENGTH, Malformed, Message, ReadError, Tag, Version, decode,
};

/// Strings of all lengths: mostly short, some at the borders, some as long as they get.
fn string() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => vec(any::<u8>(), 0..24),
        2 => vec(any::<u8>(), 250..260),
        1 => (any::<u8>(), MAX_STRING_LENGTH - 2..=MAX_STRING_LENGTH).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let tag = any::<u16>().prop_map(Tag::new);
    prop_oneof![
        (tag.clone(), string()).prop_map(|(tag, key)| Message::get(tag, key)),
        (tag.clone(), string(), string(), any::<u64>()).prop_map(|(tag, key, value, version)| Message::put(
            tag,
            key,
            value,
            Version::new(version)
        )),
        (tag.clone(), string()).prop_map(|(tag, text)| Message::error(tag, text)),
        (tag, string()).prop_map(|(tag, password)| Message::auth(tag, password)),
    ]
}

fn encoded<'a>(messages: impl IntoIterator<Item = &'a Message>) -> BytesMut {
    let mut out = BytesMut::new();
    messages.into_iter().for_each(|message| message.encode(&mut out).unwrap());
    out
}

/// All that stands in `buffer`: the frames, and how the rest was judged.
fn decode_all(buffer: &mut BytesMut) -> (Vec<Message>, Result<usize, Malformed>) {
    let mut frames = Vec::new();
    loop {
        match decode(buffer) {
            Ok(Decoded::Frame(frame)) => frames.push(frame),
            Ok(Decoded::Incomplete { expected }) => return (frames, Ok(expected)),
            Err(malformed) => return (frames, Err(malformed)),
        }
    }
}

/// Gives a stream in pieces of the given sizes, over and over.
struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: std::iter::Cycle<std::slice::Iter<'a, usize>>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let size = *self.sizes.next().unwrap();
        let size = size.min(self.bytes.len()).min(buffer.len());
        let (piece, rest) = self.bytes.split_at(size);
        buffer[..size].copy_from_slice(piece);
        self.bytes = rest;
        Ok(size)
    }
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(messages in vec(message(), 0..5)) {
        let mut buffer = encoded(&messages);
        prop_assert_eq!(buffer.len(), messages.iter().map(Message::encoded_length).sum::<usize>());
        let (found, rest) = decode_all(&mut buffer);
        prop_assert_eq!(found, messages);
        prop_assert_eq!(rest, Ok(3));
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn a_stream_may_be_cut_anywhere(messages in vec(message(), 1..4), sizes in vec(1..9000usize, 1..8)) {
        let bytes = encoded(&messages);
        let mut decoder = Decoder::new(Pieces { bytes: &bytes, sizes: sizes.iter().cycle() });
        for message in messages {
            prop_assert_eq!(decoder.read().unwrap(), Some(message));
        }
        prop_assert_eq!(decoder.read().unwrap(), None);
    }

    #[test]
    fn every_cut_of_a_frame_is_incomplete_and_never_more_than_a_frame(message in message(), cut in any::<prop::sample::Index>()) {
        let frame = encoded([&message]);
        let mut buffer = BytesMut::from(&frame[..cut.index(frame.len())]);
        let cut = buffer.len();
        let Ok(Decoded::Incomplete { expected }) = decode(&mut buffer) else { panic!("not incomplete") };
        prop_assert!(cut < expected && expected <= frame.len() && expected <= MAX_FRAME_LENGTH);
        // And the rest makes it whole.
        buffer.extend_from_slice(&frame[cut..]);
        prop_assert_eq!(decode(&mut buffer), Ok(Decoded::Frame(message)));
    }

    #[test]
    fn arbitrary_bytes_are_frames_or_refused(bytes in vec(prop_oneof![0..5u8, any::<u8>()], 0..2000)) {
        let mut buffer = BytesMut::from(bytes.as_slice());
        let (frames, rest) = decode_all(&mut buffer);
        // What was taken is what the frames say, byte for byte.
        let taken = bytes.len() - buffer.len();
        prop_assert_eq!(&encoded(&frames)[..], &bytes[..taken]);
        match rest {
            Ok(expected) => prop_assert!(buffer.len() < expected && expected <= MAX_FRAME_LENGTH),
            Err(Malformed::UnknownKind { kind, .. }) => prop_assert!(kind > 3 && bytes[taken] == kind),
        }
        // A stream of the same bytes is judged the same.
        let mut decoder = Decoder::new(bytes.as_slice());
        for frame in frames {
            prop_assert_eq!(decoder.read().unwrap(), Some(frame));
        }
        match (decoder.read(), rest) {
            (Ok(None), Ok(_)) => prop_assert!(buffer.is_empty()),
            (Err(ReadError::Underflow(underflow)), Ok(expected)) => {
                prop_assert_eq!((underflow.expected, underflow.found), (expected, buffer.len()));
            }
            (Err(ReadError::Malformed(found)), Err(expected)) => prop_assert_eq!(found, expected),
            (found, expected) => prop_assert!(false, "{found:?}, not {expected:?}"),
        }
    }
}

#[test]
fn every_split_of_a_stream() {
    let messages = [
        Message::get(Tag::new(1), "key"),
        Message::put(Tag::new(2), "", vec![7; 300], Version::MAX),
        Message::error(Tag::BROADCAST, ""),
        Message::auth(Tag::new(65_535), "password"),
    ];
    let stream = encoded(&messages);
    for split in 0..=stream.len() {
        let mut buffer = BytesMut::from(&stream[..split]);
        let (mut found, _) = decode_all(&mut buffer);
        buffer.extend_from_slice(&stream[split..]);
        let (rest, _) = decode_all(&mut buffer);
        found.extend(rest);
        assert_eq!(found, messages, "split at {split}");
    }
}

#[test]
fn the_largest_frames() {
    let longest = || vec![0xa5; MAX_STRING_LENGTH];
    let put = Message::put(Tag::new(1), longest(), longest(), Version::MAX);
    assert_eq!(put.encoded_length(), MAX_FRAME_LENGTH);
    for message in [put, Message::get(Tag::new(1), longest()), Message::auth(Tag::new(1), longest())] {
        assert_eq!(decode_all(&mut encoded([&message])).0, [message]);
    }
    let longer = || vec![0xa5; MAX_STRING_LENGTH + 1];
    for message in [
        Message::put(Tag::new(1), longer(), "", Version::MAX),
        Message::put(Tag::new(1), "", longer(), Version::MAX),
        Message::get(Tag::new(1), longer()),
        Message::error(Tag::new(1), longer()),
        Message::auth(Tag::new(1), longer()),
    ] {
        let mut out = BytesMut::new();
        let bad = message.encode(&mut out).unwrap_err();
        assert_eq!((bad.expected, bad.found), (65_535, 65_536));
        assert!(out.is_empty(), "a refused {} left bytes behind", message.kind());
    }
}
