//! Access control from files.

use super::AccessControl;
use super::hash::HashError;
use super::users::{MAX_FILE, Users, UsersError};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tracing::warn;

/// The longest file of one hash.
const MAX_HASH_FILE: usize = 4096;

/// The permission to read a file for those who are neither its owner nor of its group.
#[cfg(unix)]
const READ_BY_OTHERS: u32 = 0o004;

/// A file that says who may come in, and can't be used.
#[derive(Debug, Error)]
pub enum AccessFileError {
    /// It can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is longer than such files are.
    #[error("{}: expected at most {max} bytes", path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// How long it may be.
        max: usize,
    },
    /// It holds no text.
    #[error("{}: expected text in UTF-8", path.display())]
    NoText {
        /// Which file.
        path: PathBuf,
    },
    /// It holds no hash.
    #[error("{}: {source}", path.display())]
    Hash {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: HashError,
    },
    /// It holds no users.
    #[error("{}, {source}", path.display())]
    Users {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: UsersError,
    },
}

impl AccessControl {
    /// One password, whose hash a file holds, as `syncline passwd` prints it.
    ///
    /// # Errors
    /// [`AccessFileError`] names the file and what is wrong with it.
    pub fn from_hash_file(path: &Path) -> Result<Self, AccessFileError> {
        let text = read(path, MAX_HASH_FILE)?;
        let hash = text.trim().parse().map_err(|source| AccessFileError::Hash { path: path.to_owned(), source })?;
        Ok(Self::Password(Arc::new(hash)))
    }

    /// The users of a `users.toml`.
    ///
    /// # Errors
    /// [`AccessFileError`] names the file, the line and what is wrong with it.
    pub fn from_users_file(path: &Path) -> Result<Self, AccessFileError> {
        let users = Users::parse(&read(path, MAX_FILE)?);
        users.map(Self::Users).map_err(|source| AccessFileError::Users { path: path.to_owned(), source })
    }
}

fn read(path: &Path, max: usize) -> Result<String, AccessFileError> {
    let of = || path.to_owned();
    let trouble = |source| AccessFileError::Read { path: of(), source };
    let file = File::open(path).map_err(trouble)?;
    warn_of_readers(path, &file);
    let mut bytes = Vec::new();
    let more_than_max = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(more_than_max).read_to_end(&mut bytes).map_err(trouble)?;
    if bytes.len() > max {
        return Err(AccessFileError::TooLong { path: of(), max });
    }
    String::from_utf8(bytes).map_err(|_| AccessFileError::NoText { path: of() })
}

/// Whoever reads a hash can guess its password at leisure. Only a warning: files that others should not read are mounted
/// with wide permissions often enough, where nobody else is on the machine.
fn warn_of_readers(path: &Path, file: &File) {
    #[cfg(unix)]
    if let Ok(metadata) = file.metadata()
        && std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & READ_BY_OTHERS != 0
    {
        let path = path.display();
        warn!(%path, "everybody on this machine can read the hashes of passwords in this file (chmod o-r)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Hash;

    #[test]
    fn files_are_read_within_bounds_and_named_in_errors() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("file");
        let written = |bytes: &[u8]| std::fs::write(&path, bytes).unwrap();
        let refused = |load: fn(&Path) -> Result<AccessControl, AccessFileError>| {
            load(&path).unwrap_err().to_string().replace(&path.display().to_string(), "FILE")
        };
        let (of_hash, of_users) = (AccessControl::from_hash_file, AccessControl::from_users_file);

        assert_eq!(refused(of_hash), "can't read FILE: No such file or directory (os error 2)");
        written(b"hunter2\n");
        assert!(refused(of_hash).starts_with("FILE: expected a hash of bcrypt"));
        assert!(refused(of_users).starts_with("FILE, line 1: not TOML"), "{}", refused(of_users));
        written(b"\xff");
        assert_eq!(refused(of_users), "FILE: expected text in UTF-8");
        written(&[b'x'; MAX_HASH_FILE + 1]);
        assert_eq!(refused(of_hash), "FILE: expected at most 4096 bytes");

        let hash = Hash::make(b"secret").unwrap();
        written(format!("{}\n", hash.expose()).as_bytes());
        assert_eq!(of_hash(&path).unwrap(), AccessControl::Password(Arc::new(hash)));
        written(b"[[user]]\nname = \"a\"\ncertificate = \"a\"\nadmin = true\n");
        assert!(matches!(of_users(&path).unwrap(), AccessControl::Users(users) if users.names().eq(["a"])));
    }
}
