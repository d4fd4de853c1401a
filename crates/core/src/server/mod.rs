//! The server's side of a connection.

mod connection;
mod limits;
mod requests;
mod session;

pub use connection::{Connection, Effect, Input};
pub use limits::{LimitError, Limits};
pub use session::Access;
