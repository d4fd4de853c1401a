//! What can go wrong between bytes and messages, each with what was expected and what was found.

use crate::{Kind, Tag};
use std::io;
use thiserror::Error;

/// The bytes are no frame, and since their length can't be known, neither is anything after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The first byte stands for no kind.
    #[error("unknown message kind {kind}: expected 0 (GET), 1 (PUT), 2 (ERROR) or 3 (AUTH)")]
    UnknownKind {
        /// The first byte.
        kind: u8,
        /// The tag behind it, so that the sender can be answered.
        tag: Tag,
    },
}

/// The message can't be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("bad message: expected a {field} of at most {expected} bytes, found {found}")]
pub struct BadMessage {
    /// Which string is too long.
    pub field: &'static str,
    /// The most bytes that it can have.
    pub expected: usize,
    /// The bytes that it has.
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
    Malformed(#[from] Malformed),
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
    BadMessage(#[from] BadMessage),
}
