//! The rounds of a run.

use super::context::{ClientContext, Phase};
use super::disk::{self, Disk, DiskKind};
use super::nemesis::{NO_PACKET_LOSS, Nemesis};
use super::netns::NetNamespace;
use super::proxy::Proxy;
use super::recorder::Recorder;
use super::{base_client, client, cursor, keep, summary};
use crate::check::Report;
use crate::history::{History, Moment, Write};
use crate::process::{LOG_FILTER, Launcher};
use crate::{Random, RunError, Summary};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// The longest time for clients to finish their requests after the load.
const QUIET_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest time for clients to see the last write.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest time for connections to receive everything.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// The minimum duration of the load.
const MIN_ROUND: Duration = Duration::from_secs(5);

/// The minimum counts of a round. A round with less has too little load to show anything.
const MIN_COUNTS: [(&str, u64); 17] = [
    ("accepted writes", 200),
    ("successful reads", 200),
    ("reads behind a barrier", 10),
    ("kill -9", 5),
    ("kill -9 during start", 1),
    ("SIGSTOP", 2),
    ("restarts", 1),
    ("partitions", 2),
    ("restores", 1),
    ("connections", 50),
    ("connections cut", 5),
    ("connections half open", 1),
    ("connections stalled", 2),
    ("cursor steps", 50),
    ("MARKs", 200),
    ("WATCHes that resume", 5),
    ("skipped intermediate versions", 1),
];

/// The options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server binary.
    pub server: PathBuf,
    /// The seed of all random decisions.
    pub seed: u64,
    /// The number of clients, in addition to cursors and base clients.
    pub clients: usize,
    /// The duration of the load in each round.
    pub round: Duration,
    /// The duration of the run. There is at least one round.
    pub minutes: Duration,
    /// Whether the server runs in a network namespace, if the machine allows that.
    pub netns: bool,
    /// The directory in which failed rounds are saved.
    pub keep: PathBuf,
}

/// The result of a run.
#[derive(Debug, Default)]
pub struct Run {
    /// The summary of all rounds.
    pub summary: Summary,
    /// What the machine does not support, and why.
    pub skipped: BTreeMap<String, String>,
    /// The failure that has ended the run, if any.
    pub failure: Option<Failure>,
}

impl Run {
    /// Records that the machine does not support something.
    fn skip(&mut self, report: &mut impl FnMut(&str), what: String, why: String) {
        report(&format!("skipped: {what}: {why}"));
        self.skipped.insert(what, why);
    }
}

/// A round that has failed.
#[derive(Debug)]
pub struct Failure {
    /// The directory with the history, the data and the server's log.
    pub directory: PathBuf,
    /// The description of the failure.
    pub text: String,
}

/// Runs rounds until one fails or the time is over. Calls `report` with a line for each round.
///
/// # Errors
/// Returns [`RunError`] if a round cannot be set up.
pub async fn run(options: &Options, mut report: impl FnMut(&str)) -> Result<Run, RunError> {
    let mut run = Run::default();
    let mut seeds = Random::new(options.seed);
    let net = match options.netns.then(NetNamespace::new) {
        Some(Ok(net)) => Some(Arc::new(net)),
        Some(Err(trouble)) => {
            run.skip(&mut report, "a network namespace".into(), trouble.to_string());
            None
        }
        None => None,
    };
    let until = Instant::now() + options.minutes;
    for number in 1.. {
        let directory = options.keep.join(format!("seed-{}-round-{number}", options.seed));
        if directory.exists() {
            fs::remove_dir_all(&directory).map_err(RunError::because("remove", &directory))?;
        }
        fs::create_dir_all(&directory).map_err(RunError::because("make", &directory))?;
        let disk = mount(&mut run, &mut report, DiskKind::of_round(number), &directory.join("disk")).await?;
        let round = Round::new(options, &directory, net.as_deref(), seeds.fork());
        let started = Instant::now();
        let outcome = round.run(options, disk, net.clone()).await;
        report(&format!("round {number}: {}", summary::line(&outcome.history, &outcome.reports, outcome.checked_in)));
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        run.summary.add(micros, 0, &outcome.history, &outcome.reports);
        for (what, why) in outcome.skipped {
            if !run.skipped.contains_key(&what) {
                run.skip(&mut report, what, why);
            }
        }
        if outcome.history.counts.contains_key(NO_PACKET_LOSS) && !run.skipped.contains_key(NO_PACKET_LOSS) {
            run.skip(&mut report, NO_PACKET_LOSS.into(), "this kernel has no netem, or tc is not installed".into());
        }
        if let Some(text) = summary::failure(&outcome.history, &outcome.findings, &outcome.reports) {
            keep::keep(&directory, &outcome.history, &text)?;
            run.failure = Some(Failure { directory, text });
            break;
        }
        fs::remove_dir_all(&directory).map_err(RunError::because("remove", &directory))?;
        if Instant::now() >= until {
            break;
        }
    }
    Ok(run)
}

