//! The client's side of a connection.

mod connection;

pub use connection::{Answer, Connection, Event, ProtocolError, Refused, RefusedBecause, Request};
