//! The real binary, as processes.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic, reason = "each test uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

/// The binary under test.
pub const SYNCLINE: &str = env!("CARGO_BIN_EXE_syncline");

/// The binary with these arguments, without anything that the environment may say.
pub fn syncline(args: &[&str]) -> Command {
    let mut command = Command::new(SYNCLINE);
    for (name, _) in std::env::vars_os() {
        if name == "RUST_LOG" || name.as_encoded_bytes().starts_with(b"SYNCLINE_") {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// A process that is ended when it is dropped.
pub struct Process {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Option<BufReader<ChildStderr>>,
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        let stderr = child.stderr.take().map(BufReader::new);
        Self { child, stdout, stderr }
    }

    /// The next line of stdout; empty at its end.
    pub fn line(&mut self) -> String {
        line(self.stdout.as_mut().unwrap())
    }

    /// The next line of stderr; empty at its end.
    pub fn error_line(&mut self) -> String {
        line(self.stderr.as_mut().unwrap())
    }

    /// Reads no more of its stdout, as `head` does.
    pub fn close_stdout(&mut self) {
        self.stdout = None;
    }

    /// Reads no more of what it says on stderr.
    pub fn close_stderr(&mut self) {
        self.stderr = None;
    }

    /// Sends it a signal, by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end: how it ended, and what else it said on stderr.
    pub fn end(mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        if let Some(stderr) = &mut self.stderr {
            stderr.read_to_string(&mut said).unwrap();
        }
        (self.child.wait().unwrap(), said)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line.truncate(line.trim_end_matches('\n').len());
    line
}

/// Takes a connection in as a server does: reads its HELLO, and answers that.
pub fn greet(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    // Protocol 1, no features, store and head, a heartbeat of 2 s, and the limits that servers have by default.
    let greeting = [&[1, 0, 0, 0, 0, 0][..], &[7; 16], &[0; 8], &[0xd0, 7, 0, 0, 0, 16, 0xf5, 0xff, 0, 0]].concat();
    stream.write_all(&[&[4, 1, 0, 40, 0], &greeting[..]].concat()).unwrap();
    stream
}

/// A server process on a free port.
pub struct Server {
    pub process: Process,
    pub addr: String,
    /// Where its data is.
    pub data: Arc<TempDir>,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(&["--listen", "127.0.0.1:0"], "off")
    }

    pub fn start_with(args: &[&str], log: &str) -> Self {
        Self::start_on(&Arc::new(TempDir::new().unwrap()), args, log)
    }

    /// Starts a server on a data directory that an earlier one has left.
    pub fn start_on(data: &Arc<TempDir>, args: &[&str], log: &str) -> Self {
        let mut command = syncline(&["serve"]);
        let mut process = Process::start(command.args(args).env("SYNCLINE_DATA", data.path()).env("RUST_LOG", log));
        let first = process.line();
        let addr = first.strip_prefix("listening on ").unwrap_or_else(|| panic!("first line: {first:?}")).to_owned();
        Self { process, addr, data: data.clone() }
    }

    /// Runs a client command to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a client command that must end well, and answers its stdout.
    #[track_caller]
    pub fn fine(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a client command that must fail with this exit code, and answers its stderr.
    #[track_caller]
    pub fn fails(&self, exit_code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(exit_code), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Runs a client command with this on stdin.
    pub fn piped(&self, args: &[&str], stdin: &[u8]) -> Output {
        let mut child =
            self.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It may not want all of it.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        child.wait_with_output().unwrap()
    }

    /// Starts `watch`, and waits until it sees what happens.
    pub fn watch(&self, args: &[&str]) -> Process {
        let mut watch = Process::start(self.command(&["watch"]).args(args));
        assert_eq!(watch.error_line(), format!("watching {} (Ctrl-C to end)", self.addr));
        watch
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = syncline(args);
        command.env("SYNCLINE_ADDR", &self.addr);
        command
    }
}
