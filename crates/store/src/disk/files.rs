//! The file layer: all that the disk engine asks of an operating system. Tests put one behind it that fails, and that
//! keeps only what was synced.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A directory of files.
///
/// What is assumed of it (and of the disk below):
/// - what [`FileHandle::sync`] and [`FileSystem::sync_names`] have returned from survives a power cut;
/// - a write that was not synced may survive in part, in any of its sectors of 512 bytes;
/// - [`FileSystem::rename`] is atomic: after a power cut there is the old or the new;
/// - after a failed sync nothing is known of the writes before it.
pub(crate) trait FileSystem: Send + Sync + 'static {
    /// An open file.
    type Handle: FileHandle;

    /// The names of the files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens a file that is there, to read and write it.
    fn open(&self, name: &str) -> io::Result<Self::Handle>;
    /// Makes an empty file, in the place of any that is there.
    fn create(&self, name: &str) -> io::Result<Self::Handle>;
    /// Gives a file another name, in the place of any that has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes durable which names there are.
    fn sync_names(&self) -> io::Result<()>;
    /// The path of a file, for people.
    fn path(&self, name: &str) -> PathBuf;
}

/// An open file.
pub(crate) trait FileHandle: Send + Sync + 'static {
    /// How long it is.
    fn length(&self) -> io::Result<u64>;
    /// Fills the buffer from an offset on, as far as the file goes; answers how far that was.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of the bytes from an offset on.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes durable what was written.
    fn sync(&self) -> io::Result<()>;
}

/// A real directory.
#[derive(Clone, Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// A directory, made where it is not there.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        make(path, |parent| File::open(parent)?.sync_all())?;
        Ok(Self(path.to_owned()))
    }

    /// A directory that must be there.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        fs::read_dir(path)?;
        Ok(Self(path.to_owned()))
    }
}

/// Makes a directory, and those above it, and has what holds each that was made synced. Or else a power cut takes it away,
/// and all that was made durable in it. They are for this user alone: values may be secrets.
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

    /// What was synced when a directory was made.
    fn synced_for(path: &Path) -> Vec<PathBuf> {
        let mut synced = Vec::new();
        let sync = |parent: &Path| {
            assert!(path.is_dir(), "synced before it was made");
            synced.push(parent.to_owned());
            Ok(())
        };
        make(path, sync).unwrap();
        synced
    }

    #[test]
    fn whatever_holds_a_directory_that_was_made_is_synced() {
        let temporary = TempDir::new().unwrap();
        let root = temporary.path();
        assert_eq!(synced_for(&root.join("one")), [root]);
        assert_eq!(synced_for(&root.join("a/b/c")), [root, &root.join("a"), &root.join("a/b")]);
        assert_eq!(synced_for(&root.join("a/b/d")), [root.join("a/b")]);
    }

    #[test]
    fn for_a_directory_that_is_there_nothing_is_synced() {
        let temporary = TempDir::new().unwrap();
        assert!(synced_for(temporary.path()).is_empty());
    }

    #[test]
    fn a_directory_that_can_not_be_synced_is_none() {
        let temporary = TempDir::new().unwrap();
        let failed = make(&temporary.path().join("data"), |_| Err(io::ErrorKind::StorageFull.into()));
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
