//! A data directory that is moved, replaced, removed or mounted over while a server runs on it, and paths that cannot be
//! used. Nothing acknowledged is lost, nothing is written to another directory, and the refusal says what is wrong.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::{Process, SYNCLINE, syncline};
use tempfile::TempDir;

/// A server on the directory `data` within a directory of its own.
struct Lab {
    root: TempDir,
    server: Process,
    addr: String,
    written: usize,
}

impl Lab {
    fn start() -> Self {
        let root = TempDir::new().unwrap();
        let (server, addr) = serve(&mut syncline(&[]), &root.path().join("data"));
        Self { root, server, addr, written: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        syncline(args).args(["--addr", &self.addr]).output().unwrap()
    }

    /// Writes the next key, and returns whether that was acknowledged.
    fn put(&mut self) -> Result<(), String> {
        let output = self.run(&["put", &format!("key-{}", self.written), "value"]);
        if output.status.success() {
            self.written += 1;
            return Ok(());
        }
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        Err(String::from_utf8(output.stderr).unwrap())
    }

    #[track_caller]
    fn assert_refuses(&mut self, found: &str) {
        let printed = self.put().unwrap_err();
        let expected =
            format!("the data directory {} was moved, replaced or removed: {found}", self.path("data").display());
        assert!(printed.contains(&expected), "{printed}");
        assert!(self.run(&["get", "key-0"]).status.success(), "reads go on");
    }

    /// Ends the server, and checks that a directory holds every key that was acknowledged.
    fn assert_kept_in(self, name: &str) {
        let path = self.path(name);
        self.server.signal("TERM");
        let (status, _) = self.server.end();
        assert!(status.success());
        assert_holds(&path, self.written);
    }
}

/// Starts a server on a data directory; `command` may be a wrapper that executes its arguments.
fn serve(command: &mut Command, data: &Path) -> (Process, String) {
    let mut process =
        Process::start(command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).env("RUST_LOG", "off"));
    let addr = process.line().strip_prefix("listening on ").unwrap().to_owned();
    (process, addr)
}

#[track_caller]
fn assert_holds(data: &Path, keys: usize) {
    let output = syncline(&["check"]).arg(data).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains(&format!(" {keys} keys and 0 deleted ones")), "{printed}");
}

