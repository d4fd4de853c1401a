//! Why a measurement has failed. Nothing is measured beside a wrong answer.

use std::io;
use std::time::Duration;
use syncline_client::ConnectError;
use syncline_wire::EncodeError;
use thiserror::Error;

/// Why a measurement has failed.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A connection that was to say HELLO leads to a server that does not know it.
    #[error("expected a server that knows HELLO, found at {endpoint} one that does not; try --base")]
    NoHello {
        /// Where that is.
        endpoint: String,
    },
    /// What was to be sent can't be.
    #[error(transparent)]
    Request(#[from] EncodeError),
    /// The connection failed.
    #[error("the connection was lost: {0}")]
    Lost(#[from] io::Error),
    /// The server has ended the connection.
    #[error("the server has closed the connection")]
    Closed,
    /// What came is not what the protocol has.
    #[error("the server does not keep to the protocol: {0}")]
    Protocol(String),
    /// What came is not what was expected.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What should have come.
        expected: String,
        /// What came; of a value no more than how long it is.
        found: String,
    },
    /// Something did not come.
    #[error("not everything was {what} within {within:?}")]
    Late {
        /// What should have happened.
        what: &'static str,
        /// In which time.
        within: Duration,
    },
    /// A part of the load generator has ended before its time.
    #[error("the load generator is broken: {0}")]
    Broken(String),
}

impl Error {
    /// Something else came than was expected.
    pub fn unexpected(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Unexpected { expected: expected.into(), found: found.into() }
    }
}