/// Mounts a disk for a round. If the machine does not allow its kind, another one is mounted.
async fn mount(run: &mut Run, report: &mut impl FnMut(&str), kind: DiskKind, at: &Path) -> Result<Disk, RunError> {
    // The server gets a path that does not depend on the current directory.
    fs::create_dir_all(at).map_err(RunError::because("make", at))?;
    let at = at.canonicalize().map_err(RunError::because("find", at))?;
    let mut candidate = Some(kind);
    while let Some(kind) = candidate {
        match Disk::mount(kind, &at).await {
            Ok(disk) => return Ok(disk),
            Err(why) => run.skip(report, format!("a disk of the kind {kind:?}"), why),
        }
        candidate = kind.instead();
    }
    Ok(Disk::plain(&at))
}

/// The result of a round.
struct RoundOutcome {
    history: History,
    findings: Vec<String>,
    reports: Vec<Report>,
    skipped: BTreeMap<String, String>,
    checked_in: Duration,
}

struct Round {
    recorder: Arc<Recorder>,
    proxy: Arc<Proxy>,
    phase: watch::Sender<Phase>,
    launcher: Launcher,
    directory: PathBuf,
    random: Random,
}

impl Round {
    fn new(options: &Options, directory: &Path, net: Option<&NetNamespace>, mut random: Random) -> Self {
        let recorder = Recorder::new();
        let proxy = Proxy::new(recorder.clone(), random.fork());
        let launcher = Launcher {
            binary: options.server.clone(),
            wrapper: net.map(NetNamespace::wrapper).unwrap_or_default(),
            host: net.map_or_else(|| "127.0.0.1".into(), |net| net.host.clone()),
            log: directory.join("server.log"),
            log_filter: LOG_FILTER,
        };
        let (phase, directory) = (watch::Sender::new(Phase::Load), directory.to_owned());
        Self { recorder, proxy, phase, launcher, directory, random }
    }

    async fn run(mut self, options: &Options, disk: Disk, net: Option<Arc<NetNamespace>>) -> RoundOutcome {
        let context =
            ClientContext { recorder: self.recorder.clone(), proxy: self.proxy.clone(), phase: self.phase.subscribe() };
        let mut nemesis = Nemesis::new(context.clone(), self.launcher.clone(), disk, net, self.random.fork());
        if let Err(trouble) = self.torture(options, &context, &mut nemesis).await {
            self.recorder.add_finding(trouble.to_string());
        }
        self.proxy.close();
        nemesis.kill_if_running().await;
        if !self.recorder.findings().is_empty() {
            self.keep_data(&nemesis.data());
        }
        let started = Instant::now();
        let (mut history, reports) = self.recorder.check();
        let checked_in = started.elapsed();
        summary::count(&mut history);
        if reports.iter().any(|report| !report.violations.is_empty()) {
            self.keep_data(&nemesis.data());
        }
        let mut findings = self.recorder.findings();
        for (name, least) in MIN_COUNTS {
            let found = history.counts.get(name).copied().unwrap_or(0);
            if found < least && findings.is_empty() {
                findings.push(format!("too little load: {name}: expected at least {least}, found {found}"));
            }
        }
        RoundOutcome { history, findings, reports, skipped: self.recorder.skipped(), checked_in }
    }

