//! The client's side: a connection, the replicas that outlive it, and a cursor that keeps none.

mod connection;
mod cursor;
mod handshake;
mod position;
mod replicas;
mod request;
mod scope;
mod shown;

pub use connection::{ClientConnection, Event, Lost, ProtocolError, Refused, RefusedBecause};
pub use cursor::{Cursor, CursorEvent, KeyChange, Step};
pub use handshake::{Handshake, HandshakeResult};
pub use position::{NoPosition, Position};
pub use replicas::Replicas;
pub use request::{Request, Response};
pub use shown::{Difference, Keys, Shown, Versioned, View};
