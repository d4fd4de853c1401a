//! Requests and responses of every kind of server, whatever its protocol.

use crate::Error;
use bytes::{Bytes, BytesMut};

/// Identifies one of the requests in flight on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub u16);

/// A request to a server.
#[derive(Clone, Debug)]
pub enum Request {
    /// Asks for the latest value of a key, with its version.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Writes a key if it is still at a version (0: never written).
    Put {
        /// The key.
        key: Bytes,
        /// The new value.
        value: Bytes,
        /// The version that it must be at.
        replaces: u64,
    },
    /// Subscribes to all changes from now on, or to all changes since a revision.
    Follow {
        /// The revision. `None`: the latest.
        since: Option<u64>,
    },
    /// Asks for a response once everything that was committed before has been sent.
    Barrier,
}

/// The response of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The value and the version of a key.
    Found {
        /// The value of the key.
        value: Bytes,
        /// Its version.
        version: u64,
    },
    /// The key has no value.
    Missing,
    /// The write was accepted.
    Written {
        /// The version that the key is at now.
        version: u64,
    },
    /// The write was refused, because the key is at another version.
    Stale,
    /// Everything that [`Request::Follow`] or [`Request::Barrier`] asked for has been sent, up to a revision.
    Watermark {
        /// The revision, if the server reports it.
        revision: u64,
    },
}

impl Response {
    /// Returns the response for error messages, without the value.
    pub fn redacted(&self) -> String {
        match self {
            Self::Found { value, version } => format!("{} bytes at version {version}", value.len()),
            other => format!("{other:?}"),
        }
    }
}

/// What a server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The connection is ready for requests.
    Ready,
    /// The response to a request.
    Response(Slot, Response),
    /// A write of another connection.
    Change {
        /// The value.
        value: Bytes,
        /// The position of the write in the server's order of writes, if the server reports one. `None` if that order is
        /// the order in which one connection sent its requests.
        place: Option<u64>,
    },
    /// A message without a meaning for the measurement.
    Nothing,
}

/// Encodes requests and decodes events, for one connection.
pub trait Protocol: Send {
    /// Appends what a client sends first on a connection.
    ///
    /// # Errors
    /// [`Error`] if that cannot be encoded.
    fn greet(&mut self, output: &mut BytesMut) -> Result<(), Error>;

    /// Appends a request.
    ///
    /// # Errors
    /// [`Error`] if the request cannot be encoded, or the protocol has no such request.
    fn encode(&mut self, slot: Slot, request: &Request, output: &mut BytesMut) -> Result<(), Error>;

    /// Removes the next event from the front of `input`, if it has arrived completely. Appends to `output` what the protocol
    /// demands as a response to it.
    ///
    /// # Errors
    /// [`Error`] if the bytes are not an event, or the server refuses something.
    fn decode(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Result<Option<Event>, Error>;
}
