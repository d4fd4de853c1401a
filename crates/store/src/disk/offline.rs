//! Operations on a data directory without serving it: check, back up, and restore.
//!
//! Checking and backing up change nothing in a directory, so a server may be writing to it meanwhile. What is read is
//! the history as of some revision, and includes everything that was acknowledged before. If the server takes a
//! checkpoint meanwhile, a file may be reused before it was read; then everything is read again.
//!
//! A backup is one file in the format of a checkpoint, with a checksum seed that all backups share. A restored
//! directory is a new history: it has the same keys, values, versions and revisions, but a new store id, because
//! clients of the old store may have seen more.

use super::checkpoint;
use super::error::OpenError;
use super::files::{Directory, FileHandle, FileSystem};
use super::identity::{self, Identity};
use super::lock::DirectoryLock;
use super::metered::{Meter, Metered, MeteredHandle, Report, Stage};
use super::names;
use super::open::not_a_directory;
use super::options::DiskOptions;
use super::record::ChecksumSeed;
use super::recovery::{Recovered, recover};
use crate::index::Index;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use syncline_wire::Revision;

/// Returns the checksum seed of backups. It is no secret: anyone may read them.
fn seed() -> ChecksumSeed {
    ChecksumSeed(crc32c::crc32c(b"syncline backup\0"))
}

/// How often reading a directory is attempted if a server changes it meanwhile.
const ATTEMPTS: usize = 10;

/// The figures of a data directory or a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The revision of the last transaction.
    pub head: Revision,
    /// How many keys have a value.
    pub keys: usize,
    /// How many deleted keys are remembered.
    pub tombstones: usize,
    /// The total size of all keys and values, in bytes.
    pub bytes: usize,
}

impl Contents {
    fn of(index: &Index) -> Self {
        let tombstones = index.tombstones();
        Self { head: index.head(), keys: index.keys() - tombstones, tombstones, bytes: index.bytes() }
    }
}

/// Reads a whole data directory or backup file, verifies every checksum, and that the orders by key and by revision agree.
/// Changes nothing; a server may be running on the directory. `report` is called with the progress.
///
/// # Errors
/// Returns [`OpenError`] if `data` is neither a data directory nor a backup, or is damaged.
pub fn check(data: &Path, report: &Report) -> Result<Contents, OpenError> {
    let is_directory = data.metadata().map_or(true, |metadata| metadata.is_dir());
    let index = if is_directory { read(data, report)? } else { read_backup(data, report)? };
    let mut by_revision = 0;
    let mut last = Revision::ZERO;
    for record in index.changed_since(Revision::ZERO) {
        let is_latest = index.get(record.key()).is_some_and(|latest| latest.revision() == record.revision());
        if !is_latest || record.revision() < last || index.head() < record.revision() {
            let what = format!("the orders by key and by revision disagree at revision {}", record.revision());
            return Err(OpenError::Damaged { file: data.to_owned(), offset: 0, what });
        }
        last = record.revision();
        by_revision += 1;
    }
    if by_revision != index.keys() {
        let what = format!("{by_revision} keys by revision, expected {} as by key", index.keys());
        return Err(OpenError::Damaged { file: data.to_owned(), offset: 0, what });
    }
    Ok(Contents::of(&index))
}

/// Writes the content of a data directory to one file, which is durable when this returns. Changes nothing in the
/// directory; a server may be running on it, and the backup includes everything that was acknowledged before.
/// `report` is called with the progress.
///
/// # Errors
/// Returns [`OpenError`] if `data` is not a data directory or is damaged, if the file cannot be written, or if it exists:
/// then it is not changed.
pub fn backup(data: &Path, to: &Path, report: &Report) -> Result<Contents, OpenError> {
    // Checked first: reading may take long.
    let (directory, name) = place_for_backup(to)?;
    if Directory::open(data).is_ok_and(|data| data.is_same(&directory)) {
        return Err(invalid_path(to, "a place outside of the data directory", "one within it"));
    }
    let index = read(data, report)?;
    let directory = metered_write(directory, &index, report);
    let records = index.changed_since(Revision::ZERO).cloned();
    checkpoint::write(&directory, seed(), &name, index.head(), index.forgotten(), records)
        .map_err(OpenError::io("write", to.to_owned()))?;
    Ok(Contents::of(&index))
}

