//! What to say to whoever has not seen the latest version of a key.

use crate::failure::Failure;
use crate::output::shown;
use syncline_client::{Client, GetError, Version, Versioned};

/// Where a key is: at a version, or deleted at one.
pub(crate) enum Found {
    At(Versioned),
    /// At version 0 where nothing is known of it.
    Deleted(Version),
}

impl Found {
    /// # Errors
    /// Where it can't be learned.
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

    /// The version that the next write has. The last one is refused by the server, which says so better.
    pub(crate) fn next_version(&self) -> Version {
        self.version().next().unwrap_or(Version::MAX)
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(found) => write!(f, "at version {}", found.version),
            Self::Deleted(Version::ABSENT) => f.write_str("not there"),
            Self::Deleted(version) => write!(f, "deleted at version {version}"),
        }
    }
}

/// What was found where `what` was tried with another version, and what to do.
pub(crate) async fn stale(what: &str, client: &Client, key: &[u8], tried: Version) -> Failure {
    let key_shown = shown(key);
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
