//! Errors of the comparison.

use std::io;
use std::time::Duration;
use thiserror::Error;

/// Why a comparison has failed.
#[derive(Debug, Error)]
pub(crate) enum BenchError {
    #[error(transparent)]
    Load(#[from] syncline_load::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("expected {expected}, found nothing; {hint}")]
    ProgramMissing { expected: String, hint: &'static str },
    #[error("{0} has exited unexpectedly")]
    Exited(&'static str),
    #[error("expected {0} within {1:?}, found nothing")]
    Timeout(&'static str, Duration),
    #[error("{context}: {source}")]
    Context { context: String, source: Box<BenchError> },
    #[error("{0}")]
    Usage(String),
    #[error("interrupted")]
    Interrupted,
}

impl BenchError {
    /// Adds what the error happened to.
    pub(crate) fn context(self, context: impl Into<String>) -> Self {
        Self::Context { context: context.into(), source: Box::new(self) }
    }
}
