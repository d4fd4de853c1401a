//! What keeps a run of the real server from going on.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A run can't go on, or the server does not do what it must.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The system refuses.
    #[error("can't {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A command has failed that must not.
    #[error("`{command}` has failed with {status}: {said}")]
    Command {
        /// Which.
        command: String,
        /// How it has ended.
        status: String,
        /// What it has said on stderr.
        said: String,
    },
    /// The server has ended otherwise than it was told to.
    #[error("the server has ended by itself: {status}")]
    Ended {
        /// How.
        status: String,
    },
    /// Something takes too long.
    #[error("the server did not {what} within {within:?}")]
    Slow {
        /// What.
        what: &'static str,
        /// How long was waited.
        within: Duration,
    },
    /// Something is not as it was expected.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What.
        expected: &'static str,
        /// And what it is.
        found: String,
    },
    /// A history can't be written or read.
    #[error("no history: {0}")]
    History(#[from] serde_json::Error),
}

impl RunError {
    /// What the system says, with what was tried.
    pub fn because(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
