//! The command that `syncline watch --exec` runs for each change.

use crate::failure::Failure;
use crate::output::{Json, note, shown};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::process::{ExitStatus, Stdio};
use syncline_client::{KeyChange, Revision};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The largest value of an environment variable, in bytes. Linux allows twice as much.
const MAX_VARIABLE: usize = 64 * 1024;

/// A shell command, with the number of its runs and failures.
pub(crate) struct Exec {
    command: OsString,
    is_json: bool,
    runs: u64,
    failed: u64,
}

impl Exec {
    pub(crate) fn new(command: OsString, is_json: bool) -> Self {
        Self { command, is_json, runs: 0, failed: 0 }
    }

    /// Runs the command for a change and waits for its end. Counts a failure and reports it on stderr.
    pub(crate) async fn run(&mut self, change: &KeyChange, revision: Revision) {
        self.runs += 1;
        let failure = match self.status(change, revision).await {
            Ok(status) if status.success() => return,
            Ok(status) => status.to_string(),
            Err(error) => format!("can't run sh: {error}"),
        };
        self.failed += 1;
        note(&format!("syncline: --exec: {failure}, for {} at version {}", shown(&change.key), change.version));
    }

    /// Returns a failure if any run failed.
    pub(crate) fn result(self) -> Result<(), Failure> {
        match self {
            Self { failed: 0, .. } => Ok(()),
            Self { runs, failed, .. } => Err(Failure::Exec(format!("--exec: {failed} of {runs} runs failed"))),
        }
    }

    async fn status(&self, change: &KeyChange, revision: Revision) -> io::Result<ExitStatus> {
        let KeyChange { key, value, version } = change;
        let stdin = match (self.is_json, value) {
            (true, Some(value)) => format!("{}\n", Json::new(key, *version).value(value).revision(revision)).into(),
            (true, None) => format!("{}\n", Json::new(key, *version).deleted().revision(revision)).into(),
            (false, value) => value.clone().unwrap_or_default(),
        };
        let mut command = Command::new("sh");
        command.arg("-c").arg(&self.command).stdin(Stdio::piped());
        for (name, bytes) in [("SYNCLINE_KEY", Some(key)), ("SYNCLINE_VALUE", value.as_ref())] {
            match bytes.filter(|bytes| bytes.len() <= MAX_VARIABLE && !bytes.contains(&0)) {
                Some(bytes) => command.env(name, OsStr::from_bytes(bytes)),
                // The process may have inherited a variable of this name.
                None => command.env_remove(name),
            };
        }
        let mut child = command
            .env("SYNCLINE_VERSION", version.to_string())
            .env("SYNCLINE_REVISION", revision.to_string())
            .env("SYNCLINE_DELETED", value.is_none().to_string())
            .spawn()?;
        let pipe = child.stdin.take();
        let writing = tokio::spawn(async move {
            if let Some(mut pipe) = pipe {
                // The command may end without reading all of its stdin.
                let _ = pipe.write_all(&stdin).await;
            }
        });
        let status = child.wait().await;
        // A background process of the command may still hold the pipe open.
        writing.abort();
        status
    }
}
