//! Properties of all messages, all splits of a stream, and all bytes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::HashSet;
use std::io::Read;
use syncline_wire::{
    DecodeError, Decoded, Decoder, Kind, LimitExceeded, MAX_FRAME_LENGTH, MAX_LARGE_FRAME_LENGTH, MAX_STRING_LENGTH,
    Message, Operation, PutLarge, ReadError, Revision, Tag, Version, decode, decode_within,
};

/// Strings of all lengths: mostly short, some around the borders of a length, some of the largest size.
fn string() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => vec(any::<u8>(), 0..24),
        2 => vec(any::<u8>(), 250..260),
        1 => (any::<u8>(), MAX_STRING_LENGTH - 2..=MAX_STRING_LENGTH).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

/// Values that a PUT can carry, and some that it cannot.
fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => string(),
        1 => (any::<u8>(), MAX_STRING_LENGTH - 20..200_000_usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    (0..3, string(), value(), any::<u64>().prop_map(Version::new)).prop_map(|(kind, key, value, version)| {
        let (key, value) = (key.into(), value.into());
        match kind {
            0 => Operation::Check { key, version },
            1 => Operation::Put { key, value, version },
            _ => Operation::Delete { key, version },
        }
    })
}

fn message() -> BoxedStrategy<Message> {
    let tag = any::<u16>().prop_map(Tag::new);
    let version = any::<u64>().prop_map(Version::new);
    let revision = any::<u64>().prop_map(Revision::new);
    prop_oneof![
        (tag.clone(), string()).prop_map(|(tag, key)| Message::get(tag, key)),
        (tag.clone(), string(), string(), version.clone())
            .prop_map(|(tag, key, value, version)| Message::put(tag, key, value, version)),
        (tag.clone(), string()).prop_map(|(tag, text)| Message::error(tag, text)),
        (tag.clone(), string()).prop_map(|(tag, password)| Message::auth(tag, password)),
        (tag.clone(), string()).prop_map(|(tag, body)| Message::hello(tag, body)),
        (tag.clone(), string(), version.clone()).prop_map(|(tag, key, version)| Message::delete(tag, key, version)),
        (tag.clone(), string(), revision.clone()).prop_map(|(tag, prefix, since)| Message::watch(tag, prefix, since)),
        (tag.clone(), revision).prop_map(|(tag, revision)| Message::mark(tag, revision)),
        (tag.clone(), string(), string(), any::<u32>())
            .prop_map(|(tag, prefix, after, limit)| Message::list(tag, prefix, after, limit)),
        (tag.clone(), vec(operation(), 0..5)).prop_map(|(tag, operations)| Message::txn(tag, operations)),
        (tag.clone(), string(), value(), version)
            .prop_map(|(tag, key, value, version)| Message::put_large(tag, key, value, version)),
        (tag, string()).prop_map(|(tag, text)| Message::status(tag, text)),
    ]
    .boxed()
}

/// Arbitrary bytes, most of which are small numbers or kinds, so that many of them are frames.
fn bytes_like_frames() -> impl Strategy<Value = Vec<u8>> {
    let kinds = u8::try_from(Kind::ALL.len()).unwrap();
    vec(prop_oneof![6 => 0..4u8, 2 => 4..kinds, 1 => any::<u8>()], 0..2000)
}

fn encoded<'a>(messages: impl IntoIterator<Item = &'a Message>) -> BytesMut {
    let mut out = BytesMut::new();
    messages.into_iter().for_each(|message| message.encode(&mut out).unwrap());
    out
}

/// What the decoder returned behind the last whole frame.
#[derive(Debug, PartialEq)]
enum Rest {
    Incomplete(usize),
    TooLarge(LimitExceeded),
    Malformed(DecodeError),
}

/// Returns the frames in `buffer`, and what the decoder returned behind them.
fn decode_all(buffer: &mut BytesMut) -> (Vec<Message>, Rest) {
    let mut frames = Vec::new();
    loop {
        match decode(buffer) {
            Ok(Decoded::Frame(frame)) => frames.push(frame),
            Ok(Decoded::Incomplete { expected }) => return (frames, Rest::Incomplete(expected)),
            Ok(Decoded::TooLarge { excess, .. }) => return (frames, Rest::TooLarge(excess)),
            Err(malformed) => return (frames, Rest::Malformed(malformed)),
        }
    }
}

/// A stream that returns pieces of the given sizes, over and over.
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

