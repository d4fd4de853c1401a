//! Messages over a stream of bytes: any [`Read`] and any [`Write`].

use crate::{Decoded, FrameSkipper, Message, ReadError, Underflow, WriteError, decode};
use bytes::BytesMut;
use std::io::{self, ErrorKind, Read, Write};

/// How many bytes a [`Decoder`] reads from its stream at once.
const READ_SIZE: usize = 8 * 1024;

/// Reads messages from a stream, through a buffer that it reuses.
///
/// It reads ahead: bytes in its buffer are no longer in the stream.
///
/// ```
/// use syncline_wire::{Decoder, Message, ReadError, Tag};
///
/// // A GET of the empty key, and the beginning of another frame.
/// let mut decoder = Decoder::new(&b"\x00\x01\x00\x00\x00\x00\x02"[..]);
/// assert_eq!(decoder.read()?, Some(Message::get(Tag::new(1), "")));
/// assert!(matches!(decoder.read(), Err(ReadError::Underflow(_))));
/// # Ok::<(), ReadError>(())
/// ```
#[derive(Debug)]
pub struct Decoder<R> {
    stream: R,
    buffer: BytesMut,
    /// Discards a frame that was too large.
    skip: Option<FrameSkipper>,
}

impl<R: Read> Decoder<R> {
    /// Returns a decoder that reads from `stream`.
    pub fn new(stream: R) -> Self {
        Self { stream, buffer: BytesMut::new(), skip: None }
    }

    /// Waits for the next message. Returns `None` if the stream ends between two frames.
    ///
    /// # Errors
    /// - [`ReadError::Underflow`] if the stream ends in the middle of a frame.
    /// - [`ReadError::Decode`] if the bytes are not a frame.
    /// - [`ReadError::TooLarge`] if a frame is larger than [`decode()`] accepts. The next call skips it.
    /// - [`ReadError::Io`] if the stream fails. What has arrived is kept, so the call may be repeated on a stream that
    ///   would have blocked.
    pub fn read(&mut self) -> Result<Option<Message>, ReadError> {
        loop {
            if let Some(skip) = &mut self.skip {
                if skip.skip(&mut self.buffer)? {
                    self.skip = None;
                } else if self.fill()? == 0 {
                    let found = self.buffer.len();
                    return Err(Underflow { expected: found + 1, found }.into());
                }
                continue;
            }
            let expected = match decode(&mut self.buffer)? {
                Decoded::Frame(message) => return Ok(Some(message)),
                Decoded::Incomplete { expected } => expected,
                Decoded::TooLarge { kind, tag, excess, skip } => {
                    self.skip = Some(skip);
                    return Err(ReadError::TooLarge { kind, tag, excess });
                }
            };
            let found = self.buffer.len();
            if self.fill()? == 0 {
                return if found == 0 { Ok(None) } else { Err(Underflow { expected, found }.into()) };
            }
        }
    }

    /// Returns the stream. What was read ahead is lost.
    pub fn into_inner(self) -> R {
        self.stream
    }

