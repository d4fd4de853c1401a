//! Small text files that people can read: some lines, and a checksum of them as the last line.
//!
//! ```text
//! syncline mark
//! …
//! crc 89abcdef
//! ```
//!
//! A file is written completely under another name, and then renamed. So after a crash there is the old or the new
//! file.

use super::error::OpenError;
use super::files::{FileHandle, FileSystem};
use super::names;
use std::io;

/// The maximum length of such a file.
const MAX_LENGTH: usize = 4096;

/// Writes a file of these lines, and replaces an existing one. The name is durable once names are synced.
pub(crate) fn write<F: FileSystem>(files: &F, name: &str, lines: &str) -> io::Result<()> {
    let unfinished = names::unfinished(name);
    let handle = files.create(&unfinished)?;
    handle.write_at(format!("{lines}{}", checksum_line(lines)).as_bytes(), 0)?;
    handle.sync()?;
    files.rename(&unfinished, name)
}

/// Reads the lines of a file, if its checksum is right.
pub(crate) fn read<F: FileSystem>(files: &F, name: &str) -> Result<String, OpenError> {
    let path = || files.path(name);
    let handle = files.open(name).map_err(OpenError::io("open", path()))?;
    let mut bytes = vec![0; MAX_LENGTH];
    let length = handle.read_at(&mut bytes, 0).map_err(OpenError::io("read", path()))?;
    bytes.truncate(length);
    String::from_utf8(bytes).ok().and_then(checked).ok_or_else(|| damaged(files, name))
}

/// Returns the error for a file that does not hold what was written to it.
pub(crate) fn damaged<F: FileSystem>(files: &F, name: &str) -> OpenError {
    OpenError::Damaged { file: files.path(name), offset: 0, what: "it is not as it was written".into() }
}

/// Returns the lines before the checksum if the checksum is right.
fn checked(mut text: String) -> Option<String> {
    let last = text.strip_suffix('\n')?.rfind('\n')? + 1;
    let checksum = text.split_off(last);
    (checksum == checksum_line(&text)).then_some(text)
}

/// Returns the last line: the checksum of the others.
pub(crate) fn checksum_line(lines: &str) -> String {
    format!("crc {:08x}\n", crc32c::crc32c(lines.as_bytes()))
}
