//! Watchers come back all at once, each with the revision that it was told last, while a bystander reads.

use crate::failure::Failure;
use crate::peers::AnyPeer;
use crate::run::{Figures, Target, figures};
use std::time::{Duration, Instant};
use syncline_load::process::usage;
use syncline_load::workload;
use syncline_load::{Answer, Error, Link, Measured, Peer, Request};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// How long the bystander reads before the others come, and how often it is looked how large the server is.
const ALONE: Duration = Duration::from_millis(500);
const LOOKING: Duration = Duration::from_millis(20);

/// The bystander reads once in this time, whether it was answered or not, for a closed loop would ask nothing while it waits.
const PAUSE: Duration = Duration::from_millis(1);

/// How long all of them may take.
const COMING: Duration = Duration::from_secs(60);

pub(crate) async fn run(
    target: &Target<'_>,
    peer: &AnyPeer,
    watchers: usize,
    behind: usize,
) -> Result<Figures, Failure> {
    let mut link = peer.open().await?;
    let since = told(&mut link).await?;
    workload::write_all(peer, &target.keys, behind - 1, 64, COMING).await?;
    let before = target.usage()?.resident;

    let alone = read_beside(peer, target, ALONE).await?;
    let bystander = spawn_bystander(peer, target, COMING);
    let started = Instant::now();
    let mut coming = JoinSet::new();
    for _ in 0..watchers {
        let peer = peer.clone();
        coming.spawn(async move {
            let mut link = peer.open().await?;
            let (_, changes) = link.ask(&Request::Follow { since: Some(since) }).await?;
            Ok::<_, Error>((link, changes))
        });
    }
    let mut most = before;
    let mut here = Vec::with_capacity(watchers);
    let mut looking = tokio::time::interval(LOOKING);
    while here.len() < watchers {
        tokio::select! {
            came = coming.join_next() => {
                let Some(came) = came else { break };
                let (link, changes) = came.map_err(|error| Error::Broken(error.to_string()))??;
                if changes != behind as u64 {
                    return Err(Error::unexpected(format!("{behind} changes"), changes.to_string()).into());
                }
                here.push(link);
            }
            _ = looking.tick() => most = most.max(target.usage()?.resident),
        }
        if started.elapsed() > COMING {
            return Err(Failure::Late("the last watcher", COMING));
        }
    }
    let took = started.elapsed();
    let beside = bystander.end().await?;
    most = most.max(target.usage()?.resident);
    Ok(figures([
        ("current_s", took.as_secs_f64()),
        ("bystander_p99_us", beside.micros_at(0.99)),
        ("bystander_max_us", beside.micros_at_most()),
        ("bystander_alone_p99_us", alone.micros_at(0.99)),
        ("grown_bytes", most.saturating_sub(before) as f64),
        ("grown_bytes_each", most.saturating_sub(before) as f64 / watchers as f64),
        ("server_bytes", most as f64),
        ("load_bytes", usage(std::process::id())?.resident as f64),
    ]))
}

/// The revision that a connection has got to.
async fn told(link: &mut Link) -> Result<u64, Error> {
    match link.ask(&Request::Barrier).await? {
        (Answer::Told { revision }, _) => Ok(revision),
        (other, _) => Err(Error::unexpected("a revision", other.redacted())),
    }
}

/// One that reads, in a thread of its own: what the watchers' side of the load generator does is not to be measured.
struct Bystander {
    end: oneshot::Sender<()>,
    thread: tokio::task::JoinHandle<Result<Measured, Failure>>,
}

impl Bystander {
    async fn end(self) -> Result<Measured, Failure> {
        let _ = self.end.send(());
        self.thread.await.map_err(|error| Error::Broken(error.to_string()))?
    }
}

/// Reads for a time, and nothing else happens.
async fn read_beside(peer: &AnyPeer, target: &Target<'_>, time: Duration) -> Result<Measured, Failure> {
    let bystander = spawn_bystander(peer, target, time);
    bystander.thread.await.map_err(|error| Error::Broken(error.to_string()))?
}

fn spawn_bystander(peer: &AnyPeer, target: &Target<'_>, most: Duration) -> Bystander {
    let (end, ended) = oneshot::channel();
    let (peer, keys) = (peer.clone(), target.keys.clone());
    let thread = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { Ok(workload::get_until(&peer, &keys, PAUSE, most, ended).await?) })
    });
    Bystander { end, thread }
}
