//! The client's side: a connection, and the replicas that outlive it.

mod connection;
mod handshake;
mod replicas;
mod request;
mod shown;

pub use connection::{Connection, Event, Lost, ProtocolError, Refused, RefusedBecause};
pub use handshake::{Handshake, Speech};
pub use replicas::Replicas;
pub use request::{Answer, Request};
pub use shown::{Difference, Keys, Shown, Versioned, View};