/// The messages of `message()` are of every kind, so that the properties hold for a new kind too.
#[test]
fn messages_of_every_kind_are_generated() {
    let mut runner = TestRunner::deterministic();
    let generated: HashSet<_> = (0..1000).map(|_| message().new_tree(&mut runner).unwrap().current().kind()).collect();
    assert_eq!(generated.len(), Kind::ALL.len(), "{generated:?}");
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(messages in vec(message(), 0..5)) {
        let mut buffer = encoded(&messages);
        prop_assert_eq!(buffer.len(), messages.iter().map(Message::encoded_length).sum::<usize>());
        let (found, rest) = decode_all(&mut buffer);
        prop_assert_eq!(found, messages);
        prop_assert_eq!(rest, Rest::Incomplete(3));
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
    fn a_truncated_frame_is_incomplete_and_expects_at_most_the_frame(message in message(), cut in any::<prop::sample::Index>()) {
        let frame = encoded([&message]);
        let mut buffer = BytesMut::from(&frame[..cut.index(frame.len())]);
        let cut = buffer.len();
        let Ok(Decoded::Incomplete { expected }) = decode(&mut buffer) else { panic!("not incomplete") };
        prop_assert!(cut < expected && expected <= frame.len());
        let large = matches!(message.kind(), Kind::Txn | Kind::PutLarge);
        let most = if large { MAX_LARGE_FRAME_LENGTH } else { MAX_FRAME_LENGTH };
        prop_assert!(expected <= most);
        // The rest completes the frame.
        buffer.extend_from_slice(&frame[cut..]);
        prop_assert_eq!(decode(&mut buffer), Ok(Decoded::Frame(message)));
    }

    #[test]
    fn arbitrary_bytes_are_frames_or_refused(bytes in bytes_like_frames()) {
        let mut buffer = BytesMut::from(bytes.as_slice());
        let (frames, rest) = decode_all(&mut buffer);
        // Encoding the frames again gives the bytes that were removed, byte for byte. The exception is a TXN that encodes a
        // small value as a large one.
        let taken = bytes.len() - buffer.len();
        let again = encoded(&frames);
        if again[..] != bytes[..taken] {
            prop_assert!(frames.iter().any(|frame| frame.kind() == Kind::Txn) && again.len() < taken);
            prop_assert_eq!(&decode_all(&mut again.clone()).0, &frames);
        }
        match rest {
            Rest::Incomplete(expected) => {
                prop_assert!(buffer.len() < expected && expected <= MAX_LARGE_FRAME_LENGTH);
            }
            Rest::TooLarge(excess) => prop_assert!(excess.found > excess.expected),
            Rest::Malformed(DecodeError::UnknownKind { kind, .. }) => prop_assert!(Kind::from_byte(kind).is_none() && bytes[taken] == kind),
            Rest::Malformed(DecodeError::UnknownOperation { operation, .. }) => {
                prop_assert!(bytes[taken] == Kind::Txn.byte() && ![0, 1, 5, 10].contains(&operation));
            }
        }
        // A stream of the same bytes gives the same result.
        let mut decoder = Decoder::new(bytes.as_slice());
        for frame in frames {
            prop_assert_eq!(decoder.read().unwrap(), Some(frame));
        }
        match (decoder.read(), rest) {
            (Ok(None), Rest::Incomplete(_)) => prop_assert!(buffer.is_empty()),
            (Err(ReadError::Underflow(underflow)), Rest::Incomplete(expected)) => {
                prop_assert_eq!((underflow.expected, underflow.found), (expected, buffer.len()));
            }
            (Err(ReadError::TooLarge { excess, .. }), Rest::TooLarge(expected)) => {
                prop_assert_eq!(excess, expected);
                // A frame that claims so much does not end within so few bytes.
                prop_assert!(matches!(decoder.read(), Err(ReadError::Underflow(_) | ReadError::Decode(_))));
            }
            (Err(ReadError::Decode(found)), Rest::Malformed(expected)) => prop_assert_eq!(found, expected),
            (found, expected) => prop_assert!(false, "{found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_skipped_exactly(
        operations in vec(operation(), 1..8),
        large in (string(), value()),
        below in any::<prop::sample::Index>(),
        sizes in vec(prop_oneof![1..9usize, 1..70_000usize], 1..8),
    ) {
        let txn = Message::txn(Tag::new(7), operations);
        let large = Message::put_large(Tag::new(8), large.0, large.1, Version::new(1));
        let next = Message::get(Tag::new(9), "next");
        for message in [txn, large] {
            let frame = encoded([&message]);
            prop_assert_eq!(decode_within(&mut frame.clone(), frame.len()), Ok(Decoded::Frame(message.clone())));
            let max_frame = below.index(frame.len());
            let (mut stream, mut buffer) = (encoded([&message, &next]), BytesMut::new());
            let (mut sizes, mut skip) = (sizes.iter().cycle(), None);
            let found = loop {
                let piece = (*sizes.next().unwrap()).min(stream.len());
                buffer.unsplit(stream.split_to(piece));
                if skip.is_none() {
                    match decode_within(&mut buffer, max_frame).unwrap() {
                        Decoded::TooLarge { kind, tag, excess, skip: begun } => {
                            prop_assert_eq!((kind, tag), (message.kind(), message.tag()));
                            prop_assert!(excess.expected == max_frame && excess.found > max_frame);
                            prop_assert!(excess.found <= frame.len());
                            skip = Some(begun);
                        }
                        Decoded::Incomplete { expected } => prop_assert!(expected <= max_frame.max(3)),
                        Decoded::Frame(found) => prop_assert!(false, "{found} within {max_frame}"),
                    }
                }
                if let Some(skip) = &mut skip {
                    if skip.skip(&mut buffer).unwrap() {
                        break buffer.len() + stream.len();
                    }
                    prop_assert!(buffer.len() <= 5, "{} bytes held back", buffer.len());
                }
            };
            prop_assert_eq!(found, next.encoded_length());
            buffer.unsplit(stream);
            prop_assert_eq!(decode(&mut buffer), Ok(Decoded::Frame(next.clone())));
        }
    }
}

#[test]
fn every_split_of_a_stream_gives_the_same_frames() {
    let messages = [
        Message::get(Tag::new(1), "key"),
        Message::put(Tag::new(2), "", vec![7; 300], Version::MAX),
        Message::error(Tag::BROADCAST, ""),
        Message::auth(Tag::new(65_535), "password"),
        Message::hello(Tag::new(3), ""),
        Message::delete(Tag::BROADCAST, "key", Version::new(3)),
        Message::watch(Tag::new(4), "prefix", Revision::new(5)),
        Message::mark(Tag::new(4), Revision::new(6)),
        Message::list(Tag::new(5), "prefix", "after", 7),
        Message::txn(
            Tag::new(6),
            vec![
                Operation::Check { key: "a".into(), version: Version::ABSENT },
                Operation::Put { key: "b".into(), value: vec![7; 300].into(), version: Version::new(1) },
                Operation::Delete { key: "c".into(), version: Version::new(2) },
            ],
        ),
        Message::put_large(Tag::new(7), "key", vec![7; 300], Version::new(8)),
        Message::status(Tag::new(8), "{}"),
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
fn the_largest_frames_are_encoded_and_larger_ones_refused() {
    let longest = || vec![0xa5; MAX_STRING_LENGTH];
    let put = Message::put(Tag::new(1), longest(), longest(), Version::MAX);
    assert_eq!(put.encoded_length(), MAX_FRAME_LENGTH);
    for message in [put, Message::get(Tag::new(1), longest()), Message::auth(Tag::new(1), longest())] {
        assert_eq!(decode_all(&mut encoded([&message])).0, [message]);
    }
    let large = Message::put_large(Tag::new(1), longest(), vec![7; 1 << 24], Version::MAX);
    assert_eq!(large.encoded_length(), PutLarge::OVERHEAD + MAX_STRING_LENGTH + (1 << 24));
    assert_eq!(decode_all(&mut encoded([&large])).0, [large]);

    let longer = || vec![0xa5; MAX_STRING_LENGTH + 1];
    for message in [
        Message::put(Tag::new(1), longer(), "", Version::MAX),
        Message::put(Tag::new(1), "", longer(), Version::MAX),
        Message::get(Tag::new(1), longer()),
        Message::error(Tag::new(1), longer()),
        Message::auth(Tag::new(1), longer()),
        Message::hello(Tag::new(1), longer()),
        Message::delete(Tag::new(1), longer(), Version::MAX),
        Message::watch(Tag::new(1), longer(), Revision::ZERO),
        Message::list(Tag::new(1), longer(), "", 1),
        Message::list(Tag::new(1), "", longer(), 1),
        Message::txn(Tag::new(1), vec![Operation::Delete { key: longer().into(), version: Version::MAX }]),
        Message::put_large(Tag::new(1), longer(), "", Version::MAX),
        Message::status(Tag::new(1), longer()),
    ] {
        let mut out = BytesMut::new();
        let bad = message.encode(&mut out).unwrap_err();
        assert_eq!((bad.expected, bad.found), (65_535, 65_536));
        assert!(out.is_empty(), "a refused {} changed the buffer", message.kind());
    }
}
