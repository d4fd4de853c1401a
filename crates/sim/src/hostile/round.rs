//! One attack on one new server, with a bystander beside it.
//!
//! ```text
//!   start ─▶ prepare ─▶ ( bystander alone ─▶ bystander beside the attack ─▶ the attack stops ) … ─▶ the server stops
//!                    │                                 │                                       │
//!              memory before                      peak memory                            memory after
//! ```

use super::attack::Attack;
use super::bystander::{Bystander, Window};
use super::connection::{HOST, RESPONSE_TIMEOUT, Target, Traffic};
use super::context::{AttackContext, Bound};
use super::error::AttackError;
use super::options::Options;
use super::security::Security;
use crate::RunError;
use crate::process::{LOG_FILTER, Launcher, ServerProcess};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};
use tokio::time::{sleep, timeout};

/// The number of attacking threads. On two processors, the server has the other one.
const ATTACKER_THREADS: usize = 1;

/// The longest time for an attack to reach its full extent. If it takes longer, the server has stopped responding.
const ATTACK_TIMEOUT: Duration = Duration::from_secs(120);

/// Open files are counted once in so many memory samples, because counting them takes longer.
const FILES_INTERVAL: u32 = 20;

/// The flags of every server: a small recent log, which is full before anything is measured.
const FLAGS: [&str; 2] = ["--recent-log", "1MiB"];

/// The maximum of findings per attack.
const MAX_FINDINGS: usize = 10;

/// The result of an attack.
#[derive(Clone, Debug)]
pub struct Report {
    /// The name of the attack.
    pub attack: &'static str,
    /// What the attack does.
    pub description: &'static str,
    /// What the attack has sent.
    pub traffic: Traffic,
    /// What limits the attack.
    pub bound: Bound,
    /// The memory of the server: before the attack, the peak, and after it.
    pub memory: [u64; 3],
    /// The peak number of open files, in addition to those before any connection.
    pub files: u64,
    /// The latencies of the bystander alone and beside the attack.
    pub bystander: [Latencies; 2],
    /// How often the bystander was served in total.
    pub served: u64,
    /// Notes of the attack.
    pub notes: Vec<String>,
    /// Violations of what must hold.
    pub findings: Vec<String>,
}

/// Latencies as medians over the rounds, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latencies {
    /// The median and the 99th percentile of durable writes.
    pub put: [f64; 2],
    /// The median and the 99th percentile of reads.
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
    /// Returns the 99th percentile of the bystander's writes beside the attack, divided by that alone.
    pub fn factor(&self) -> f64 {
        let [alone, beside] = self.bystander;
        let [.., alone] = alone.put;
        let [.., beside] = beside.put;
        if alone > 0.0 { beside / alone } else { 0.0 }
    }
}

/// Returns the median of nanoseconds in microseconds.
fn median(nanos: impl Iterator<Item = u64>) -> f64 {
    let mut sorted: Vec<u64> = nanos.collect();
    sorted.sort_unstable();
    let middle = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    Duration::from_nanos(middle).as_secs_f64() * 1e6
}

/// The attacking threads. Dropping this stops them.
struct Attackers(Option<Runtime>);

impl Attackers {
    fn new() -> Result<Self, AttackError> {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(ATTACKER_THREADS).enable_all().build()?;
        Ok(Self(Some(runtime)))
    }