/// Creates a data directory from a backup: a new history, with a new store id. `report` is called with the progress.
///
/// # Errors
/// Returns [`OpenError`] if `from` is not a backup or is damaged, or if the directory is not empty.
pub fn restore(from: &Path, data: &Path, options: DiskOptions, report: &Report) -> Result<Contents, OpenError> {
    let index = read_backup(from, report)?;
    let files = Directory::make(data).map_err(not_a_directory("make the directory", data))?;
    let _lock = DirectoryLock::acquire(&files)?;
    identity::expect_none(&files, "an empty directory, or none yet")?;
    let files = metered_write(files, &index, report);
    let identity = Identity::new(options.segment_size)?;
    let name = names::checkpoint(index.head());
    let records = index.changed_since(Revision::ZERO).cloned();
    checkpoint::write(&files, identity.seed, &name, index.head(), index.forgotten(), records)
        .map_err(OpenError::io("write", files.path(&name)))?;
    // Written last: without it, the directory is not a data directory.
    identity.write(&files).map_err(OpenError::io("write", files.path(names::IDENTITY)))?;
    Ok(Contents::of(&index))
}

/// Reads a backup file.
fn read_backup(from: &Path, report: &Report) -> Result<Index, OpenError> {
    match from.metadata() {
        Ok(metadata) if metadata.is_dir() => return Err(invalid_path(from, "a backup file", "a directory")),
        Ok(metadata) if !metadata.is_file() => {
            return Err(invalid_path(from, "a backup file", "a pipe or device, which cannot be read at any offset"));
        }
        // Opening it reports the error.
        _ => {}
    }
    let open = || {
        let file = File::open(from)?;
        let length = file.length()?;
        Ok(MeteredHandle::new(file, &Meter::new(report, Stage::Reading, length)))
    };
    let handle = open().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => invalid_path(from, "a backup file", "nothing at this path"),
        _ => OpenError::io("open", from.to_owned())(error),
    })?;
    checkpoint::load(&handle, seed(), from).map(|(index, _)| index).map_err(|error| match error {
        // Not even its first block is one of a backup.
        OpenError::Damaged { file, offset: 0, .. } => OpenError::Foreign {
            path: file,
            expected: "a file that `syncline backup` made",
            found: "a file that does not begin as one".to_owned(),
        },
        error => error,
    })
}

fn invalid_path(path: &Path, expected: &'static str, found: &'static str) -> OpenError {
    OpenError::InvalidPath { path: path.to_owned(), expected, found }
}

/// Reads a data directory, repeatedly if a server changes it meanwhile.
fn read(data: &Path, report: &Report) -> Result<Index, OpenError> {
    let open = || Directory::open(data).map(ReadOnly).map_err(not_a_directory("open", data));
    let files = open()?;
    identity::expect_one(&files)?;
    let identity = Identity::read(&files)?;
    let mut attempt = 1;
    loop {
        let files = open()?;
        let meter = Meter::new(report, Stage::Reading, bytes_to_read(&files));
        let files = Arc::new(Metered { files, meter });
        match recover(&files, identity, identity.segment_size) {
            Ok(Recovered { index, .. }) => {
                files.meter.finish();
                return Ok(index);
            }
            // Damage is permanent; an inconsistency caused by a running server is not.
            Err(OpenError::Damaged { .. } | OpenError::Io { .. }) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Returns how many bytes must be read to open a data directory.
fn bytes_to_read(files: &impl FileSystem) -> u64 {
    let names = files.list().unwrap_or_default();
    let checkpoint = names.iter().filter_map(|name| names::checkpoint_revision(name)).max().map(names::checkpoint);
    let log = names.iter().filter(|name| names::segment_number(name).is_some());
    // A file whose length is unknown cannot be read either: reading reports the error.
    let length = |name: &String| files.open(name).and_then(|handle| handle.length()).unwrap_or_default();
    log.map(length).chain(checkpoint.iter().map(length)).sum()
}

/// Returns a directory that reports the progress of writing a checkpoint.
fn metered_write(files: Directory, index: &Index, report: &Report) -> Metered<Directory> {
    Metered { files, meter: Meter::new(report, Stage::Writing, checkpoint::estimated_bytes(index)) }
}

/// Returns the directory and the name of a backup that does not exist yet.
fn place_for_backup(to: &Path) -> Result<(Directory, String), OpenError> {
    let expected = "a file that does not exist yet, in a directory that does";
    if to.symlink_metadata().is_ok() {
        return Err(invalid_path(to, expected, "something at this path"));
    }
    let unfinished = to.with_added_extension("new");
    if unfinished.symlink_metadata().is_ok() {
        let expected = "no file, because the backup is written under this name first";
        return Err(invalid_path(&unfinished, expected, "something at this path"));
    }
    let name = to.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| invalid_path(to, expected, "no name, or one that is not UTF-8"))?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = Directory::open(parent).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => invalid_path(to, expected, "no such directory"),
        _ => OpenError::io("open", parent.to_owned())(error),
    })?;
    Ok((directory, name.to_owned()))
}

/// A directory that is never changed.
struct ReadOnly(Directory);

impl FileSystem for ReadOnly {
    type Handle = File;

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn open(&self, name: &str) -> io::Result<File> {
        self.0.open_read_only(name)
    }

    fn create(&self, _: &str) -> io::Result<File> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    /// Does nothing: files that opening would remove are left alone.
    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }
}
