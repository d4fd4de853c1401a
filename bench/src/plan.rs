//! The plan of a comparison, and what every part of it needs: starting servers, filling them, and doing one run.

use crate::error::BenchError;
use crate::rows::{RUNS, Run};
use crate::run::execute;
use crate::sample::Sample;
use crate::server::{Paths, Profile, Server, ServerKind};
use crate::system::System;
use crate::target::{Target, Workload};
use std::time::{Duration, Instant};
use syncline_load::{Error, Keys, Peer, Request, Response, workload};
use tokio::time::timeout;

/// The longest time from the start of a server to its first response.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The interval at which a starting server is asked for a response.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// The longest time that filling a store may take.
const FILL_TIMEOUT: Duration = Duration::from_secs(400);

/// How much longer than its measuring time a run may take. The slowest one writes for 40 s, and its watcher reads for
/// 60 s.
const RUN_TIMEOUT_MARGIN: Duration = Duration::from_secs(120);

/// The data of the `stall` run: few keys with large values.
const STALL_KEYS: usize = 1000;
const STALL_VALUE: usize = 1024;

/// A quick comparison divides the writes of the `stall` run by this number.
const QUICK_DIVISOR: usize = 20;

/// What a comparison measures, and how thoroughly.
pub(crate) struct Plan {
    pub(crate) paths: Paths,
    pub(crate) rounds: usize,
    /// The measuring time of each run.
    pub(crate) time: Duration,
    pub(crate) keys: usize,
    /// The number of keys in a full store.
    pub(crate) many_keys: usize,
    pub(crate) value_size: usize,
    /// The runs to do, as exact names or prefixes of names. All runs if this is empty.
    pub(crate) only: Vec<String>,
    /// The servers to compare.
    pub(crate) peers: Vec<ServerKind>,
    /// Whether long runs do less.
    pub(crate) is_quick: bool,
}

/// A running server with the keys that it stores.
pub(crate) struct PreparedServer {
    pub(crate) server: Server,
    pub(crate) keys: Keys,
}

impl Plan {
    /// Returns whether the plan includes a run. The exact name of a run selects only that run, even if other names
    /// begin with it.
    fn includes(&self, run: &Run) -> bool {
        let selects = |only: &String| match RUNS.iter().any(|run| run.id == only) {
            true => run.id == only,
            false => run.id.starts_with(only.as_str()),
        };
        self.only.is_empty() || self.only.iter().any(selects)
    }

    /// Returns the planned runs with a profile.
    pub(crate) fn runs(&self, profile: Profile) -> impl Iterator<Item = &'static Run> {
        RUNS.iter().filter(move |run| run.profile == profile && self.includes(run))
    }

    /// Returns the systems that take part in a run.
    pub(crate) fn systems(&self, run: &Run) -> Vec<System> {
        run.systems.iter().copied().filter(|system| self.peers.contains(&system.kind())).collect()
    }

    /// Returns new keys for a server with this profile.
    pub(crate) fn new_keys(&self, profile: Profile) -> Keys {
        match profile {
            Profile::Stalled => Keys::new(STALL_KEYS, STALL_VALUE),
            Profile::Filled => Keys::new(self.many_keys, self.value_size),
            Profile::Durable | Profile::Memory | Profile::Tls | Profile::Fresh => Keys::new(self.keys, self.value_size),
        }
    }

    /// Does one run on a prepared server, in bounded time.
    pub(crate) async fn run(&self, run: &Run, system: System, prepared: &PreparedServer) -> Result<Sample, BenchError> {
        let target = Target::new(system, &prepared.server.info, &prepared.keys);
        let work = match run.work {
            Workload::Stall { puts, depth } if self.is_quick => Workload::Stall { puts: puts / QUICK_DIVISOR, depth },
            work => work,
        };
        let limit = self.time + RUN_TIMEOUT_MARGIN;
        let figures = timeout(limit, execute(&target, work, self.time)).await;
        let figures = figures.unwrap_or(Err(BenchError::Timeout("the end of a run", limit)));
        let figures = figures.map_err(|error| {
            let log = prepared.server.log_tail();
            error.context(format!("{} on {} (end of the server's log: {log})", run.id, system.label()))
        })?;
        Ok(Sample { run: run.id.into(), system: system.id().into(), figures })
    }

    /// Starts a server, and writes its keys.
    pub(crate) async fn start(
        &self,
        system: System,
        profile: Profile,
        keys: Keys,
    ) -> Result<PreparedServer, BenchError> {
        let name = directory(profile);
        // Filling NATS takes a minute if it syncs each key. It is filled without that, then restarted with its
        // settings.
        let is_restarted = system.kind() == ServerKind::Nats && keys.count() > 1;
        let first = if is_restarted { Profile::Filled } else { profile };
        let mut server = Server::start(&self.paths, system.kind(), first, &name).await?;
        wait_until_ready(&mut server, system).await?;
        fill(&server, system, &keys).await?;
        if is_restarted {
            server.stop().await?;
            server = Server::start(&self.paths, system.kind(), profile, &name).await?;
            wait_until_ready(&mut server, system).await?;
        }
        Ok(PreparedServer { server, keys })
    }
}

/// Returns the name of the directory in which servers with a profile keep their files.
pub(crate) fn directory(profile: Profile) -> String {
    format!("{profile:?}").to_lowercase()
}

/// Returns the order of several rounds: A B C, then C B A, and so on. No system always follows the same other system,
/// which may still have background work to finish.
pub(crate) fn alternate<T>(systems: &[T], rounds: usize) -> impl Iterator<Item = &T> {
    systems.iter().chain(systems.iter().rev()).cycle().take(rounds * systems.len())
}

/// Writes the keys of a server.
pub(crate) async fn fill(server: &Server, system: System, keys: &Keys) -> Result<(), BenchError> {
    let peer = system.storing().peer(&server.info, false)?;
    let filled = timeout(FILL_TIMEOUT, workload::fill(&peer, keys)).await;
    filled
        .map_err(|_| BenchError::Timeout("a store with its keys", FILL_TIMEOUT))?
        .map_err(|error| BenchError::from(error).context(format!("filling {}: {}", system.label(), server.log_tail())))
}

/// Waits until a server responds, and returns the time since its start. Creates what the system needs, such as a
/// bucket.
pub(crate) async fn wait_until_ready(server: &mut Server, system: System) -> Result<Duration, BenchError> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        let peer = system.first_peer(&server.info)?;
        let key = Keys::new(1, 8).name(0);
        let response = async { peer.open().await?.ask(&Request::Get { key }).await };
        match response.await {
            Ok((Response::Found { .. } | Response::Missing, _)) => return Ok(server.since.elapsed()),
            Ok((other, _)) => return Err(Error::unexpected("a value", other.redacted()).into()),
            Err(_) if server.has_exited()? => {
                return Err(BenchError::Exited(server.kind.name()).context(server.log_tail()));
            }
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_system_of_a_round_is_the_first_of_the_next() {
        assert_eq!(alternate(&['A', 'B', 'C'], 3).collect::<String>(), "ABCCBAABC");
        assert_eq!(alternate::<char>(&[], 3).count(), 0);
    }
}
