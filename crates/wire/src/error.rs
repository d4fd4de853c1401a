//! What can go wrong between bytes and messages. Each error says what was expected and what was found.

use crate::{Kind, Tag};
use std::io;
use thiserror::Error;

/// The bytes are not a frame. The length of such a frame cannot be known, so everything after them is lost too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The first byte is not a known kind.
    #[error("unknown message kind {kind}: expected {}", known_kinds())]
    UnknownKind {
        /// The first byte.
        kind: u8,
        /// The tag behind it, so that a server can respond.
        tag: Tag,
    },
    /// The first byte of an operation of a TXN is not a known operation.
    #[error("unknown operation {operation}: expected 0 (CHECK), 1 (PUT), 5 (DELETE) or 10 (PUTL)")]
    UnknownOperation {
        /// The first byte of the operation.
        operation: u8,
        /// The tag of the TXN, so that a server can respond.
        tag: Tag,
    },
}

/// Returns the range of known kinds, such as `0 (GET) to 9 (TXN)`.
fn known_kinds() -> String {
    let [first, .., last] = Kind::ALL else { return String::new() };
    format!("{} ({first}) to {} ({last})", first.byte(), last.byte())
}

/// The message cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("bad message: expected a {field} of at most {expected} {unit}, found {found}")]
pub struct EncodeError {
    /// The field that is too long.
    pub field: &'static str,
    /// The unit of the two numbers: `bytes` or `operations`.
    pub unit: &'static str,
    /// The most that the field can have.
    pub expected: usize,
    /// What the field has.
    pub found: usize,
}

/// A message that cannot be broadcast: only a PUT can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("only a PUT can be broadcast, found {kind}")]
pub struct NotABroadcast {
    /// The kind of that message.
    pub kind: Kind,
}

/// A frame exceeds a limit.
///
/// Displayed as `2000 operations, expected at most 1024`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{found} {unit}, expected at most {expected}")]
pub struct LimitExceeded {
    /// The unit of the two numbers: `bytes` or `operations`.
    pub unit: &'static str,
    /// The most that is accepted.
    pub expected: usize,
    /// What the frame has at the least. The rest of it is not known yet.
    pub found: usize,
}

/// The stream ended, or accepted no more bytes, in the middle of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("underflow: expected a frame of at least {expected} bytes, the stream ended after {found}")]
pub struct Underflow {
    /// The least length of the frame.
    pub expected: usize,
    /// How many of its bytes were read or written.
    pub found: usize,
}

/// No message could be read from a stream.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The stream failed. What had arrived is kept, so the call may be repeated if the stream recovers.
    #[error("the stream failed: {0}")]
    Io(#[from] io::Error),
    /// The stream ended in the middle of a frame.
    #[error(transparent)]
    Underflow(#[from] Underflow),
    /// The bytes are not a frame. Nothing more can be read from this stream.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A frame is larger than the decoder accepts. The call may be repeated: it skips that frame first.
    #[error("too large: a {kind} with tag {tag} of {excess}")]
    TooLarge {
        /// The kind of the frame.
        kind: Kind,
        /// Its tag.
        tag: Tag,
        /// The limit that it exceeds.
        excess: LimitExceeded,
    },
}

/// A message could not be written to a stream.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The stream failed, possibly in the middle of the frame: write no more to it.
    #[error("the stream failed: {0}")]
    Io(#[from] io::Error),
    /// The stream accepted only a part of the frame: write no more to it.
    #[error(transparent)]
    Underflow(#[from] Underflow),
    /// The message cannot be encoded. Nothing was written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_displayed_with_its_unit() {
        let excess = LimitExceeded { unit: "operations", expected: 1024, found: 2000 };
        assert_eq!(excess.to_string(), "2000 operations, expected at most 1024");
    }

    #[test]
    fn an_unknown_kind_names_the_known_ones() {
        let text = DecodeError::UnknownKind { kind: 255, tag: Tag::new(1) }.to_string();
        let last = Kind::ALL.last().unwrap();
        assert_eq!(text, format!("unknown message kind 255: expected 0 (GET) to {} ({last})", last.byte()));
    }
}
