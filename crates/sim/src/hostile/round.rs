//! One attack on one fresh server, with a bystander beside it.
//!
//! ```text
//!   start ─▶ prepare ─▶ ( bystander alone ─▶ attack, bystander beside ─▶ the attack ends ) … ─▶ the server ends
//!                    │                                                                     │
//!                 memory before                  at most                             memory after
//! ```

use super::attack::Attack;
use super::bystander::{Bystander, Window};
use super::connection::{HOST, RESPONSE_TIMEOUT, Target, Traffic};
use super::context::{AttackContext, Bound};
use super::error::AttackError;
use super::options::Options;
use super::security::Security;
use crate::Trouble;
use crate::process::{Launcher, ServerProcess};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};
use tokio::time::{sleep, timeout};

/// The threads that attack: on two processors, one is the server's.
const ATTACKER_THREADS: usize = 1;

/// How long an attack may take to do what it is about; more is a server that stands still.
const ATTACK_TIMEOUT: Duration = Duration::from_secs(120);

/// The memory is looked at so many times for each time that the open files are, which takes longer.
const FILES_INTERVAL: u32 = 20;

/// What every server is started with: little room for the recent log, so that it is full before anything is measured.
const FLAGS: [&str; 2] = ["--recent-log", "1MiB"];

/// The most findings of an attack; more say nothing new.
const MAX_FINDINGS: usize = 10;

/// What became of an attack.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its name.
    pub attack: &'static str,
    /// What it does.
    pub description: &'static str,
    /// What the attack has sent.
    pub traffic: Traffic,
    /// What held it.
    pub bound: Bound,
    /// The memory of the server before, at most, and after.
    pub memory: [u64; 3],
    /// The most files that the server had open beyond those that it had before any connection.
    pub files: u64,
    /// What the bystander saw alone and beside the attack.
    pub bystander: [Latencies; 2],
    /// How often it was served in all.
    pub served: u64,
    /// What the attack says of itself.
    pub notes: Vec<String>,
    /// What must not be.
    pub findings: Vec<String>,
}

/// Medians over the rounds, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latencies {
    /// Of durable writes, the median and the 99th percentile.
    pub put: [f64; 2],
    /// And of reads.
    pub get: [f64; 2],
}

impl Latencies {
    fn of(windows: &[Window]) -> Self {
        let put = |quantile| median(windows.iter().map(|window| window.puts.value_at_quantile(quantile)));
        let get = |quantile| median(windows.iter().map(|window| window.gets.value_at_quantile(quantile)));
        Self { put: [put(0.5), put(0.99)], get: [get(0.5), get(0.99)] }
    }
}

impl Report {
    /// How many times as long as alone the bystander's writes took beside the attack, at the 99th percentile.
    pub fn factor(&self) -> f64 {
        let [alone, beside] = self.bystander;
        let [.., alone] = alone.put;
        let [.., beside] = beside.put;
        if alone > 0.0 { beside / alone } else { 0.0 }
    }
}

/// The one in the middle, of nanoseconds, in microseconds.
fn median(nanos: impl Iterator<Item = u64>) -> f64 {
    let mut sorted: Vec<u64> = nanos.collect();
    sorted.sort_unstable();
    let middle = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    Duration::from_nanos(middle).as_secs_f64() * 1e6
}

/// The threads that attack. They end with this, whatever they do.
struct Attackers(Option<Runtime>);

impl Attackers {
    fn new() -> Result<Self, AttackError> {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(ATTACKER_THREADS).enable_all().build()?;
        Ok(Self(Some(runtime)))
    }

