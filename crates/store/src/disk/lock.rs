//! The lock that keeps a second process out of a data directory.
//!
//! The lock is on the directory itself, which no one removes by mistake as long as the data is in use. In addition, the file
//! `lock` is locked, as earlier versions do: it keeps those out, and holds the id of the process, for people. Some network
//! file systems cannot lock a directory; there, the file alone must do.
//!
//! A lock does not reach the processes of another machine on every shared file system. Two writers that no lock separates
//! notice each other by what they write: see `ownership.rs`.

use super::error::OpenError;
use super::files::{Directory, FileSystem};
use super::names;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use tracing::{debug, warn};

/// Holds the lock until it is dropped.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _directory: File,
    _file: Option<File>,
}

impl DirectoryLock {
    /// Locks a data directory.
    ///
    /// # Errors
    /// Returns [`OpenError::Locked`] if another process, or another store of this process, holds the lock.
    pub(crate) fn acquire(files: &Directory) -> Result<Self, OpenError> {
        let path = || files.path("");
        let directory = files.reopen().map_err(OpenError::io("open", path()))?;
        let is_locked = match directory.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path: path(), pid: holder(files) }),
            Err(TryLockError::Error(error)) => {
                warn!(directory = %path().display(), %error, "this file system cannot lock a directory; the file `lock` alone keeps a second process out");
                false
            }
        };
        let file = match lock_file(files) {
            Ok(file) => Some(file),
            Err(OpenError::Io { source, .. }) if is_locked => {
                // A full disk must not keep the server from starting.
                warn!(file = %files.path(names::LOCK).display(), error = %source, "can't write the file that keeps earlier versions out");
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Self { _directory: directory, _file: file })
    }
}

/// Locks the file `lock`, and writes the id of this process to it.
fn lock_file(files: &Directory) -> Result<File, OpenError> {
    let path = || files.path(names::LOCK);
    let mut file = files.open_or_create(names::LOCK).map_err(OpenError::io("open", path()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(OpenError::Locked { path: files.path(""), pid: holder(files) });
        }
        Err(TryLockError::Error(error)) => return Err(OpenError::io("lock", path())(error)),
    }
    let mut write = || {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    if let Err(error) = write() {
        debug!(file = %path().display(), %error, "can't write the id of the process");
    }
    Ok(file)
}

/// Returns the id of the process that holds the lock, if the file `lock` names it.
fn holder(files: &Directory) -> Option<u32> {
    let mut pid = String::new();
    files.open_read_only(names::LOCK).ok()?.take(MAX_PID).read_to_string(&mut pid).ok()?;
    pid.trim().parse().ok()
}

/// More bytes than the id of a process has.
const MAX_PID: u64 = 32;
