//! Runs the real binary, as a server and as client commands.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic, reason = "each test uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

/// The binary under test.
pub const SYNCLINE: &str = env!("CARGO_BIN_EXE_syncline");

/// Returns a command with these arguments, and without variables that `syncline` reads.
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

/// A process that is killed when it is dropped.
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

    /// Returns the next line of stdout, or an empty one at its end.
    pub fn line(&mut self) -> String {
        line(self.stdout.as_mut().unwrap())
    }

    /// Returns the next line of stderr, or an empty one at its end.
    pub fn error_line(&mut self) -> String {
        line(self.stderr.as_mut().unwrap())
    }

    /// Closes the pipe from stdout, as `head` does.
    pub fn close_stdout(&mut self) {
        self.stdout = None;
    }

    /// Closes the pipe from stderr.
    pub fn close_stderr(&mut self) {
        self.stderr = None;
    }

    /// Sends the process a signal.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end of the process. Returns its status and the rest of stderr.
    pub fn end(mut self) -> (ExitStatus, String) {
        let mut printed = String::new();
        if let Some(stderr) = &mut self.stderr {
            stderr.read_to_string(&mut printed).unwrap();
        }
        (self.child.wait().unwrap(), printed)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended already.
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

/// Accepts a connection as a server does: reads HELLO and answers it.
pub fn greet(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    // Protocol 1, no features, store and head, a heartbeat of 2 s, and the default limits.
    let greeting = [&[1, 0, 0, 0, 0, 0][..], &[7; 16], &[0; 8], &[0xd0, 7, 0, 0, 0, 16, 0xf5, 0xff, 0, 0]].concat();
    stream.write_all(&[&[4, 1, 0, 40, 0], &greeting[..]].concat()).unwrap();
    stream
}

/// A server process on a free port.
pub struct Server {
    pub process: Process,
    pub addr: String,
    /// The data directory.
    pub data: Arc<TempDir>,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(&["--listen", "127.0.0.1:0"], "off")
    }

    pub fn start_with(args: &[&str], log: &str) -> Self {
        Self::start_on(&Arc::new(TempDir::new().unwrap()), args, log)
    }

    /// Starts a server on an existing data directory.
    pub fn start_on(data: &Arc<TempDir>, args: &[&str], log: &str) -> Self {
        let mut command = syncline(&["serve"]);
        let mut process = Process::start(command.args(args).env("SYNCLINE_DATA", data.path()).env("RUST_LOG", log));
        let first = process.line();
        let addr = first.strip_prefix("listening on ").unwrap_or_else(|| panic!("first line: {first:?}")).to_owned();
        Self { process, addr, data: data.clone() }
    }

    /// Runs a client command.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a client command that must succeed, and returns its stdout.
    #[track_caller]
    pub fn fine(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a client command that must fail with this exit code, and returns its stderr.
    #[track_caller]
    pub fn fails(&self, exit_code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(exit_code), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Runs a client command with these bytes on stdin.
    pub fn piped(&self, args: &[&str], stdin: &[u8]) -> Output {
        let mut child =
            self.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The command may end without reading all of its stdin.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        child.wait_with_output().unwrap()
    }

    /// Starts `watch`, and waits until it receives changes.
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
