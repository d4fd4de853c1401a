//! The errors of the client's side of a connection.
//!
//! They quote frames as logs show them: with values and passwords redacted.

use super::Request;
use syncline_wire::{DecodeError, EncodeError, Kind, LimitExceeded, Tag, TruncatedHello};
use thiserror::Error;

/// The server violated the protocol, or cannot continue what an earlier connection began. The connection cannot be used
/// any longer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The bytes are not a frame.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The response to HELLO is too short.
    #[error(transparent)]
    ServerHello(#[from] TruncatedHello),
    /// A frame that belongs to no request in flight.
    #[error("expected a response to a request in flight, found {found}")]
    UnexpectedFrame {
        /// The frame, as logs show it.
        found: String,
    },
    /// A frame that is not a valid response to the request with its tag.
    #[error("expected a response to {request}, found {found}")]
    WrongResponse {
        /// The request, as logs show it.
        request: String,
        /// The frame, as logs show it.
        found: String,
    },
    /// The server refused to resume a replica that is shown already. Another connection may be able to resume it.
    #[error("a replica cannot be resumed: {text}")]
    ResumeRefused {
        /// The reason, in the server's words.
        text: String,
    },
    /// The client no longer has the right to read what a replica shows. Another connection would be refused, too.
    #[error("a replica cannot be resumed: not permitted: {missing}")]
    ResumeNotPermitted {
        /// The missing right, in the server's words.
        missing: String,
    },
}

impl ProtocolError {
    /// Returns the error for a frame that is larger than any response.
    pub(super) fn too_large(kind: Kind, tag: Tag, excess: LimitExceeded) -> Self {
        Self::UnexpectedFrame { found: format!("kind={kind} tag={tag} of {excess}") }
    }
}

/// A request could not be sent. The error returns the request and its token to the caller.
#[derive(Debug, PartialEq, Eq)]
pub struct SendError<T> {
    /// The request.
    pub request: Request,
    /// The token that was passed with the request.
    pub token: T,
    /// Why the request was not sent.
    pub kind: SendErrorKind,
}

/// Why a request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendErrorKind {
    /// The request cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// All 65,535 tags are in flight. Wait for a response, then try again.
    #[error("expected a free tag, found all 65535 in flight")]
    TagsExhausted,
    /// The server does not support the extension.
    #[error("expected a server that speaks the extension, found one that speaks only the base protocol")]
    BaseOnly,
}
