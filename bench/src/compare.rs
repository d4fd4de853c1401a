//! The comparison: servers are started, and each run is done by one after the other, in rounds.

use crate::error::BenchError;
use crate::million;
use crate::rows::{RUNS, Run};
use crate::run::{Sample, Target, Workload};
use crate::server::{Paths, Profile, Server, ServerKind};
use crate::system::System;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};
use syncline_load::{Answer, Error, Keys, Peer, Request, workload};
use tokio::time::timeout;

/// How long a server may take from its start until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How often it is looked whether it does.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// How long keys may take to be written before the measurement.
const FILL_TIMEOUT: Duration = Duration::from_secs(400);

/// How long a run may take beyond its time: the slowest writes for 40 s, and has its watcher read for 60 s.
const RUN_TIMEOUT_MARGIN: Duration = Duration::from_secs(120);

/// What a watcher that stalls is sent meanwhile: few keys, large values.
const STALL_KEYS: usize = 1000;
const STALL_VALUE: usize = 1024;

/// How much less is written beside a watcher that stalls, where it has to be quick.
const QUICK_DIVISOR: usize = 20;

/// What is to be compared, and how thoroughly.
pub(crate) struct Plan {
    pub(crate) paths: Paths,
    pub(crate) rounds: usize,
    /// How long each run lasts.
    pub(crate) time: Duration,
    pub(crate) keys: usize,
    /// How many keys a full store has.
    pub(crate) many_keys: usize,
    pub(crate) value_size: usize,
    /// Which runs: those of these names, or whose names begin so; all, where there are none.
    pub(crate) only: Vec<String>,
    /// Which servers.
    pub(crate) peers: Vec<ServerKind>,
    /// What takes long is done with less.
    pub(crate) is_quick: bool,
}

/// A server that is up, with what is known of its keys.
pub(crate) struct PreparedServer {
    pub(crate) server: Server,
    pub(crate) keys: Keys,
}

impl Plan {
    /// Whether a run was asked for.
    pub(crate) fn includes(&self, run: &Run) -> bool {
        let is_meant = |only: &String| match RUNS.iter().any(|run| run.id == only) {
            true => run.id == only,
            false => run.id.starts_with(only.as_str()),
        };
        self.only.is_empty() || self.only.iter().any(is_meant)
    }

    /// Does everything, and tells of each sample as it comes.
    pub(crate) async fn compare(&self, report: &mut impl FnMut(&Sample)) -> Result<(), BenchError> {
        for run in self.runs(Profile::Fresh) {
            self.on_fresh_servers(run, report).await?;
        }
        for profile in [Profile::Durable, Profile::Memory, Profile::Stalled] {
            let mut servers = BTreeMap::new();
            for run in self.runs(profile) {
                for system in self.systems(run) {
                    let key = (system.kind(), system.profile(profile));
                    if let Entry::Vacant(entry) = servers.entry(key) {
                        entry.insert(self.start(system, key.1, self.new_keys(key.1)).await?);
                    }
                }
                self.rounds(run, &servers, report).await?;
            }
            for prepared in servers.into_values() {
                prepared.server.kill_and_remove().await?;
            }
        }
        million::compare(self, report).await
    }

