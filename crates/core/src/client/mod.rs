//! The client's side: a connection, the replicas that outlive it, and a cursor that keeps no state of the store.

mod connection;
mod cursor;
mod error;
mod event;
mod handshake;
mod in_flight;
mod position;
mod replicas;
mod request;
mod response;
mod scope;
mod view;

pub use connection::ClientConnection;
pub use cursor::{Cursor, CursorEvent, KeyChange, Step};
pub use error::{ProtocolError, SendError, SendErrorKind};
pub use event::{Event, LostConnection};
pub use handshake::{Handshake, HandshakeResult};
pub use position::{ParsePositionError, Position};
pub use replicas::Replicas;
pub use request::Request;
pub use response::Response;
pub use view::{Difference, Keys, Versioned, View, Views};
