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

mod auth;
mod decode;
mod delete;
mod error;
mod get;
mod greeting;
mod hello;
mod hidden;
mod kind;
mod list;
mod mark;
mod message;
mod number;
mod printable;
mod problem;
mod put;
mod put_large;
mod status;
mod stream;
mod string;
mod tags;
mod txn;
mod walk;
mod watch;

pub use auth::{Auth, Password};
pub use decode::{
    Decoded, HEADER_LENGTH, MAX_FRAME_LENGTH, MAX_LARGE_FRAME_LENGTH, decode, decode_bounded, decode_within,
};
pub use delete::Delete;
pub use error::Error;
pub use get::Get;
pub use greeting::{Greeting, ShortGreeting};
pub use hello::Hello;
pub use hidden::Hidden;
pub use kind::Kind;
pub use list::List;
pub use mark::Mark;
pub use message::Message;
pub use number::{Revision, Tag, Version};
pub use printable::Printable;
pub use problem::{BadMessage, Malformed, NotABroadcast, ReadError, Underflow, WriteError};
pub use put::Put;
pub use put_large::PutLarge;
pub use status::Status;
pub use stream::{Decoder, Encoder};
pub use string::MAX_STRING_LENGTH;
pub use tags::MonotoneTags;
pub use txn::{Txn, TxnOperation};
pub use walk::{Excess, Skip};
pub use watch::Watch;
