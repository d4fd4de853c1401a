//! The real server as a child process.

use crate::RunError;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The longest time for a start, which replays the log.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest time for a clean stop. Connections get 5 s of it to receive pending responses.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// The maximum size of the log file.
const MAX_LOG_SIZE: usize = 8 * 1024 * 1024;

/// The number of latest lines of a log that are kept in memory.
const MAX_RECENT_LINES: usize = 4096;

/// The usual log filter of a server.
pub(crate) const LOG_FILTER: &str = "info";

/// How to start a server.
#[derive(Clone, Debug)]
pub(crate) struct Launcher {
    /// The server binary.
    pub(crate) binary: PathBuf,
    /// The words of a command that runs the binary, such as `ip netns exec NAME`. May be empty.
    pub(crate) wrapper: Vec<String>,
    /// The address that it listens on.
    pub(crate) host: String,
    /// The file to which its log is appended.
    pub(crate) log: PathBuf,
    /// What it logs, in the syntax of `RUST_LOG`.
    pub(crate) log_filter: &'static str,
}

/// A server process. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    /// The address on which it listens, once that is known.
    pub(crate) address: Option<String>,
    pub(crate) pid: u32,
    log_task: JoinHandle<()>,
    pub(crate) log: Arc<LogReader>,
}

/// Reads the log of a server from a pipe. It can stop reading for a while.
#[derive(Debug)]
pub(crate) struct LogReader {
    recent: Mutex<RecentLines>,
    is_reading: watch::Sender<bool>,
}

/// The latest lines, and the number of lines before them.
#[derive(Debug, Default)]
struct RecentLines {
    before: usize,
    lines: VecDeque<String>,
}

impl LogReader {
    fn new() -> Arc<Self> {
        Arc::new(Self { recent: Mutex::default(), is_reading: watch::Sender::new(true) })
    }

    /// Stops to read, or continues. The rest of a block that has been read is still processed.
    pub(crate) fn set_reading(&self, is_reading: bool) {
        self.is_reading.send_replace(is_reading);
    }

    /// Returns the number of lines so far.
    pub(crate) fn count(&self) -> usize {
        let recent = self.recent.lock();
        recent.before + recent.lines.len()
    }

    /// Returns the lines after the first `count`, as far as they are kept.
    pub(crate) fn lines_after(&self, count: usize) -> Vec<String> {
        let recent = self.recent.lock();
        recent.lines.iter().skip(count.saturating_sub(recent.before)).cloned().collect()
    }

    fn add(&self, line: &str) {
        let mut recent = self.recent.lock();
        if recent.lines.len() == MAX_RECENT_LINES {
            recent.lines.pop_front();
            recent.before += 1;
        }
        recent.lines.push_back(line.to_owned());
    }

    /// Appends the log of a server to a file up to a maximum size, and reports lines that show a panic.
    async fn copy(&self, from: impl AsyncRead + Unpin, mut log: File, on_finding: impl Fn(String)) {
        let mut is_reading = self.is_reading.subscribe();
        let mut lines = BufReader::new(from).lines();
        loop {
            // An error means that the server is gone: the rest is read.
            let _ = is_reading.wait_for(|is_reading| *is_reading).await;
            let Ok(Some(line)) = lines.next_line().await else { return };
            let kept = log.metadata().map_or(0, |metadata| metadata.len());
            if usize::try_from(kept).is_ok_and(|kept| kept < MAX_LOG_SIZE) {
                let _ = writeln!(log, "{line}");
            }
            if line.contains("panicked") || line.contains("has died") {
                on_finding(format!("the server has logged: {line}"));
            }
            self.add(&line);
        }
    }
}

