//! The choice of the engine: each flag of `serve` has an effect with each engine, or is refused.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Server, syncline};
use tempfile::TempDir;

/// The values of `--durability`. The last one chooses the memory engine.
const DURABILITIES: [&str; 3] = ["fsync", "os", "memory"];

/// The disk engine looks for old tombstones once a second, if they are remembered for a shorter time.
const DEADLINE: Duration = Duration::from_secs(120);

fn start(durability: &str, flags: &[&str]) -> Server {
    Server::start_with(&[&["--listen", "127.0.0.1:0", "--durability", durability], flags].concat(), "off")
}

fn status(server: &Server) -> Value {
    serde_json::from_str(&server.fine(&["status", "--json"])).unwrap()
}

/// Deletes a key, and writes others until the server has forgotten the deletion.
#[track_caller]
fn forgets_a_deletion(durability: &str) {
    let server = start(durability, &["--tombstones", "10ms"]);
    server.fine(&["put", "gone", "v"]);
    server.fine(&["delete", "gone"]);
    let deadline = Instant::now() + DEADLINE;
    while status(&server)["tombstones"] != 0 {
        assert!(Instant::now() < deadline, "{durability}: the deletion is still known: {}", status(&server));
        server.fine(&["put", "other", "v", "--force"]);
    }
    assert_eq!(server.fails(1, &["get", "gone"]), "syncline: gone: not found\n", "{durability}");
    let resumed = server.fine(&["watch", "--once", "--json", "--since", "1"]);
    assert!(resumed.starts_with(r#"{"reset":true,"#), "{durability}: {resumed}");
}

#[test]
fn a_memory_server_forgets_deletions_after_the_time_in_tombstones() {
    forgets_a_deletion("memory");
}

#[test]
fn a_disk_server_forgets_deletions_after_the_time_in_tombstones() {
    forgets_a_deletion("os");
}

#[test]
fn every_engine_remembers_deletions_for_seven_days_by_default() {
    for durability in DURABILITIES {
        let server = start(durability, &[]);
        server.fine(&["put", "gone", "v"]);
        server.fine(&["delete", "gone"]);
        for _ in 0..5 {
            server.fine(&["put", "other", "v", "--force"]);
        }
        assert_eq!(status(&server)["tombstones"], 1, "{durability}");
        let resumed = server.fine(&["watch", "--once", "--json", "--since", "1"]);
        assert!(resumed.starts_with(r#"{"deleted":true,"key":"gone","#), "{durability}: {resumed}");
    }
}

#[test]
fn every_engine_obeys_the_limits() {
    for durability in DURABILITIES {
        let server = start(durability, &["--max-key", "3", "--max-entry-size", "2KiB", "--recent-log", "3KiB"]);
        let printed = server.fails(2, &["put", "long", "v"]);
        assert!(printed.contains("key of 4 bytes, expected at most 3"), "{durability}: {printed}");
        let printed = server.fails(2, &["put", "k", &"v".repeat(2048)]);
        assert!(printed.contains("expected at most 2048"), "{durability}: {printed}");
        for key in ["a", "b", "c", "d", "e"] {
            server.fine(&["put", key, &"v".repeat(1000)]);
        }
        let log = &status(&server)["recent_log"];
        assert!(log["since"].as_u64() > Some(0), "{durability}: the log has forgotten nothing: {log}");
        assert!(log["bytes"].as_u64() <= Some(3 * 1024), "{durability}: the log is larger than its limit: {log}");
    }
}

#[test]
fn every_engine_accepts_the_other_flags() {
    let flags = ["--threads", "2", "--max-connections", "1", "--max-queue", "1KiB", "--heartbeat", "1s"];
    for durability in DURABILITIES {
        let server = start(durability, &flags);
        let _watch = server.watch(&[]);
        let printed = server.fails(4, &["get", "k"]);
        assert!(printed.contains("too many connections"), "{durability}: {printed}");
    }
}

/// `serve --check-config` in a directory with this configuration file.
fn check_config(directory: &TempDir, file: &str, flags: &[&str]) -> Output {
    std::fs::write(directory.path().join("syncline.toml"), file).unwrap();
    let mut command = syncline(&["serve", "--check-config", "--config", "syncline.toml"]);
    command.args(flags).current_dir(directory.path()).output().unwrap()
}

#[test]
fn a_data_directory_is_refused_if_nothing_is_kept_on_disk() {
    let directory = TempDir::new().unwrap();
    for (file, flags, origin) in [
        ("", &["--durability", "memory", "--data", "here"][..], "--data"),
        ("durability = 'memory'", &["--data", "here"], "--data"),
        ("durability = 'memory'\ndata = 'here'", &[], "syncline.toml: line 2: data"),
    ] {
        let output = check_config(&directory, file, flags);
        assert_eq!(output.status.code(), Some(2), "{file:?} {flags:?}: {output:?}");
        let expected = format!(
            "syncline: {origin}: with durability \"memory\", nothing is kept on disk; remove data, or choose fsync or os\n"
        );
        assert_eq!(String::from_utf8(output.stderr).unwrap(), expected, "{file:?} {flags:?}");
    }
}

#[test]
fn a_data_directory_that_memory_overrides_is_shown_as_not_used() {
    let directory = TempDir::new().unwrap();
    let output = check_config(&directory, "data = 'here'\ndurability = 'os'", &["--durability", "memory"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    let line = shown.lines().find(|line| line.starts_with("data =")).unwrap();
    let expected = "# syncline.toml, line 1; not used: with durability \"memory\", nothing is kept on disk";
    assert!(line.ends_with(expected), "{shown}");

    // Other commands read the variable, too, so the server does not refuse it.
    let data = Arc::new(TempDir::new().unwrap());
    let server = Server::start_on(&data, &["--listen", "127.0.0.1:0", "--durability", "memory"], "off");
    server.fine(&["put", "k", "v"]);
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0, "a memory server writes no files");
}