/// Returns the names and contents of the files of a directory.
fn files(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn a_replaced_directory_gets_no_writes() {
    let mut lab = Lab::start();
    lab.put().unwrap();
    fs::rename(lab.path("data"), lab.path("moved")).unwrap();
    lab.assert_refuses("nothing is at its path now");
    fs::create_dir(lab.path("data")).unwrap();
    lab.assert_refuses("another directory is at its path now");
    assert_eq!(files(&lab.path("data")), []);
    lab.assert_kept_in("moved");
}

#[test]
fn a_directory_that_was_restored_at_the_same_path_is_left_alone() {
    let mut lab = Lab::start();
    (0..5).for_each(|_| lab.put().unwrap());
    let (data, moved, backup) = (lab.path("data"), lab.path("moved"), lab.path("backup"));
    assert!(syncline(&["backup"]).arg(&backup).arg("--data").arg(&data).status().unwrap().success());
    fs::rename(&data, &moved).unwrap();
    assert!(syncline(&["restore"]).arg(&backup).arg("--data").arg(&data).status().unwrap().success());
    let restored = files(&data);
    (0..5).for_each(|_| lab.assert_refuses("another directory is at its path now"));
    // Another server on the restored directory is another store.
    let (other, addr) = serve(&mut syncline(&[]), &data);
    assert!(syncline(&["put", "key-5", "other", "--addr", &addr]).status().unwrap().success());
    other.signal("KILL");
    other.end();
    lab.assert_refuses("another directory is at its path now");
    assert!(restored.iter().all(|(path, _)| path.exists()));
    assert_holds(&data, 6);
    lab.assert_kept_in("moved");
}

#[test]
fn a_removed_directory_takes_no_more_writes() {
    let mut lab = Lab::start();
    lab.put().unwrap();
    // The server may be creating a file meanwhile.
    while fs::remove_dir_all(lab.path("data")).is_err() {}
    let printed = lab.put().unwrap_err();
    assert!(printed.contains("was moved, replaced or removed"), "{printed}");
    fs::create_dir(lab.path("data")).unwrap();
    assert!(lab.put().unwrap_err().contains("was moved, replaced or removed"));
    let exported = lab.run(&["export"]);
    assert!(String::from_utf8(exported.stdout).unwrap().contains("key-0"), "what is in memory can be saved");
    lab.server.signal("TERM");
    lab.server.end();
    assert_eq!(files(&lab.root.path().join("data")), []);
}

#[test]
fn writes_go_on_when_the_directory_is_back() {
    let mut lab = Lab::start();
    lab.put().unwrap();
    for _ in 0..3 {
        fs::rename(lab.path("data"), lab.path("moved")).unwrap();
        lab.assert_refuses("nothing is at its path now");
        fs::rename(lab.path("moved"), lab.path("data")).unwrap();
        lab.put().unwrap();
    }
    lab.assert_kept_in("data");
}

#[test]
fn a_switched_link_or_a_moved_parent_is_noticed() {
    let root = TempDir::new().unwrap();
    let path = |name: &str| root.path().join(name);
    fs::create_dir(path("parent")).unwrap();
    std::os::unix::fs::symlink(path("parent"), path("link")).unwrap();
    let (server, addr) = serve(&mut syncline(&[]), &path("link/data"));
    let put = |key: &str| syncline(&["put", key, "value", "--addr", &addr]).output().unwrap();
    assert!(put("a").status.success());
    fs::create_dir_all(path("other/data")).unwrap();
    fs::remove_file(path("link")).unwrap();
    std::os::unix::fs::symlink(path("other"), path("link")).unwrap();
    assert_eq!(put("b").status.code(), Some(4));
    fs::remove_file(path("link")).unwrap();
    assert_eq!(put("b").status.code(), Some(4));
    std::os::unix::fs::symlink(path("parent"), path("link")).unwrap();
    assert!(put("b").status.success());
    server.signal("TERM");
    server.end();
    assert_holds(&path("parent/data"), 2);
    assert_eq!(files(&path("other/data")), []);
}

#[test]
fn a_directory_that_is_mounted_over_is_noticed() {
    let root = TempDir::new().unwrap();
    let data = root.path().join("data");
    let allowed = Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
    if !allowed {
        println!("skipped: this machine does not allow a mount namespace");
        return;
    }
    let (server, addr) = serve(Command::new("unshare").args(["--mount", SYNCLINE]), &data);
    let put = |key: &str| syncline(&["put", key, "value", "--addr", &addr]).output().unwrap();
    let pid = server.id().to_string();
    let inside = |args: &[&str]| {
        let status = Command::new("nsenter").args(["--target", &pid, "--mount"]).args(args).arg(&data).status();
        assert!(status.unwrap().success());
    };
    assert!(put("a").status.success());
    inside(&["mount", "-t", "tmpfs", "none"]);
    let refused = put("b");
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(String::from_utf8(refused.stderr).unwrap().contains("another directory is at its path now"));
    inside(&["umount"]);
    assert!(put("b").status.success());
    server.signal("TERM");
    server.end();
    assert_holds(&data, 2);
}

#[test]
fn a_second_server_is_kept_out_even_if_the_lock_file_is_removed() {
    let mut lab = Lab::start();
    lab.put().unwrap();
    let start = |data: &Path| syncline(&["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).output().unwrap();
    for _ in 0..2 {
        fs::remove_file(lab.path("data/lock")).unwrap();
        let second = start(&lab.path("data"));
        assert_eq!(second.status.code(), Some(4), "{second:?}");
        assert!(String::from_utf8(second.stderr).unwrap().contains("is in use"));
        fs::write(lab.path("data/lock"), "").unwrap();
    }
    lab.put().unwrap();
    fs::rename(lab.path("data"), lab.path("moved")).unwrap();
    assert_eq!(start(&lab.path("moved")).status.code(), Some(4), "the lock moves with the directory");
    lab.assert_kept_in("moved");
}

#[test]
fn paths_that_cannot_be_used_are_refused_with_a_fitting_text() {
    let root = TempDir::new().unwrap();
    let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(path("empty")).unwrap();
    fs::create_dir(path("foreign")).unwrap();
    fs::write(path("foreign/notes.txt"), "dear reader").unwrap();
    fs::write(path("letter"), "dear reader, this is no backup").unwrap();
    fs::write(path("nothing"), "").unwrap();
    let (server, addr) = serve(&mut syncline(&[]), Path::new(&path("data")));
    assert!(syncline(&["put", "key", "value", "--addr", &addr]).status().unwrap().success());
    assert!(syncline(&["backup", &path("good"), "--data", &path("data")]).status().unwrap().success());
    let backup = |to: &str, data: &str| vec!["backup".to_owned(), path(to), "--data".to_owned(), path(data)];
    let restore = |from: &str, data: &str| vec!["restore".to_owned(), path(from), "--data".to_owned(), path(data)];
    let export = |to: &str| vec!["export".to_owned(), "--addr".to_owned(), addr.clone(), "--file".to_owned(), path(to)];
    let check = |data: &str| vec!["check".to_owned(), path(data)];
    for (args, exit_code, text) in [
        (check("missing"), 6, "expected a data directory, found nothing at this path"),
        (check("empty"), 6, "expected a data directory, with a file `identity`, found an empty directory"),
        (check("foreign"), 6, "found a directory without it, but with `notes.txt`"),
        (check("letter"), 6, "expected a file that `syncline backup` made, found a file that does not begin as one"),
        (check("nothing"), 6, "expected a file that `syncline backup` made"),
        (backup("new", "missing"), 6, "expected a data directory, found nothing at this path"),
        (backup("new", "empty"), 6, "found an empty directory"),
        (backup("new", "letter"), 6, "expected a data directory, found something that is no directory"),
        (backup("good", "data"), 2, "expected a file that does not exist yet"),
        (backup("missing/new", "data"), 2, "found no such directory"),
        (backup("letter/new", "data"), 2, "found no such directory"),
        (restore("missing", "fresh"), 2, "expected a backup file, found nothing at this path"),
        (restore("data", "fresh"), 2, "expected a backup file, found a directory"),
        (restore("letter", "fresh"), 6, "expected a file that `syncline backup` made"),
        (restore("nothing", "fresh"), 6, "expected a file that `syncline backup` made"),
        (restore("good", "foreign"), 6, "expected an empty directory, or none yet, found the file `notes.txt`"),
        (restore("good", "letter"), 6, "expected a data directory, found something that is no directory"),
        (export("good"), 2, "expected a file that does not exist yet"),
        (export("missing/new"), 2, "found no such directory"),
    ] {
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let output = syncline(&args).output().unwrap();
        let printed = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(exit_code), "{args:?}: {printed}");
        assert!(printed.contains(text) && !printed.contains("damage"), "{args:?}: {printed}");
        assert!(!Path::new(&path("fresh")).exists() && !Path::new(&path("new")).exists());
    }
    server.signal("TERM");
    server.end();
    let output = syncline(&["restore", &path("good"), "--data", &path("data")]).output().unwrap();
    let printed = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6), "{printed}");
    assert!(printed.contains("expected an empty directory, or none yet, found the file `"), "{printed}");
}

