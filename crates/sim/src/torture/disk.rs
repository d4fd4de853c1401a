//! The disk for the data of a round: a directory, or a small disk that can be filled.
//!
//! Small disks are mounted in a mount namespace of their own. A child process holds the namespace and exits with this
//! process, even if this process is killed. So no mounts remain, and other processes do not see them.

use crate::RunError;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The size of a small disk: enough for several log files of 32 MiB.
const SIZE: &str = "192M";

/// The size of each write when a disk is filled.
const PIECE: usize = 256 * 1024;

/// The name of the file that fills a disk.
const FILLER: &str = "filler";

/// A kind of disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskKind {
    /// A directory on the disk of the system.
    Directory,
    /// A small tmpfs.
    Tmpfs,
    /// A small ext4 file system in a file.
    Ext4,
}

impl DiskKind {
    /// Returns the kind for a round. The rounds cycle through all kinds.
    pub(super) const fn of_round(number: u64) -> Self {
        match number % 3 {
            1 => Self::Tmpfs,
            2 => Self::Directory,
            _ => Self::Ext4,
        }
    }
}

/// The disk for the data of a round.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) root: PathBuf,
    /// The process that holds the mount namespace. It exits when its standard input is closed.
    holder: Option<Child>,
}

impl Disk {
    /// Mounts a disk at a directory. If the machine does not allow that, returns a plain directory and the reason.
    pub(super) async fn new(kind: DiskKind, at: &Path) -> Result<(Self, Option<String>), RunError> {
        fs::create_dir_all(at).map_err(RunError::because("make", at))?;
        let plain = |why| (Self { root: at.to_owned(), holder: None }, why);
        let mount = match kind {
            DiskKind::Directory => return Ok(plain(None)),
            DiskKind::Tmpfs => format!("mount -t tmpfs -o size={SIZE} none \"$1\""),
            // The image is deleted once it is mounted. Its loop device disappears with the mount.
            DiskKind::Ext4 => format!(
                "image=$(mktemp); trap 'rm -f \"$image\"' EXIT; truncate -s {SIZE} \"$image\"; mkfs.ext4 -q -m 0 \"$image\"; \
                 mount -o loop \"$image\" \"$1\"; rm \"$image\"; trap - EXIT"
            ),
        };
        let script = format!("set -e; {mount}; echo mounted; exec cat >/dev/null");
        let holder = Command::new("unshare")
            .args(["--user", "--map-root-user"].iter().filter(|_| !is_root()))
            .args(["--mount", "sh", "-c", &script, "sh"])
            .arg(at)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut holder = match holder {
            Ok(holder) => holder,
            Err(error) => return Ok(plain(Some(format!("cannot run unshare: {error}")))),
        };
        let first = match holder.stdout.take() {
            Some(stdout) => BufReader::new(stdout).lines().next_line().await.ok().flatten(),
            None => None,
        };
        if first.as_deref() == Some("mounted") {
            let inside = at.strip_prefix("/").unwrap_or(at);
            let root = Path::new("/proc").join(holder.id().unwrap_or_default().to_string()).join("root").join(inside);
            return Ok((Self { root, holder: Some(holder) }, None));
        }
        let output = holder.wait_with_output().await.map_err(RunError::because("wait for", Path::new("unshare")))?;
        Ok(plain(Some(String::from_utf8_lossy(&output.stderr).trim().to_owned())))
    }

    /// Returns whether the disk is small enough to be filled.
    pub(super) const fn is_small(&self) -> bool {
        self.holder.is_some()
    }

    /// Fills the disk to the last byte.
    pub(super) fn fill(&self) -> Result<(), RunError> {
        let path = self.root.join(FILLER);
        let filled = File::create(&path).and_then(|mut file| {
            let piece = vec![1; PIECE];
            loop {
                match file.write(&piece) {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        });
        filled.map_err(RunError::because("fill", &path))
    }

    /// Frees the space again.
    pub(super) fn free(&self) -> Result<(), RunError> {
        let path = self.root.join(FILLER);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
        .map_err(RunError::because("remove", &path))
    }
}

fn is_root() -> bool {
    std::process::Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

/// Copies a directory recursively.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let copied = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &copied)?;
        } else {
            fs::copy(entry.path(), &copied)?;
        }
    }
    Ok(())
}
