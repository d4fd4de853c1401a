//! The way through frames that may be larger than one would hold: where their parts end, without their bytes.
//!
//! TXN and PUTL claim up to gigabytes, and from a stranger even a PUT may be more than one takes. A [`FrameScanner`] goes from part to part by the lengths that stand between them, so that
//! how long a frame is, is known before it is there; and with [`FrameSkipper`] one that is too large passes through a small
//! buffer.

use crate::decode::HEADER_LENGTH;
use crate::frame::list::LIMIT_BYTES;
use crate::frame::txn::COUNT_BYTES;
use crate::number::NUMBER_BYTES;
use crate::{DecodeError, EncodeError, Kind, Tag, Txn, string};
use bytes::{Buf, BytesMut};

/// The bytes that the length of a value takes where it is a `u32`.
pub(crate) const VALUE_LENGTH_BYTES: usize = 4;

/// What stands before the key of an operation, its length included.
pub(crate) const OPERATION_HEAD_BYTES: usize = 1 + string::LENGTH_BYTES;

/// The least that an operation takes: an empty key and a version.
const MIN_OPERATION: usize = OPERATION_HEAD_BYTES + NUMBER_BYTES;

/// The length of a value of a PUTL as it stands on the wire.
pub(crate) fn value_length(value: &[u8]) -> Result<u32, EncodeError> {
    let (expected, found) = (as_length(u32::MAX), value.len());
    u32::try_from(found).map_err(|_| EncodeError { field: "value", unit: "bytes", expected, found })
}

/// A length from the wire. What this machine could not even address is longer than any bound anyway.
pub(crate) fn as_length(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// What an operation of a TXN is: its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum OperationKind {
    Check = 0,
    Put = 1,
    Delete = 5,
    PutLarge = 10,
}

impl OperationKind {
    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Check),
            1 => Some(Self::Put),
            5 => Some(Self::Delete),
            10 => Some(Self::PutLarge),
            _ => None,
        }
    }

    pub(crate) const fn byte(self) -> u8 {
        self as u8
    }
}

/// What comes next in a frame.
///
/// ```text
///  TXN:  Count ──▶ Operation ◀──┐ as many as there are, then the end
///                   │   │ CHECK, DELETE
///                   │   └───────┤
///                   ▼ PUT, PUTL │
///                 Value ────────┘
///
///  PUTL: Key ──▶ Value ──▶ the end
///
///  all others: Strings ──▶ the end
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Header and number of operations.
    Count,
    /// Header and key.
    Key,
    /// After `head` bytes, one of as many strings; behind the last of them, `tail` bytes.
    Strings { head: usize, count: usize, tail: usize },
    /// An operation: its kind, its key, and its version where it has no value.
    Operation,
    /// A value and its version.
    Value { length_bytes: usize },
}

impl Part {
    /// All of a frame that is a header, so many strings, and a tail.
    const fn strings(count: usize, tail: usize) -> Self {
        Self::Strings { head: HEADER_LENGTH, count, tail }
    }
}

/// A way through a frame. The same from the front as often as one likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameScanner {
    tag: Tag,
    next: Part,
    /// How many operations come, beside the one whose value comes next.
    operations: usize,
}

/// What the bytes at the front of a part say of it.
enum Step {
    /// It has this many bytes, which may not be there yet.
    Part { length: usize },
    /// Not enough is there to know.
    Short,
    /// There is none: the frame ends here.
    End,
}

impl FrameScanner {
    /// A way through a frame of this kind.
    pub(crate) const fn new(kind: Kind, tag: Tag) -> Self {
        let next = match kind {
            Kind::Txn => Part::Count,
            Kind::PutLarge => Part::Key,
            Kind::Get | Kind::Error | Kind::Auth | Kind::Hello | Kind::Status => Part::strings(1, 0),
            Kind::Put => Part::strings(2, NUMBER_BYTES),
            Kind::Delete | Kind::Watch => Part::strings(1, NUMBER_BYTES),
            Kind::Mark => Part::strings(0, NUMBER_BYTES),
            Kind::List => Part::strings(2, LIMIT_BYTES),
        };
        Self { tag, next, operations: 0 }
    }

    /// Goes on by one part, of which `front` is what is there.
    fn step(&mut self, front: &[u8]) -> Result<Step, DecodeError> {
        let short = |found: Option<usize>| found.map_or(Step::Short, |length| Step::Part { length });
        Ok(match self.next {
            Part::Count => short(u16_at(front, HEADER_LENGTH).map(|count| {
                (self.operations, self.next) = (count, Part::Operation);
                HEADER_LENGTH + COUNT_BYTES
            })),
            Part::Key => short(u16_at(front, HEADER_LENGTH).map(|length| {
                self.next = Part::Value { length_bytes: VALUE_LENGTH_BYTES };
                string::ONLY_OVERHEAD + length
            })),
            Part::Strings { head, count, tail } => {
                let string = match count {
                    0 => Some(0),
                    _ => u16_at(front, head).map(|length| string::LENGTH_BYTES + length),
                };
                short(string.map(|string| {
                    let (next, length) = match count {
                        0 | 1 => (Part::Operation, head + string + tail),
                        _ => (Part::Strings { head: 0, count: count - 1, tail }, head + string),
                    };
                    self.next = next;
                    length
                }))
            }
            Part::Operation if self.operations == 0 => Step::End,
            Part::Operation => {
                let Some(byte) = front.first() else { return Ok(Step::Short) };
                let Some(kind) = OperationKind::from_byte(*byte) else {
                    return Err(DecodeError::UnknownOperation { operation: *byte, tag: self.tag });
                };
                short(u16_at(front, 1).map(|length| {
                    self.operations -= 1;
                    let (next, version) = match kind {
                        OperationKind::Check | OperationKind::Delete => (Part::Operation, NUMBER_BYTES),
                        OperationKind::Put => (Part::Value { length_bytes: string::LENGTH_BYTES }, 0),
                        OperationKind::PutLarge => (Part::Value { length_bytes: VALUE_LENGTH_BYTES }, 0),
                    };
                    self.next = next;
                    OPERATION_HEAD_BYTES + length + version
                }))
            }
            Part::Value { length_bytes } => {
                let length = if length_bytes == VALUE_LENGTH_BYTES {
                    front.first_chunk().map(|length| as_length(u32::from_le_bytes(*length)))
                } else {
                    u16_at(front, 0)
                };
                short(length.map(|length| {
                    self.next = Part::Operation;
                    (length_bytes + NUMBER_BYTES).saturating_add(length)
                }))
            }
        })
    }

