//! Finds the end of a frame from its lengths, without holding the frame.
//!
//! A TXN or a PUTL may claim gigabytes, and a connection without a password may send less than even a PUT can hold. A
//! [`FrameScanner`] goes from field to field, so that the length of a frame is known before its bytes arrive. A
//! [`FrameSkipper`] discards a frame that is too large, while the frame passes through a small buffer.

use crate::frame::OperationKind;
use crate::layout::{self, Field, HEADER_LENGTH};
use crate::string::Length;
use crate::{DecodeError, LimitExceeded, Tag, Txn};
use bytes::{Buf, BytesMut};

/// A position within a frame, between two fields.
///
/// ```text
///                         ┌────────────────────────────┐ count times
///  header ──▶ fields ──▶ Operations ──▶ fields of an operation ──▶ end
///                └───────────────────────────────────────────────▶ end
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameScanner {
    tag: Tag,
    /// The fields that follow, of the frame or of the current operation.
    fields: &'static [Field],
    /// How many operations follow behind those fields.
    operations: usize,
}

/// What the bytes at the front of a buffer tell about the next fields.
enum Step {
    /// The next fields take this many bytes, which may not have arrived yet.
    Fields { length: usize },
    /// The length of the next field has not arrived yet.
    Incomplete,
    /// The frame ends here.
    End,
}

impl FrameScanner {
    /// Returns a scanner that is behind the header of a frame with these fields.
    pub(crate) const fn new(fields: &'static [Field], tag: Tag) -> Self {
        Self { tag, fields, operations: 0 }
    }

    /// Steps over the next field with a length of its own, and over all fields of fixed length around it.
    ///
    /// `front` is what has arrived, starting at the next field. If that is not enough, nothing changes.
    fn step(&mut self, front: &[u8]) -> Result<Step, DecodeError> {
        let mut next = *self;
        if next.fields.is_empty() {
            if next.operations == 0 {
                return Ok(Step::End);
            }
            let Some(&operation) = front.first() else { return Ok(Step::Incomplete) };
            let Some(kind) = OperationKind::from_byte(operation) else {
                return Err(DecodeError::UnknownOperation { operation, tag: self.tag });
            };
            next.fields = kind.layout();
            next.operations -= 1;
        }
        match next.step_over_fields(front) {
            Some(length) => {
                *self = next;
                Ok(Step::Fields { length })
            }
            None => Ok(Step::Incomplete),
        }
    }

    /// Removes the next fields, up to the second with a length of its own, and returns their length.
    fn step_over_fields(&mut self, front: &[u8]) -> Option<usize> {
        let mut length = 0_usize;
        let mut length_found = false;
        while let [field, rest @ ..] = self.fields {
            let there = front.get(length..).unwrap_or_default();
            length = match field {
                Field::Fixed(bytes) => length.saturating_add(*bytes),
                _ if length_found => break,
                Field::String => string_end::<u16>(length, there)?,
                Field::LargeString => string_end::<u32>(length, there)?,
                Field::Operations => {
                    (self.operations, _) = u16::split(there)?;
                    length + u16::BYTES
                }
            };
            length_found |= !matches!(field, Field::Fixed(_));
            self.fields = rest;
        }
        Some(length)
    }

    /// Returns the least number of bytes that still follow, before anything is known about them.
    const fn min_length(&self) -> usize {
        layout::min_length(self.fields) + self.operations * OperationKind::MIN_LENGTH
    }
}

/// Returns the end of the string that starts at `start`, of which `there` has arrived.
fn string_end<L: Length>(start: usize, there: &[u8]) -> Option<usize> {
    let (length, _) = L::split(there)?;
    Some((start + L::BYTES).saturating_add(length))
}

/// What is known about the length of a frame.
pub(crate) enum Measured {
    /// The whole frame has arrived, and has this many bytes.
    Whole,
    /// The frame has at least this many bytes, more than have arrived.
    Incomplete { expected: usize },
    /// The frame exceeds a limit.
    TooLarge(LimitExceeded),
}

