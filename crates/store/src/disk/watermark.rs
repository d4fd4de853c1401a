//! The mark: up to which revision everything is durable, kept beside the log.
//!
//! What the log itself says of that is lost with the file that says it. So where the last file of the log goes missing, or
//! an older one takes its place, only the mark tells. It says less than the log, mostly: it is written when a segment was
//! begun, and when the store is closed. Whatever it says was true when it was written, and stays so; an old one is as good
//! as any, and none says nothing.
//!
//! A [`text_file`] of four lines:
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

/// Writes that everything up to a revision is durable. Which mark a power cut leaves, this or the one before, does not
/// matter.
pub(crate) fn write<F: FileSystem>(files: &F, seed: ChecksumSeed, synced: Revision) -> io::Result<()> {
    text_file::write(files, names::WATERMARK, &lines(seed, synced))
}

/// Reads up to which revision everything is durable; none where nothing says so.
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