    /// Runs load and faults, then heals everything, and waits until all clients are current.
    async fn torture(
        &mut self,
        options: &Options,
        context: &ClientContext,
        nemesis: &mut Nemesis,
    ) -> Result<(), RunError> {
        nemesis.start(None).await?;
        let (mut clients, mut writing, mut settling) = self.start_clients(options, context);
        nemesis.run(options.round.max(MIN_ROUND)).await?;

        self.proxy.stop_faults();
        self.phase.send_replace(Phase::Quiet);
        self.recorder.note(summary::FAULTS_STOPPED);
        if timeout(QUIET_TIMEOUT, writing.recv()).await.is_err() {
            self.recorder.add_finding(format!("clients did not become quiet within {QUIET_TIMEOUT:?}"));
        }
        let read = client::read_final_state(context).await;
        let accepted = self.recorder.now();
        let (final_state, last) =
            read.ok_or(RunError::Slow { what: "accept the last write", within: QUIET_TIMEOUT })?;
        let revision = final_state.revision;
        self.phase.send_replace(Phase::Settle(Arc::new(final_state)));
        if timeout(SETTLE_TIMEOUT, settling.recv()).await.is_err() {
            self.recorder.add_finding(format!("clients did not see the last write within {SETTLE_TIMEOUT:?}"));
        }
        self.drain(revision, &last, accepted).await;
        self.phase.send_replace(Phase::Done);
        let ended = timeout(QUIET_TIMEOUT, async {
            while let Some(ended) = clients.join_next().await {
                if let Err(error) = ended {
                    self.recorder.add_finding(format!("a client has failed: {error}"));
                }
            }
        });
        if ended.await.is_err() {
            self.recorder.add_finding(format!("clients did not end within {QUIET_TIMEOUT:?}"));
        }
        self.proxy.close();
        nemesis.end().await
    }

    /// Starts all clients. The channels close when no client writes any more, and when all clients have seen the last
    /// write.
    fn start_clients(
        &mut self,
        options: &Options,
        context: &ClientContext,
    ) -> (JoinSet<()>, mpsc::Receiver<()>, mpsc::Receiver<()>) {
        let mut clients = JoinSet::new();
        let (writes, writing) = mpsc::channel(1);
        let (settles, settling) = mpsc::channel(1);
        for number in 0..options.clients {
            // The first clients watch several prefixes, the last one has no replica.
            let replicas = if number + 1 == options.clients { 0 } else { 3 - number.min(2) };
            let random = self.random.fork();
            clients.spawn(client::run(context.clone(), writes.clone(), settles.clone(), random, replicas));
            let is_slow = number % 2 == 0;
            if number < options.clients.div_ceil(2) {
                clients.spawn(cursor::run(context.clone(), self.random.fork(), is_slow));
                clients.spawn(base_client::run(context.clone(), writes.clone(), self.random.fork(), is_slow));
            }
        }
        (clients, writing, settling)
    }

    /// Waits until every open connection has received everything.
    async fn drain(&self, revision: u64, last: &Write, accepted: Moment) {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        loop {
            let transcripts = self.proxy.transcripts();
            let pending: Vec<_> = transcripts
                .into_iter()
                .filter(|(.., transcript)| !transcript.check_drained(revision, last, accepted))
                .collect();
            if pending.is_empty() {
                return;
            }
            if Instant::now() > deadline {
                for (connection, client, transcript) in pending {
                    let what = format!("revision {revision}, {last:?}");
                    let progress = transcript.progress();
                    self.recorder.add_finding(format!(
                        "connection {connection} of client {client} has not received {what}: {progress}"
                    ));
                }
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Copies the data to the directory of the round, because a small disk disappears at its end.
    fn keep_data(&self, data: &Path) {
        let to = self.directory.join("data");
        if let Err(error) = disk::copy(data, &to) {
            self.recorder.add_finding(format!("cannot copy {}: {error}", data.display()));
        }
    }
}
