//! The load generator of Syncline. `syncline bench` measures a user's own server with it, and `bench/` compares several
//! servers.
//!
//! From the bottom:
//! - [`Protocol`]: encodes requests and decodes events. Each kind of server has its own; [`Syncline`] is ours.
//! - [`Link`]: a protocol over a stream, with as little as possible between the wire and the clock.
//! - [`closed_loop()`]: keeps a number of requests in flight, and checks and measures each response. The same loop for
//!   every server.
//! - [`workload`]: the workloads: reads, compare-and-swap, fan-out, snapshots.
//! - [`stats`], [`table`], [`plot`]: summaries, tables and pictures of the figures of several rounds.
//! - [`process`]: the processor time and memory that a server uses.
//!
//! This crate parses no command line and prints nothing.

mod closed_loop;
mod error;
mod keys;
mod link;
mod measured;
mod peer;
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
pub use keys::{Keys, PREFIX, STAMP, parse_stamp};
pub use link::{Link, Stream};
pub use measured::Measured;
pub use peer::Peer;
pub use protocol::{Event, Protocol, Request, Response, Slot};
pub use random::Random;
pub use syncline::{Syncline, SynclinePeer};
