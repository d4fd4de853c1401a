//! The decoder of the wire, on any bytes.
//!
//! Checked: a stream is judged the same in one piece, in any pieces, and by the reader of streams; what is said to be missing
//! is missing, and no more than is taken at all; what was decoded encodes to the bytes that it came from, and decodes to
//! itself; a frame over the bound is passed over through a buffer of a few bytes; what is shown of a frame tells nothing of
//! passwords and values.
//!
//! The input: 4 bytes for the bound and the sizes of the pieces, then the stream.
#![no_main]

use bytes::{Buf, Bytes, BytesMut};
use libfuzzer_sys::{Corpus, fuzz_target};
use std::io::{self, Read};
use syncline_fuzz::pieces::Pieces;
use syncline_wire::{
    Auth, DecodeError, Decoded, Decoder, FrameSkipper, Kind, MAX_FRAME_LENGTH, MAX_LARGE_FRAME_LENGTH, Message,
    Operation, Password, Put, PutLarge, ReadError, ServerHello, Tag, TruncatedHello, Txn, decode_bounded,
    decode_within,
};

/// What a stream is found to hold.
#[derive(Debug, PartialEq)]
enum Found {
    Frame(Message),
    /// And it was passed over. (How much it claims at the least depends on how much of it was there.)
    TooLarge(Kind, Tag),
    /// The end: this is no frame, nor can what follows be.
    Malformed(DecodeError),
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((setting, stream)) = input.split_first_chunk::<4>() else { return Corpus::Reject };
    let max_frame = match setting[0] {
        0..128 => MAX_LARGE_FRAME_LENGTH,
        small => usize::from(small - 128) * 3,
    };
    let read = |bounds_all, sizes| read(stream, bounds_all, max_frame, &mut Pieces::new(sizes));
    for bounds_all in [true, false] {
        let whole = read(bounds_all, &[255]);
        assert_eq!(whole, read(bounds_all, &setting[1..]), "in pieces");
        assert_eq!(whole, read(bounds_all, &[0]), "byte by byte");
    }
    let whole = read(false, &[255]);
    if max_frame == MAX_LARGE_FRAME_LENGTH {
        check_reader(&whole, stream, &setting[1..]);
    }
    check_encoding(&whole, stream);
    check_greeting(stream);
    for found in &whole {
        if let Found::Frame(message) = found {
            check_shown(message);
        }
    }
    Corpus::Keep
});

/// Reads a stream as a connection does; `bounds_all`: that of a stranger, of whom no frame may be larger than the bound.
fn read(mut stream: &[u8], bounds_all: bool, max_frame: usize, pieces: &mut Pieces<'_>) -> Vec<Found> {
    let decode = if bounds_all { decode_bounded } else { decode_within };
    let is_bounded = |kind: Kind| bounds_all || matches!(kind, Kind::Txn | Kind::PutLarge);
    let mut found = Vec::new();
    let mut buffer = BytesMut::new();
    let mut skip: Option<FrameSkipper> = None;
    // What was said of the frame that is not whole: it has so many bytes at the least.
    let mut promised = 0;
    loop {
        let before = buffer.len();
        if let Some(skipping) = &mut skip {
            match skipping.skip(&mut buffer) {
                Ok(true) => {
                    skip = None;
                    continue;
                }
                Ok(false) => assert!(buffer.len() <= 5, "{} bytes are held back of what is passed over", buffer.len()),
                Err(malformed) => {
                    found.push(Found::Malformed(malformed));
                    return found;
                }
            }
        } else {
            match decode(&mut buffer, max_frame) {
                Ok(Decoded::Frame(message)) => {
                    let length = before - buffer.len();
                    assert!(promised <= length, "{promised} bytes were expected of a frame of {length}");
                    let most = if is_bounded(message.kind()) { max_frame } else { MAX_FRAME_LENGTH };
                    assert!(length <= most, "{length} bytes, expected at most {most}");
                    promised = 0;
                    found.push(Found::Frame(message));
                    continue;
                }
                Ok(Decoded::Incomplete { expected }) => {
                    assert_eq!(buffer.len(), before, "the buffer was changed");
                    assert!(before < expected, "expected {expected} bytes, which are there: {before}");
                    assert!(expected <= max_frame.max(MAX_FRAME_LENGTH), "expected {expected} bytes");
                    assert!(promised <= expected, "expected {promised} bytes first, then {expected}");
                    promised = expected;
                }
                Ok(Decoded::TooLarge { kind, tag, excess, skip: begun }) => {
                    assert_eq!(buffer.len(), before, "the buffer was changed");
                    assert!(is_bounded(kind), "a {kind} is never too large");
                    assert!(excess.found > excess.expected, "{excess}");
                    promised = 0;
                    skip = Some(begun);
                    found.push(Found::TooLarge(kind, tag));
                    continue;
                }
                Err(malformed) => {
                    assert_eq!(buffer.len(), before, "the buffer was changed");
                    found.push(Found::Malformed(malformed));
                    return found;
                }
            }
        }
        if stream.is_empty() {
            return found;
        }
        buffer.extend_from_slice(pieces.take(&mut stream));
    }
}

