//! Reads small files, and refuses large ones without reading them whole.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Reads a file of at most `max_bytes` bytes.
///
/// # Errors
/// The operating system's error, or [`io::ErrorKind::Other`] if the file is larger.
pub fn read_bounded(path: &Path, max_bytes: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more tells a file that is too large from one that just fits.
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > max_bytes {
        return Err(io::Error::other(format!("expected at most {max_bytes} bytes, found more")));
    }
    Ok(bytes)
}

/// Reads a text file of at most `max_bytes` bytes.
///
/// # Errors
/// As [`read_bounded`], or [`io::ErrorKind::Other`] with the line of the first byte that is not UTF-8.
pub fn read_text(path: &Path, max_bytes: usize) -> io::Result<String> {
    String::from_utf8(read_bounded(path, max_bytes)?).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count();
        io::Error::other(format!("line {line}: expected UTF-8, found other bytes"))
    })
}
