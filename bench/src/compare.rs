//! The comparison: servers are started, and each run is done by one after the other, in rounds.

use crate::contender::Contender;
use crate::failure::Failure;
use crate::million;
use crate::rows::{RUNS, Run};
use crate::run::{Sample, Target, Workload};
use crate::server::{Kind, Places, Running, Setting};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};
use syncline_load::{Answer, Error, Keys, Peer, Request, workload};
use tokio::time::timeout;

/// How long a server may take from its start until it answers.
const STARTING: Duration = Duration::from_secs(60);

/// How often it is looked whether it does.
const LOOKING: Duration = Duration::from_millis(1);

/// How long keys may take to be written before the measurement.
const FILLING: Duration = Duration::from_secs(400);

/// How long a run may take beyond its time: the slowest writes for 40 s, and has its watcher read for 60 s.
const SLACK: Duration = Duration::from_secs(120);

/// What a watcher that stalls is sent meanwhile: few keys, large values.
const STALL_KEYS: usize = 1000;
const STALL_VALUE: usize = 1024;

/// How much less is written beside a watcher that stalls, where it has to be quick.
const QUICKER: usize = 20;

/// What is to be compared, and how thoroughly.
pub(crate) struct Plan {
    pub(crate) places: Places,
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
    pub(crate) peers: Vec<Kind>,
    /// What takes long is done with less.
    pub(crate) is_quick: bool,
}

/// A server that is up, with what is known of its keys.
pub(crate) struct Ready {
    pub(crate) server: Running,
    pub(crate) keys: Keys,
}

impl Plan {
    /// Whether a run was asked for.
    pub(crate) fn wants(&self, run: &Run) -> bool {
        let is_meant = |only: &String| match RUNS.iter().any(|run| run.id == only) {
            true => run.id == only,
            false => run.id.starts_with(only.as_str()),
        };
        self.only.is_empty() || self.only.iter().any(is_meant)
    }

    /// Does everything, and tells of each sample as it comes.
    pub(crate) async fn compare(&self, told: &mut impl FnMut(&Sample)) -> Result<(), Failure> {
        for run in self.runs(Setting::Fresh) {
            self.on_fresh_servers(run, told).await?;
        }
        for setting in [Setting::Durable, Setting::Memory, Setting::Stalled] {
            let mut servers = BTreeMap::new();
            for run in self.runs(setting) {
                for contender in self.contenders(run) {
                    let key = (contender.kind(), contender.setting(setting));
                    if let Entry::Vacant(place) = servers.entry(key) {
                        place.insert(self.start(contender, key.1, self.new_keys(key.1)).await?);
                    }
                }
                self.rounds(run, &servers, told).await?;
            }
            for ready in servers.into_values() {
                ready.server.end().await?;
            }
        }
        million::compare(self, told).await
    }