impl FrameScanner {
    /// Measures the frame of which `front` has arrived. It is too large as soon as its lengths claim so.
    pub(crate) fn measure(mut self, front: &[u8], max_frame: usize) -> Result<Measured, DecodeError> {
        let mut length = HEADER_LENGTH;
        loop {
            let step = self.step(front.get(length..).unwrap_or_default())?;
            if let Step::Fields { length: fields } = step {
                length = length.saturating_add(fields);
            }
            if self.operations > Txn::MAX_OPERATIONS {
                let (expected, found) = (Txn::MAX_OPERATIONS, self.operations);
                return Ok(Measured::TooLarge(LimitExceeded { unit: "operations", expected, found }));
            }
            let at_least = length.saturating_add(self.min_length());
            if at_least > max_frame {
                return Ok(Measured::TooLarge(LimitExceeded { unit: "bytes", expected: max_frame, found: at_least }));
            }
            if length > front.len() || matches!(step, Step::Incomplete) {
                return Ok(Measured::Incomplete { expected: at_least });
            }
            if matches!(step, Step::End) {
                return Ok(Measured::Whole);
            }
        }
    }
}

/// Discards a frame that is too large, in whatever pieces it arrives. [`Decoded::TooLarge`](crate::Decoded::TooLarge)
/// holds one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameSkipper {
    scanner: FrameScanner,
    /// How many bytes of the current fields still follow.
    left: usize,
}

impl FrameSkipper {
    /// Returns a skipper for a frame whose header is still in the buffer.
    pub(crate) const fn new(scanner: FrameScanner) -> Self {
        Self { scanner, left: HEADER_LENGTH }
    }

    /// Removes what belongs to the frame from the front of `buffer`, and returns whether the frame has ended.
    ///
    /// If it has, the next frame starts at the front of the buffer. Otherwise at most 5 bytes stay in the buffer: append
    /// what arrives next, and call this again.
    ///
    /// # Errors
    /// [`DecodeError`] if the frame holds an unknown operation, so that its end cannot be known.
    pub fn skip(&mut self, buffer: &mut BytesMut) -> Result<bool, DecodeError> {
        loop {
            let taken = self.left.min(buffer.len());
            buffer.advance(taken);
            self.left -= taken;
            if self.left > 0 {
                return Ok(false);
            }
            match self.scanner.step(buffer)? {
                Step::Fields { length } => self.left = length,
                Step::Incomplete => return Ok(false),
                Step::End => return Ok(true),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PutLarge;
    use crate::frame::Frame;

    #[test]
    fn a_skipper_holds_next_to_nothing_of_4_gib() {
        // A PUTL whose value has 4 GiB less 1, and arrives in pieces.
        let mut skip = FrameSkipper::new(FrameScanner::new(PutLarge::LAYOUT, Tag::new(1)));
        let mut buffer = BytesMut::from(&b"\x0a\x01\x00\x01\x00k\xff\xff\xff\xff"[..]);
        assert_eq!(skip.skip(&mut buffer), Ok(false));
        let mut left = u64::from(u32::MAX) + 8;
        assert_eq!(skip.left as u64, left);
        let piece = vec![0; 1 << 20];
        while left > piece.len() as u64 {
            buffer.extend_from_slice(&piece);
            assert_eq!(skip.skip(&mut buffer), Ok(false));
            assert!(buffer.is_empty());
            left -= piece.len() as u64;
        }
        buffer.extend_from_slice(&piece);
        assert_eq!(skip.skip(&mut buffer), Ok(true));
        assert_eq!(buffer.len() as u64, piece.len() as u64 - left);
    }

    #[test]
    fn fields_of_fixed_length_are_measured_like_strings() {
        // As a kind of two numbers, or of a number between strings, would be.
        let measured = |fields, front: &[u8], max_frame| match FrameScanner::new(fields, Tag::new(1))
            .measure(front, max_frame)
            .unwrap()
        {
            Measured::Whole => "whole".to_owned(),
            Measured::Incomplete { expected } => format!("incomplete, {expected}"),
            Measured::TooLarge(excess) => excess.to_string(),
        };
        let numbers = &[Field::U64, Field::U32];
        assert_eq!(measured(numbers, &[0; 14], 15), "incomplete, 15");
        assert_eq!(measured(numbers, &[0; 15], 15), "whole");
        assert_eq!(measured(numbers, &[0; 3], 14), "15 bytes, expected at most 14");
        let mixed = &[Field::U32, Field::String, Field::U64, Field::LargeString, Field::U32];
        let front =
            b"\x00\x01\x00\x04\x04\x04\x04\x02\x00ab\x08\x08\x08\x08\x08\x08\x08\x08\x01\0\0\0c\x04\x04\x04\x04";
        assert_eq!(measured(mixed, &front[..8], 100), "incomplete, 25");
        assert_eq!(measured(mixed, &front[..9], 100), "incomplete, 27");
        assert_eq!(measured(mixed, &front[..front.len() - 1], 100), "incomplete, 28");
        assert_eq!(measured(mixed, front, 100), "whole");
        assert_eq!(measured(&[], &front[..3], 3), "whole");
    }
}
