//! Why a measurement failed. A wrong response ends a measurement.

use std::io;
use std::time::Duration;
use syncline_client::ConnectError;
use syncline_wire::EncodeError;
use thiserror::Error;

/// Why a measurement failed.
#[derive(Debug, Error)]
pub enum Error {
    /// The connection could not be opened.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server does not know HELLO, so the extended protocol cannot be used.
    #[error("expected a server that knows HELLO, found at {endpoint} one that does not; try --base")]
    NoHello {
        /// The address of the server.
        endpoint: String,
    },
    /// The request cannot be encoded.
    #[error(transparent)]
    Request(#[from] EncodeError),
    /// The connection failed.
    #[error("the connection was lost: {0}")]
    Lost(#[from] io::Error),
    /// The server closed the connection.
    #[error("the server has closed the connection")]
    Closed,
    /// The server violated the protocol.
    #[error("the server does not keep to the protocol: {0}")]
    Protocol(String),
    /// The server sent something unexpected.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What was expected.
        expected: String,
        /// What was found. Of a value, only its length.
        found: String,
    },
    /// Something did not happen in time.
    #[error("not everything was {what} within {within:?}")]
    Late {
        /// What should have happened.
        what: &'static str,
        /// The time that was allowed.
        within: Duration,
    },
    /// A part of the load generator ended too early.
    #[error("the load generator is broken: {0}")]
    Broken(String),
}

impl Error {
    /// Returns an [`Error::Unexpected`].
    pub fn unexpected(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Unexpected { expected: expected.into(), found: found.into() }
    }
}
