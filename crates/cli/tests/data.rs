//! `syncline backup`, `restore` and `check`, with and without a server on the data directory.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use support::{Server, syncline};
use tempfile::TempDir;

fn run(args: &[&str]) -> Output {
    syncline(args).output().unwrap()
}

#[track_caller]
fn fine(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn fails(exit_code: i32, args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(exit_code), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn path(directory: &TempDir, name: &str) -> String {
    directory.path().join(name).to_str().unwrap().to_owned()
}

fn store_id(data: &Path) -> String {
    let identity = std::fs::read_to_string(data.join("identity")).unwrap();
    identity.lines().nth(2).unwrap().to_owned()
}

#[test]
fn a_restored_backup_of_a_running_server_has_its_keys_and_versions() {
    let directory = TempDir::new().unwrap();
    let server = Server::start();
    let data = server.data.path().to_str().unwrap().to_owned();
    for version in 1..=3 {
        server.fine(&["put", "name", &format!("value {version}"), "--version", &version.to_string()]);
    }
    server.fine(&["put", "other", ""]);
    let backup = path(&directory, "backup");
    let printed = fine(&["backup", &backup, "--data", &data]);
    assert_eq!(printed, format!("{backup}: revision 4, 2 keys and 0 deleted ones, 16 bytes\n"));
    server.fine(&["put", "later", "not in it"]);

    let restored = Arc::new(TempDir::new().unwrap());
    let to = restored.path().to_str().unwrap();
    let printed = fine(&["restore", &backup, "--data", to]);
    assert_eq!(printed, format!("{to}: revision 4, 2 keys and 0 deleted ones, 16 bytes, under a new store id\n"));
    assert_ne!(store_id(restored.path()), store_id(server.data.path()));
    let other = Server::start_on(&restored, &["--listen", "127.0.0.1:0"], "off");
    assert_eq!(other.fine(&["get", "name", "--json"]), "{\"key\":\"name\",\"value\":\"value 3\",\"version\":3}\n");
    assert_eq!(other.fine(&["get", "other"]), "");
    other.fails(1, &["get", "later"]);
    other.fails(3, &["put", "name", "again", "--version", "3"]);
    other.fine(&["put", "name", "on", "--version", "4"]);
    assert_eq!(server.fine(&["get", "later"]), "not in it", "the first server continues");
}

#[test]
fn check_counts_what_is_there_running_or_not() {
    let server = Server::start();
    server.fine(&["put", "key", "value"]);
    let data = server.data.clone();
    let dir = data.path().to_str().unwrap();
    let expected = format!("{dir}: whole; revision 1, 1 keys and 0 deleted ones, 8 bytes\n");
    assert_eq!(fine(&["check", dir]), expected);
    server.process.signal("KILL");
    server.process.end();
    assert_eq!(fine(&["check", dir]), expected);
}

#[test]
fn a_backup_into_a_directory_gets_a_name_and_overwrites_nothing() {
    let directory = TempDir::new().unwrap();
    let server = Server::start();
    server.fine(&["put", "key", "value"]);
    let data = server.data.path().to_str().unwrap();
    let to = directory.path().to_str().unwrap();
    fine(&["backup", to, "--data", data]);
    let name = format!("{}.backup", server.data.path().file_name().unwrap().to_str().unwrap());
    let written = std::fs::read(directory.path().join(&name)).unwrap();
    let printed = fails(2, &["backup", to, "--data", data]);
    assert!(printed.contains("expected a file that does not exist yet") && printed.contains(&name), "{printed}");
    assert_eq!(std::fs::read(directory.path().join(&name)).unwrap(), written);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no other file may remain");
}

#[test]
fn damage_is_reported_with_its_offset_and_neither_copied_nor_served() {
    let directory = TempDir::new().unwrap();
    let server = Server::start();
    for version in 1..=3 {
        server.fine(&["put", "key", "value", "--version", &version.to_string()]);
    }
    server.process.signal("TERM");
    let data = server.data.clone();
    server.process.end();
    let segment = data.path().join("segment-000001");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let dir = data.path().to_str().unwrap();
    for args in [&["check", dir][..], &["backup", &path(&directory, "b"), "--data", dir], &["serve", "--data", dir]] {
        let printed = fails(6, args);
        assert!(printed.contains("is damaged at offset 0: revision 1 is missing"), "{args:?}: {printed}");
    }
}

#[test]
fn what_is_no_backup_or_no_place_for_one_is_refused() {
    let directory = TempDir::new().unwrap();
    let server = Server::start();
    server.fine(&["put", "key", "value"]);
    let data = server.data.path().to_str().unwrap();
    let backup = path(&directory, "backup");
    fine(&["backup", &backup, "--data", data]);
    // Neither a directory in use nor one with data is overwritten.
    assert!(fails(4, &["restore", &backup, "--data", data]).contains("is in use by process"));
    let filled = path(&directory, "filled");
    fine(&["restore", &backup, "--data", &filled]);
    assert!(fails(6, &["restore", &backup, "--data", &filled]).contains("expected an empty directory"));
    // A text file is no backup, and neither is a part of a backup.
    let half = path(&directory, "half");
    let whole = std::fs::read(&backup).unwrap();
    std::fs::write(&half, &whole[..whole.len() / 2]).unwrap();
    let letter = path(&directory, "letter");
    std::fs::write(&letter, "dear reader, this is no backup").unwrap();
    for (file, text) in [(&half, "is damaged at offset"), (&letter, "expected a file that `syncline backup` made")] {
        let empty = path(&directory, "empty");
        let printed = fails(6, &["restore", file, "--data", &empty]);
        assert!(printed.contains(text), "{printed}");
        assert!(!Path::new(&empty).exists(), "no directory may be created");
    }
    assert!(fails(2, &["restore", &path(&directory, "none"), "--data", &half]).contains("found nothing"));
    assert!(fails(6, &["check", &path(&directory, "none")]).contains("found nothing"));
}
