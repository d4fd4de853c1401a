//! What goes wrong while a server is attacked.

use crate::Trouble;
use std::fmt::Display;
use std::io;

/// What goes wrong while a server is attacked.
#[derive(Debug, thiserror::Error)]
pub enum AttackError {
    /// A socket does not do what it should.
    #[error("a connection has failed: {0}")]
    Io(#[from] io::Error),
    /// Something is not as it was expected.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What.
        expected: String,
        /// And what it is.
        found: String,
    },
    /// The server can't be started, or has ended.
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

impl AttackError {
    pub(super) fn unexpected(expected: impl Display, found: impl Display) -> Self {
        Self::Unexpected { expected: expected.to_string(), found: found.to_string() }
    }
}
