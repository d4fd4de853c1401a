//! Errors that end a run against the real server.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a run against the real server cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The operating system reported an error.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or program involved.
        path: PathBuf,
        /// The reported error.
        source: io::Error,
    },
    /// A command failed that must succeed.
    #[error("`{command}` failed with {status}: {said}")]
    Command {
        /// The command.
        command: String,
        /// Its exit status.
        status: String,
        /// Its output on stderr.
        said: String,
    },
    /// The server process ended by itself, or with an unexpected status.
    #[error("the server ended unexpectedly: {status}")]
    Ended {
        /// Its exit status.
        status: String,
    },
    /// The server took too long.
    #[error("the server did not {what} within {within:?}")]
    Slow {
        /// What it had to do.
        what: &'static str,
        /// How long the run waited.
        within: Duration,
    },
    /// Something differs from the expectation.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// A history cannot be written or read.
    #[error("cannot read or write the history: {0}")]
    History(#[from] serde_json::Error),
}

impl RunError {
    /// Returns a function for `map_err` that adds what was tried, and with which file.
    pub fn because(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
