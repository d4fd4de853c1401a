//! The command that `syncline watch --exec` runs for each change.

use crate::ending::is_first_process;
use crate::failure::Failure;
use crate::output::{Json, note};
use crate::shown::shown;
use bytes::Bytes;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, wait};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::time::Duration;
use syncline_client::{KeyChange, Revision, Version};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The largest value of an environment variable, in bytes. Linux allows twice as much.
const MAX_VARIABLE: usize = 64 * 1024;

/// The size of the changes that may wait for a run, in bytes of keys and values. The last step may exceed it. While they
/// are more, `watch` does not read from the server, which then keeps the latest version of each key for it.
const MAX_PENDING: usize = 64 << 20;

/// How long a run may take to end after SIGTERM, before it gets SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// The latest change of each key that was not run yet, in the order of the changes.
#[derive(Default)]
struct Pending {
    changes: BTreeMap<u64, (KeyChange, Revision)>,
    /// The place of each key in `changes`.
    places: HashMap<Bytes, u64>,
    next: u64,
    bytes: usize,
}

impl Pending {
    fn push(&mut self, change: KeyChange, revision: Revision) {
        if let Some((stale, _)) = self.places.get(&change.key).and_then(|place| self.changes.remove(place)) {
            self.bytes -= bytes(&stale);
        }
        self.bytes += bytes(&change);
        self.places.insert(change.key.clone(), self.next);
        self.changes.insert(self.next, (change, revision));
        self.next += 1;
    }

    fn pop(&mut self) -> Option<(KeyChange, Revision)> {
        let (_, (change, revision)) = self.changes.pop_first()?;
        self.places.remove(&change.key);
        self.bytes -= bytes(&change);
        Some((change, revision))
    }
}

fn bytes(change: &KeyChange) -> usize {
    change.key.len() + change.value.as_ref().map_or(0, Bytes::len)
}

/// A run of the command.
struct Run {
    child: Child,
    /// Writes the value to the command's stdin.
    writing: JoinHandle<()>,
    key: Bytes,
    version: Version,
}

/// A shell command, the changes that wait for it, and the number of its runs and failures.
pub(crate) struct Exec {
    command: OsString,
    is_json: bool,
    runs: u64,
    failed: u64,
    pending: Pending,
    running: Option<Run>,
}

impl Exec {
    pub(crate) fn new(command: OsString, is_json: bool) -> Self {
        Self { command, is_json, runs: 0, failed: 0, pending: Pending::default(), running: None }
    }

    /// Adds a change. It replaces an earlier one of the same key that waits.
    pub(crate) fn push(&mut self, change: KeyChange, revision: Revision) {
        self.pending.push(change, revision);
    }

    /// Forgets the changes that wait.
    pub(crate) fn clear(&mut self) {
        self.pending = Pending::default();
    }

    /// Returns whether no more changes should be added for now.
    pub(crate) const fn is_full(&self) -> bool {
        self.pending.bytes >= MAX_PENDING
    }

    /// Returns whether no run is under way or waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_none() && self.pending.changes.is_empty()
    }

    /// Runs the command for the next change, and waits for its end. Counts a failure and reports it on stderr. Waits for
    /// ever if no change waits.
    ///
    /// Cancellation safe: if the future is dropped, the command goes on, and the next call waits for it.
    pub(crate) async fn run_next(&mut self) {
        let running = match &mut self.running {
            Some(running) => running,
            None => {
                let Some((change, revision)) = self.pending.pop() else { return std::future::pending().await };
                self.runs += 1;
                match self.start(&change, revision) {
                    Ok(run) => self.running.insert(run),
                    Err(error) => return self.report(&format!("can't run sh: {error}"), &change.key, change.version),
                }
            }
        };
        let status = running.child.wait().await;
        let Some(Run { writing, key, version, .. }) = self.running.take() else { return };
        // A background process of the command may still hold the pipe open.
        writing.abort();
        reap_orphans();
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => self.report(&status.to_string(), &key, version),
            Err(error) => self.report(&format!("can't wait for sh: {error}"), &key, version),
        }
    }

    /// Ends the run that is under way, with all processes that it has started.
    pub(crate) async fn end(&mut self) {
        let Some(run) = &mut self.running else { return };
        let group = run.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let kill = |signal| {
            if let Some(group) = group {
                // The processes may have ended already.
                let _ = kill_process_group(group, signal);
            }
        };
        kill(Signal::TERM);
        if timeout(GRACE, run.child.wait()).await.is_err() {
            kill(Signal::KILL);
            let _ = run.child.wait().await;
        }
        // Those that ignored the first signal, and that `sh` has not waited for.
        kill(Signal::KILL);
        reap_orphans();
    }

    /// Returns a failure if any run failed.
    pub(crate) fn result(&self) -> Result<(), Failure> {
        match self {
            Self { failed: 0, .. } => Ok(()),
            Self { runs, failed, .. } => Err(Failure::Exec(format!("--exec: {failed} of {runs} runs failed"))),
        }
    }

    fn report(&mut self, failure: &str, key: &[u8], version: Version) {
        self.failed += 1;
        note(&format!("syncline: --exec: {failure}, for {} at version {version}", shown(key)));
    }

    fn start(&self, change: &KeyChange, revision: Revision) -> io::Result<Run> {
        let KeyChange { key, value, version } = change;
        let stdin = match (self.is_json, value) {
            (true, Some(value)) => format!("{}\n", Json::new(key, *version).value(value).revision(revision)).into(),
            (true, None) => format!("{}\n", Json::new(key, *version).deleted().revision(revision)).into(),
            (false, value) => value.clone().unwrap_or_default(),
        };
        let mut command = Command::new("sh");
        // A group of its own, so that a signal reaches everything that the command has started.
        command.arg("-c").arg(&self.command).stdin(Stdio::piped()).process_group(0).kill_on_drop(true);
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
        Ok(Run { child, writing, key: key.clone(), version: *version })
    }
}

/// Reaps orphaned processes, which only the first process of a container inherits. No run may be under way, because its
/// end would be lost.
fn reap_orphans() {
    if is_first_process() {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &'static str, version: u64) -> KeyChange {
        KeyChange { key: key.into(), value: Some("value".into()), version: Version::new(version) }
    }

    #[test]
    fn a_change_replaces_an_earlier_one_of_its_key() {
        let mut pending = Pending::default();
        for (number, (key, version)) in [("a", 1), ("b", 1), ("a", 2), ("c", 1), ("a", 3)].into_iter().enumerate() {
            pending.push(change(key, version), Revision::new(number as u64));
        }
        let popped: Vec<_> = std::iter::from_fn(|| pending.pop())
            .map(|(change, at)| (change.key, change.version.get(), at.get()))
            .collect();
        assert_eq!(popped, [("b".into(), 1, 1), ("c".into(), 1, 3), ("a".into(), 3, 4)]);
        assert_eq!((pending.bytes, pending.places.len()), (0, 0));
    }
}
