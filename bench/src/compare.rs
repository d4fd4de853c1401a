//! The comparison: servers are started, and each run is done by one after the other, in rounds.

use crate::contender::Contender;
use crate::failure::Failure;
use crate::rows::{RUNS, Run};
use crate::run::{Sample, Target};
use crate::server::{Kind, Places, Running, Setting};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use syncline_load::{Error, Keys, Peer, workload};
use tokio::time::timeout;

/// How long a server may take from its start until it answers.
const STARTING: Duration = Duration::from_secs(60);

/// How often it is looked whether it does.
const LOOKING: Duration = Duration::from_millis(1);

/// How long keys may take to be written before the measurement.
const FILLING: Duration = Duration::from_secs(180);

/// How long a run may take beyond its time.
const SLACK: Duration = Duration::from_secs(75);

/// What is to be compared, and how thoroughly.
pub(crate) struct Plan {
    pub(crate) places: Places,
    pub(crate) rounds: usize,
    /// How long each run lasts.
    pub(crate) time: Duration,
    pub(crate) keys: usize,
    pub(crate) value_size: usize,
    /// Which runs: those whose names begin with one of these; all, where there are none.
    pub(crate) only: Vec<String>,
    /// Which servers.
    pub(crate) peers: Vec<Kind>,
}

/// A server that is up, with what is known of its keys.
struct Ready {
    server: Running,
    keys: Keys,
}

impl Plan {
    /// Whether a run was asked for.
    pub(crate) fn wants(&self, run: &Run) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| run.id.starts_with(only.as_str()))
    }

    /// Does everything, and tells of each sample as it comes.
    pub(crate) async fn compare(&self, told: &mut impl FnMut(Sample)) -> Result<(), Failure> {
        for setting in [Setting::Durable, Setting::Memory] {
            let runs: Vec<_> = RUNS.iter().filter(|run| run.setting == setting && self.wants(run)).collect();
            let mut servers = BTreeMap::new();
            for run in &runs {
                for contender in self.contenders(run) {
                    let key = (contender.kind(), contender.setting(setting));
                    if !servers.contains_key(&key) {
                        servers.insert(key, self.start(contender, key.1).await?);
                    }
                }
                self.rounds(run, &servers, told).await?;
            }
            for ready in servers.into_values() {
                ready.server.end().await?;
            }
        }
        Ok(())
    }

    fn contenders(&self, run: &Run) -> Vec<Contender> {
        run.contenders.iter().copied().filter(|contender| self.peers.contains(&contender.kind())).collect()
    }

    /// A B C D A B C D …
    async fn rounds(
        &self,
        run: &Run,
        servers: &BTreeMap<(Kind, Setting), Ready>,
        told: &mut impl FnMut(Sample),
    ) -> Result<(), Failure> {
        for _ in 0..self.rounds {
            for contender in self.contenders(run) {
                let Some(ready) = servers.get(&(contender.kind(), contender.setting(run.setting))) else { continue };
                let target = Target { contender, server: &ready.server, keys: &ready.keys };
                let of = || format!("{} on {}", run.id, contender.label());
                let done = timeout(self.time + SLACK, target.run(run.work, self.time)).await;
                let done = done.unwrap_or(Err(Failure::Late("the end of a run", self.time + SLACK)));
                let figures = done.map_err(|why| {
                    let words = ready.server.last_words();
                    why.of(format!("{}\nthe server's last words: {words}\n", of()))
                })?;
                told(Sample { run: run.id.into(), contender: contender.id().into(), figures });
            }
        }
        Ok(())
    }

    /// Starts a server, and writes its keys.
    async fn start(&self, contender: Contender, setting: Setting) -> Result<Ready, Failure> {
        let name = format!("{setting:?}").to_lowercase();
        let mut server = Running::start(&self.places, contender.kind(), setting, &name).await?;
        answers(&mut server, contender).await?;
        let keys = Keys::new(self.keys, self.value_size);
        let peer = contender.peer(&server, false)?;
        let filled = timeout(FILLING, workload::fill(&peer, &keys)).await;
        filled
            .map_err(|_| Failure::Late("a store with its keys", FILLING))?
            .map_err(|why| Failure::from(why).of(format!("filling {}: {}", contender.label(), server.last_words())))?;
        Ok(Ready { server, keys })
    }
}

/// Waits until a server can be connected to; answers how long that was since its start.
pub(crate) async fn answers(server: &mut Running, contender: Contender) -> Result<Duration, Failure> {
    let until = Instant::now() + STARTING;
    loop {
        let opened: Result<_, Error> = contender.first_peer(server)?.open().await;
        match opened {
            Ok(_) => return Ok(server.since.elapsed()),
            Err(_) if server.is_over()? => {
                return Err(Failure::Ended(server.kind.name()).of(server.last_words()));
            }
            Err(error) if Instant::now() > until => return Err(error.into()),
            Err(_) => tokio::time::sleep(LOOKING).await,
        }
    }
}
