//! The server's side of a connection.

mod connection;
mod effect;
mod limits;
mod parameters;
mod prefixes;
mod queue;
mod request;
mod response;
mod scan;
mod session;
mod timeline;
mod write;

pub use crate::text::{TLS_ONLY, unavailable};
pub use connection::{Input, ServerConnection};
pub use effect::{Effect, PageRequest, PageResult, StatusScope};
pub use limits::{LimitError, Limits};
pub use parameters::ServerParameters;
pub use session::Access;
