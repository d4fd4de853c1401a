//! The wire protocol of Syncline: frames to bytes and back.
//!
//! This crate is for clients, servers and tools that speak the protocol. `docs/protocol.md` specifies the protocol; here
//! are its frames, its tags and its numbers.
//!
//! It has three layers, from the bottom:
//! - [`decode()`] removes the next frame from a growing buffer, and [`Message::encode`] appends one to a buffer. Decoding
//!   does not copy keys and values. Neither does I/O.
//! - [`Decoder`] and [`Encoder`] do the same over any [`std::io::Read`] and [`std::io::Write`].
//! - [`MonotoneTags`] hands out the tags that correlate responses with requests.
//!
//! ```
//! use syncline_wire::{Decoder, Encoder, Message, Tag, Version};
//!
//! let mut stream = Vec::new();
//! let put = Message::put(Tag::new(7), "name", "tony", Version::new(1));
//! Encoder::new(&mut stream).write(&put)?;
//!
//! let mut decoder = Decoder::new(stream.as_slice());
//! assert_eq!(decoder.read()?, Some(put));
//! assert_eq!(decoder.read()?, None); // the stream ended between two frames
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing in this crate panics, whatever the bytes are. It uses no runtime, no sockets and no clock.
//!
//! To add a kind of frame: `table.rs` says how.

mod decode;
mod error;
mod escaped_bytes;
mod frame;
mod frame_scanner;
mod kind;
mod layout;
mod message;
mod number;
mod redacted;
mod stream;
mod string;
mod table;
mod tags;

pub use decode::{Decoded, MAX_FRAME_LENGTH, MAX_LARGE_FRAME_LENGTH, decode, decode_bounded, decode_within};
pub use error::{DecodeError, EncodeError, LimitExceeded, NotABroadcast, ReadError, Underflow, WriteError};
pub use escaped_bytes::EscapedBytes;
// Every public type of every kind of frame.
pub use frame::*;
pub use frame_scanner::FrameSkipper;
pub use kind::Kind;
pub use layout::HEADER_LENGTH;
pub use message::Message;
pub use number::{Revision, Tag, Version};
pub use redacted::Redacted;
pub use stream::{Decoder, Encoder};
pub use string::MAX_STRING_LENGTH;
pub use tags::MonotoneTags;
