//! Messages over a stream of bytes: any [`Read`], any [`Write`].

use crate::{Decoded, FrameSkipper, Message, ReadError, Underflow, WriteError, decode};
use bytes::BytesMut;
use std::io::{self, ErrorKind, Read, Write};

/// How much a [`Decoder`] asks of its stream at once.
const READ_SIZE: usize = 8 * 1024;

/// Reads messages from a stream, through a buffer that it uses again.
///
/// It reads ahead: what stands in its buffer is no longer in the stream.
#[derive(Debug)]
pub struct Decoder<R> {
    stream: R,
    buffer: BytesMut,
    /// Passes over a frame that was too large.
    skip: Option<FrameSkipper>,
}

impl<R: Read> Decoder<R> {
    /// Reads from `stream`.
    pub fn new(stream: R) -> Self {
        Self { stream, buffer: BytesMut::new(), skip: None }
    }

    /// Waits for the next message; `None` at a clean end, between two frames.
    ///
    /// # Errors
    /// [`ReadError::Underflow`] where the stream ends in the middle of a frame, [`ReadError::Decode`] where the
    /// bytes are no frame, [`ReadError::TooLarge`] where one is larger than [`decode()`] takes (the next call passes over
    /// it), [`ReadError::Io`] where the stream fails: then nothing that arrived is lost, and on a stream
    /// that would block the call may be repeated.
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

    /// The stream, without what was read ahead.
    pub fn into_inner(self) -> R {
        self.stream
    }

    /// Reads once, and answers how many bytes came.
    fn fill(&mut self) -> io::Result<usize> {
        let before = self.buffer.len();
        self.buffer.resize(before + READ_SIZE, 0);
        let read = loop {
            // `resize` made room behind `before`.
            match self.stream.read(self.buffer.get_mut(before..).unwrap_or_default()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        read
    }
}

/// Writes messages to a stream, each in one piece from a buffer that it uses again.
#[derive(Debug)]
pub struct Encoder<W> {
    stream: W,
    buffer: BytesMut,
}

impl<W: Write> Encoder<W> {
    /// Writes to `stream`.
    pub fn new(stream: W) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Writes one message. A stream that buffers is not flushed: see [`Encoder::flush`].
    ///
    /// # Errors
    /// [`WriteError::Encode`] where the message can't be encoded: nothing was written, the stream is still good.
    /// [`WriteError::Underflow`] and [`WriteError::Io`] where the stream did not take it all.
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
                Ok(taken) => rest = rest.get(taken..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Flushes the stream.
    ///
    /// # Errors
    /// What the stream says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }

    /// The stream.
    pub fn into_inner(self) -> W {
        self.stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DecodeError, Tag, Version};

    /// Takes so many bytes, a few at a time, and then no more.
    struct Narrow {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room).min(5);
            self.room -= taken;
            self.taken.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn put() -> Message {
        Message::put(Tag::new(7), "name", "tony", Version::new(1))
    }

    #[test]
    fn a_stream_that_takes_little_at_a_time_gets_it_all() {
        let mut encoder = Encoder::new(Narrow { taken: Vec::new(), room: 100 });
        encoder.write(&put()).unwrap();
        let mut expected = BytesMut::new();
        put().encode(&mut expected).unwrap();
        assert_eq!(encoder.into_inner().taken, expected);
    }

    #[test]
    fn a_stream_that_takes_no_more_is_an_underflow() {
        let mut encoder = Encoder::new(Narrow { taken: Vec::new(), room: 11 });
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
    fn a_stream_that_ends_between_frames_is_no_error() {
        let mut decoder = Decoder::new(&b"\x00\x01\x00\x00\x00"[..]);
        assert_eq!(decoder.read().unwrap(), Some(Message::get(Tag::new(1), "")));
        assert_eq!(decoder.read().unwrap(), None);
        assert_eq!(decoder.read().unwrap(), None);
    }

    #[test]
    fn what_is_no_frame_is_said_again_and_again() {
        let mut decoder = Decoder::new(&b"\x0c\x01\x00\x00\x00"[..]);
        for _ in 0..2 {
            let error = decoder.read().unwrap_err();
            let expected = DecodeError::UnknownKind { kind: 12, tag: Tag::new(1) };
            assert!(matches!(error, ReadError::Decode(found) if found == expected), "{error}");
        }
    }

    #[test]
    fn a_frame_that_is_too_large_is_passed_over() {
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

    /// Gives its pieces one by one, and would block between them.
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
    fn a_stream_that_would_block_may_go_on() {
        let mut decoder = Decoder::new(Halting(vec![b"\x00k", b"", b"\x00\x01\x00\x01"]));
        let error = decoder.read().unwrap_err();
        assert!(matches!(&error, ReadError::Io(error) if error.kind() == ErrorKind::WouldBlock), "{error}");
        assert_eq!(decoder.read().unwrap(), Some(Message::get(Tag::new(1), "k")));
    }

    #[test]
    fn a_message_that_cannot_be_encoded_leaves_the_stream_good() {
        let mut encoder = Encoder::new(Vec::new());
        let error = encoder.write(&Message::get(Tag::new(1), vec![0; 65_536])).unwrap_err();
        assert_eq!(error.to_string(), "bad message: expected a key of at most 65535 bytes, found 65536");
        encoder.write(&Message::get(Tag::new(1), "k")).unwrap();
        assert_eq!(encoder.into_inner(), b"\x00\x01\x00\x01\x00k");
    }
}