/// Gives a stream in pieces.
struct Stream<'a>(&'a [u8], Pieces<'a>);

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.1.size().min(buffer.len()).min(self.0.len());
        self.0.copy_to_slice(&mut buffer[..size]);
        Ok(size)
    }
}

/// The reader of streams finds the same.
fn check_reader(whole: &[Found], stream: &[u8], sizes: &[u8]) {
    let mut decoder = Decoder::new(Stream(stream, Pieces::new(sizes)));
    for expected in whole {
        let found = match decoder.read() {
            Ok(Some(message)) => Found::Frame(message),
            Err(ReadError::TooLarge { kind, tag, .. }) => Found::TooLarge(kind, tag),
            Err(ReadError::Decode(malformed)) => {
                return assert_eq!(&Found::Malformed(malformed), expected);
            }
            other => panic!("{other:?}, expected {expected:?}"),
        };
        assert_eq!(&found, expected);
    }
    match decoder.read() {
        Ok(None) => {}
        Err(ReadError::Underflow(underflow)) => assert!(underflow.found < underflow.expected),
        other => panic!("{other:?}, expected the end"),
    }
}

/// Frames encode to the bytes that they came from; but that a TXN may carry a small value as a large one.
fn check_encoding(whole: &[Found], stream: &[u8]) {
    let mut rest = Some(stream);
    for found in whole {
        let Found::Frame(message) = found else {
            rest = None;
            continue;
        };
        let mut frame = BytesMut::new();
        message.encode(&mut frame).expect("what was decoded can be encoded");
        assert_eq!(frame.len(), message.encoded_length(), "{message}");
        rest = rest.and_then(|rest| rest.strip_prefix(&frame[..]));
        assert!(rest.is_some() || is_unusual(whole), "other bytes than they came: {message}");
        let again = decode_within(&mut frame, MAX_LARGE_FRAME_LENGTH);
        assert_eq!(again.as_ref(), Ok(&Decoded::Frame(message.clone())));
        assert!(frame.is_empty(), "{} bytes behind {message}", frame.len());
    }
}

/// Whether not all of the stream's bytes can be expected to come again.
fn is_unusual(whole: &[Found]) -> bool {
    whole.iter().any(|found| matches!(found, Found::TooLarge(..) | Found::Frame(Message::Txn(_))))
}

fn check_greeting(body: &[u8]) {
    match ServerHello::decode(body) {
        Ok(greeting) => {
            assert_eq!(greeting.encode(), body[..ServerHello::LENGTH]);
            assert_eq!(greeting.patience().as_millis(), 3 * u128::from(greeting.heartbeat_ms));
        }
        Err(TruncatedHello { expected, found }) => {
            assert_eq!((expected, found), (ServerHello::LENGTH, body.len()));
            assert!(found < expected);
        }
    }
}

/// What is shown of a frame is the same whatever its password or value is: it tells nothing of them but, of a value, its
/// length.
fn check_shown(message: &Message) {
    let other = |value: &Bytes| -> Bytes { value.iter().map(|byte| byte ^ 0xa5).collect() };
    let changed = match message.clone() {
        Message::Auth(auth) if !auth.password.is_empty() => {
            Message::Auth(Auth { tag: auth.tag, password: Password::new("another") })
        }
        Message::Put(put) => Message::Put(Put { value: other(&put.value), ..put }),
        Message::PutLarge(put) => Message::PutLarge(PutLarge { value: other(&put.value), ..put }),
        Message::Txn(Txn { tag, operations }) => {
            let changed = operations.into_iter().map(|operation| match operation {
                Operation::Put { key, value, version } => Operation::Put { key, value: other(&value), version },
                operation => operation,
            });
            Message::Txn(Txn { tag, operations: changed.collect() })
        }
        same => same,
    };
    let shown = |message: &Message| format!("{message:?} {}", message.redacted());
    assert_eq!(shown(&changed), shown(message));
}