impl Launcher {
    /// Returns a command of the binary that ignores the environment variables of Syncline.
    pub(crate) fn command(&self) -> Command {
        let mut words = self.wrapper.iter().map(OsStr::new).chain([self.binary.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        for name in ["SYNCLINE_ADDR", "SYNCLINE_LISTEN", "SYNCLINE_DATA"] {
            command.env_remove(name);
        }
        command.env("RUST_LOG", self.log_filter).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command of the binary, and returns its standard output.
    pub(crate) async fn run(&self, args: &[&OsStr]) -> Result<String, RunError> {
        self.run_with(args, b"").await
    }

    /// Runs a command of the binary with this standard input, which must fit into a pipe.
    pub(crate) async fn run_with(&self, args: &[&OsStr], input: &[u8]) -> Result<String, RunError> {
        let mut command = self.command();
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(RunError::because("start", &self.binary))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command may ignore its input.
            let _ = stdin.write_all(input).await;
        }
        let output = child.wait_with_output().await.map_err(RunError::because("wait for", &self.binary))?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            return Ok(said(&output.stdout));
        }
        let command = args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
        Err(RunError::Command { command, status: output.status.to_string(), said: said(&output.stderr) })
    }

    /// Starts a server that syncs acknowledged writes. It may not listen yet. `on_finding` is called for each line of
    /// its log that shows a panic.
    pub(crate) fn spawn(
        &self,
        data: &Path,
        flags: &[&str],
        on_finding: impl Fn(String) + Send + 'static,
    ) -> Result<ServerProcess, RunError> {
        let mut command = self.command();
        command.arg("serve").arg("--data").arg(data).args(["--listen", &format!("{}:0", self.host)]);
        command.args(["--durability", "fsync"]).args(flags);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(RunError::because("start", &self.binary))?;
        let pid = child.id().unwrap_or_default();
        let log = File::options().append(true).create(true).open(&self.log);
        let mut log = log.map_err(RunError::because("open", &self.log))?;
        // The run continues even if the log cannot be written.
        let _ = writeln!(log, "--- server {pid}");
        let (stderr, reader) = (child.stderr.take(), LogReader::new());
        let log_task = tokio::spawn({
            let reader = reader.clone();
            async move {
                if let Some(stderr) = stderr {
                    reader.copy(stderr, log, on_finding).await;
                }
            }
        });
        Ok(ServerProcess { child, address: None, pid, log_task, log: reader })
    }
}

impl ServerProcess {
    /// Waits until the server listens, and returns its address.
    ///
    /// Returns [`RunError::Ended`] with the exit status if the server exits instead.
    pub(crate) async fn wait_until_listening(&mut self) -> Result<String, RunError> {
        let Some(stdout) = self.child.stdout.take() else { return Err(RunError::Ended { status: "unknown".into() }) };
        let mut lines = BufReader::new(stdout).lines();
        let first = timeout(START_TIMEOUT, lines.next_line())
            .await
            .map_err(|_| RunError::Slow { what: "start", within: START_TIMEOUT })?;
        match first.ok().flatten().as_deref().and_then(|line| line.strip_prefix("listening on ")) {
            Some(address) => {
                self.address = Some(address.to_owned());
                Ok(address.to_owned())
            }
            None => Err(RunError::Ended { status: self.wait().await?.to_string() }),
        }
    }

    /// Sends a signal, given by name without `SIG`.
    pub(crate) async fn signal(&self, name: &str) -> Result<(), RunError> {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid.to_string()]).output().await;
        let output = sent.map_err(RunError::because("start", Path::new("kill")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(RunError::Command { command: format!("kill -{name}"), status: output.status.to_string(), said })
    }

    /// Returns the exit status if the server has exited.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Kills the server with SIGKILL.
    pub(crate) async fn kill(mut self) -> Result<(), RunError> {
        self.signal("KILL").await?;
        self.wait().await.map(drop)
    }

    /// Stops the server cleanly. Any other exit status than 0 is an error.
    pub(crate) async fn terminate(mut self) -> Result<(), RunError> {
        self.signal("TERM").await?;
        let status = self.wait().await?;
        if status.success() { Ok(()) } else { Err(RunError::Ended { status: status.to_string() }) }
    }

    async fn wait(&mut self) -> Result<ExitStatus, RunError> {
        let waited = timeout(STOP_TIMEOUT, self.child.wait())
            .await
            .map_err(|_| RunError::Slow { what: "end", within: STOP_TIMEOUT })?;
        let status = waited.map_err(RunError::because("wait for", Path::new("the server")))?;
        // The rest of the log must be copied before findings are evaluated.
        self.log.set_reading(true);
        let _ = timeout(STOP_TIMEOUT, &mut self.log_task).await;
        Ok(status)
    }

    /// Returns the anonymous resident memory in bytes, or `None` if the system does not report it.
    pub(crate) fn memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(self.directory().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes * 1024)
    }

    /// Returns the number of open files, or `None` if the system does not report it.
    pub(crate) fn open_files(&self) -> Option<u64> {
        let files = std::fs::read_dir(self.directory().join("fd")).ok()?.count();
        u64::try_from(files).ok()
    }

    fn directory(&self) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string())
    }
}
