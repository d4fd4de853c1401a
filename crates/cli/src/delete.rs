//! `syncline delete`: deletes a key.

use crate::args::Delete;
use crate::failure::Failure;
use crate::output::{Json, deletion, note, print_committed};
use crate::shown::shown;
use crate::stale::{Found, stale};
use syncline_client::{Client, GetError, PutError, Version};

/// The number of attempts to delete the current version. An attempt fails only if another write was accepted meanwhile.
const MAX_ATTEMPTS: usize = 256;

pub(crate) async fn run(args: Delete) -> Result<(), Failure> {
    let key = args.notation.read(args.key)?;
    let client = args.servers.connect().await?;
    warn_of_base_connections(&client).await;
    let version = match args.version.map(Version::new) {
        None => delete_current(&client, &key).await?,
        Some(version) => match client.delete(key.clone(), version).await {
            Ok(()) => version,
            Err(PutError::StalePut) => return Err(stale("delete", &client, args.notation, &key, version).await),
            Err(error) => return Err(error.into()),
        },
    };
    print_committed(&if args.json {
        Json::new(&key, version).deleted().to_string()
    } else {
        deletion(&args.notation.show(&key), version)
    })
}

/// Warns if connections of the base protocol are there: they receive a deletion as a PUT with an empty value, which some of
/// their programs take for data. If the status is not available, for lack of the right to it, nothing is printed.
async fn warn_of_base_connections(client: &Client) {
    let Ok(status) = client.status().await else { return };
    let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
    let count = status.get("base_connections").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if count > 0 {
        note(&format!(
            "warning: {count} connections speak only the base protocol; they receive the deletion as a PUT with an empty value, which not all of their programs understand (docs/base-clients.md)"
        ));
    }
}

async fn delete_current(client: &Client, key: &[u8]) -> Result<Version, Failure> {
    for _ in 0..MAX_ATTEMPTS {
        let version = existing(client, key).await?.next_version();
        match client.delete(key.to_owned(), version).await {
            Ok(()) => return Ok(version),
            Err(PutError::StalePut) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::Stale(format!("{}: the key changed during each of {MAX_ATTEMPTS} attempts", shown(key))))
}

/// Returns the state of a key that exists.
///
/// # Errors
/// [`Failure::NotFound`] if it does not exist.
pub(crate) async fn existing(client: &Client, key: &[u8]) -> Result<Found, Failure> {
    match Found::of(client, key).await? {
        Found::Deleted(version) => {
            let deleted_at = Some(version).filter(|version| *version != Version::ABSENT);
            Err(Failure::NotFound(format!("{}: {}", shown(key), GetError::NotFound { deleted_at })))
        }
        found => Ok(found),
    }
}
