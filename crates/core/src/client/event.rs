//! What a connection returns to its driver: events while it lives, and what it leaves behind when it is lost.

use super::Replicas;
use super::request::Request;
use super::response::Response;
use bytes::Bytes;
use syncline_wire::{Redacted, Revision, Version};

/// What [`ClientConnection::handle_input`](super::ClientConnection::handle_input) found.
#[derive(derive_more::Debug, PartialEq, Eq)]
pub enum Event<T> {
    /// The response to a request.
    Response {
        /// The token that was passed with the request.
        token: T,
        /// The response.
        response: Response,
    },
    /// Another connection wrote a key.
    Change {
        /// The key.
        key: Bytes,
        /// The new value; empty if the key was deleted.
        #[debug("{:?}", Redacted(value))]
        value: Bytes,
        /// The version of the value or tombstone.
        version: Version,
    },
    /// The replicas now show what the store held at this revision. Readers must see that before they see the effect of any
    /// later event.
    Marked {
        /// The revision.
        revision: Revision,
    },
    /// The server reports a condition of the whole connection. Usually it is about to close it.
    Notice {
        /// The text of the server.
        text: String,
    },
    /// The buffer contains no complete frame.
    Incomplete {
        /// The minimum length of the next frame, in bytes.
        expected: usize,
    },
}

/// What a lost connection leaves behind.
#[derive(Debug)]
pub struct LostConnection<T> {
    /// The requests without a response, in the order in which they were made. The outcome of the writes among them is
    /// unknown, even of a write that was never written to the socket in full.
    pub unanswered: Vec<(Request, T)>,
    /// Responses to writes that were accepted but that no replica shows yet. The next connection returns them when a
    /// replica does.
    pub deferred: Vec<(T, Response)>,
    /// The replicas, which readers can continue to read.
    pub replicas: Replicas,
}
