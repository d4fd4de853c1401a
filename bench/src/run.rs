//! One run: a workload on a server, and what came of it.

use crate::error::BenchError;
use crate::peers::AnyPeer;
use crate::server::ServerInfo;
use crate::system::System;
use crate::{reconnect, stall};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use syncline_load::process::{Usage, busy, usage};
use syncline_load::workload::{self, Fanout, Load};
use syncline_load::{Keys, Link, Measured, Peer};

/// How long deliveries may still come when no more is written.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long connections that do nothing are given until the memory of their server is looked at.
const SETTLE_TIME: Duration = Duration::from_millis(500);

/// What is done, on a server that runs and whose keys are known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Workload {
    /// Reads of random keys.
    Get { connections: usize, depth: u16 },
    /// Compare-and-swap.
    Put { writers: usize },
    /// One writes, the others are sent it.
    Fanout { watchers: usize, depth: u16, rate: Option<u32> },
    /// Connections that do nothing.
    Idle { connections: usize, watching: bool },
    /// One writes, beside a watcher that does not read.
    Stall { puts: usize, depth: u16 },
    /// Watchers come back all at once, while one reads.
    Reconnect { watchers: usize, behind: usize },
    /// What a million keys take; and again how long a server that has them takes to start.
    Start,
}

impl Workload {
    /// Whether others are sent what is written.
    pub(crate) fn has_watchers(self) -> bool {
        matches!(self, Self::Fanout { .. } | Self::Idle { watching: true, .. } | Self::Stall { .. })
    }
}

/// The figures of one run, by name.
pub(crate) type Figures = BTreeMap<String, Figure>;

/// A figure; infinity, which JSON does not have, is null there.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(from = "Option<f64>", into = "Option<f64>")]
pub(crate) struct Figure(pub(crate) f64);

impl From<Option<f64>> for Figure {
    fn from(figure: Option<f64>) -> Self {
        Self(figure.unwrap_or(f64::INFINITY))
    }
}

impl From<Figure> for Option<f64> {
    fn from(figure: Figure) -> Self {
        Some(figure.0).filter(|number| number.is_finite())
    }
}

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// What was done, as in `rows.rs`.
    pub(crate) run: String,
    /// Who has done it.
    #[serde(rename = "contender")]
    pub(crate) system: String,
    pub(crate) figures: Figures,
}

/// A server with its keys.
pub(crate) struct Target<'a> {
    pub(crate) system: System,
    pub(crate) info: &'a ServerInfo,
    pub(crate) keys: Keys,
}

impl<'a> Target<'a> {
    pub(crate) fn new(system: System, info: &'a ServerInfo, keys: &Keys) -> Self {
        // What is only published is not kept, so its versions are not those of the keys.
        let keys = if system.storing() == system { keys.clone() } else { keys.elsewhere() };
        Self { system, info, keys }
    }
}

impl Target<'_> {
    /// Does a workload for a time, and measures.
    pub(crate) async fn run(&self, work: Workload, time: Duration) -> Result<Figures, BenchError> {
        let peer = self.system.peer(self.info, work.has_watchers())?;
        match work {
            Workload::Get { connections, depth } => {
                let load = Load { connections, depth, time };
                self.beside(workload::get(&peer, &self.keys, load)).await
            }
            Workload::Put { writers } => {
                let load = Load { connections: writers, depth: 1, time };
                self.beside(workload::put(&peer, &self.keys, load)).await
            }
            Workload::Fanout { watchers, depth, rate } => {
                let fanout = Fanout { watchers, depth, rate, time, late: DELIVERY_TIMEOUT };
                self.beside(workload::fanout(&peer, &self.keys, fanout)).await
            }
            Workload::Idle { connections, watching } => self.idle(&peer, connections, watching).await,
            Workload::Stall { puts, depth } => stall::run(self, &peer, puts, depth).await,
            Workload::Reconnect { watchers, behind } => reconnect::run(self, &peer, watchers, behind).await,
            // Done by whoever can start servers.
            Workload::Start => Err(BenchError::Usage("only `compare` starts servers".into())),
        }
    }

    /// Measures what is done, and what it takes of the machine on both sides.
    async fn beside(
        &self,
        work: impl Future<Output = Result<(Measured, Duration), syncline_load::Error>>,
    ) -> Result<Figures, BenchError> {
        let me = std::process::id();
        let (all, server, load) = (busy()?, self.usage()?, usage(me)?);
        let begun = Instant::now();
        let (measured, took) = work.await?;
        let (all_after, server_after, load_after) = (busy()?, self.usage()?, usage(me)?);
        // Making the connections is not what is measured, but takes of the processors, too.
        let whole = begun.elapsed().as_secs_f64();
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
            // Programs that have nothing to do with this: there should be none.
            ("other_processors", (share(all, all_after) - server_share - load_share).max(0.0)),
            ("server_bytes", server_after.resident as f64),
        ]))
    }

    /// What the server's process has taken; nothing, where that is not known.
    pub(crate) fn usage(&self) -> Result<Usage, BenchError> {
        self.info.pid.map_or(Ok(Usage::default()), |pid| Ok(usage(pid)?))
    }

    /// What a server keeps for each connection that does nothing.
    async fn idle(&self, peer: &AnyPeer, connections: usize, watching: bool) -> Result<Figures, BenchError> {
        let before = self.usage()?.resident;
        let mut links: Vec<Link> = Vec::new();
        for _ in 0..connections {
            links.push(if watching { workload::follow(peer).await? } else { peer.open().await? });
        }
        tokio::time::sleep(SETTLE_TIME).await;
        let after = self.usage()?.resident;
        let grown = after.saturating_sub(before) as f64;
        Ok(figures([("bytes_each", grown / connections as f64), ("server_bytes", after as f64)]))
    }
}

/// Figures by name.
pub(crate) fn figures<const N: usize>(named: [(&str, f64); N]) -> Figures {
    named.into_iter().map(|(name, figure)| (name.to_owned(), Figure(figure))).collect()
}
