//! Signals: only SIGTERM and SIGINT end a server (and SIGKILL), at any time, and no other signal does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use support::{Process, SYNCLINE, Server, syncline};
use syncline_wire::{Message, Tag};
use tempfile::TempDir;

const MEMORY: [&str; 4] = ["--listen", "127.0.0.1:0", "--durability", "memory"];

/// All signals of `signal(7)` that do not report a fault of the program, do not stop it, and do not end a server.
const WITHOUT_EFFECT: &[&str] = &[
    "HUP", "QUIT", "USR1", "USR2", "PIPE", "ALRM", "CHLD", "CONT", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH",
    "IO",
];

#[cfg(target_os = "linux")]
const WITHOUT_EFFECT_ON_LINUX: &[&str] = &["PWR", "STKFLT", "34", "35", "49", "63", "64"];

#[test]
fn only_term_and_int_end_a_server() {
    let server = Server::start_with(&MEMORY, "off");
    let signals = WITHOUT_EFFECT.iter();
    #[cfg(target_os = "linux")]
    let signals = signals.chain(WITHOUT_EFFECT_ON_LINUX);
    for name in signals {
        server.process.signal(name);
        let output = server.run(&["put", "k", name, "--force"]);
        assert!(output.status.success(), "after SIG{name}: {output:?}");
    }
    server.process.signal("TERM");
    let (status, printed) = server.process.end();
    assert_eq!(status.code(), Some(0), "{printed}");
}

#[test]
fn a_signal_without_effect_is_logged_with_what_to_send_instead() {
    let mut server = Server::start_with(&MEMORY, "syncline=info");
    server.process.signal("USR1");
    let expected = "SIGUSR1 has no effect; SIGTERM ends the server";
    while !server.process.error_line().contains(expected) {}
}

/// The server waits for its file of passwords, which is a pipe.
#[test]
fn a_server_that_has_not_started_yet_ends_at_term_and_at_nothing_else() {
    let directory = TempDir::new().unwrap();
    let pipe = directory.path().join("hash");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let process = Process::start(syncline(&["serve"]).args(MEMORY).arg("--auth-hash-file").arg(&pipe));
    // Returns as soon as the server has opened the other end.
    let _writer = OpenOptions::new().write(true).open(&pipe).unwrap();
    for name in ["HUP", "USR1", "ALRM", "TERM"] {
        process.signal(name);
    }
    let (status, printed) = process.end();
    assert_eq!(status.code(), Some(0), "{printed}");
    assert!(printed.contains("ended before the server was ready"), "{printed}");
}

#[test]
fn a_second_signal_ends_a_server_that_waits_for_its_clients() {
    let mut server = Server::start_with(&MEMORY, "syncline=info");
    server.piped(&["put", "k"], &[b'v'; 60_000]);
    // More responses than all buffers hold, to a client that reads none of them.
    let mut client = TcpStream::connect(&server.addr).unwrap();
    let mut gets = Vec::new();
    (1..4000).for_each(|tag| Message::get(Tag::new(tag), "k").encode(&mut gets).unwrap());
    client.write_all(&gets).unwrap();
    server.fine(&["get", "k"]);

    server.process.signal("TERM");
    while !server.process.error_line().contains("shutting down connections=1") {}
    server.process.signal("TERM");
    let (status, printed) = server.process.end();
    assert_eq!(status.code(), Some(130), "{printed}");
}

#[test]
fn a_limit_of_file_sizes_refuses_writes_and_the_server_goes_on() {
    let data = TempDir::new().unwrap();
    let script = "ulimit -f 64; exec \"$0\" serve --listen 127.0.0.1:0";
    let mut bash = Command::new("bash");
    bash.args(["-c", script, SYNCLINE]).env("SYNCLINE_DATA", data.path()).env("RUST_LOG", "off");
    let mut process = Process::start(&mut bash);
    let addr = process.line().strip_prefix("listening on ").unwrap().to_owned();
    let server = Server { process, addr, data: Arc::new(data) };
    let value = vec![b'v'; 60_000];
    let refused = (0..1000).find_map(|number| {
        let output = server.piped(&["put", &format!("key{number}")], &value);
        (!output.status.success()).then_some(output)
    });
    let refused = refused.unwrap();
    let printed = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(4), "{printed}");
    assert!(printed.contains("the disk refuses: File too large"), "{printed}");
    server.fails(1, &["get", "nothing"]);
    server.fine(&["list"]);
    server.process.signal("TERM");
    let (status, printed) = server.process.end();
    assert_eq!(status.code(), Some(0), "{printed}");
}

#[test]
#[cfg(target_os = "linux")]
fn programs_that_inherit_from_a_server_get_the_default_signals() {
    let server = Server::start_with(&MEMORY, "off");
    let ignored = |process: &str| {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().to_owned()
    };
    // A program inherits which signals are ignored, but no handlers. The standard library ignores SIGPIPE in this test as
    // well, and resets it for programs that it starts.
    assert_eq!(ignored(&server.process.id().to_string()), ignored("self"));
}

#[test]
fn a_terminated_check_of_the_configuration_is_no_success() {
    let directory = TempDir::new().unwrap();
    let pipe = directory.path().join("syncline.toml");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let process = Process::start(syncline(&["serve", "--check-config", "--config"]).arg(&pipe));
    let _writer = File::options().write(true).open(&pipe).unwrap();
    process.signal("TERM");
    assert!(!process.end().0.success());
}