    /// Reads once, and returns how many bytes arrived.
    fn fill(&mut self) -> io::Result<usize> {
        let before = self.buffer.len();
        self.buffer.resize(before + READ_SIZE, 0);
        let read = loop {
            // Cannot be out of range: `resize` made the buffer longer than `before`.
            match self.stream.read(self.buffer.get_mut(before..).unwrap_or_default()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        read
    }
}

/// Writes messages to a stream, each in one piece, from a buffer that it reuses.
///
/// ```
/// use syncline_wire::{Encoder, Message, Tag};
///
/// let mut encoder = Encoder::new(Vec::new());
/// encoder.write(&Message::get(Tag::new(1), "name"))?;
/// encoder.flush()?;
/// assert_eq!(encoder.into_inner(), b"\x00\x01\x00\x04\x00name");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Encoder<W> {
    stream: W,
    buffer: BytesMut,
}

impl<W: Write> Encoder<W> {
    /// Returns an encoder that writes to `stream`.
    pub fn new(stream: W) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Writes one message. Does not flush the stream: see [`Encoder::flush`].
    ///
    /// # Errors
    /// - [`WriteError::Encode`] if the message cannot be encoded. Nothing was written, and the stream is still good.
    /// - [`WriteError::Underflow`] or [`WriteError::Io`] if the stream did not accept the whole message.
    pub fn write(&mut self, message: &Message) -> Result<(), WriteError> {
        self.buffer.clear();
        message.encode(&mut self.buffer)?;
        let mut rest: &[u8] = &self.buffer;
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(0) => {
                    let expected = self.buffer.len();
                    return Err(Underflow { expected, found: expected - rest.len() }.into());
                }
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Flushes the stream.
    ///
    /// # Errors
    /// The error of the stream.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }

    /// Returns the stream.
    pub fn into_inner(self) -> W {
        self.stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DecodeError, Tag, Version};

    /// Accepts `left` bytes, at most 5 at a time, and then no more.
    struct Narrow {
        written: Vec<u8>,
        left: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let written = bytes.len().min(self.left).min(5);
            self.left -= written;
            self.written.extend_from_slice(&bytes[..written]);
            Ok(written)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn put() -> Message {
        Message::put(Tag::new(7), "name", "tony", Version::new(1))
    }

    #[test]
    fn a_stream_that_accepts_few_bytes_at_a_time_gets_the_whole_frame() {
        let mut encoder = Encoder::new(Narrow { written: Vec::new(), left: 100 });
        encoder.write(&put()).unwrap();
        let mut expected = BytesMut::new();
        put().encode(&mut expected).unwrap();
        assert_eq!(encoder.into_inner().written, expected);
    }

    #[test]
    fn a_stream_that_accepts_no_more_bytes_is_an_underflow() {
        let mut encoder = Encoder::new(Narrow { written: Vec::new(), left: 11 });
        let error = encoder.write(&put()).unwrap_err();
        assert!(matches!(error, WriteError::Underflow(Underflow { expected: 23, found: 11 })), "{error}");
    }

    #[test]
    fn a_stream_that_ends_within_a_frame_is_an_underflow() {
        let mut decoder = Decoder::new(&b"\x00\x01\x00\x00\x00\x01\x07\x00\x04\x00na"[..]);
        assert_eq!(decoder.read().unwrap(), Some(Message::get(Tag::new(1), "")));
        let error = decoder.read().unwrap_err();
        assert!(matches!(error, ReadError::Underflow(Underflow { expected: 9, found: 7 })), "{error}");
    }

    #[test]
    fn a_stream_may_end_between_two_frames() {
        let mut decoder = Decoder::new(&b"\x00\x01\x00\x00\x00"[..]);
        assert_eq!(decoder.read().unwrap(), Some(Message::get(Tag::new(1), "")));
        assert_eq!(decoder.read().unwrap(), None);
        assert_eq!(decoder.read().unwrap(), None);
    }

    #[test]
    fn reading_again_after_an_unknown_kind_returns_the_same_error() {
        let mut decoder = Decoder::new(&b"\xff\x01\x00\x00\x00"[..]);
        for _ in 0..2 {
            let error = decoder.read().unwrap_err();
            let expected = DecodeError::UnknownKind { kind: 255, tag: Tag::new(1) };
            assert!(matches!(error, ReadError::Decode(found) if found == expected), "{error}");
        }
    }

    #[test]
    fn a_frame_that_is_too_large_is_skipped() {
        let mut stream = b"\x0a\x07\x00\x00\x00\x00\x00\x40\x01".to_vec();
        stream.resize(stream.len() + 0x0140_0000 + 8, 0);
        Message::get(Tag::new(1), "k").encode(&mut stream).unwrap();
        let mut decoder = Decoder::new(stream.as_slice());
        let error = decoder.read().unwrap_err();
        let expected = "too large: a PUTL with tag 7 of 20971537 bytes, expected at most 17825792";
        assert_eq!(error.to_string(), expected);
        assert_eq!(decoder.read().unwrap(), Some(Message::get(Tag::new(1), "k")));
        assert_eq!(decoder.read().unwrap(), None);
    }

    /// Returns its pieces one by one, from the last to the first, and would block where a piece is empty.
    struct Halting<'a>(Vec<&'a [u8]>);

    impl Read for Halting<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let piece = self.0.pop().unwrap_or_default();
            if piece.is_empty() {
                return Err(ErrorKind::WouldBlock.into());
            }
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    #[test]
    fn reading_continues_after_a_stream_would_have_blocked() {
        let mut decoder = Decoder::new(Halting(vec![b"\x00k", b"", b"\x00\x01\x00\x01"]));
        let error = decoder.read().unwrap_err();
        assert!(matches!(&error, ReadError::Io(error) if error.kind() == ErrorKind::WouldBlock), "{error}");
        assert_eq!(decoder.read().unwrap(), Some(Message::get(Tag::new(1), "k")));
    }

    #[test]
    fn a_message_that_cannot_be_encoded_leaves_the_stream_intact() {
        let mut encoder = Encoder::new(Vec::new());
        let error = encoder.write(&Message::get(Tag::new(1), vec![0; 65_536])).unwrap_err();
        assert_eq!(error.to_string(), "bad message: expected a key of at most 65535 bytes, found 65536");
        encoder.write(&Message::get(Tag::new(1), "k")).unwrap();
        assert_eq!(encoder.into_inner(), b"\x00\x01\x00\x01\x00k");
    }
}
