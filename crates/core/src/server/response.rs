//! What a connection is sent for a request, and from which revision on it may be sent.

use super::write::Write;
use syncline_wire::{Message, Revision};

/// The response to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerResponse {
    pub(super) body: Body,
    /// The response is true at this revision: it is sent once everything up to there was sent.
    pub(super) at: Revision,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Frame(Message),
    /// The connection's own write was accepted. The response takes the place of the broadcast.
    Accepted(Write),
}

impl ServerResponse {
    /// Returns a response that is true at any revision.
    pub(super) const fn now(message: Message) -> Self {
        Self::at(message, Revision::ZERO)
    }

    pub(super) const fn at(message: Message, at: Revision) -> Self {
        Self { body: Body::Frame(message), at }
    }

    pub(super) const fn accepted(write: Write, at: Revision) -> Self {
        Self { body: Body::Accepted(write), at }
    }

    pub(super) const fn is_accepted_write(&self) -> bool {
        matches!(self.body, Body::Accepted(_))
    }

    /// Returns the bytes that the response counts as while it waits to be sent.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        match &self.body {
            Body::Frame(message) => message.encoded_length(),
            Body::Accepted(write) => write.bytes(),
        }
    }
}
