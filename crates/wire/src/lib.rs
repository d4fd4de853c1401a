//! The wire protocol of Syncline: frames to bytes and back.
//!
//! For whoever writes a client, a server or a tool that speaks the protocol. The contract is `docs/protocol.md`; here
//! are its frames, its tags and its numbers.
//!
//! Three layers, from the bottom:
//! - [`decode()`] takes the next frame out of a growing buffer, and [`Message::encode`] appends one to a buffer. Neither
//!   copies a key or a value when decoding, and neither does I/O.
//! - [`Decoder`] and [`Encoder`] do the same over any [`std::io::Read`] and [`std::io::Write`].
//! - [`MonotoneTags`] hands out the tags that tie answers to requests.
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
//! assert_eq!(decoder.read()?, None); // a clean end, between two frames
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing here panics, whatever the bytes. Nothing here knows a runtime, a socket or a clock.

mod decode;
mod error;
mod escaped_bytes;
mod frame;
mod frame_scanner;
mod kind;
mod message;
mod number;
mod redacted;
mod stream;
mod string;
mod tags;

pub use decode::{
    Decoded, HEADER_LENGTH, MAX_FRAME_LENGTH, MAX_LARGE_FRAME_LENGTH, decode, decode_bounded, decode_within,
};
pub use error::{DecodeError, EncodeError, NotABroadcast, ReadError, Underflow, WriteError};
pub use escaped_bytes::EscapedBytes;
pub use frame::auth::{Auth, Password};
pub use frame::delete::Delete;
pub use frame::error::Error;
pub use frame::get::Get;
pub use frame::hello::Hello;
pub use frame::list::List;
pub use frame::mark::Mark;
pub use frame::put::Put;
pub use frame::put_large::PutLarge;
pub use frame::server_hello::{ServerHello, TruncatedHello};
pub use frame::status::Status;
pub use frame::txn::{Operation, Txn};
pub use frame::watch::Watch;
pub use frame_scanner::{FrameSkipper, LimitExceeded};
pub use kind::Kind;
pub use message::Message;
pub use number::{Revision, Tag, Version};
pub use redacted::Redacted;
pub use stream::{Decoder, Encoder};
pub use string::MAX_STRING_LENGTH;
pub use tags::MonotoneTags;
