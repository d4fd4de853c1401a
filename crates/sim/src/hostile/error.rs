//! The errors of attacks.

use crate::RunError;
use std::fmt::Display;
use std::io;

/// An attack or its bystander cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum AttackError {
    /// A socket operation has failed.
    #[error("a connection has failed: {0}")]
    Io(#[from] io::Error),
    /// Something differs from what was expected.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The server cannot be started, or has exited.
    #[error(transparent)]
    RunError(#[from] RunError),
}

impl AttackError {
    pub(super) fn unexpected(expected: impl Display, found: impl Display) -> Self {
        Self::Unexpected { expected: expected.to_string(), found: found.to_string() }
    }
}
