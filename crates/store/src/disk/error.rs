//! Why a data directory cannot be opened.

use crate::Unavailable;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a data directory cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The operating system reported an error.
    #[error("can't {what} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Another process has the directory open.
    #[error("{} is in use{}: end that process, or choose another directory", path.display(), holder(*.pid))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The id of that process, if known.
        pid: Option<u32>,
    },
    /// What is at the path is no data directory, or no backup.
    #[error("{} cannot be used: expected {expected}, found {found}; choose another path", path.display())]
    Foreign {
        /// The path.
        path: PathBuf,
        /// What was expected there.
        expected: &'static str,
        /// What was found there.
        found: String,
    },
    /// A file cannot be read from this path or written to it, whatever the system is asked.
    #[error("{} cannot be used: expected {expected}, found {found}; choose another path", path.display())]
    InvalidPath {
        /// The path.
        path: PathBuf,
        /// What was expected there.
        expected: &'static str,
        /// What was found there.
        found: &'static str,
    },
    /// The directory was written by another version of this program.
    #[error("{} has format {found}, expected {expected}: open it with the version that wrote it", file.display())]
    Format {
        /// The file that names the format.
        file: PathBuf,
        /// The format that this version writes.
        expected: u32,
        /// The format that was found.
        found: u32,
    },
    /// Something that had been durable is missing or changed.
    #[error("{} is damaged at offset {offset}: {what}; nothing was changed. Restore a backup, or look for what has damaged the disk", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The offset in the file.
        offset: u64,
        /// What was expected and found.
        what: String,
    },
    /// The system has no random numbers for a new store id.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl OpenError {
    /// Returns a function that adds the attempted action and the path to an error of the system.
    pub(crate) fn io(what: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path, source }
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" by process {pid}"))
}
