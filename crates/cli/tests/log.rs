//! The log of a server: whatever becomes of stderr and stdout, the server serves and ends, and the log says what it lacks.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use support::{SYNCLINE, Server, syncline};

const MEMORY: [&str; 4] = ["--listen", "127.0.0.1:0", "--durability", "memory"];

/// A server with a stderr that was not read yet.
struct Unread {
    child: Child,
    stderr: BufReader<Box<dyn Read>>,
    addr: String,
}

impl Unread {
    fn start(stderr: Stdio) -> Self {
        let mut serve = syncline(&["serve"]);
        let mut child =
            serve.args(MEMORY).env("RUST_LOG", "debug").stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let addr = first.trim_end().strip_prefix("listening on ").unwrap_or_else(|| panic!("{first}")).to_owned();
        let stderr: Box<dyn Read> = match child.stderr.take() {
            Some(stderr) => Box::new(stderr),
            None => Box::new(std::io::empty()),
        };
        Self { child, stderr: BufReader::new(stderr), addr }
    }

    /// Causes more lines than the pipe and the queue of the server hold.
    fn fill_log(&self) {
        for _ in 0..6000 {
            TcpStream::connect(&self.addr).unwrap();
        }
    }

    #[track_caller]
    fn serves(&self) {
        let output = syncline(&["put", "k", "v", "--force", "--addr", &self.addr]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    #[track_caller]
    fn ends_at_term(&mut self) {
        let sent = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_whose_log_nobody_reads_serves_on_and_ends_at_term() {
    let mut server = Unread::start(Stdio::piped());
    server.fill_log();
    server.serves();
    let status = syncline(&["status", "--json", "--addr", &server.addr]).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert!(status["log_lines_dropped"].as_u64() > Some(0), "{status}");
    server.ends_at_term();
}

#[test]
fn a_log_that_is_read_again_tells_how_many_lines_are_missing() {
    let mut server = Unread::start(Stdio::piped());
    server.fill_log();
    server.serves();
    let mut line = String::new();
    while !line.contains(" log lines were dropped, because stderr did not accept them in time") {
        line.clear();
        assert_ne!(server.stderr.read_line(&mut line).unwrap(), 0, "the log has ended");
    }
    assert!(line.contains(" WARN syncline::log: ") && !line.contains(" 0 log lines"), "{line}");
    // Later lines are there again.
    server.serves();
    while !line.contains("disconnected") {
        line.clear();
        assert_ne!(server.stderr.read_line(&mut line).unwrap(), 0, "the log has ended");
    }
    server.ends_at_term();
}

#[test]
fn a_server_serves_on_if_its_log_is_on_a_full_disk() {
    let mut server = Unread::start(File::options().write(true).open("/dev/full").unwrap().into());
    server.fill_log();
    server.serves();
    server.ends_at_term();
}

#[test]
fn a_server_serves_on_without_stderr_and_stdout() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut sh = Command::new("sh");
    sh.args(["-c", "exec \"$0\" serve --listen \"$1\" --durability memory >&- 2>&-", SYNCLINE, &unused]);
    let child = sh.env_remove("SYNCLINE_CONFIG").spawn().unwrap();
    let mut server = Unread { child, stderr: BufReader::new(Box::new(std::io::empty())), addr: unused };
    while TcpStream::connect(&server.addr).is_err() {}
    server.serves();
    server.ends_at_term();
}

#[test]
fn a_server_serves_on_if_nobody_reads_its_stdout() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (_reader, mut writer) = std::io::pipe().unwrap();
    let stdout = writer.try_clone().unwrap();
    // Fills the pipe, then waits for a reader until the test ends.
    std::thread::spawn(move || writer.write_all(&vec![b'x'; 1 << 20]));
    let mut serve = syncline(&["serve", "--listen", &unused, "--durability", "memory"]);
    let child = serve.stdout(stdout).stderr(Stdio::null()).spawn().unwrap();
    let mut server = Unread { child, stderr: BufReader::new(Box::new(std::io::empty())), addr: unused };
    while TcpStream::connect(&server.addr).is_err() {}
    server.serves();
    server.ends_at_term();
}

#[test]
fn a_server_that_cannot_print_its_address_says_so_and_serves() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut serve = syncline(&["serve", "--listen", &unused, "--durability", "memory"]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut child = serve.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let stderr: Box<dyn Read> = Box::new(child.stderr.take().unwrap());
    let mut server = Unread { child, stderr: BufReader::new(stderr), addr: unused };
    let mut line = String::new();
    while !line.contains("can't print on stdout that the server listens: ") {
        line.clear();
        assert_ne!(server.stderr.read_line(&mut line).unwrap(), 0, "the log has ended");
    }
    server.serves();
    server.ends_at_term();
}

/// The server has too few files, so that it fails to accept a connection twenty times a second.
#[test]
fn lines_that_repeat_are_suppressed_and_counted() {
    let mut server = Server::start_with(&MEMORY, "syncline=info");
    for _ in 0..20 {
        server.process.signal("USR1");
        server.fine(&["put", "k", "v", "--force"]);
    }
    let mut repeated = 0;
    loop {
        let line = server.process.error_line();
        assert!(!line.is_empty(), "the server has ended");
        if line.contains(" similar lines were suppressed: SIGUSR1 has no effect") {
            break;
        }
        repeated += u32::from(line.contains("SIGUSR1 has no effect"));
        assert!(repeated <= 5, "the line repeats without limit: {line}");
    }
    assert_eq!(repeated, 5, "lines before the summary");
}

#[test]
fn suppressed_lines_are_reported_when_the_server_ends() {
    let server = Server::start_with(&MEMORY, "syncline=info");
    for _ in 0..20 {
        server.process.signal("USR1");
        server.fine(&["put", "k", "v", "--force"]);
    }
    server.process.signal("TERM");
    let (status, printed) = server.process.end();
    assert!(status.success(), "{printed}");
    assert!(printed.contains(" similar lines were suppressed: SIGUSR1 has no effect"), "{printed}");
}
