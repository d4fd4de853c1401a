//! The file layer: everything that the disk engine asks of an operating system. Tests replace it with one that fails,
//! and that keeps only what was synced.

use rustix::fs::{AtFlags, Mode, OFlags};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory of files.
///
/// What the engine assumes of it, and of the disk below:
/// - what was written before [`FileHandle::sync`] or [`FileSystem::sync_names`] returned survives a power cut;
/// - a write that was not synced may survive in part, in any of its sectors of 512 bytes;
/// - [`FileSystem::rename`] is atomic: after a power cut, the name refers to the old or to the new file;
/// - after a failed sync, nothing is known of the writes before it.
pub(crate) trait FileSystem: Send + Sync + 'static {
    /// An open file.
    type Handle: FileHandle;

    /// Returns the names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::Handle>;
    /// Creates an empty file, and replaces an existing one.
    fn create(&self, name: &str) -> io::Result<Self::Handle>;
    /// Renames a file, and replaces an existing one.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_names(&self) -> io::Result<()>;
    /// Returns the path of a file, for people.
    fn path(&self, name: &str) -> PathBuf;
    /// Checks whether the directory that was opened is still the one at its path. Asks the system for metadata only.
    ///
    /// # Errors
    /// Returns what is there instead, for people.
    fn check_place(&self) -> Result<(), String> {
        Ok(())
    }
}

/// An open file.
pub(crate) trait FileHandle: Send + Sync + 'static {
    /// Returns the length of the file.
    fn length(&self) -> io::Result<u64>;
    /// Fills the buffer from an offset on, until the buffer is full or the file ends. Returns the number of bytes
    /// read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes at an offset.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes all earlier writes durable.
    fn sync(&self) -> io::Result<()>;
    /// Returns whether the file still has a name.
    fn has_name(&self) -> io::Result<bool> {
        Ok(true)
    }
}

/// A directory of the operating system, as it was when it was opened.
///
/// Every operation is relative to the open directory, never to its path. So if something else takes the directory's
/// place at that path, nothing is written to it or removed from it.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    open: Arc<File>,
    /// The path for people.
    path: PathBuf,
    /// The same path from the root on: of a relative path, the working directory may be moved as well.
    absolute: PathBuf,
    place: Place,
}

/// What identifies a directory: its device, and its number on that device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(u64, u64);

impl Place {
    fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// How a directory is opened.
const DIRECTORY_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The mode of new files. Only this user may access them, because values may be secrets.
const FILE_MODE: Mode = Mode::from_raw_mode(0o600);

impl Directory {
    /// Opens a directory, and creates it if it does not exist.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        make(path, |parent| File::open(parent)?.sync_all())?;
        Self::open(path)
    }

    /// Opens an existing directory.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let open = File::from(rustix::fs::open(path, DIRECTORY_FLAGS, Mode::empty())?);
        let place = Place::of(&open.metadata()?);
        Ok(Self { open: Arc::new(open), path: path.to_owned(), absolute: std::path::absolute(path)?, place })
    }

    /// Opens the directory itself once more, for a lock of its own.
    pub(crate) fn reopen(&self) -> io::Result<File> {
        Ok(rustix::fs::openat(&self.open, ".", DIRECTORY_FLAGS, Mode::empty())?.into())
    }

    /// Opens an existing file for reading only.
    pub(crate) fn open_read_only(&self, name: &str) -> io::Result<File> {
        self.open_with(name, OFlags::RDONLY)
    }

    /// Opens a file, and creates it if it does not exist.
    pub(crate) fn open_or_create(&self, name: &str) -> io::Result<File> {
        self.open_with(name, OFlags::RDWR | OFlags::CREATE)
    }

    /// Returns whether another directory is the same one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        other.open.metadata().is_ok_and(|metadata| self.is_at(&metadata))
    }

    fn is_at(&self, metadata: &Metadata) -> bool {
        let found = Place::of(metadata);
        // Some file systems number an open directory anew.
        found == self.place || self.open.metadata().is_ok_and(|own| Place::of(&own) == found)
    }

    fn open_with(&self, name: &str, flags: OFlags) -> io::Result<File> {
        // A link would lead out of the directory.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.open, name, flags, FILE_MODE)?.into())
    }
}

/// Creates a directory and its missing ancestors, and syncs the parent of each one that it creates. Otherwise a power
/// cut could remove the directory and everything that was made durable in it. Only this user may access them, because
/// values may be secrets.
fn make(path: &Path, mut sync: impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let missing: Vec<_> = path.ancestors().take_while(|path| !path.exists()).collect();
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)?;
    for parent in missing.into_iter().rev().filter_map(Path::parent) {
        sync(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
    }
    Ok(())
}

impl FileSystem for Directory {
    type Handle = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.open)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        self.open_with(name, OFlags::RDWR)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        self.open_with(name, OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.open, from, &self.open, to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.open, name, AtFlags::empty())?)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.open.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        // Joining an empty name would append a slash.
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
    }

    fn check_place(&self) -> Result<(), String> {
        match fs::metadata(&self.absolute) {
            Ok(metadata) if self.is_at(&metadata) => Ok(()),
            Ok(metadata) if metadata.is_dir() => Err("another directory is at its path now".to_owned()),
            Ok(_) => Err("something else is at its path now".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err("nothing is at its path now".to_owned()),
            Err(error) => Err(format!("its path cannot be reached: {error}")),
        }
    }
}

impl FileHandle for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..)
            && !rest.is_empty()
        {
            match FileExt::read_at(self, rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    /// Asks for nothing else: Linux answers a question for the time of the last change by marking the file, and the next
    /// write then changes that time on disk, which makes each sync slower by half.
    #[cfg(target_os = "linux")]
    fn has_name(&self) -> io::Result<bool> {
        let links = rustix::fs::statx(self, "", AtFlags::EMPTY_PATH, rustix::fs::StatxFlags::NLINK)?;
        Ok(links.stx_nlink > 0)
    }

    #[cfg(not(target_os = "linux"))]
    fn has_name(&self) -> io::Result<bool> {
        Ok(self.metadata()?.nlink() > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// Returns what is synced when a directory is created.
    fn synced_for(path: &Path) -> Vec<PathBuf> {
        let mut synced = Vec::new();
        let sync = |parent: &Path| {
            assert!(path.is_dir(), "synced before it was created");
            synced.push(parent.to_owned());
            Ok(())
        };
        make(path, sync).unwrap();
        synced
    }

    #[test]
    fn the_parents_of_created_directories_are_synced() {
        let temporary = TempDir::new().unwrap();
        let root = temporary.path();
        assert_eq!(synced_for(&root.join("one")), [root]);
        assert_eq!(synced_for(&root.join("a/b/c")), [root, &root.join("a"), &root.join("a/b")]);
        assert_eq!(synced_for(&root.join("a/b/d")), [root.join("a/b")]);
    }

    #[test]
    fn nothing_is_synced_for_an_existing_directory() {
        let temporary = TempDir::new().unwrap();
        assert!(synced_for(temporary.path()).is_empty());
    }

    #[test]
    fn creating_a_directory_fails_if_its_sync_fails() {
        let temporary = TempDir::new().unwrap();
        let failed = make(&temporary.path().join("data"), |_| Err(io::ErrorKind::StorageFull.into()));
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
