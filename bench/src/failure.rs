//! Why a comparison has failed.

use std::io;
use std::time::Duration;
use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Load(#[from] syncline_load::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("expected {expected}, found nothing; {hint}")]
    NotThere { expected: String, hint: &'static str },
    #[error("{0} has ended by itself")]
    Ended(&'static str),
    #[error("{0} did not come within {1:?}")]
    Late(&'static str, Duration),
    #[error("{of}: {why}")]
    Of { of: String, why: Box<Failure> },
    #[error("{0}")]
    Usage(String),
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// The same, with what it happened to.
    pub(crate) fn of(self, of: impl Into<String>) -> Self {
        Self::Of { of: of.into(), why: Box::new(self) }
    }
}
