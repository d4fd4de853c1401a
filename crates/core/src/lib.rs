//! The decisions of Syncline, without I/O.
//!
//! Both sides of a connection are state machines here, which touch no socket, file or clock. Their drivers
//! (`syncline-server`, `syncline-client`, the simulator) move bytes and decide nothing.
//!
//! - [`server::ServerConnection`]: the server's side of a connection. It sends responses in the order of the requests and
//!   broadcasts in the order of the commits.
//! - [`client::ClientConnection`]: the client's side: tags in flight, responses, broadcasts.
//! - [`client::Cursor`]: the client's side of a reader that only follows the history, across its connections.
//! - [`Rights`]: what a client may read and write.
//! - [`Transaction`]: operations that are written together, and [`applies_to`], the rule that accepts them.
//! - [`RecentLog`]: the newest part of the history, encoded once for all connections.

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

pub use commit_batch::{CommitBatch, Dialect, EncodedCommit};
pub use entry::{Entry, KeyPage, Page, PageError};
pub use id::{ConnId, StoreId};
pub use log::{RecentLog, Unread};
pub use output::Output;
pub use rights::Rights;
pub use syncline_wire::Operation;
pub use transaction::{Committed, Outcome, Transaction, applies_to};
