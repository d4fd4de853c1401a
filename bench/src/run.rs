//! Executes one workload on a server, and measures it.

use crate::error::BenchError;
use crate::peers::AnyPeer;
use crate::sample::{Figures, figures};
use crate::target::{Target, Workload};
use crate::{reconnect, stall};
use std::time::{Duration, Instant};
use syncline_load::process::{busy, usage};
use syncline_load::workload::{self, Fanout, Load};
use syncline_load::{Link, Measured, Peer};

/// How long deliveries may still arrive after the last write.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// The pause between opening idle connections and measuring the memory of their server.
const SETTLE_TIME: Duration = Duration::from_millis(500);

/// Executes a workload for a time, and returns its figures.
pub(crate) async fn execute(target: &Target<'_>, work: Workload, time: Duration) -> Result<Figures, BenchError> {
    let peer = target.system.peer(target.info, work.has_watchers())?;
    match work {
        Workload::Get { connections, depth } => {
            let load = Load { connections, depth, time };
            measure(target, workload::get(&peer, &target.keys, load)).await
        }
        Workload::Put { writers } => {
            let load = Load { connections: writers, depth: 1, time };
            measure(target, workload::put(&peer, &target.keys, load)).await
        }
        Workload::Fanout { watchers, depth, rate } => {
            let fanout = Fanout { watchers, depth, rate, time, late: DELIVERY_TIMEOUT };
            measure(target, workload::fanout(&peer, &target.keys, fanout)).await
        }
        Workload::Idle { connections, watching } => idle(target, &peer, connections, watching).await,
        Workload::Stall { puts, depth } => stall::run(target, &peer, puts, depth).await,
        Workload::Reconnect { watchers, behind } => reconnect::run(target, &peer, watchers, behind).await,
        Workload::Start => Err(BenchError::Usage("only `compare` starts servers".into())),
    }
}

/// Measures work and the processor time that both sides use for it.
async fn measure(
    target: &Target<'_>,
    work: impl Future<Output = Result<(Measured, Duration), syncline_load::Error>>,
) -> Result<Figures, BenchError> {
    let own = std::process::id();
    let (all, server, load) = (busy()?, target.usage()?, usage(own)?);
    let started = Instant::now();
    let (measured, took) = work.await?;
    let (all_after, server_after, load_after) = (busy()?, target.usage()?, usage(own)?);
    // Opening the connections is not part of `took`, but it uses processor time.
    let whole = started.elapsed().as_secs_f64();
    let seconds = took.as_secs_f64();
    let share = |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64() / whole;
    let server_share = share(server.processor, server_after.processor);
    let load_share = share(load.processor, load_after.processor);
    Ok(figures([
        ("per_second", measured.count() as f64 / seconds),
        ("count", measured.count() as f64),
        ("p50_us", measured.micros_at(0.5)),
        ("p99_us", measured.micros_at(0.99)),
        ("max_us", measured.micros_at_most()),
        ("skipped", measured.skipped as f64),
        ("server_processors", server_share),
        ("load_processors", load_share),
        // Unrelated programs. On an idle machine this is near zero.
        ("other_processors", (share(all, all_after) - server_share - load_share).max(0.0)),
        ("server_bytes", server_after.resident as f64),
    ]))
}

/// Measures the memory that a server uses for each idle connection.
async fn idle(target: &Target<'_>, peer: &AnyPeer, connections: usize, watching: bool) -> Result<Figures, BenchError> {
    let before = target.usage()?.resident;
    let mut links: Vec<Link> = Vec::new();
    for _ in 0..connections {
        links.push(if watching { workload::follow(peer).await? } else { peer.open().await? });
    }
    tokio::time::sleep(SETTLE_TIME).await;
    let after = target.usage()?.resident;
    let grown = after.saturating_sub(before) as f64;
    Ok(figures([("bytes_each", grown / connections as f64), ("server_bytes", after as f64)]))
}
