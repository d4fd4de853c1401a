//! Output that cannot be written, values that a terminal must not obey, and keys that cannot be typed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs::File;
use std::process::{Command, Stdio};
use support::{SYNCLINE, Server};

/// Runs a command that writes its stdout to a full disk. Returns its exit code and stderr.
fn onto_full_disk(server: &Server, args: &[&str], input: &str) -> (Option<i32>, String) {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = server.command(args);
    let mut child = command.stdin(Stdio::piped()).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_committed_write_whose_output_is_lost_has_its_own_exit_code() {
    let server = Server::start();
    for (args, input, key) in [
        (&["put", "a", "v"][..], "", "a"),
        (&["put", "b", "v", "--json"], "", "b"),
        (&["put", "a", "w", "--force"], "", "a"),
        (&["txn"], "put c v\n", "c"),
        (&["txn", "--json"], "put d v\n", "d"),
        (&["import"], "{\"key\":\"e\",\"value\":\"v\",\"version\":1}\n", "e"),
        (&["import", "--json"], "{\"key\":\"f\",\"value\":\"v\",\"version\":1}\n", "f"),
    ] {
        let (code, printed) = onto_full_disk(&server, args, input);
        assert_eq!(code, Some(9), "{args:?}: {printed}");
        assert!(printed.contains("committed, but can't write the output"), "{args:?}: {printed}");
        server.fine(&["get", key]);
    }
    let (code, printed) = onto_full_disk(&server, &["delete", "a"], "");
    assert_eq!(code, Some(9), "{printed}");
    assert!(printed.contains("the write was committed, but"), "{printed}");
    server.fails(1, &["get", "a"]);
}

#[test]
fn output_that_cannot_be_written_is_reported_by_every_command() {
    let server = Server::start();
    server.fine(&["put", "key", "value"]);
    for args in [
        &["get", "key"][..],
        &["get", "key", "--json"],
        &["list"],
        &["list", "--keys"],
        &["watch", "--once"],
        &["watch"],
        &["status"],
        &["status", "--json"],
        &["export"],
    ] {
        let (code, printed) = onto_full_disk(&server, args, "");
        assert_eq!(code, Some(9), "{args:?}: {printed}");
        assert!(printed.contains("can't write the output") && !printed.contains("committed"), "{args:?}: {printed}");
    }
}

/// Returns what a command prints on a terminal.
fn on_a_terminal(server: &Server, command: &str) -> String {
    let line = format!("{SYNCLINE} {command} --addr {}", server.addr);
    let output = Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n")
}

#[test]
fn a_terminal_gets_readable_text_and_no_control_characters() {
    if Command::new("script").arg("--version").output().is_err() {
        println!("skipped: `script` is not installed");
        return;
    }
    let server = Server::start();
    for (key, value, shown) in [
        ("emoji", "❤\u{fe0f} 👩\u{200d}👧", "❤\u{fe0f} 👩\u{200d}👧"),
        ("hindi", "नमस्ते", "नमस्ते"),
        ("arabic", "مَرْحَبًا", "مَرْحَبًا"),
        ("escape", "\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
        ("lines", "one\n\ttwo", "one\n\ttwo"),
    ] {
        server.fine(&["put", key, value]);
        assert_eq!(on_a_terminal(&server, &format!("get {key}")), format!("{shown}  (version 1)\n"));
        assert_eq!(server.fine(&["get", key]), value, "into a pipe, the bytes are exact");
        let in_line = shown.replace('\n', "\\n").replace('\t', "\\t");
        assert_eq!(server.fine(&["list", key]), format!("{key} = {in_line}  (version 1)\n"));
        assert_eq!(server.fine(&["watch", key, "--once"]), format!("{key} = {in_line}  (version 1)\n"));
    }
    server.piped(&["put", "bytes"], b"\xff\x00");
    assert_eq!(on_a_terminal(&server, "get bytes"), "0xff00  (version 1)\n");
}

#[test]
fn a_value_cannot_forge_a_line() {
    let server = Server::start();
    server.fine(&["put", "a", "x  (version 1)\nb = forged"]);
    server.fine(&["put", "c = d", "e"]);
    server.fine(&["put", "d\ne", "f"]);
    assert_eq!(server.fine(&["list", "--keys"]), "a\nc = d\nd\\ne\n", "one line for each key");
    server.fine(&["delete", "d\ne"]);
    let long = "k".repeat(300);
    server.fine(&["put", &long, ""]);
    assert_eq!(server.fine(&["list", "--keys", "k"]), format!("{long}\n"), "a key that is printed can be typed");
    server.fine(&["delete", &long]);
    assert_eq!(server.fine(&["list"]), "a = x  (version 1)\\nb = forged  (version 1)\nc \\u{3d} d = e  (version 1)\n");
}

#[test]
fn every_command_takes_keys_in_hexadecimal_as_they_are_printed() {
    let server = Server::start();
    let root = "00".repeat(20);
    let key = format!("0x{root}");
    assert_eq!(server.fine(&["put", "--hex", &key, "v"]), format!("{key}  (version 1)\n"));
    assert_eq!(server.fine(&["get", "--hex", &root]), "v");
    assert_eq!(server.fine(&["list"]), format!("{} = v  (version 1)\n", "\\0".repeat(20)));
    assert_eq!(server.fine(&["list", "--hex", "0x0000"]), format!("{key} = v  (version 1)\n"));
    assert_eq!(server.fine(&["list", "--hex", "--keys"]), format!("{key}\n"));
    assert_eq!(server.fine(&["list", "--hex", "--after", &key]), "");
    assert_eq!(server.fine(&["watch", "--once", "--hex", "00"]), format!("{key} = v  (version 1)\n"));
    assert!(server.fine(&["export", "--hex", "00"]).contains("version"));
    assert_eq!(server.fine(&["export", "--hex", "01"]), "");
    let input = format!("check {key} 1\nput 0xff new\n");
    assert!(server.piped(&["txn", "--hex"], input.as_bytes()).status.success());
    assert_eq!(server.fine(&["list", "--keys", "--hex"]), format!("{key}\n0xff\n"));
    assert_eq!(server.fine(&["delete", "--hex", &key]), format!("{key} deleted  (version 2)\n"));
    let printed = server.fails(1, &["get", "--hex", &key]);
    assert!(printed.contains(&key), "{printed}");
    let printed = server.fails(2, &["get", "--hex", "name"]);
    assert!(printed.contains("pairs of hexadecimal digits, as in 0x6b6579, found name"), "{printed}");
}

#[test]
fn an_empty_value_must_be_meant() {
    let server = Server::start();
    for (args, input) in
        [(&["put", "k"][..], ""), (&["put", "k", "--file", "/dev/null"], ""), (&["put", "k", "--file", "-"], "")]
    {
        let output = server.piped(args, input.as_bytes());
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("--empty"), "{args:?}");
        server.fails(1, &["get", "k"]);
    }
    for (version, args) in
        [&["put", "k", ""][..], &["put", "k", "--empty"], &["put", "k", "--empty", "--file", "/dev/null"]]
            .iter()
            .enumerate()
    {
        let version = (version + 1).to_string();
        assert!(server.piped(&[args, &["--version", &version][..]].concat(), b"").status.success(), "{args:?}");
        assert_eq!(server.fine(&["get", "k"]), "");
    }
    assert!(server.piped(&["put", "k", "--empty", "--version", "4"], b"not empty").status.success());
    assert_eq!(server.fine(&["get", "k"]), "not empty");
}

#[test]
fn a_value_that_is_too_large_is_refused_with_the_limit_that_applies() {
    let server = Server::start();
    for length in [65_530, 100_000, 1_100_000, 3_000_000] {
        let output = server.piped(&["put", "key"], &vec![b'v'; length]);
        let printed = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{length}: {printed}");
        assert!(printed.contains("at most 65525"), "{length}: {printed}");
    }
}