    /// The runs of a setting that were asked for.
    pub(crate) fn runs(&self, setting: Setting) -> impl Iterator<Item = &'static Run> {
        RUNS.iter().filter(move |run| run.setting == setting && self.wants(run))
    }

    pub(crate) fn contenders(&self, run: &Run) -> Vec<Contender> {
        run.contenders.iter().copied().filter(|contender| self.peers.contains(&contender.kind())).collect()
    }

    fn new_keys(&self, setting: Setting) -> Keys {
        match setting {
            Setting::Stalled => Keys::new(STALL_KEYS, STALL_VALUE),
            Setting::Filled => Keys::new(self.many_keys, self.value_size),
            Setting::Durable | Setting::Memory | Setting::Tls | Setting::Fresh => Keys::new(self.keys, self.value_size),
        }
    }

    async fn rounds(
        &self,
        run: &Run,
        servers: &BTreeMap<(Kind, Setting), Ready>,
        told: &mut impl FnMut(&Sample),
    ) -> Result<(), Failure> {
        for contender in turns(&self.contenders(run), self.rounds_of(run)) {
            if let Some(ready) = servers.get(&(contender.kind(), contender.setting(run.setting))) {
                told(&self.run(run, *contender, ready).await?);
            }
        }
        Ok(())
    }

    /// The same, each time on a server that has just been started: memory that was given back before would not be seen.
    async fn on_fresh_servers(&self, run: &Run, told: &mut impl FnMut(&Sample)) -> Result<(), Failure> {
        for contender in turns(&self.contenders(run), self.rounds) {
            let ready = self.start(*contender, contender.setting(run.setting), Keys::new(1, self.value_size)).await?;
            told(&self.run(run, *contender, &ready).await?);
            ready.server.end().await?;
        }
        Ok(())
    }

    /// Those that take half a minute each are done less often.
    fn rounds_of(&self, run: &Run) -> usize {
        if matches!(run.work, Workload::Stall { .. }) { self.rounds.min(3) } else { self.rounds }
    }

    /// One run, in a bounded time.
    pub(crate) async fn run(&self, run: &Run, contender: Contender, ready: &Ready) -> Result<Sample, Failure> {
        let target = Target::new(contender, &ready.server.place, &ready.keys);
        let work = match run.work {
            Workload::Stall { puts, depth } if self.is_quick => Workload::Stall { puts: puts / QUICKER, depth },
            work => work,
        };
        let done = timeout(self.time + SLACK, target.run(work, self.time)).await;
        let done = done.unwrap_or(Err(Failure::Late("the end of a run", self.time + SLACK)));
        let figures = done.map_err(|why| {
            let words = ready.server.last_words();
            why.of(format!("{} on {} (the server's last words: {words})", run.id, contender.label()))
        })?;
        Ok(Sample { run: run.id.into(), contender: contender.id().into(), figures })
    }

    /// Starts a server, and writes its keys.
    pub(crate) async fn start(&self, contender: Contender, setting: Setting, keys: Keys) -> Result<Ready, Failure> {
        let name = directory(setting);
        // A sync for each of so many keys takes NATS a minute, so it is told to sync only afterwards.
        let is_restarted = contender.kind() == Kind::Nats && keys.count() > 1;
        let first = if is_restarted { Setting::Filled } else { setting };
        let mut server = Running::start(&self.places, contender.kind(), first, &name).await?;
        answers(&mut server, contender).await?;
        fill(&server, contender, &keys).await?;
        if is_restarted {
            server.stop().await?;
            server = Running::start(&self.places, contender.kind(), setting, &name).await?;
            answers(&mut server, contender).await?;
        }
        Ok(Ready { server, keys })
    }
}

/// Where the servers of a setting have their files.
pub(crate) fn directory(setting: Setting) -> String {
    format!("{setting:?}").to_lowercase()
}

/// Whose turn it is in so many rounds: A B C D D C B A …, so nobody always comes after the same one, which may have something
/// left to do.
pub(crate) fn turns<T>(of: &[T], rounds: usize) -> impl Iterator<Item = &T> {
    of.iter().chain(of.iter().rev()).cycle().take(rounds * of.len())
}

/// Writes the keys of a server.
pub(crate) async fn fill(server: &Running, contender: Contender, keys: &Keys) -> Result<(), Failure> {
    let peer = contender.keeps().peer(&server.place, false)?;
    let filled = timeout(FILLING, workload::fill(&peer, keys)).await;
    filled
        .map_err(|_| Failure::Late("a store with its keys", FILLING))?
        .map_err(|why| Failure::from(why).of(format!("filling {}: {}", contender.label(), server.last_words())))
}

/// Waits until a server answers; says how long that was since its start. What has to be there is made where it is not.
pub(crate) async fn answers(server: &mut Running, contender: Contender) -> Result<Duration, Failure> {
    let until = Instant::now() + STARTING;
    loop {
        let peer = contender.first_peer(&server.place)?;
        let key = Keys::new(1, 8).name(0);
        let asked = async { peer.open().await?.ask(&Request::Get { key }).await };
        match asked.await {
            Ok((Answer::Found { .. } | Answer::Missing, _)) => return Ok(server.since.elapsed()),
            Ok((other, _)) => return Err(Error::unexpected("a value", other.redacted()).into()),
            Err(_) if server.is_over()? => {
                return Err(Failure::Ended(server.kind.name()).of(server.last_words()));
            }
            Err(error) if Instant::now() > until => return Err(error.into()),
            Err(_) => tokio::time::sleep(LOOKING).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_last_in_a_round_is_first_in_the_next() {
        assert_eq!(turns(&['A', 'B', 'C'], 3).collect::<String>(), "ABCCBAABC");
        assert_eq!(turns::<char>(&[], 3).count(), 0);
    }
}
