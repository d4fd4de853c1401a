//! Why a data directory cannot be opened.

use super::names;
use crate::Unavailable;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// A data directory can't be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The system refuses.
    #[error("can't {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{} is in use{}: end that process, or choose another directory", path.display(), holder(*.pid))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that has it, where that is known.
        pid: Option<u32>,
    },
    /// It holds something else.
    #[error("{} is no data directory of syncline: expected it to be empty or to hold a file `{}`, found `{found}`; choose another directory", path.display(), names::IDENTITY)]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// A file that is there.
        found: String,
    },
    /// It was written by another version of this program.
    #[error("{} has format {found}, expected {expected}: open it with the version that wrote it", file.display())]
    Format {
        /// The file that says so.
        file: PathBuf,
        /// The format that this version writes.
        expected: u32,
        /// The format that was found.
        found: u32,
    },
    /// Something that had been durable is not there any more.
    #[error("{} is damaged at offset {offset}: {what}; nothing was changed. Restore a backup, or look for what has damaged the disk", file.display())]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What was expected and found.
        what: String,
    },
    /// There is no new store id to be had.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl OpenError {
    /// What to make of an error of the system.
    pub(crate) fn io(what: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path, source }
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" by process {pid}"))
}
