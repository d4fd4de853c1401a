//! The disk for the data of a round: a directory, or a small disk that can be filled, can die, and heals.
//!
//! Disks are mounted in a mount namespace of their own. A shell holds the namespace, and exits with this process, even
//! if this process is killed. So no mounts remain, and other processes do not see them.

use crate::RunError;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The size of a small disk: enough for several log files of 32 MiB.
const SIZE: &str = "192M";

/// The size of each write when a disk is filled.
const PIECE: usize = 256 * 1024;

/// The name of the file that fills a disk.
const FILLER: &str = "filler";

/// The name of the file beside the mount point that holds an ext4 file system.
const IMAGE: &str = "disk.img";

/// Shuts an ext4 file system down with the ioctl `EXT4_IOC_SHUTDOWN`, without writing back anything first: to the
/// processes, the disk is dead, and what was not synced is lost. The standard library has no safe ioctl.
const SHUTDOWN: &str = "import fcntl, os, struct, sys; \
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";

/// A kind of disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskKind {
    /// A small ext4 file system in a file. It can be filled, and it can die.
    Ext4,
    /// A small tmpfs. It can be filled.
    Tmpfs,
    /// A directory on the disk of the system.
    Directory,
}

impl DiskKind {
    /// Returns the kind for a round. The rounds cycle through all kinds.
    pub(super) const fn of_round(number: u64) -> Self {
        match number % 3 {
            1 => Self::Ext4,
            2 => Self::Directory,
            _ => Self::Tmpfs,
        }
    }

    /// Returns the kind to use if the machine does not allow this one.
    pub(super) const fn instead(self) -> Option<Self> {
        match self {
            Self::Ext4 => Some(Self::Tmpfs),
            Self::Tmpfs => Some(Self::Directory),
            Self::Directory => None,
        }
    }

    /// Returns the shell commands that mount the disk at `$1`, with an image in `$2`.
    const fn mount(self) -> &'static str {
        match self {
            Self::Ext4 => "truncate -s \"$3\" \"$2\"; mkfs.ext4 -q -m 0 \"$2\"; mount -o loop \"$2\" \"$1\"",
            Self::Tmpfs => "mount -t tmpfs -o size=\"$3\" none \"$1\"",
            Self::Directory => "true",
        }
    }
}

/// The disk for the data of a round.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) root: PathBuf,
    kind: DiskKind,
    image: PathBuf,
    namespace: Option<Namespace>,
}

/// A shell that holds a mount namespace. It runs each line of its input, and reports the result as a line. It exits when
/// its input is closed.
#[derive(Debug)]
struct Namespace {
    /// It is killed when this is dropped.
    _shell: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Disk {
    /// Mounts a disk at a directory, or returns why the machine does not allow it.
    pub(super) async fn mount(kind: DiskKind, at: &Path) -> Result<Self, String> {
        let image = at.with_file_name(IMAGE);
        let script = format!(
            "set -e; {}; set +e; echo mounted; while read -r line; do \
             if said=$(eval \"$line\" 2>&1); then echo done; else echo \"failed: $said\" | tr '\\n' ' '; echo; fi; done",
            kind.mount()
        );
        let shell = Command::new("unshare")
            .args(["--user", "--map-root-user"].iter().filter(|_| !is_root()))
            .args(["--mount", "sh", "-c", &script, "sh"])
            .args([at, &image])
            .arg(SIZE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut shell = shell.map_err(|error| format!("cannot run unshare: {error}"))?;
        let pid = shell.id().unwrap_or_default();
        let (Some(input), Some(output)) = (shell.stdin.take(), shell.stdout.take()) else {
            return Err("the shell of the namespace has no pipes".into());
        };
        let mut output = BufReader::new(output).lines();
        if output.next_line().await.ok().flatten().as_deref() != Some("mounted") {
            drop(input);
            let _ = fs::remove_file(&image);
            let said = shell.wait_with_output().await.map(|output| output.stderr).unwrap_or_default();
            return Err(String::from_utf8_lossy(&said).lines().collect::<Vec<_>>().join("; "));
        }
        let inside = at.strip_prefix("/").unwrap_or(at);
        let root = Path::new("/proc").join(pid.to_string()).join("root").join(inside);
        Ok(Self { root, kind, image, namespace: Some(Namespace { _shell: shell, input, output }) })
    }

    /// Returns a directory without a namespace of its own.
    pub(super) fn plain(at: &Path) -> Self {
        let image = at.with_file_name(IMAGE);
        Self { root: at.to_owned(), kind: DiskKind::Directory, image, namespace: None }
    }

    /// Returns whether the disk is small enough to be filled.
    pub(super) const fn is_small(&self) -> bool {
        matches!(self.kind, DiskKind::Ext4 | DiskKind::Tmpfs)
    }

    /// Returns whether the disk can die.
    pub(super) const fn can_die(&self) -> bool {
        matches!(self.kind, DiskKind::Ext4)
    }

    /// Runs shell commands in the mount namespace. `$1` is the mount point, and `$2` the image. The error is what they
    /// have printed.
    async fn run(&mut self, commands: &str) -> Result<(), String> {
        let namespace = self.namespace.as_mut().ok_or("the disk has no mount namespace")?;
        let line = format!("{commands}\n");
        namespace.input.write_all(line.as_bytes()).await.map_err(|error| error.to_string())?;
        match namespace.output.next_line().await.ok().flatten() {
            Some(line) if line == "done" => Ok(()),
            said => Err(said.unwrap_or_else(|| "the shell of the namespace has ended".into())),
        }
    }

    /// Mounts an empty volume over a directory of the disk.
    pub(super) async fn cover(&mut self, name: &str) -> Result<(), String> {
        self.run(&format!("mount -t tmpfs -o size=16m none \"$1/{name}\"")).await
    }

    /// Unmounts the volume again.
    pub(super) async fn uncover(&mut self, name: &str) -> Result<(), String> {
        // A server that has opened files there by their paths still uses it.
        self.run(&format!("umount \"$1/{name}\" || umount --lazy \"$1/{name}\"")).await
    }

    /// Lets the disk die: it fails every operation until it is mounted again.
    pub(super) async fn die(&self) -> Result<(), String> {
        let ran = Command::new("python3").args(["-c", SHUTDOWN]).arg(&self.root).output().await;
        let output = ran.map_err(|error| format!("cannot run python3: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned())
    }

    /// Mounts a dead disk again. Nothing may use it.
    pub(super) async fn heal(&mut self) -> Result<(), String> {
        // The files of a killed process are closed a moment later.
        let unmount = "for n in 1 2 3 4 5 6 7 8 9; do umount \"$1\" && break; sleep 0.1; done";
        self.run(&format!("{unmount}; mount -o loop \"$2\" \"$1\"")).await
    }

    /// Fills the disk to the last byte.
    pub(super) fn fill(&self) -> Result<(), RunError> {
        let path = self.root.join(FILLER);
        let filled = File::options().append(true).create(true).open(&path).and_then(|mut file| {
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

impl Drop for Disk {
    fn drop(&mut self) {
        // The file system that is still mounted keeps the image until the namespace is gone.
        let _ = fs::remove_file(&self.image);
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
