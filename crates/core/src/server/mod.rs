//! The server's side of a connection.

mod connection;
mod limits;
mod parameters;
mod prefixes;
mod requests;
mod scan;
mod session;
mod timeline;
mod write;

pub use connection::{Effect, Input, ServerConnection};
pub use limits::{LimitError, Limits};
pub use parameters::ServerParameters;
pub use session::Access;

/// Why a server that speaks TLS only turns somebody away who speaks something else: for [`unavailable`].
pub const TLS_ONLY: &str = crate::text::TLS_ONLY;

/// What a connection is told that has no place, or that the server can't serve: the text of an ERROR.
pub fn unavailable(reason: &str) -> bytes::Bytes {
    crate::text::unavailable(reason)
}
