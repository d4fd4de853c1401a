//! The durable watermark: the revision up to which everything is durable. It is kept beside the log.
//!
//! The records of the log contain the same fact, but are lost with their file. If the last file of the log
//! disappears, or is replaced by an older copy, only the watermark reveals it. It usually lags behind the log,
//! because it is written only when a segment was begun and when the store is closed. A watermark stays true once it
//! is written, so an old one is valid, and a missing one only proves nothing.
//!
//! It is a [`text_file`] of four lines:
//!
//! ```text
//! syncline mark
//! seal 01234567
//! synced 1234
//! crc 89abcdef
//! ```

use super::error::OpenError;
use super::files::FileSystem;
use super::record::ChecksumSeed;
use super::{names, text_file};
use std::io;
use syncline_wire::Revision;

fn lines(seed: ChecksumSeed, synced: Revision) -> String {
    format!("syncline mark\nseal {:08x}\nsynced {synced}\n", seed.0)
}

/// Writes that everything up to a revision is durable. A power cut may leave this watermark or the one before: both
/// are true.
pub(crate) fn write<F: FileSystem>(files: &F, seed: ChecksumSeed, synced: Revision) -> io::Result<()> {
    text_file::write(files, names::WATERMARK, &lines(seed, synced))
}

/// Reads the revision up to which everything is durable; `None` if there is no such file.
pub(crate) fn read<F: FileSystem>(
    files: &F,
    seed: ChecksumSeed,
    names: &[String],
) -> Result<Option<Revision>, OpenError> {
    if !names.iter().any(|name| name == names::WATERMARK) {
        return Ok(None);
    }
    let found = text_file::read(files, names::WATERMARK)?;
    let synced = found.lines().nth(2).and_then(|line| line.strip_prefix("synced ")?.parse().ok()).map(Revision::new);
    let synced = synced.filter(|synced| found == lines(seed, *synced));
    synced.map(Some).ok_or_else(|| text_file::damaged(files, names::WATERMARK))
}
