//! All watchers reconnect at once, each with the last revision that it received, while a bystander reads.

use crate::error::BenchError;
use crate::peers::AnyPeer;
use crate::sample::{Figures, figures};
use crate::target::Target;
use std::thread;
use std::time::{Duration, Instant};
use syncline_load::process::usage;
use syncline_load::workload;
use syncline_load::{Error, Link, Measured, Peer, Request, Response};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// How long the bystander reads before the watchers connect, and the interval at which the server's memory is measured.
const BASELINE_TIME: Duration = Duration::from_millis(500);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The interval of the bystander's reads. It does not wait for responses: a closed loop would not read while the server
/// is slow.
const READ_INTERVAL: Duration = Duration::from_millis(1);

/// The longest time until all watchers are current.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// Measures the time until all watchers are current, and the bystander's latency meanwhile.
pub(crate) async fn run(
    target: &Target<'_>,
    peer: &AnyPeer,
    watchers: usize,
    behind: usize,
) -> Result<Figures, BenchError> {
    let mut link = peer.open().await?;
    let since = current_revision(&mut link).await?;
    workload::write_all(peer, &target.keys, behind - 1, 64, RECONNECT_TIMEOUT).await?;
    let before = target.usage()?.resident;

    let alone = read_alone(peer, target, BASELINE_TIME).await?;
    let bystander = Bystander::begin(peer, target, RECONNECT_TIMEOUT).await;
    let started = Instant::now();
    let processors = thread::available_parallelism()?.get();
    let (stop, stopped) = watch::channel(());
    let mut threads = JoinSet::new();
    let (caught_up, mut caught_up_receiver) = mpsc::unbounded_channel();
    for number in 0..processors {
        let some = watchers / processors + usize::from(number < watchers % processors);
        let (peer, caught_up, stopped) = (peer.clone(), caught_up.clone(), stopped.clone());
        threads.spawn_blocking(move || connect_watchers(&peer, since, some, &caught_up, stopped));
    }
    drop(caught_up);
    let mut peak = before;
    let mut current = 0;
    let mut ticks = tokio::time::interval(POLL_INTERVAL);
    while current < watchers {
        tokio::select! {
            changes = caught_up_receiver.recv() => match changes.transpose()? {
                Some(changes) if changes == behind as u64 => current += 1,
                Some(changes) => return Err(Error::unexpected(format!("{behind} changes"), changes.to_string()).into()),
                // A thread has failed. Joining it returns the error.
                None => break,
            },
            _ = ticks.tick() => peak = peak.max(target.usage()?.resident),
        }
        if started.elapsed() > RECONNECT_TIMEOUT {
            return Err(BenchError::Timeout("the last watcher", RECONNECT_TIMEOUT));
        }
    }
    let took = started.elapsed();
    let beside = bystander.end().await?;
    peak = peak.max(target.usage()?.resident);
    drop(stop);
    while let Some(ended) = threads.join_next().await {
        ended.map_err(|error| Error::Broken(error.to_string()))??;
    }
    Ok(figures([
        ("current_s", took.as_secs_f64()),
        ("bystander_p99_us", beside.micros_at(0.99)),
        ("bystander_max_us", beside.micros_at_most()),
        ("bystander_alone_p99_us", alone.micros_at(0.99)),
        ("grown_bytes", peak.saturating_sub(before) as f64),
        ("grown_bytes_each", peak.saturating_sub(before) as f64 / watchers as f64),
        ("server_bytes", peak as f64),
        ("load_bytes", usage(std::process::id())?.resident as f64),
    ]))
}

/// Connects watchers, and keeps their connections open until `stopped` is closed. It blocks a thread of its own: all
/// watchers together need more processor time than the server, so one thread would be the bottleneck.
fn connect_watchers(
    peer: &AnyPeer,
    since: u64,
    watchers: usize,
    caught_up: &mpsc::UnboundedSender<Result<u64, Error>>,
    mut stopped: watch::Receiver<()>,
) -> Result<(), BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connecting = JoinSet::new();
        for _ in 0..watchers {
            let peer = peer.clone();
            connecting.spawn(async move {
                let mut link = peer.open().await?;
                let (_, changes) = link.ask(&Request::Follow { since: Some(since) }).await?;
                Ok((link, changes))
            });
        }
        let mut current = Vec::with_capacity(watchers);
        while let Some(connected) = connecting.join_next().await {
            let connected = connected.map_err(|error| Error::Broken(error.to_string()))?;
            // The receiver is gone if another thread has failed.
            let _ = caught_up.send(connected.map(|(link, changes)| {
                current.push(link);
                changes
            }));
        }
        // Nothing is ever sent: this returns when the sender is dropped.
        let _ = stopped.changed().await;
        Ok(())
    })
}

/// Returns the revision that a connection has reached.
async fn current_revision(link: &mut Link) -> Result<u64, Error> {
    match link.ask(&Request::Barrier).await? {
        (Response::Watermark { revision }, _) => Ok(revision),
        (other, _) => Err(Error::unexpected("a revision", other.redacted())),
    }
}

/// A client that reads in a thread of its own, so that the load generator's work for the watchers is not measured.
struct Bystander {
    end: oneshot::Sender<()>,
    thread: tokio::task::JoinHandle<Result<Measured, BenchError>>,
}

impl Bystander {
    /// Starts a bystander, and returns when it is connected. Its connection must not compete with those of the
    /// watchers.
    async fn begin(peer: &AnyPeer, target: &Target<'_>, limit: Duration) -> Self {
        let (end, ended) = oneshot::channel();
        let (connected, is_connected) = oneshot::channel();
        let (peer, keys) = (peer.clone(), target.keys.clone());
        let thread = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                Ok(workload::get_until(&peer, &keys, READ_INTERVAL, limit, connected, ended).await?)
            })
        });
        // If it cannot connect, `end` returns the error.
        let _ = is_connected.await;
        Self { end, thread }
    }

    async fn end(self) -> Result<Measured, BenchError> {
        let _ = self.end.send(());
        self.thread.await.map_err(|error| Error::Broken(error.to_string()))?
    }
}

/// Measures reads for a time without any watchers.
async fn read_alone(peer: &AnyPeer, target: &Target<'_>, time: Duration) -> Result<Measured, BenchError> {
    let bystander = Bystander::begin(peer, target, time).await;
    bystander.thread.await.map_err(|error| Error::Broken(error.to_string()))?
}
