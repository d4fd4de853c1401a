//! The load generator of Syncline: what `syncline bench` (a user's own server) and `bench/` (a comparison of several) share.
//!
//! From the bottom:
//! - [`Protocol`]: requests to bytes, bytes to events; one for each kind of server. [`Syncline`] is ours.
//! - [`Link`]: a protocol over a stream, with as little as possible between the wire and the clock.
//! - [`closed_loop()`]: so many requests in flight, each answer checked and measured. The same loop for every server.
//! - [`workload`]: what is done: reads, compare-and-swap, fan-out.
//! - [`stats`], [`table`], [`plot`]: what is made of the figures of several rounds.
//! - [`process`]: what a server takes of its machine.
//!
//! Nothing here knows a command line, and nothing prints.

mod closed_loop;
mod error;
mod keys;
mod link;
mod measured;
pub mod plot;
pub mod process;
mod protocol;
mod random;
pub mod stats;
mod syncline;
pub mod table;
pub mod workload;

pub use closed_loop::{Pace, Work, closed_loop};
pub use error::Error;
pub use keys::{Keys, PREFIX, STAMP, told};
pub use link::{Link, Stream};
pub use measured::Measured;
pub use protocol::{Answer, Event, Peer, Protocol, Request, Slot};
pub use random::Random;
pub use syncline::{Syncline, SynclinePeer};
