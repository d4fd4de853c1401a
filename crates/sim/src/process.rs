//! The real server, as a process.

use crate::Trouble;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a start may take: it reads the log again.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an orderly end may take: connections get 5 s to take what they are owed.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// How much of what servers say is kept in a file.
const MAX_LOG_SIZE: usize = 8 * 1024 * 1024;

/// How a server is started.
#[derive(Clone, Debug)]
pub(crate) struct Launcher {
    /// The binary.
    pub(crate) binary: PathBuf,
    /// What comes before it, to start it somewhere else.
    pub(crate) wrapper: Vec<String>,
    /// The address that it listens on.
    pub(crate) host: String,
    /// Where what it says goes.
    pub(crate) log: PathBuf,
}

/// A server process. Killed when it is dropped.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    /// Where it listens; nothing where it has ended before it did.
    pub(crate) address: Option<String>,
    pub(crate) pid: u32,
    log_task: JoinHandle<()>,
}

impl Launcher {
    /// A command of the binary, without anything that the environment may say.
    pub(crate) fn command(&self) -> Command {
        let mut words = self.wrapper.iter().map(OsStr::new).chain([self.binary.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        for name in ["SYNCLINE_ADDR", "SYNCLINE_LISTEN", "SYNCLINE_DATA"] {
            command.env_remove(name);
        }
        command.env("RUST_LOG", "info").stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command of the binary to its end, and answers what it printed.
    pub(crate) async fn run(&self, args: &[&OsStr]) -> Result<String, Trouble> {
        self.run_with(args, b"").await
    }

    /// The same, with this on its stdin; the little that a pipe holds.
    pub(crate) async fn run_with(&self, args: &[&OsStr], input: &[u8]) -> Result<String, Trouble> {
        let mut command = self.command();
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(Trouble::because("start", &self.binary))?;
        if let Some(mut stdin) = child.stdin.take() {
            // Whoever does not want it does not read it.
            let _ = stdin.write_all(input).await;
        }
        let output = child.wait_with_output().await.map_err(Trouble::because("wait for", &self.binary))?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            return Ok(said(&output.stdout));
        }
        let command = args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
        Err(Trouble::Command { command, status: output.status.to_string(), said: said(&output.stderr) })
    }

    /// Starts a server that syncs what it acknowledges, and may not listen yet. `find` hears what it must not say.
    pub(crate) fn spawn(
        &self,
        data: &Path,
        flags: &[&str],
        on_finding: impl Fn(String) + Send + 'static,
    ) -> Result<ServerProcess, Trouble> {
        let mut command = self.command();
        command.arg("serve").arg("--data").arg(data).args(["--listen", &format!("{}:0", self.host)]);
        command.args(["--durability", "fsync"]).args(flags);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(Trouble::because("start", &self.binary))?;
        let pid = child.id().unwrap_or_default();
        let log = File::options().append(true).create(true).open(&self.log);
        let mut log = log.map_err(Trouble::because("open", &self.log))?;
        // A log that can't be written is no reason to stop.
        let _ = writeln!(log, "--- server {pid}");
        let log_task = child.stderr.take().map(|stderr| tokio::spawn(copy_log(stderr, log, on_finding)));
        let log_task = log_task.unwrap_or_else(|| tokio::spawn(async {}));
        Ok(ServerProcess { child, address: None, pid, log_task })
    }
}

/// Keeps what a server says, within bounds, and looks for what it must not say.
async fn copy_log(from: impl AsyncRead + Unpin, mut log: File, on_finding: impl Fn(String)) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let kept = log.metadata().map_or(0, |metadata| metadata.len());
        if usize::try_from(kept).is_ok_and(|kept| kept < MAX_LOG_SIZE) {
            let _ = writeln!(log, "{line}");
        }
        if line.contains("panicked") || line.contains("has died") {
            on_finding(format!("the server says: {line}"));
        }
    }
}

impl ServerProcess {
    /// Waits until it listens. Where it ends instead, how.
    pub(crate) async fn wait_until_listening(&mut self) -> Result<String, Trouble> {
        let Some(stdout) = self.child.stdout.take() else { return Err(Trouble::Ended { status: "unknown".into() }) };
        let mut lines = BufReader::new(stdout).lines();
        let first = timeout(START_TIMEOUT, lines.next_line())
            .await
            .map_err(|_| Trouble::Slow { what: "start", within: START_TIMEOUT })?;
        match first.ok().flatten().as_deref().and_then(|line| line.strip_prefix("listening on ")) {
            Some(address) => {
                self.address = Some(address.to_owned());
                Ok(address.to_owned())
            }
            None => Err(Trouble::Ended { status: self.wait().await?.to_string() }),
        }
    }

    /// Sends it a signal, by name.
    pub(crate) async fn signal(&self, name: &str) -> Result<(), Trouble> {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid.to_string()]).output().await;
        let output = sent.map_err(Trouble::because("start", Path::new("kill")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Trouble::Command { command: format!("kill -{name}"), status: output.status.to_string(), said })
    }

    /// How it has ended, if it has.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Kills it, whatever it does.
    pub(crate) async fn kill(mut self) -> Result<(), Trouble> {
        self.signal("KILL").await?;
        self.wait().await.map(drop)
    }

    /// Ends it in order, which must work.
    pub(crate) async fn terminate(mut self) -> Result<(), Trouble> {
        self.signal("TERM").await?;
        let status = self.wait().await?;
        if status.success() { Ok(()) } else { Err(Trouble::Ended { status: status.to_string() }) }
    }

    async fn wait(&mut self) -> Result<ExitStatus, Trouble> {
        let waited = timeout(STOP_TIMEOUT, self.child.wait())
            .await
            .map_err(|_| Trouble::Slow { what: "end", within: STOP_TIMEOUT })?;
        let status = waited.map_err(Trouble::because("wait for", Path::new("the server")))?;
        // What it has said last is read before anybody looks for it.
        let _ = timeout(STOP_TIMEOUT, &mut self.log_task).await;
        Ok(status)
    }

    /// The memory that is its own, in bytes; nothing where the system does not say.
    pub(crate) fn memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(self.directory().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes * 1024)
    }

    /// How many files it has open; nothing where the system does not say.
    pub(crate) fn open_files(&self) -> Option<u64> {
        let files = std::fs::read_dir(self.directory().join("fd")).ok()?.count();
        u64::try_from(files).ok()
    }

    fn directory(&self) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string())
    }
}
