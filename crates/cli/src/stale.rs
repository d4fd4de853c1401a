//! Reports about writes that carried a version other than the next one.

use crate::failure::Failure;
use crate::keys::KeyNotation;
use syncline_client::{Client, GetError, Version, Versioned};

/// The current state of a key.
pub(crate) enum Found {
    At(Versioned),
    /// The version of the deletion, or version 0 if the server does not know the key.
    Deleted(Version),
}

impl Found {
    /// Asks the server for the state of a key.
    ///
    /// # Errors
    /// [`GetError`], except that the key does not exist.
    pub(crate) async fn of(client: &Client, key: &[u8]) -> Result<Self, GetError> {
        match client.get(key.to_owned()).await {
            Ok(found) => Ok(Self::At(found)),
            Err(GetError::NotFound { deleted_at }) => Ok(Self::Deleted(deleted_at.unwrap_or(Version::ABSENT))),
            Err(error) => Err(error),
        }
    }

    pub(crate) const fn version(&self) -> Version {
        match self {
            Self::At(found) => found.version,
            Self::Deleted(version) => *version,
        }
    }

    /// Returns the version of the next write. After the last version there is none, and the server refuses the write with
    /// a clear message.
    pub(crate) fn next_version(&self) -> Version {
        self.version().next().unwrap_or(Version::MAX)
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(found) => write!(f, "at version {}", found.version),
            Self::Deleted(Version::ABSENT) => f.write_str("absent"),
            Self::Deleted(version) => write!(f, "deleted at version {version}"),
        }
    }
}

/// Returns the failure for a stale `what` ("put" or "delete"): the state of the key, and how to write to it anyway.
pub(crate) async fn stale(what: &str, client: &Client, notation: KeyNotation, key: &[u8], tried: Version) -> Failure {
    let key_shown = notation.show(key);
    Failure::Stale(match Found::of(client, key).await {
        Ok(found @ Found::Deleted(Version::ABSENT)) => format!("stale {what}: {key_shown} is {found}"),
        Ok(found) => {
            let next = found.next_version();
            let how = if what == "put" {
                format!("To write over what is there: --version {next}, or --force.")
            } else {
                format!("To delete what is there: --version {next}, or no --version.")
            };
            format!("stale {what}: {key_shown} is {found}, so the next write has version {next}, not {tried}\n{how}")
        }
        Err(_) => format!("stale {what}: {tried} is not the next version of {key_shown}"),
    })
}
