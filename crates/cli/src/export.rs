//! `syncline export`: writes the keys under a prefix as JSON lines, all as of one revision.

use crate::args::Export;
use crate::failure::Failure;
use crate::output::{Json, Printer, note};
use crate::progress;
use bytes::Bytes;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;
use syncline_client::{KeyChange, Progress, Step};
use syncline_store::OpenError;

pub(crate) async fn run(args: Export) -> Result<(), Failure> {
    let prefix = args.notation.read(args.prefix)?;
    let mut cursor = args.servers.cursor(prefix, None).await?;
    // The first step of a cursor contains all keys as of one revision.
    let step = match cursor.next().await? {
        Progress::Step(step) => step,
        Progress::Disconnected { reason } => return Err(Failure::Unavailable(reason)),
        Progress::Reconnected => return Err(Failure::Unavailable("the connection was lost".into())),
    };
    drop(cursor);
    match args.file.filter(|file| file.as_os_str() != "-") {
        None => write(&step, Printer::stdout()).map(|_| ()),
        Some(file) => {
            write_file(&step, &file)?;
            note(&format!("{}: {} keys as of revision {}", file.display(), step.changes.len(), step.at.revision));
            Ok(())
        }
    }
}

/// Writes a new file. If that fails, removes the file again.
fn write_file(step: &Step, path: &PathBuf) -> Result<(), Failure> {
    let mut options = File::options();
    // Only this user may read it, because values may be secrets.
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.write(true).create_new(true).open(path).map_err(|error| create_failure(path, &error))?;
    let written =
        write(step, Printer::new(file)).and_then(|file| file.sync_all().map_err(|error| write_failure(path, &error)));
    if written.is_err() {
        // The first error is reported; a second one would add nothing.
        let _ = std::fs::remove_file(path);
    }
    written
}

fn create_failure(path: &Path, error: &io::Error) -> Failure {
    let found = match error.kind() {
        io::ErrorKind::AlreadyExists => "something at this path",
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "no such directory",
        _ => return write_failure(path, error),
    };
    let expected = "a file that does not exist yet, in a directory that does";
    OpenError::InvalidPath { path: path.to_owned(), expected, found }.into()
}

fn write_failure(path: &Path, error: &io::Error) -> Failure {
    Failure::Output(format!("can't write {}: {error}", path.display()))
}

fn write<W: Write>(step: &Step, mut printer: Printer<W>) -> Result<W, Failure> {
    let bytes = |change: &KeyChange| (change.key.len() + change.value.as_ref().map_or(0, Bytes::len)) as u64;
    let total = step.changes.iter().map(bytes).sum();
    let bar = progress::bar();
    let mut done = 0;
    for change in &step.changes {
        let KeyChange { key, value, version } = change;
        let Some(value) = value else { continue };
        printer.line(Json::new(key, *version).value(value).to_string().as_bytes())?;
        done += bytes(change);
        bar.show(Instant::now(), "writing", done, total);
    }
    printer.finish()
}
