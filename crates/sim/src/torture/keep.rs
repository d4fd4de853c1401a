//! Saves and loads the history of a failed round.

use crate::RunError;
use crate::history::History;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::Path;

/// The name of the file with the history.
pub const HISTORY: &str = "history.json";

/// The name of the file with the description of the failure.
const REPORT: &str = "report.txt";

/// Saves the history of a round and the description of its failure.
pub(super) fn keep(directory: &Path, history: &History, report: &str) -> Result<(), RunError> {
    let path = directory.join(HISTORY);
    let file = File::create(&path).map_err(RunError::because("make", &path))?;
    serde_json::to_writer(BufWriter::new(file), history)?;
    let path = directory.join(REPORT);
    fs::write(&path, report).map_err(RunError::because("write", &path))
}

/// Loads a saved history from a file, or from the directory that contains the file.
///
/// # Errors
/// Returns [`RunError`] if there is no valid history.
pub fn load(path: &Path) -> Result<History, RunError> {
    let path = if path.is_dir() { path.join(HISTORY) } else { path.to_owned() };
    let file = File::open(&path).map_err(RunError::because("open", &path))?;
    Ok(serde_json::from_reader(BufReader::new(file))?)
}