    /// Has them do something, and waits for it.
    async fn run<F>(&self, work: F, lasts: Duration) -> Result<(), AttackError>
    where
        F: Future<Output = Result<(), AttackError>> + Send + 'static,
    {
        let Some(runtime) = &self.0 else { return Ok(()) };
        let done = timeout(lasts, runtime.spawn(work)).await;
        let done =
            done.map_err(|_| AttackError::unexpected("an attack that ends", format_args!("none within {lasts:?}")))?;
        done.map_err(|error| AttackError::unexpected("an attack that ends", error))?
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Attacks a server of its own.
///
/// # Errors
/// [`AttackError`] where there can be no attack at all.
pub async fn run(options: &Options, attack: &Attack) -> Result<Report, AttackError> {
    let directory = TempDir::new()?;
    let findings = Arc::new(Mutex::new(Vec::new()));
    let launcher = Launcher {
        binary: options.server.clone(),
        wrapper: Vec::new(),
        host: HOST.to_string(),
        log: directory.path().join("server.log"),
    };
    let security = Security::set_up(options.mode, &launcher, directory.path()).await?;
    let mut flags = FLAGS.to_vec();
    flags.extend(attack.flags);
    flags.extend(security.flags.iter().map(String::as_str));
    let heard = findings.clone();
    let mut server = launcher.spawn(&directory.path().join("data"), &flags, move |said| heard.lock().push(said))?;
    let address = server.wait_until_listening().await?;
    let address = address.parse().map_err(|_| Trouble::Unexpected { expected: "an address", found: address })?;
    let target = security.target(address)?;
    let mut report = run_rounds(options, attack, &target, &mut server, &findings).await?;
    // In order: what it has been through must not have left it in a state that it can't end from.
    if let Err(trouble) = server.terminate().await {
        findings.lock().push(trouble.to_string());
    }
    report.findings = std::mem::take(&mut *findings.lock());
    report.findings.truncate(MAX_FINDINGS);
    Ok(report)
}

/// The rounds.
async fn run_rounds(
    options: &Options,
    attack: &Attack,
    target: &Target,
    server: &mut ServerProcess,
    findings: &Mutex<Vec<String>>,
) -> Result<Report, AttackError> {
    let find = |what: String| findings.lock().push(what);
    let attackers = Attackers::new()?;
    let files = server.open_files().unwrap_or_default();
    let bystander = Bystander::start(target)?;
    attackers.run((attack.prepare)(AttackContext::new(target.uncounted(), options.scale)), ATTACK_TIMEOUT).await?;
    let warm = bystander.observe(options.time, || true, || {}).await?;
    drop(warm);
    let quiet = server.open_files().unwrap_or_default();
    let before = server.memory().unwrap_or_default();
    let mut peak = PeakUsage { memory: before, files: 0, looks: 0 };
    let (mut alone, mut beside, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        alone.push(bystander.observe(options.time, || true, || {}).await?);
        let context = AttackContext::new(target.clone(), options.scale);
        let (attacked, window) =
            run_round(&attackers, attack, &context, &bystander, options.time, || peak.sample(server, files)).await;
        beside.push(window?);
        notes = context.notes();
        if let Err(fault) = attacked {
            find(format!("{}: {fault}", attack.name));
        }
        // The next window is only alone when nobody is left.
        if !wait_for_open_files(server, quiet).await {
            find(format!(
                "connections: expected none within {RESPONSE_TIMEOUT:?} after the attack, found {:?}",
                server.open_files()
            ));
        }
        if bystander.fault().is_some() || server.exit_status().is_some() {
            break;
        }
    }
    if let Some(fault) = bystander.fault() {
        find(format!("the bystander: {fault}"));
    }
    let (bound, after) = ((attack.bound)(options.scale), server.memory().unwrap_or_default());
    let grown = peak.memory.saturating_sub(before);
    if grown > bound.max_growth() {
        find(format!(
            "{}: expected the server to grow by at most {} bytes, found {grown}",
            bound.name,
            bound.max_growth()
        ));
    }
    if let Some(most) = bound.files
        && peak.files > most
    {
        find(format!("{}: expected at most {most} more open files, found {}", bound.name, peak.files));
    }
    Ok(Report {
        attack: attack.name,
        description: attack.description,
        traffic: target.traffic.totals(),
        bound,
        memory: [before, peak.memory, after],
        files: peak.files,
        bystander: [Latencies::of(&alone), Latencies::of(&beside)],
        served: bystander.served(),
        notes,
        findings: Vec::new(),
    })
}

/// One attack, and what the bystander sees beside it: until it was all there once, and for so long.
async fn run_round(
    attackers: &Attackers,
    attack: &Attack,
    context: &Arc<AttackContext>,
    bystander: &Bystander,
    time: Duration,
    look: impl FnMut(),
) -> (Result<(), AttackError>, Result<Window, AttackError>) {
    let attacking = async {
        let ended = attackers.run((attack.run)(context.clone()), ATTACK_TIMEOUT + RESPONSE_TIMEOUT).await;
        // Whoever has failed will never say so.
        context.report_complete();
        ended
    };
    let watching = async {
        let begun = Instant::now();
        let done = || context.is_complete() || begun.elapsed() > ATTACK_TIMEOUT;
        let window = bystander.observe(time, done, look).await;
        context.stop();
        window
    };
    tokio::join!(attacking, watching)
}

/// The most that was seen of the server.
struct PeakUsage {
    memory: u64,
    files: u64,
    looks: u32,
}

impl PeakUsage {
    /// Looks at it. It had so many files open before any connection.
    fn sample(&mut self, server: &ServerProcess, files: u64) {
        self.looks = self.looks.wrapping_add(1);
        self.memory = self.memory.max(server.memory().unwrap_or_default());
        if self.looks.is_multiple_of(FILES_INTERVAL) {
            self.files = self.files.max(server.open_files().unwrap_or_default().saturating_sub(files));
        }
    }
}

/// Waits until the server has no more files open than so many; answers whether it has not.
async fn wait_for_open_files(server: &ServerProcess, files: u64) -> bool {
    let until = Instant::now() + RESPONSE_TIMEOUT;
    while server.open_files().is_some_and(|found| found > files + STORE_FILES) {
        if Instant::now() > until {
            return false;
        }
        sleep(Duration::from_millis(10)).await;
    }
    true
}

/// Files that the store may have open for a while.
const STORE_FILES: u64 = 4;
