//! A full disk: a small tmpfs, and an ext4 in a file. The server refuses writes, loses no acknowledged write, answers
//! reads, and accepts writes again as soon as space is freed.
//!
//! Each disk is mounted in a mount namespace that belongs to a child process. The process ends with the test in any case,
//! so no mount is left behind, and no other process sees it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use support::{Process, syncline};
use syncline_wire::{Decoder, Message, Tag, Version};
use tempfile::TempDir;

/// The size of the disks, and of a file that occupies space on them. Without the file, there is space for four segments;
/// with it, for two.
const DISK: &str = "160M";
const BALLAST: u64 = 64 * 1024 * 1024;

const VALUE: usize = 60_000;

/// A number of writes that fill no segment, and for which the reserve can grow.
const FILLS_NOTHING: u64 = 60;

/// A number of writes that no disk of this size can hold.
const MOST: u64 = 5_000;

/// A mounted disk, which is unmounted when it is dropped.
struct Mounted {
    /// The process that holds the namespace. It ends when its stdin is closed.
    holder: Child,
    directory: TempDir,
}

impl Mounted {
    /// Runs the script `mount`, which mounts a disk at `$1`. If the machine does not allow that, prints a notice and returns
    /// `None`.
    fn new(name: &str, mount: &str) -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let script = format!("set -e; {mount}; echo mounted; exec cat >/dev/null");
        let holder = Command::new("unshare")
            .args(["--user", "--map-root-user"].iter().filter(|_| !is_root()))
            .args(["--mount", "sh", "-c", &script, "sh"])
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut holder = match holder {
            Ok(holder) => holder,
            Err(error) => return skip(name, &format!("no unshare: {error}")),
        };
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line == "mounted\n" {
            return Some(Self { holder, directory });
        }
        let printed = holder.wait_with_output().unwrap().stderr;
        skip(name, String::from_utf8_lossy(&printed).trim())
    }

    /// Returns the path of the disk for processes outside of the namespace.
    fn path(&self) -> PathBuf {
        let inside = self.directory.path().strip_prefix("/").unwrap();
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(inside)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

/// Prints that a test was skipped. Writes to stderr directly, because the test harness captures what tests print.
fn skip(name: &str, why: &str) -> Option<Mounted> {
    io::stderr().write_all(format!("skipped: {name}: {why}\n").as_bytes()).unwrap();
    None
}

/// A server on a disk, and a connection to it.
struct Server {
    process: Process,
    stream: TcpStream,
    decoder: Decoder<TcpStream>,
}

impl Server {
    fn start(data: &Path) -> Self {
        let mut serve = syncline(&["serve", "--listen", "127.0.0.1:0"]);
        let mut process = Process::start(serve.env("SYNCLINE_DATA", data).env("RUST_LOG", "off"));
        let line = process.line();
        let stream =
            TcpStream::connect(line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}"))).unwrap();
        let decoder = Decoder::new(stream.try_clone().unwrap());
        Self { process, stream, decoder }
    }

    fn ask(&mut self, request: &Message) -> Message {
        let mut frame = Vec::new();
        request.encode(&mut frame).unwrap();
        self.stream.write_all(&frame).unwrap();
        self.decoder.read().unwrap().unwrap()
    }

    /// Writes a new key. Returns the error text if the server refuses.
    fn put(&mut self, number: u64) -> Result<(), String> {
        match self.ask(&Message::put(Tag::new(1), key(number), value(number), Version::new(1))) {
            Message::Put(_) => Ok(()),
            Message::Error(error) => Err(String::from_utf8_lossy(&error.text).into_owned()),
            other => panic!("{other}"),
        }
    }

    /// Writes a new key as soon as the server accepts it.
    fn put_when_accepted(&mut self, number: u64) {
        while let Err(refused) = self.put(number) {
            assert!(refused.starts_with("unavailable: the disk refuses: "), "{refused}");
        }
    }

    /// Makes the value of a key empty, which takes no more space.
    fn shrink(&mut self, number: u64) {
        let answer = self.ask(&Message::put(Tag::new(4), key(number), Vec::new(), Version::new(2)));
        assert!(matches!(answer, Message::Put(_)), "{}: {answer}", key(number));
    }

    /// Checks that exactly the first keys exist, each with its value.
    #[track_caller]
    fn holds(&mut self, keys: u64) {
        for number in 0..keys {
            match self.ask(&Message::get(Tag::new(2), key(number))) {
                Message::Put(put) => assert_eq!(put.value, value(number), "{}", key(number)),
                other => panic!("{}: {other}", key(number)),
            }
        }
        let next = self.ask(&Message::get(Tag::new(3), key(keys)));
        assert!(matches!(&next, Message::Error(error) if error.text.ends_with(b"not found")), "{next}");
    }
}

fn key(number: u64) -> String {
    format!("key{number}")
}

/// Returns the value of a key, which no other key has.
fn value(number: u64) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(VALUE).collect()
}