    /// The least that still comes, before any of it is known.
    const fn at_least(&self) -> usize {
        self.operations * MIN_OPERATION
            + match self.next {
                Part::Count => HEADER_LENGTH + COUNT_BYTES,
                Part::Key => string::ONLY_OVERHEAD + VALUE_LENGTH_BYTES + NUMBER_BYTES,
                Part::Strings { head, count, tail } => head + count * string::LENGTH_BYTES + tail,
                Part::Operation => 0,
                Part::Value { length_bytes } => length_bytes + NUMBER_BYTES,
            }
    }
}

fn u16_at(front: &[u8], at: usize) -> Option<usize> {
    front.get(at..).and_then(<[u8]>::first_chunk).map(|number| usize::from(u16::from_le_bytes(*number)))
}

/// What is known of a frame by the part of it that is there.
pub(crate) enum Measured {
    /// It is there, and has this many bytes.
    Whole { length: usize },
    /// It is not there as a whole, and has this many bytes at the least: more than are there.
    Incomplete { expected: usize },
    /// It exceeds a bound.
    TooLarge(LimitExceeded),
}

/// A frame that exceeds a bound: what it claims so far, and what would be taken.
///
/// Displayed as `2000 operations, expected at most 1024`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found} {unit}, expected at most {expected}")]
pub struct LimitExceeded {
    /// What is counted: `bytes` or `operations`.
    pub unit: &'static str,
    /// The most that is taken.
    pub expected: usize,
    /// What it has, at the least: the rest of it is not known.
    pub found: usize,
}

impl FrameScanner {
    /// How long the frame is at whose beginning `front` starts. It is too large as soon as the lengths that are there
    /// claim so.
    pub(crate) fn measure(mut self, front: &[u8], max_frame: usize) -> Result<Measured, DecodeError> {
        let mut length = 0_usize;
        loop {
            let step = self.step(front.get(length..).unwrap_or_default())?;
            if let Step::Part { length: part } = step {
                length = length.saturating_add(part);
            }
            if self.operations > Txn::MAX_OPERATIONS {
                let (expected, found) = (Txn::MAX_OPERATIONS, self.operations);
                return Ok(Measured::TooLarge(LimitExceeded { unit: "operations", expected, found }));
            }
            let at_least = length.saturating_add(self.at_least());
            if at_least > max_frame {
                return Ok(Measured::TooLarge(LimitExceeded { unit: "bytes", expected: max_frame, found: at_least }));
            }
            if length > front.len() || matches!(step, Step::Short) {
                return Ok(Measured::Incomplete { expected: at_least });
            }
            if matches!(step, Step::End) {
                return Ok(Measured::Whole { length });
            }
        }
    }
}

/// Passes over a frame that is too large, in whatever pieces it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameSkipper {
    walk: FrameScanner,
    /// The bytes of the current part that are still to come.
    left: usize,
}

impl FrameSkipper {
    pub(crate) const fn new(walk: FrameScanner) -> Self {
        Self { walk, left: 0 }
    }

    /// Takes what belongs to the frame off the front of `buffer`, and answers whether the frame has ended: then the next
    /// one starts at the front. Otherwise at most 5 bytes stay, to which more must come.
    ///
    /// # Errors
    /// [`DecodeError`] where an operation is not known, so that the end of the frame can't be either.
    pub fn skip(&mut self, buffer: &mut BytesMut) -> Result<bool, DecodeError> {
        loop {
            let taken = self.left.min(buffer.len());
            buffer.advance(taken);
            self.left -= taken;
            if self.left > 0 {
                return Ok(false);
            }
            match self.walk.step(buffer)? {
                Step::Part { length } => self.left = length,
                Step::Short => return Ok(false),
                Step::End => return Ok(true),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_holds_next_to_nothing() {
        // A PUTL of 4 GiB less 1, whose bytes come in pieces.
        let mut skip = FrameSkipper::new(FrameScanner::new(Kind::PutLarge, Tag::new(1)));
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
    fn an_excess_for_people() {
        let excess = LimitExceeded { unit: "operations", expected: 1024, found: 2000 };
        assert_eq!(excess.to_string(), "2000 operations, expected at most 1024");
    }
}