    /// The runs of a profile that were asked for.
    pub(crate) fn runs(&self, profile: Profile) -> impl Iterator<Item = &'static Run> {
        RUNS.iter().filter(move |run| run.profile == profile && self.includes(run))
    }

    pub(crate) fn systems(&self, run: &Run) -> Vec<System> {
        run.systems.iter().copied().filter(|system| self.peers.contains(&system.kind())).collect()
    }

    fn new_keys(&self, profile: Profile) -> Keys {
        match profile {
            Profile::Stalled => Keys::new(STALL_KEYS, STALL_VALUE),
            Profile::Filled => Keys::new(self.many_keys, self.value_size),
            Profile::Durable | Profile::Memory | Profile::Tls | Profile::Fresh => Keys::new(self.keys, self.value_size),
        }
    }

    async fn rounds(
        &self,
        run: &Run,
        servers: &BTreeMap<(ServerKind, Profile), PreparedServer>,
        report: &mut impl FnMut(&Sample),
    ) -> Result<(), BenchError> {
        for system in alternate(&self.systems(run), self.rounds_of(run)) {
            if let Some(prepared) = servers.get(&(system.kind(), system.profile(run.profile))) {
                report(&self.run(run, *system, prepared).await?);
            }
        }
        Ok(())
    }

    /// The same, each time on a server that has just been started: memory that was given back before would not be seen.
    async fn on_fresh_servers(&self, run: &Run, report: &mut impl FnMut(&Sample)) -> Result<(), BenchError> {
        for system in alternate(&self.systems(run), self.rounds) {
            let prepared = self.start(*system, system.profile(run.profile), Keys::new(1, self.value_size)).await?;
            report(&self.run(run, *system, &prepared).await?);
            prepared.server.kill_and_remove().await?;
        }
        Ok(())
    }

    /// Those that take half a minute each are done less often.
    fn rounds_of(&self, run: &Run) -> usize {
        if matches!(run.work, Workload::Stall { .. }) { self.rounds.min(3) } else { self.rounds }
    }

    /// One run, in a bounded time.
    pub(crate) async fn run(&self, run: &Run, system: System, prepared: &PreparedServer) -> Result<Sample, BenchError> {
        let target = Target::new(system, &prepared.server.info, &prepared.keys);
        let work = match run.work {
            Workload::Stall { puts, depth } if self.is_quick => Workload::Stall { puts: puts / QUICK_DIVISOR, depth },
            work => work,
        };
        let done = timeout(self.time + RUN_TIMEOUT_MARGIN, target.run(work, self.time)).await;
        let done = done.unwrap_or(Err(BenchError::Timeout("the end of a run", self.time + RUN_TIMEOUT_MARGIN)));
        let figures = done.map_err(|why| {
            let words = prepared.server.log_tail();
            why.context(format!("{} on {} (the server's last words: {words})", run.id, system.label()))
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
        // A sync for each of so many keys takes NATS a minute, so it is told to sync only afterwards.
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

/// Where the servers of a profile have their files.
pub(crate) fn directory(profile: Profile) -> String {
    format!("{profile:?}").to_lowercase()
}

/// Whose turn it is in so many rounds: A B C D D C B A …, so nobody always comes after the same one, which may have something
/// left to do.
pub(crate) fn alternate<T>(of: &[T], rounds: usize) -> impl Iterator<Item = &T> {
    of.iter().chain(of.iter().rev()).cycle().take(rounds * of.len())
}

/// Writes the keys of a server.
pub(crate) async fn fill(server: &Server, system: System, keys: &Keys) -> Result<(), BenchError> {
    let peer = system.storing().peer(&server.info, false)?;
    let filled = timeout(FILL_TIMEOUT, workload::fill(&peer, keys)).await;
    filled
        .map_err(|_| BenchError::Timeout("a store with its keys", FILL_TIMEOUT))?
        .map_err(|why| BenchError::from(why).context(format!("filling {}: {}", system.label(), server.log_tail())))
}

/// Waits until a server answers; says how long that was since its start. What has to be there is made where it is not.
pub(crate) async fn wait_until_ready(server: &mut Server, system: System) -> Result<Duration, BenchError> {
    let until = Instant::now() + START_TIMEOUT;
    loop {
        let peer = system.first_peer(&server.info)?;
        let key = Keys::new(1, 8).name(0);
        let asked = async { peer.open().await?.ask(&Request::Get { key }).await };
        match asked.await {
            Ok((Answer::Found { .. } | Answer::Missing, _)) => return Ok(server.since.elapsed()),
            Ok((other, _)) => return Err(Error::unexpected("a value", other.redacted()).into()),
            Err(_) if server.has_exited()? => {
                return Err(BenchError::Exited(server.kind.name()).context(server.log_tail()));
            }
            Err(error) if Instant::now() > until => return Err(error.into()),
            Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_last_in_a_round_is_first_in_the_next() {
        assert_eq!(alternate(&['A', 'B', 'C'], 3).collect::<String>(), "ABCCBAABC");
        assert_eq!(alternate::<char>(&[], 3).count(), 0);
    }
}
