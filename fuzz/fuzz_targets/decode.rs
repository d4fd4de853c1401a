//! The decoder of the wire protocol, on any bytes.
//!
//! Checks:
//! - The result for a stream is the same in one piece, in any pieces, and from [`Decoder`].
//! - The length that an incomplete frame is said to have is more than is there, and at most what the frame turns out to have
//!   and what the bound allows.
//! - A decoded frame encodes to the bytes that it came from, and decodes to itself.
//! - A frame over the bound is skipped with a buffer of a few bytes.
//! - The output for logs reveals neither passwords nor values.
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

/// A part of a stream.
#[derive(Debug, PartialEq)]
enum Found {
    Frame(Message),
    /// A frame over the bound, which was skipped. (The length that the decoder reports for it depends on how much of it has
    /// arrived, so it is not compared.)
    TooLarge(Kind, Tag),
    /// The end of what can be read: these bytes are not a frame, so the start of the next one is unknown.
    Invalid(DecodeError),
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
        check_decoder(&whole, stream, &setting[1..]);
    }
    check_encoding(&whole, stream);
    check_server_hello(stream);
    for found in &whole {
        if let Found::Frame(message) = found {
            check_redaction(message);
        }
    }
    Corpus::Keep
});

/// Reads a stream as a connection does. If `bounds_all`, the bound applies to frames of all kinds, as on an unauthenticated
/// connection.
fn read(mut stream: &[u8], bounds_all: bool, max_frame: usize, pieces: &mut Pieces<'_>) -> Vec<Found> {
    let decode = if bounds_all { decode_bounded } else { decode_within };
    let is_bounded = |kind: Kind| bounds_all || matches!(kind, Kind::Txn | Kind::PutLarge);
    let mut found = Vec::new();
    let mut buffer = BytesMut::new();
    let mut skip: Option<FrameSkipper> = None;
    // The least length that the decoder has reported for the incomplete frame.
    let mut reported = 0;
    loop {
        let before = buffer.len();
        if let Some(skipping) = &mut skip {
            match skipping.skip(&mut buffer) {
                Ok(true) => {
                    skip = None;
                    continue;
                }
                Ok(false) => assert!(buffer.len() <= 5, "{} bytes of a skipped frame are kept", buffer.len()),
                Err(error) => {
                    found.push(Found::Invalid(error));
                    return found;
                }
            }
        } else {
            match decode(&mut buffer, max_frame) {
                Ok(Decoded::Frame(message)) => {
                    let length = before - buffer.len();
                    assert!(reported <= length, "{reported} bytes were reported for a frame of {length}");
                    let max = if is_bounded(message.kind()) { max_frame } else { MAX_FRAME_LENGTH };
                    assert!(length <= max, "{length} bytes, expected at most {max}");
                    reported = 0;
                    found.push(Found::Frame(message));
                    continue;
                }
                Ok(Decoded::Incomplete { expected }) => {
                    assert_eq!(buffer.len(), before, "the buffer was changed");
                    assert!(before < expected, "reported {expected} bytes, but {before} are there");
                    assert!(expected <= max_frame.max(MAX_FRAME_LENGTH), "reported {expected} bytes");
                    assert!(reported <= expected, "reported {reported} bytes first, then {expected}");
                    reported = expected;
                }
                Ok(Decoded::TooLarge { kind, tag, excess, skip: skipper }) => {
                    assert_eq!(buffer.len(), before, "the buffer was changed");
                    assert!(is_bounded(kind), "a {kind} is never too large");
                    assert!(excess.found > excess.expected, "{excess}");
                    reported = 0;
                    skip = Some(skipper);
                    found.push(Found::TooLarge(kind, tag));
                    continue;
                }
                Err(error) => {
                    assert_eq!(buffer.len(), before, "the buffer was changed");
                    found.push(Found::Invalid(error));
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

/// A reader that returns a stream in pieces.
struct Stream<'a>(&'a [u8], Pieces<'a>);

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.1.size().min(buffer.len()).min(self.0.len());
        self.0.copy_to_slice(&mut buffer[..size]);
        Ok(size)
    }
}

/// Checks that [`Decoder`] finds the same.
fn check_decoder(whole: &[Found], stream: &[u8], sizes: &[u8]) {
    let mut decoder = Decoder::new(Stream(stream, Pieces::new(sizes)));
    for expected in whole {
        let found = match decoder.read() {
            Ok(Some(message)) => Found::Frame(message),
            Err(ReadError::TooLarge { kind, tag, .. }) => Found::TooLarge(kind, tag),
            Err(ReadError::Decode(error)) => {
                return assert_eq!(&Found::Invalid(error), expected);
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

/// Checks that frames encode to the bytes that they came from. A TXN is an exception: a client may send a small value in the
/// form for large ones.
fn check_encoding(whole: &[Found], stream: &[u8]) {
    let mut rest = Some(stream);
    for found in whole {
        let Found::Frame(message) = found else {
            rest = None;
            continue;
        };
        let mut frame = BytesMut::new();
        message.encode(&mut frame).expect("a decoded frame can be encoded");
        assert_eq!(frame.len(), message.encoded_length(), "{message}");
        rest = rest.and_then(|rest| rest.strip_prefix(&frame[..]));
        assert!(rest.is_some() || may_differ(whole), "not the bytes that were decoded: {message}");
        let decoded = decode_within(&mut frame, MAX_LARGE_FRAME_LENGTH);
        assert_eq!(decoded.as_ref(), Ok(&Decoded::Frame(message.clone())));
        assert!(frame.is_empty(), "{} bytes are left after {message}", frame.len());
    }
}

/// Returns whether the stream holds frames that may encode to other bytes, or were skipped.
fn may_differ(whole: &[Found]) -> bool {
    whole.iter().any(|found| matches!(found, Found::TooLarge(..) | Found::Frame(Message::Txn(_))))
}

/// Checks that the body of a response to HELLO encodes to the bytes that it came from, and is only refused if it is too short.
fn check_server_hello(body: &[u8]) {
    match ServerHello::decode(body) {
        Ok(hello) => {
            assert_eq!(hello.encode(), body[..ServerHello::LENGTH]);
            assert_eq!(hello.patience().as_millis(), 3 * u128::from(hello.heartbeat_ms));
        }
        Err(TruncatedHello { expected, found }) => {
            assert_eq!((expected, found), (ServerHello::LENGTH, body.len()));
            assert!(found < expected);
        }
    }
}

/// Checks that the output for logs is the same for any password, and for any value of the same length.
fn check_redaction(message: &Message) {
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
        other => other,
    };
    let output = |message: &Message| format!("{message:?} {}", message.redacted());
    assert_eq!(output(&changed), output(message));
}