/// Fills a disk, frees space, and continues to write.
fn fill(disk: &Mounted) {
    let data = disk.path();
    let mut server = Server::start(&data);
    let ballast = data.join("ballast");
    io::copy(&mut io::Read::take(io::repeat(1), BALLAST), &mut File::create(&ballast).unwrap()).unwrap();

    let (keys, refused) =
        (0..MOST).find_map(|number| server.put(number).err().map(|refused| (number, refused))).unwrap();
    assert!(refused.starts_with("unavailable: the disk refuses: ") && refused.contains("No space left"), "{refused}");
    assert!(keys > FILLS_NOTHING, "full after {keys} writes");
    assert_eq!(server.put(keys), Err(refused), "it is still full");
    server.holds(keys);

    fs::remove_file(&ballast).unwrap();
    let more = keys + FILLS_NOTHING;
    server.put_when_accepted(keys);
    for number in keys + 1..more {
        server.put(number).unwrap_or_else(|refused| panic!("there is room for {}: {refused}", key(number)));
    }
    server.holds(more);

    server.process.signal("KILL");
    server.process.end();
    let mut server = Server::start(&data);
    server.holds(more);
    server.put(more).unwrap();
    server.process.signal("TERM");
    let (status, printed) = server.process.end();
    assert!(status.success(), "{printed}");
}

/// Fills a disk with live data, kills the server, and frees space by writing.
fn shrink(disk: &Mounted) {
    let data = disk.path();
    let mut server = Server::start(&data);
    let keys = (0..MOST).find(|number| server.put(*number).is_err()).unwrap();
    assert!(keys > FILLS_NOTHING, "full after {keys} writes");
    io::copy(&mut io::repeat(1), &mut File::create(data.join("ballast")).unwrap()).unwrap_err();
    server.process.signal("KILL");
    server.process.end();

    let mut server = Server::start(&data);
    server.holds(keys);
    // It is still full. Until maintenance has found that out, it may accept some more.
    let keys = (keys..MOST).find(|number| server.put(*number).is_err()).unwrap();
    (0..keys).for_each(|number| server.shrink(number));
    server.put_when_accepted(keys);
    server.process.signal("TERM");
    let (status, printed) = server.process.end();
    assert!(status.success(), "{printed}");
}

#[test]
fn a_tmpfs_full_of_live_data_is_freed_by_writes_after_a_kill() {
    if let Some(disk) = Mounted::new("a tmpfs full of live data", &format!("mount -t tmpfs -o size={DISK} none \"$1\""))
    {
        shrink(&disk);
    }
}

#[test]
fn a_full_tmpfs_refuses_writes_until_space_is_freed_and_loses_none() {
    if let Some(disk) = Mounted::new("a full tmpfs", &format!("mount -t tmpfs -o size={DISK} none \"$1\"")) {
        fill(&disk);
    }
}

#[test]
fn a_full_ext4_refuses_writes_until_space_is_freed_and_loses_none() {
    // The image is deleted after the mount, and the loop device ends with the mount.
    let mount = format!(
        "image=$(mktemp); trap 'rm -f \"$image\"' EXIT; truncate -s {DISK} \"$image\"; mkfs.ext4 -q -m 0 \"$image\"; \
         mount -o loop \"$image\" \"$1\"; rm \"$image\"; trap - EXIT"
    );
    if let Some(disk) = Mounted::new("a full ext4", &mount) {
        fill(&disk);
    }
}