#[test]
fn a_backup_is_checked_without_restoring_it() {
    let root = TempDir::new().unwrap();
    let (data, backup) = (root.path().join("data"), root.path().join("backup"));
    let (server, addr) = serve(&mut syncline(&[]), &data);
    assert!(syncline(&["put", "key", "value", "--addr", &addr]).status().unwrap().success());
    assert!(syncline(&["backup"]).arg(&backup).arg("--data").arg(&data).status().unwrap().success());
    server.signal("TERM");
    server.end();
    assert_holds(&backup, 1);
    let mut bytes = fs::read(&backup).unwrap();
    let last = bytes.len() - 1;
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&backup, &bytes).unwrap();
    assert_eq!(syncline(&["check"]).arg(&backup).output().unwrap().status.code(), Some(6));
    fs::write(&backup, bytes.get(..last).unwrap()).unwrap();
    assert_eq!(syncline(&["check"]).arg(&backup).output().unwrap().status.code(), Some(6));
}

#[test]
fn a_relative_data_directory_is_protected_as_well() {
    let root = TempDir::new().unwrap();
    let (work, moved) = (root.path().join("work"), root.path().join("moved"));
    fs::create_dir(&work).unwrap();
    let (server, addr) = serve(syncline(&[]).current_dir(&work), Path::new("data"));
    let put = |key: &str| syncline(&["put", key, "value", "--addr", &addr]).output().unwrap();
    assert!(put("a").status.success());
    fs::rename(&work, &moved).unwrap();
    fs::create_dir(&work).unwrap();
    assert_eq!(put("b").status.code(), Some(4));
    fs::remove_dir(&work).unwrap();
    fs::rename(&moved, &work).unwrap();
    assert!(put("b").status.success());
    server.signal("TERM");
    server.end();
    assert_holds(&work.join("data"), 2);
}

#[test]
fn a_backup_harms_neither_its_data_directory_nor_other_files() {
    let root = TempDir::new().unwrap();
    let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    let (server, addr) = serve(&mut syncline(&[]), Path::new(&path("data")));
    assert!(syncline(&["put", "key", "value", "--addr", &addr]).status().unwrap().success());
    let refused = |to: &str, expected: &str| {
        let output = syncline(&["backup", to, "--data", &path("data")]).output().unwrap();
        let printed = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{printed}");
        assert!(printed.contains(expected), "{printed}");
    };
    refused(&path("data/checkpoint-00000000000000000099"), "outside of the data directory");
    refused(&path("data"), "outside of the data directory");
    std::os::unix::fs::symlink(path("data"), path("link")).unwrap();
    refused(&path("link/backup"), "outside of the data directory");
    fs::write(path("b.new"), "precious").unwrap();
    refused(&path("b"), "b.new cannot be used");
    assert_eq!(fs::read(path("b.new")).unwrap(), b"precious");
    server.signal("TERM");
    server.end();
    assert_holds(Path::new(&path("data")), 1);
}

#[test]
fn pipes_devices_and_links_are_named_as_what_they_are() {
    let root = TempDir::new().unwrap();
    let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    assert!(Command::new("mkfifo").arg(path("fifo")).status().unwrap().success());
    std::os::unix::fs::symlink(path("nowhere"), path("dangling")).unwrap();
    for (args, exit_code, expected) in [
        (&["restore", &path("fifo"), "--data", &path("fresh")][..], 2, "found a pipe or device"),
        (&["check", &path("fifo")], 2, "found a pipe or device"),
        (&["check", "/dev/null"], 2, "found a pipe or device"),
        (&["serve", "--listen", "127.0.0.1:0", "--data", &path("dangling")], 6, "a symbolic link that leads nowhere"),
    ] {
        let output = syncline(args).output().unwrap();
        let printed = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(exit_code), "{args:?}: {printed}");
        assert!(printed.contains(expected), "{args:?}: {printed}");
    }
}
