//! What can go wrong between bytes and messages, each with what was expected and what was found.

use crate::{Kind, LimitExceeded, Tag};
use std::io;
use thiserror::Error;

/// The bytes are no frame, and since their length can't be known, neither is anything after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The first byte stands for no kind.
    #[error("unknown message kind {kind}: expected 0 (GET) to 11 (STATUS)")]
    UnknownKind {
        /// The first byte.
        kind: u8,
        /// The tag behind it, so that the sender can be answered.
        tag: Tag,
    },
    /// The first byte of a TXN's operation stands for none.
    #[error("unknown operation {operation}: expected 0 (CHECK), 1 (PUT), 5 (DELETE) or 10 (PUTL)")]
    UnknownOperation {
        /// The first byte of the operation.
        operation: u8,
        /// The tag of the TXN, so that the sender can be answered.
        tag: Tag,
    },
}

/// The message can't be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("bad message: expected a {field} of at most {expected} {unit}, found {found}")]
pub struct EncodeError {
    /// Which part is too long.
    pub field: &'static str,
    /// What is counted: `bytes` or `operations`.
    pub unit: &'static str,
    /// The most that it can have.
    pub expected: usize,
    /// What it has.
    pub found: usize,
}

/// Only a PUT can be broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("only a PUT can be broadcast, found {kind}")]
pub struct NotABroadcast {
    /// What was to be broadcast.
    pub kind: Kind,
}

/// The stream ended, or took no more bytes, in the middle of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("underflow: expected a frame of at least {expected} bytes, the stream ended after {found}")]
pub struct Underflow {
    /// The bytes that the frame has at the least.
    pub expected: usize,
    /// The bytes of it that came, or were taken.
    pub found: usize,
}

/// No message could be read from a stream.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The stream failed. What had arrived is kept: the call may be repeated where the stream can go on.
    #[error("the stream failed: {0}")]
    Io(#[from] io::Error),
    /// The stream ended in the middle of a frame.
    #[error(transparent)]
    Underflow(#[from] Underflow),
    /// The bytes are no frame. Nothing more can be read from this stream.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A frame is larger than is held at once. The call may be repeated: it passes over that frame first.
    #[error("too large: a {kind} with tag {tag} of {excess}")]
    TooLarge {
        /// What the frame is.
        kind: Kind,
        /// Its tag.
        tag: Tag,
        /// What exceeds what.
        excess: LimitExceeded,
    },
}

/// A message could not be written to a stream.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The stream failed, possibly in the middle of the frame: write no more to it.
    #[error("the stream failed: {0}")]
    Io(#[from] io::Error),
    /// The stream took only part of the frame: write no more to it.
    #[error(transparent)]
    Underflow(#[from] Underflow),
    /// The message can't be encoded. Nothing was written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}
