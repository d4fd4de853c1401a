//! The decisions of Syncline, without I/O.
//!
//! What the server and the client of a connection do is decided here, in state machines that touch neither socket, file
//! nor clock. Drivers (`syncline-server`, `syncline-client`, the simulator) move bytes between them and the world, and
//! decide nothing.
//!
//! - [`server::ServerConnection`]: the server's side of a connection: answers in the order of the requests, broadcasts in
//!   the order of the commits.
//! - [`client::ClientConnection`]: the client's side: tags in flight, answers, broadcasts.
//! - [`client::Cursor`]: the client's side of one that only follows the history, over all its connections.
//! - [`Rights`]: what somebody may read and write.
//! - [`Transaction`]: what is written together, and the rule by which it is accepted.
//! - [`RecentLog`]: the newest part of the history, encoded once for everybody.

pub mod client;
mod commit_batch;
mod entry;
mod id;
mod log;
mod output;
mod prefix_set;
mod rights;
pub mod server;
mod text;
mod transaction;

pub use commit_batch::{CommitBatch, CommitBatchBuilder, Committed, Dialect};
pub use entry::{Entry, KeyPage, Page, PageError};
pub use id::{ConnId, StoreId};
pub use log::{RecentLog, Unread};
pub use output::Output;
pub use rights::Rights;
pub use syncline_wire::Operation;
pub use transaction::{Outcome, Transaction, applies_to};