    /// Runs work on the threads, and waits for it at most `limit`.
    async fn run<F>(&self, work: F, limit: Duration) -> Result<(), AttackError>
    where
        F: Future<Output = Result<(), AttackError>> + Send + 'static,
    {
        let Some(runtime) = &self.0 else { return Ok(()) };
        let done = timeout(limit, runtime.spawn(work)).await;
        let done =
            done.map_err(|_| AttackError::unexpected("an attack that ends", format_args!("none within {limit:?}")))?;
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

/// Runs one attack on a server of its own.
///
/// # Errors
/// Returns an [`AttackError`] if the server or the bystander cannot be started.
pub async fn run(options: &Options, attack: &Attack) -> Result<Report, AttackError> {
    let directory = TempDir::new()?;
    let findings = Arc::new(Mutex::new(Vec::new()));
    let launcher = Launcher {
        binary: options.server.clone(),
        wrapper: Vec::new(),
        host: HOST.to_string(),
        log: directory.path().join("server.log"),
        log_filter: LOG_FILTER,
    };
    let security = Security::set_up(options.mode, &launcher, directory.path()).await?;
    let mut flags = FLAGS.to_vec();
    flags.extend(attack.flags);
    flags.extend(security.flags.iter().map(String::as_str));
    let log_findings = findings.clone();
    let mut server =
        launcher.spawn(&directory.path().join("data"), &flags, move |finding| log_findings.lock().push(finding))?;
    let address = server.wait_until_listening().await?;
    let address = address.parse().map_err(|_| RunError::Unexpected { expected: "an address", found: address })?;
    let target = security.target(address)?;
    let mut report = run_rounds(options, attack, &target, &mut server, &findings).await?;
    // A clean stop must still work after the attack.
    if let Err(trouble) = server.terminate().await {
        findings.lock().push(trouble.to_string());
    }
    report.findings = std::mem::take(&mut *findings.lock());
    report.findings.truncate(MAX_FINDINGS);
    Ok(report)
}

/// Runs all rounds.
async fn run_rounds(
    options: &Options,
    attack: &Attack,
    target: &Target,
    server: &mut ServerProcess,
    findings: &Mutex<Vec<String>>,
) -> Result<Report, AttackError> {
    let add_finding = |finding: String| findings.lock().push(finding);
    let attackers = Attackers::new()?;
    let files = server.open_files().unwrap_or_default();
    let bystander = Bystander::start(target)?;
    attackers.run((attack.prepare)(AttackContext::new(target.uncounted(), options.scale)), ATTACK_TIMEOUT).await?;
    // The first window only warms up the server.
    bystander.observe(options.time, || true, || {}).await?;
    let idle_files = server.open_files().unwrap_or_default();
    let before = server.memory().unwrap_or_default();
    let mut peak = PeakUsage { memory: before, files: 0, samples: 0 };
    let (mut alone, mut beside, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        alone.push(bystander.observe(options.time, || true, || {}).await?);
        let context = AttackContext::new(target.clone(), options.scale);
        let (result, window) =
            run_round(&attackers, attack, &context, &bystander, options.time, || peak.sample(server, files)).await;
        beside.push(window?);
        notes = context.take_notes();
        if let Err(error) = result {
            add_finding(format!("{}: {error}", attack.name));
        }
        // All attackers must be gone before the bystander is measured alone again.
        if !wait_for_open_files(server, idle_files).await {
            add_finding(format!(
                "expected all connections of the attack to be closed within {RESPONSE_TIMEOUT:?}, found {:?} open files",
                server.open_files()
            ));
        }
        if bystander.error().is_some() || server.exit_status().is_some() {
            break;
        }
    }
    if let Some(error) = bystander.error() {
        add_finding(format!("the bystander: {error}"));
    }
    let (bound, after) = ((attack.bound)(options.scale), server.memory().unwrap_or_default());
    let grown = peak.memory.saturating_sub(before);
    if grown > bound.max_growth() {
        add_finding(format!(
            "{}: expected the server to grow by at most {} bytes, found {grown}",
            bound.name,
            bound.max_growth()
        ));
    }
    if let Some(limit) = bound.files
        && peak.files > limit
    {
        add_finding(format!("{}: expected at most {limit} more open files, found {}", bound.name, peak.files));
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

/// Runs an attack until it has reached its full extent, at least for `time`, and returns the bystander's latencies
/// meanwhile.
async fn run_round(
    attackers: &Attackers,
    attack: &Attack,
    context: &Arc<AttackContext>,
    bystander: &Bystander,
    time: Duration,
    poll: impl FnMut(),
) -> (Result<(), AttackError>, Result<Window, AttackError>) {
    let attacking = async {
        let ended = attackers.run((attack.run)(context.clone()), ATTACK_TIMEOUT + RESPONSE_TIMEOUT).await;
        // An attack that has failed does not report this itself.
        context.report_complete();
        ended
    };
    let watching = async {
        let started = Instant::now();
        let done = || context.is_complete() || started.elapsed() > ATTACK_TIMEOUT;
        let window = bystander.observe(time, done, poll).await;
        context.stop();
        window
    };
    tokio::join!(attacking, watching)
}

/// The peak usage of the server.
struct PeakUsage {
    memory: u64,
    files: u64,
    samples: u32,
}

impl PeakUsage {
    /// Takes a sample. The server had `files` open before any connection.
    fn sample(&mut self, server: &ServerProcess, files: u64) {
        self.samples = self.samples.wrapping_add(1);
        self.memory = self.memory.max(server.memory().unwrap_or_default());
        if self.samples.is_multiple_of(FILES_INTERVAL) {
            self.files = self.files.max(server.open_files().unwrap_or_default().saturating_sub(files));
        }
    }
}

/// Waits until the server has closed the files of an attack. Returns whether it has, in time.
async fn wait_for_open_files(server: &ServerProcess, files: u64) -> bool {
    let deadline = Instant::now() + RESPONSE_TIMEOUT;
    while server.open_files().is_some_and(|found| found > files + STORE_FILES) {
        if Instant::now() > deadline {
            return false;
        }
        sleep(Duration::from_millis(10)).await;
    }
    true
}

/// The number of files that the store may open temporarily.
const STORE_FILES: u64 = 4;
