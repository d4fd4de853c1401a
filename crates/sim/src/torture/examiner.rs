//! Examines the server during a trouble: it writes, asks for the server's own view of its health, and writes again.
//!
//! It connects to the server without the proxy, so that no other fault disturbs it.

use super::context::{self, ClientContext};
use crate::history::{Examination, Health, Invocation, Outcome, Probe, Stamp, State, Write};
use crate::process::Launcher;
use std::process::Stdio;
use std::time::Duration;
use syncline_client::{Client, GetError, PutError, RequestError, Version};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// The key of the writes.
const KEY: &str = "probe";

/// How a response begins with which a server refuses a write for now.
const UNAVAILABLE: &str = "the server says: unavailable:";

/// The longest time until all writes have the expected result.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(20);

/// The number of examinations to keep of a longer series.
const KEPT: usize = 4;

/// The pause between two examinations.
const PAUSE: Duration = Duration::from_millis(50);

/// The number of connections that make the server log before it is asked for dropped lines, and how often.
const LOGGED_CONNECTIONS: usize = 500;
const MAX_LOG_BATCHES: usize = 30;

/// The longest time for a health check or a connection.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// Examines a server.
#[derive(Debug)]
pub(super) struct Examiner<'a> {
    context: &'a ClientContext,
    launcher: &'a Launcher,
    address: &'a str,
    id: u64,
    /// The length of the values that it writes.
    length: usize,
}

impl<'a> Examiner<'a> {
    pub(super) fn new(context: &'a ClientContext, launcher: &'a Launcher, address: &'a str, length: usize) -> Self {
        Self { context, launcher, address, id: context.recorder.next_client(), length }
    }

    /// Examines the server until all writes of two examinations in a row had the expected result, or for a maximum time.
    /// Returns the last examinations.
    pub(super) async fn examine_until(&self, is_expected: impl Fn(&Probe) -> bool) -> Vec<Examination> {
        let until = Instant::now() + SETTLE_TIMEOUT;
        let mut examinations: Vec<Examination> = Vec::new();
        loop {
            examinations.push(self.examine().await);
            if examinations.len() > KEPT {
                examinations.remove(0);
            }
            let latest = examinations.get(examinations.len().saturating_sub(2)..).unwrap_or_default();
            let is_settled =
                |examination: &Examination| is_expected(&examination.before) && is_expected(&examination.after);
            if (latest.len() == 2 && latest.iter().all(is_settled)) || Instant::now() >= until {
                return examinations;
            }
            sleep(PAUSE).await;
        }
    }

    pub(super) async fn examine(&self) -> Examination {
        let client = Client::connect_with(self.address.to_owned(), context::client_options()).await;
        let client = client.map_err(|error| error.to_string());
        let before = self.probe(client.as_ref()).await;
        let health = match &client {
            Ok(client) => client.status().await.ok().map(|status| health(&status)),
            Err(_) => None,
        };
        let exit_code = self.exit_code().await;
        let after = self.probe(client.as_ref()).await;
        Examination { at: self.context.recorder.now(), before, health, exit_code, after }
    }

    async fn probe(&self, client: Result<&Client, &String>) -> Probe {
        let client = match client {
            Ok(client) => client,
            Err(why) => return Probe::Unanswered { why: why.clone() },
        };
        let recorder = &self.context.recorder;
        let current = match client.get(KEY).await {
            Ok(current) => current.version.get(),
            Err(GetError::NotFound { deleted_at }) => deleted_at.map_or(0, Version::get),
            Err(other) => return Probe::Unanswered { why: other.to_string() },
        };
        let (stamp, version) = (recorder.next_stamp(), recorder.next_version(KEY, Some(current)));
        let write = Write { key: KEY.into(), state: State { version, value: Some(stamp) } };
        let operation = recorder.begin(self.id, Invocation::Write(write));
        let (outcome, probe) = match client.put(KEY, stamp.value(self.length), Version::new(version)).await {
            Ok(()) => (Outcome::Written, Probe::Accepted),
            // The server has refused the write, although it cannot exclude that the write takes effect.
            Err(PutError::OutcomeUnknown { reason }) if reason.contains(UNAVAILABLE) => {
                (Outcome::Unknown, Probe::Refused { reason })
            }
            Err(PutError::OutcomeUnknown { reason }) => (Outcome::Unknown, Probe::Unanswered { why: reason }),
            Err(PutError::StalePut) => {
                (Outcome::Stale { key: KEY.into() }, Probe::Unanswered { why: "stale put".into() })
            }
            Err(PutError::Request(RequestError::Unavailable { reason })) => {
                (Outcome::Refused, Probe::Refused { reason })
            }
            Err(other) => (Outcome::Refused, Probe::Refused { reason: other.to_string() }),
        };
        operation.finish(outcome);
        probe
    }

    /// Returns the exit code of a health check.
    async fn exit_code(&self) -> Option<i32> {
        let mut command = self.launcher.command();
        command.args(["status", "--check", "--addr", self.address]).stdout(Stdio::null()).stderr(Stdio::null());
        timeout(CHECK_TIMEOUT, command.status()).await.ok()?.ok()?.code()
    }

    /// Makes the server log, until STATUS counts dropped lines, there is no response, or the log must be full: opens
    /// connections that speak another protocol.
    pub(super) async fn overflow_log(&self) {
        for _ in 0..MAX_LOG_BATCHES {
            for _ in 0..LOGGED_CONNECTIONS {
                let connected = timeout(CHECK_TIMEOUT, TcpStream::connect(self.address)).await;
                let Ok(Ok(mut stream)) = connected else { return };
                // The server may close the connection first.
                let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
            }
            let health = match Client::connect_with(self.address.to_owned(), context::client_options()).await {
                Ok(client) => client.status().await.ok().map(|status| health(&status)),
                Err(_) => None,
            };
            let Some(health) = health else { return };
            if health.log_lines_dropped.is_some_and(|dropped| dropped > 0) {
                return;
            }
        }
    }
}

/// Returns the part of a STATUS that is about health.
fn health(status: &str) -> Health {
    let status: serde_json::Value = serde_json::from_str(status).unwrap_or_default();
    Health {
        accepts_writes: status.get("accepts_writes").and_then(serde_json::Value::as_bool),
        reason: status.get("reason").and_then(serde_json::Value::as_str).map(str::to_owned),
        log_lines_dropped: status.get("log_lines_dropped").and_then(serde_json::Value::as_u64),
    }
}

/// The length of a short value.
pub(super) const SHORT: usize = Stamp::LENGTH;
