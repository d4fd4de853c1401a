//! The file layer: everything that the disk engine asks of an operating system. Tests replace it with one that fails,
//! and that keeps only what was synced.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

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
}

/// A directory of the operating system.
#[derive(Clone, Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// Opens a directory, and creates it if it does not exist.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        make(path, |parent| File::open(parent)?.sync_all())?;
        Ok(Self(path.to_owned()))
    }

    /// Opens an existing directory.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        fs::read_dir(path)?;
        Ok(Self(path.to_owned()))
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
        fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.0.join(name))
    }

    fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(self.0.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
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
