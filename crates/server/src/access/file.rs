//! Reads access control from files.

use super::control::AccessControl;
use super::hash::HashError;
use super::users::{MAX_FILE, Users, UsersError};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tracing::warn;

/// The maximum size of a file that holds one hash.
const MAX_HASH_FILE: usize = 4096;

/// The permission bit that lets users other than the owner and the group read a file.
#[cfg(unix)]
const READ_BY_OTHERS: u32 = 0o004;

/// A file with access control cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AccessFileError {
    /// The file cannot be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The file is larger than the limit.
    #[error("{}: expected at most {max} bytes", path.display())]
    TooLong {
        /// The path of the file.
        path: PathBuf,
        /// The limit, in bytes.
        max: usize,
    },
    /// The file is not text.
    #[error("{}: expected text in UTF-8", path.display())]
    NotUtf8 {
        /// The path of the file.
        path: PathBuf,
    },
    /// The file does not hold a usable hash.
    #[error("{}: {source}", path.display())]
    Hash {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with it.
        source: HashError,
    },
    /// The file does not hold usable users.
    #[error("{}, {source}", path.display())]
    Users {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with it.
        source: UsersError,
    },
}

impl AccessControl {
    /// Reads the hash of one password from a file, in the notation that `syncline passwd` prints.
    ///
    /// # Errors
    /// Returns [`AccessFileError`], which names the file and what is wrong with it.
    pub fn from_hash_file(path: &Path) -> Result<Self, AccessFileError> {
        let text = read(path, MAX_HASH_FILE)?;
        let hash = text.trim().parse().map_err(|source| AccessFileError::Hash { path: path.to_owned(), source })?;
        Ok(Self::Password(Arc::new(hash)))
    }

    /// Reads users from a `users.toml`.
    ///
    /// # Errors
    /// Returns [`AccessFileError`], which names the file, the line and what is wrong there.
    pub fn from_users_file(path: &Path) -> Result<Self, AccessFileError> {
        let users = Users::parse(&read(path, MAX_FILE)?);
        users.map(Self::Users).map_err(|source| AccessFileError::Users { path: path.to_owned(), source })
    }
}

/// Reads a text file of at most `max` bytes.
fn read(path: &Path, max: usize) -> Result<String, AccessFileError> {
    let failed = |source| AccessFileError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    warn_if_world_readable(path, &file);
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > max {
        return Err(AccessFileError::TooLong { path: path.to_owned(), max });
    }
    String::from_utf8(bytes).map_err(|_| AccessFileError::NotUtf8 { path: path.to_owned() })
}

/// Warns if every user of the machine can read the file, because a hash allows guessing its password offline.
///
/// This is no error: secrets are often mounted with wide permissions, for example into containers with a single user.
fn warn_if_world_readable(path: &Path, file: &File) {
    #[cfg(unix)]
    if let Ok(metadata) = file.metadata()
        && std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & READ_BY_OTHERS != 0
    {
        let path = path.display();
        warn!(%path, "every user of this machine can read the password hashes in this file; run chmod o-r");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hash;

    #[test]
    fn errors_name_the_file_and_large_files_are_refused() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("file");
        let write = |bytes: &[u8]| std::fs::write(&path, bytes).unwrap();
        let error = |load: fn(&Path) -> Result<AccessControl, AccessFileError>| {
            load(&path).unwrap_err().to_string().replace(&path.display().to_string(), "FILE")
        };
        let (from_hash, from_users) = (AccessControl::from_hash_file, AccessControl::from_users_file);

        assert_eq!(error(from_hash), "can't read FILE: No such file or directory (os error 2)");
        write(b"hunter2\n");
        assert!(error(from_hash).starts_with("FILE: expected a hash of bcrypt"));
        assert!(error(from_users).starts_with("FILE, line 1: not TOML"), "{}", error(from_users));
        write(b"\xff");
        assert_eq!(error(from_users), "FILE: expected text in UTF-8");
        write(&[b'x'; MAX_HASH_FILE + 1]);
        assert_eq!(error(from_hash), "FILE: expected at most 4096 bytes");

        let hash = Hash::make(b"secret").unwrap();
        write(format!("{}\n", hash.expose()).as_bytes());
        assert_eq!(from_hash(&path).unwrap(), AccessControl::Password(Arc::new(hash)));
        write(b"[[user]]\nname = \"a\"\ncertificate = \"a\"\nadmin = true\n");
        assert!(matches!(from_users(&path).unwrap(), AccessControl::Users(users) if users.names().eq(["a"])));
    }
}
