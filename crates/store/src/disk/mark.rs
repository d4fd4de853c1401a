//! The mark: up to which revision everything is durable, kept beside the log.
//!
//! What the log itself says of that is lost with the file that says it. So where the last file of the log goes missing, or
//! an older one takes its place, only the mark tells. It says less than the log, mostly: it is written when a segment was
//! begun, when a checkpoint was taken, and when the store is closed. Whatever it says was true when it was written, and
//! stays so; an old one is as good as any, and none says nothing.
//!
//! A file of four lines, for people to read:
//!
//! ```text
//! syncline mark
//! store 0123456789abcdef0123456789abcdef
//! synced 1234
//! crc 89abcdef
//! ```

use super::OpenError;
use super::files::{Files, Handle};
use super::identity::checksum_line;
use super::log::NOT_READY;
use std::io;
use syncline_core::StoreId;
use syncline_wire::Revision;

/// The name of the file.
pub(crate) const NAME: &str = "mark";

/// The file is never longer.
const MAX_LENGTH: usize = 256;

fn text(store: StoreId, synced: Revision) -> String {
    let body = format!("syncline mark\nstore {store}\nsynced {synced}\n");
    format!("{body}{}", checksum_line(&body))
}

/// Writes that everything up to a revision is durable.
pub(crate) fn write<F: Files>(files: &F, store: StoreId, synced: Revision) -> io::Result<()> {
    let not_ready = format!("{NAME}{NOT_READY}");
    let handle = files.create(&not_ready)?;
    handle.write_at(text(store, synced).as_bytes(), 0)?;
    handle.sync()?;
    // Which of the two a power cut leaves does not matter.
    files.rename(&not_ready, NAME)
}

/// Reads up to which revision everything is durable; none where nothing says so.
pub(crate) fn read<F: Files>(files: &F, store: StoreId, names: &[String]) -> Result<Option<Revision>, OpenError> {
    if !names.iter().any(|name| name == NAME) {
        return Ok(None);
    }
    let path = || files.path(NAME);
    let handle = files.open(NAME).map_err(OpenError::io("open", path()))?;
    let mut bytes = vec![0; MAX_LENGTH];
    let length = handle.read_at(&mut bytes, 0).map_err(OpenError::io("read", path()))?;
    bytes.truncate(length);
    let found = String::from_utf8_lossy(&bytes);
    let synced = found.lines().nth(2).and_then(|line| line.strip_prefix("synced ")?.parse().ok()).map(Revision::new);
    synced.filter(|synced| found == text(store, *synced)).map(Some).ok_or_else(|| OpenError::Damaged {
        file: path(),
        offset: 0,
        what: "the mark is not as it was written, or of another store".into(),
    })
}
