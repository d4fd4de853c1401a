//! What every server is asked, and what it answers, whatever its protocol.

use crate::{Error, Link};
use bytes::{Bytes, BytesMut};

/// Which of the requests in flight on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub u16);

/// What is asked of a server.
#[derive(Clone, Debug)]
pub enum Request {
    /// The latest value of a key, with its version.
    Get {
        /// Which key.
        key: Bytes,
    },
    /// Writes a key if it is still at a version (0: not there).
    Put {
        /// Which key.
        key: Bytes,
        /// What it is to hold.
        value: Bytes,
        /// The version that it must be at.
        replaces: u64,
    },
    /// To be sent all that changes from now on; or what has changed since a revision, too.
    Follow {
        /// Which revision: where none is said, the latest.
        since: Option<u64>,
    },
    /// To be told when all that was committed before has been sent.
    Barrier,
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The value and the version of a key.
    Found {
        /// What the key holds.
        value: Bytes,
        /// Its version.
        version: u64,
    },
    /// The key is not there.
    Missing,
    /// The write was accepted.
    Written {
        /// The version that the key is at now.
        version: u64,
    },
    /// The write was not accepted: the key is at another version.
    Stale,
    /// What had been asked for by [`Request::Follow`] or [`Request::Barrier`] was sent, up to a revision.
    Told {
        /// Up to which, where the server says so.
        revision: u64,
    },
}

impl Answer {
    /// What it is, without the value.
    pub fn redacted(&self) -> String {
        match self {
            Self::Found { value, version } => format!("{} bytes at version {version}", value.len()),
            other => format!("{other:?}"),
        }
    }
}

/// What comes from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The connection can be used.
    Ready,
    /// The answer to a request.
    Answer(Slot, Answer),
    /// What somebody else has written.
    Change {
        /// The value.
        value: Bytes,
        /// Its place in the server's order of writes, where the server tells one. It says nothing where that is the order
        /// in which one connection has asked.
        place: Option<u64>,
    },
    /// Something that means nothing here.
    Nothing,
}

/// Requests to bytes, bytes to events, for one connection.
pub trait Protocol: Send {
    /// Appends what a connection begins with.
    ///
    /// # Errors
    /// Where that can't be.
    fn greet(&mut self, output: &mut BytesMut) -> Result<(), Error>;

    /// Appends a request.
    ///
    /// # Errors
    /// Where the protocol has no such request.
    fn encode(&mut self, slot: Slot, request: &Request, output: &mut BytesMut) -> Result<(), Error>;

    /// Takes the next event off the front of the input, where it is whole; appends what it has to be answered with.
    ///
    /// # Errors
    /// Where it is none, or the server refuses something.
    fn decode(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Result<Option<Event>, Error>;
}

/// A server that load is put on.
pub trait Peer: Clone + Send + Sync + 'static {
    /// Another connection, ready for requests.
    fn open(&self) -> impl Future<Output = Result<Link, Error>> + Send;

    /// Whether a write makes the version of its key one more, so that it is known before the answer.
    fn counts(&self) -> bool;
}
