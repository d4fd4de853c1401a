//! What is kept of a round that has failed.

use crate::Trouble;
use crate::history::History;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::Path;

/// The name of the file that the history is in.
pub const HISTORY: &str = "history.json";

/// What has failed, for people.
const REPORT: &str = "report.txt";

/// Writes the history of a round, and what has failed.
pub(super) fn keep(directory: &Path, history: &History, report: &str) -> Result<(), Trouble> {
    let path = directory.join(HISTORY);
    let file = File::create(&path).map_err(Trouble::because("make", &path))?;
    serde_json::to_writer(BufWriter::new(file), history)?;
    let path = directory.join(REPORT);
    fs::write(&path, report).map_err(Trouble::because("write", &path))
}

/// Reads a history that was kept: a file, or the directory that has one.
///
/// # Errors
/// [`Trouble`] where there is none.
pub fn load(path: &Path) -> Result<History, Trouble> {
    let path = if path.is_dir() { path.join(HISTORY) } else { path.to_owned() };
    let file = File::open(&path).map_err(Trouble::because("open", &path))?;
    Ok(serde_json::from_reader(BufReader::new(file))?)
}
