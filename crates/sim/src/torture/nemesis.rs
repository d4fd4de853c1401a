//! The nemesis: injects faults into the server, and into all connections at once.

use super::client;
use super::context::ClientContext;
use super::disk::Disk;
use super::examiner::{Examiner, SHORT};
use super::netns::NetNamespace;
use super::proxy::Upstream;
use crate::Random;
use crate::RunError;
use crate::history::{Incident, Probe, Trouble};
use crate::process::{Launcher, LogReader, ServerProcess};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use syncline_client::Client;
use tokio::time::{Instant, sleep};

/// The memory limit of the server: far more than it needs, and far less than a leak would use.
const MAX_MEMORY: u64 = 512 * 1024 * 1024;

/// The maximum of open files of the server.
const MAX_FILES: u64 = 512;

/// The interval at which the server is monitored.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The longest pause between two faults is the length of the load divided by this.
const PAUSE_FRACTION: u64 = 20;

/// The time for clients to reconnect before a fault that affects many connections.
const RECONNECT_TIME: Duration = Duration::from_millis(500);

/// The longest time for which a disk stays full.
const MAX_FULL: Duration = Duration::from_secs(8);

/// The longest time until the log has a line that is expected.
const LOG_TIMEOUT: Duration = Duration::from_secs(5);

/// What a server logs while its log is not read: everything.
const FULL_LOG: &str = "trace";

/// The name of the count of packet loss faults that the machine does not support.
pub(super) const NO_PACKET_LOSS: &str = "packet loss that this machine does not support";

/// A fault of the server or of all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    KillTwice,
    KillInStart,
    /// SIGSTOP, and then SIGCONT or a kill.
    Pause,
    /// Nothing reads the log. A clean stop and a start before and after this change what is logged.
    LogUnread,
    /// The proxy discards all traffic.
    Partition,
    /// The proxy resets all connections.
    CutAll,
    /// The proxy discards the traffic on half of the connections.
    HalfOpen,
    /// Large writes while half of the connections are stalled.
    Flood,
    /// The disk is full. Then it gets space: another file is removed, or keys are deleted.
    DiskFull,
    /// The disk returns errors. The server is restarted on the healed disk.
    DiskDead,
    /// The data directory is moved away, and sometimes replaced by an empty one. Then it is moved back.
    DirectoryMoved,
    /// A volume is mounted over the data directory, and unmounted again.
    DirectoryCovered,
    Backup,
    Restore,
    /// The link to the server's network namespace is down.
    LinkDown,
    PacketLoss,
}

/// All faults, each as often as it is injected in a cycle. Each cycle has a random order.
const FAULTS: [Fault; 22] = [
    Fault::Kill,
    Fault::Kill,
    Fault::KillTwice,
    Fault::KillInStart,
    Fault::Pause,
    Fault::Pause,
    Fault::LogUnread,
    Fault::Partition,
    Fault::Partition,
    Fault::CutAll,
    Fault::HalfOpen,
    Fault::Flood,
    Fault::Flood,
    Fault::DiskFull,
    Fault::DiskDead,
    Fault::DirectoryMoved,
    Fault::DirectoryCovered,
    Fault::Backup,
    Fault::Restore,
    Fault::LinkDown,
    Fault::LinkDown,
    Fault::PacketLoss,
];

/// A backup, with its store and its revision.
#[derive(Debug)]
struct Backup {
    file: PathBuf,
    store: usize,
    revision: u64,
}

/// Starts and stops the server, and injects faults.
#[derive(Debug)]
pub(super) struct Nemesis {
    context: ClientContext,
    launcher: Launcher,
    disk: Disk,
    net: Option<Arc<NetNamespace>>,
    /// The directory of backups.
    directory: PathBuf,
    random: Random,
    server: Option<ServerProcess>,
    store: usize,
    /// The number of restores so far. Each has a data directory of its own.
    restores: usize,
    backup: Option<Backup>,
    remaining: Vec<Fault>,
    injected: usize,
}

impl Nemesis {
    pub(super) fn new(
        context: ClientContext,
        launcher: Launcher,
        disk: Disk,
        net: Option<Arc<NetNamespace>>,
        random: Random,
    ) -> Self {
        let directory = launcher.log.parent().unwrap_or(Path::new(".")).to_owned();
        let (server, backup, remaining) = (None, None, Vec::new());
        Self {
            context,
            launcher,
            disk,
            net,
            directory,
            random,
            server,
            store: 0,
            restores: 0,
            backup,
            remaining,
            injected: 0,
        }
    }

    /// Returns the current data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.disk.root.join(format!("data-{}", self.restores))
    }

    /// Starts a server with a small recent log and a short heartbeat interval.
    fn spawn(&self) -> Result<ServerProcess, RunError> {
        let recorder = self.context.recorder.clone();
        let flags = ["--recent-log", "16KiB", "--heartbeat", "200ms"];
        self.launcher.spawn(&self.data(), &flags, move |finding| recorder.add_finding(finding))
    }

    /// Starts the server, and makes it the upstream of the proxy.
    pub(super) async fn start(&mut self, restored: Option<(usize, u64)>) -> Result<(), RunError> {
        let since = self.context.recorder.now();
        let mut server = self.spawn()?;
        let address = server.wait_until_listening().await;
        // Even a server that does not listen must be killed later.
        self.server = Some(server);
        let address = address?;
        let id = store_id(&address).await?;
        self.store = self.context.recorder.register_store(&id, since, restored);
        let address = address.parse().map_err(|_| RunError::Unexpected { expected: "an address", found: address })?;
        self.context.proxy.set_upstream(Some(Upstream { address, store: self.store }));
        Ok(())
    }

    /// Injects one fault after another for a time, and each fault at least once.
    pub(super) async fn run(&mut self, duration: Duration) -> Result<(), RunError> {
        let until = Instant::now() + duration;
        self.monitor(Duration::from_secs(1)).await?;
        while Instant::now() < until || self.injected < FAULTS.len() {
            if self.remaining.is_empty() {
                self.remaining = FAULTS.to_vec();
            }
            let index = usize::try_from(self.random.below(self.remaining.len() as u64)).unwrap_or(0);
            let fault = self.remaining.swap_remove(index);
            self.injected += 1;
            self.inject(fault).await?;
            let longest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX) / PAUSE_FRACTION;
            let pause = self.millis(50, longest);
            self.monitor(pause).await?;
        }
        Ok(())
    }

    /// Stops the server cleanly, and checks its data with `syncline check`.
    pub(super) async fn end(&mut self) -> Result<(), RunError> {
        self.terminate().await?;
        self.launcher.run(&[OsStr::new("check"), self.data().as_os_str()]).await.map(drop)
    }

    /// Kills the server if it is running.
    pub(super) async fn kill_if_running(&mut self) {
        if let Some(server) = self.server.take() {
            // The failure that led here has been reported.
            let _ = server.kill().await;
        }
    }

    /// Monitors the server for a time, and returns an error if it exits.
    async fn monitor(&mut self, time: Duration) -> Result<(), RunError> {
        let until = Instant::now() + time;
        loop {
            let Some(server) = &mut self.server else { return Ok(()) };
            if let Some(status) = server.exit_status() {
                return Err(RunError::Ended { status: status.to_string() });
            }
            if let (Some(memory), Some(files)) = (server.memory(), server.open_files()) {
                self.context.recorder.gauge("memory of the server", memory, MAX_MEMORY);
                self.context.recorder.gauge("open files of the server", files, MAX_FILES);
            }
            if Instant::now() >= until {
                return Ok(());
            }
            sleep(POLL_INTERVAL.min(time)).await;
        }
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.random.spread(least, most))
    }

    /// Injects one fault, and heals it.
    async fn inject(&mut self, fault: Fault) -> Result<(), RunError> {
        let context = self.context.clone();
        let note = &|name: &str| {
            context.recorder.count(name, 1);
            context.recorder.note(name);
        };
        match fault {
            Fault::Kill => self.kill_and_restart(note).await,
            Fault::KillTwice => {
                self.kill_and_restart(note).await?;
                let delay = self.millis(1, 200);
                self.monitor(delay).await?;
                self.kill_and_restart(note).await
            }
            Fault::KillInStart => {
                note("kill -9");
                self.kill().await?;
                let server = self.spawn()?;
                let delay = self.millis(1, 60);
                sleep(delay).await;
                note("kill -9 during start");
                server.kill().await?;
                self.start(None).await
            }
            Fault::Pause => self.pause(note).await,
            Fault::LogUnread => {
                let usual = std::mem::replace(&mut self.launcher.log_filter, FULL_LOG);
                self.restart(note).await?;
                self.endure(Trouble::LogUnread).await?;
                self.launcher.log_filter = usual;
                self.restart(note).await
            }
            Fault::Partition => {
                note("partitions");
                self.context.proxy.set_partitioned(true);
                let duration = self.millis(200, 3000);
                let watched = self.monitor(duration).await;
                self.context.proxy.set_partitioned(false);
                watched
            }
            Fault::CutAll => {
                note("all connections cut at once");
                let cut = self.context.proxy.cut_all();
                self.context.recorder.count("connections cut", u64::try_from(cut).unwrap_or(0));
                Ok(())
            }
            Fault::HalfOpen => {
                self.monitor(RECONNECT_TIME).await?;
                let blackholed = self.context.proxy.blackhole_half(&mut self.random);
                context.recorder.note(format!("{blackholed} connections half open"));
                context.recorder.count("connections half open", u64::try_from(blackholed).unwrap_or(0));
                let duration = self.millis(200, 2000);
                let watched = self.monitor(duration).await;
                self.context.proxy.heal();
                watched
            }
            Fault::Flood => {
                self.monitor(RECONNECT_TIME).await?;
                note("floods beside stalled connections");
                let stalled = self.context.proxy.stall_half(&mut self.random);
                context.recorder.count("connections stalled", u64::try_from(stalled).unwrap_or(0));
                let duration = self.millis(500, 1500);
                client::flood(&self.context, self.random.fork(), duration).await;
                self.context.proxy.heal();
                Ok(())
            }
            Fault::DiskFull if !self.disk.is_small() => Ok(()),
            Fault::DiskFull => self.endure(Trouble::DiskFull).await,
            Fault::DiskDead if !self.disk.can_die() => self.kill_and_restart(note).await,
            Fault::DiskDead => {
                note("kill -9");
                self.endure(Trouble::DiskDead).await
            }
            Fault::DirectoryMoved if self.random.chance(50) => self.endure(Trouble::DirectoryReplaced).await,
            Fault::DirectoryMoved => self.endure(Trouble::DirectoryMoved).await,
            Fault::DirectoryCovered => self.endure(Trouble::DirectoryCovered).await,
            Fault::Backup => self.take_backup(note).await,
            Fault::Restore => self.restore(note).await,
            Fault::LinkDown => {
                let Some(net) = self.net.clone() else { return Ok(()) };
                note("link failures");
                net.set_link(false)?;
                let duration = self.millis(200, 4000);
                let watched = self.monitor(duration).await;
                net.set_link(true)?;
                watched
            }
            Fault::PacketLoss => {
                let Some(net) = self.net.clone() else { return Ok(()) };
                if let Err(trouble) = net.set_packet_loss(true) {
                    // Not every kernel supports packet loss.
                    context.recorder.note(format!("{NO_PACKET_LOSS}: {trouble}"));
                    context.recorder.count(NO_PACKET_LOSS, 1);
                    return Ok(());
                }
                note("periods of packet loss");
                let duration = self.millis(500, 5000);
                let watched = self.monitor(duration).await;
                net.set_packet_loss(false)?;
                watched
            }
        }
    }

    async fn kill(&mut self) -> Result<(), RunError> {
        self.context.proxy.set_upstream(None);
        match self.server.take() {
            Some(server) => server.kill().await,
            None => Ok(()),
        }
    }

    /// Stops the server cleanly if it is running.
    async fn terminate(&mut self) -> Result<(), RunError> {
        self.context.proxy.set_upstream(None);
        match self.server.take() {
            Some(server) => server.terminate().await,
            None => Ok(()),
        }
    }

    async fn restart(&mut self, note: impl Fn(&str)) -> Result<(), RunError> {
        note("restarts");
        self.terminate().await?;
        self.start(None).await
    }

    async fn kill_and_restart(&mut self, note: impl Fn(&str)) -> Result<(), RunError> {
        note("kill -9");
        self.kill().await?;
        self.start(None).await
    }

    async fn pause(&mut self, note: impl Fn(&str)) -> Result<(), RunError> {
        let Some(server) = &self.server else { return Ok(()) };
        note("SIGSTOP");
        server.signal("STOP").await?;
        let duration = self.millis(50, 4000);
        sleep(duration).await;
        if self.random.chance(20) {
            return self.kill_and_restart(note).await;
        }
        match &self.server {
            Some(server) => server.signal("CONT").await,
            None => Ok(()),
        }
    }

    /// Lets a trouble begin and end, and records what the server says about itself meanwhile.
    async fn endure(&mut self, trouble: Trouble) -> Result<(), RunError> {
        let context = self.context.clone();
        let recorder = &context.recorder;
        let began_at = recorder.now();
        let before = self.log_position();
        if let Err(why) = self.begin(trouble).await? {
            recorder.skip(name(trouble), why);
            return Ok(());
        }
        recorder.count(name(trouble), 1);
        recorder.note(format!("{trouble:?} begins"));
        let length = if trouble == Trouble::DiskFull { client::LARGE_VALUE } else { SHORT };
        let is_refused = |probe: &Probe| matches!(probe, Probe::Refused { .. });
        let is_accepted = |probe: &Probe| *probe == Probe::Accepted;
        let Some(address) = self.address() else { return Ok(()) };
        let examiner = Examiner::new(&context, &self.launcher, &address, length);
        let during = if trouble == Trouble::LogUnread {
            examiner.overflow_log().await;
            examiner.examine_until(is_accepted).await
        } else {
            examiner.examine_until(is_refused).await
        };
        let refused = during.last().is_some_and(|examination| is_refused(&examination.after));
        let log_during = self.log_lines(before, refused.then_some("ERROR")).await;
        let duration = self.millis(10, 500);
        self.monitor(duration).await?;

        let before = self.log_position();
        let is_restarted = trouble == Trouble::DiskDead;
        let strays = self.end_trouble(trouble).await?;
        let ended_at = recorder.now();
        recorder.note(format!("{trouble:?} is over"));
        let Some(address) = self.address() else { return Ok(()) };
        let after = Examiner::new(&context, &self.launcher, &address, length).examine_until(is_accepted).await;
        let expected = match trouble {
            Trouble::LogUnread => Some("dropped"),
            _ => (refused && !is_restarted).then_some("accepted again"),
        };
        let log_after = self.log_lines(before, expected).await;
        if trouble == Trouble::DiskFull {
            self.disk.free()?;
        }
        recorder.add_incident(Incident {
            trouble,
            began_at,
            during,
            log_during,
            strays,
            ended_at,
            is_restarted,
            after,
            log_after,
        });
        Ok(())
    }

    /// Lets a trouble begin. The inner error is the reason why the machine does not allow it.
    async fn begin(&mut self, trouble: Trouble) -> Result<Result<(), String>, RunError> {
        let data = self.data();
        let moved = away(&data);
        match trouble {
            Trouble::DirectoryMoved | Trouble::DirectoryReplaced => {
                fs::rename(&data, &moved).map_err(RunError::because("move", &data))?;
                if trouble == Trouble::DirectoryReplaced {
                    fs::create_dir(&data).map_err(RunError::because("make", &data))?;
                }
                Ok(Ok(()))
            }
            Trouble::DirectoryCovered => Ok(self.disk.cover(&file_name(&data)).await),
            Trouble::DiskFull => {
                self.disk.fill()?;
                if self.random.chance(50) {
                    client::flood(&self.context, self.random.fork(), MAX_FULL).await;
                } else {
                    client::hoard(&self.context, self.random.fork(), MAX_FULL).await;
                }
                if self.random.chance(30) {
                    // The server must also start on a full disk.
                    let context = self.context.clone();
                    self.kill_and_restart(|name| context.recorder.count(name, 1)).await?;
                }
                Ok(Ok(()))
            }
            Trouble::DiskDead => Ok(self.disk.die().await),
            Trouble::LogUnread => {
                if let Some(server) = &self.server {
                    server.log.set_reading(false);
                }
                Ok(Ok(()))
            }
        }
    }

    /// Ends a trouble. Returns what was found at the path of the data directory in its place.
    async fn end_trouble(&mut self, trouble: Trouble) -> Result<Vec<String>, RunError> {
        let data = self.data();
        let failed = |found: String| RunError::Unexpected { expected: "the disk to heal", found };
        let mut strays = Vec::new();
        match trouble {
            Trouble::DirectoryMoved | Trouble::DirectoryReplaced => {
                if data.exists() {
                    strays = files(&data)?;
                    fs::remove_dir_all(&data).map_err(RunError::because("remove", &data))?;
                }
                fs::rename(away(&data), &data).map_err(RunError::because("move back", &data))?;
            }
            Trouble::DirectoryCovered => {
                strays = files(&data)?;
                self.disk.uncover(&file_name(&data)).await.map_err(failed)?;
            }
            Trouble::DiskFull => {
                let refusals = client::delete_hoard(&self.context).await;
                match refusals {
                    // Nothing was hoarded, so only another file can make space.
                    None => self.disk.free()?,
                    Some(refusals) if refusals.is_empty() => {}
                    Some(refusals) => {
                        let (count, first) = (refusals.len(), refusals.first());
                        self.context.recorder.add_finding(format!(
                            "a full disk: expected every deletion to be accepted, because space is reserved for it, found {count} refused ones, the first of {first:?}"
                        ));
                        self.disk.free()?;
                    }
                }
            }
            Trouble::DiskDead => {
                self.kill().await?;
                self.disk.heal().await.map_err(failed)?;
                self.start(None).await?;
            }
            Trouble::LogUnread => {
                if let Some(server) = &self.server {
                    server.log.set_reading(true);
                }
            }
        }
        Ok(strays)
    }

    fn address(&self) -> Option<String> {
        self.server.as_ref()?.address.clone()
    }

    /// Returns the process and the number of lines that it has logged.
    fn log_position(&self) -> (u32, usize) {
        self.server.as_ref().map_or((0, 0), |server| (server.pid, server.log.count()))
    }

    /// Returns what the server has logged since a position. Waits for a line with these words, at most for a while.
    async fn log_lines(&self, (pid, position): (u32, usize), words: Option<&str>) -> Vec<String> {
        let Some(server) = &self.server else { return Vec::new() };
        // Another process has a log of its own.
        let position = if server.pid == pid { position } else { 0 };
        let log: &LogReader = &server.log;
        let until = Instant::now() + LOG_TIMEOUT;
        loop {
            let mut lines = log.lines_after(position);
            let is_there = words.is_none_or(|words| lines.iter().any(|line| line.contains(words)));
            if is_there || Instant::now() >= until {
                lines.retain(|line| is_kept(line));
                return lines;
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn take_backup(&mut self, note: impl Fn(&str)) -> Result<(), RunError> {
        note("backups");
        let file = self.directory.join("backup");
        let _ = fs::remove_file(&file);
        let data = self.data();
        let args = [OsStr::new("backup"), file.as_os_str(), OsStr::new("--data"), data.as_os_str()];
        let output = self.launcher.run(&args).await?;
        let revision = output.split_once("revision ").and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
        let revision = revision.ok_or(RunError::Unexpected { expected: "the revision of a backup", found: output })?;
        self.context.recorder.note(format!("a backup of store {} at revision {revision}", self.store));
        self.backup = Some(Backup { file, store: self.store, revision });
        Ok(())
    }

    async fn restore(&mut self, note: impl Fn(&str)) -> Result<(), RunError> {
        if self.backup.is_none() {
            self.take_backup(&note).await?;
        }
        note("restores");
        if self.random.chance(50) {
            self.kill().await?;
        } else {
            self.terminate().await?;
        }
        self.context.recorder.retire_store(self.store);
        let old = self.data();
        fs::remove_dir_all(&old).map_err(RunError::because("remove", &old))?;
        self.restores += 1;
        let data = self.data();
        let Some(Backup { file, store, revision }) = &self.backup else { return Ok(()) };
        let restored = Some((*store, *revision));
        self.launcher.run(&[OsStr::new("restore"), file.as_os_str(), OsStr::new("--data"), data.as_os_str()]).await?;
        self.start(restored).await
    }
}

/// Returns whether a line of the log may say something about health. The others are left out of the history.
fn is_kept(line: &str) -> bool {
    ["ERROR", "WARN", "accepted again", "dropped"].iter().any(|words| line.contains(words))
}

/// Returns the name of a trouble's count.
const fn name(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::DirectoryMoved => "data directories moved away",
        Trouble::DirectoryReplaced => "data directories replaced",
        Trouble::DirectoryCovered => "volumes mounted over the data",
        Trouble::DiskFull => "disk full",
        Trouble::DiskDead => "dead disks",
        Trouble::LogUnread => "logs that nothing reads",
    }
}

/// Returns the place to which a data directory is moved away.
fn away(data: &Path) -> PathBuf {
    data.with_extension("moved")
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns the names of the files in a directory.
fn files(directory: &Path) -> Result<Vec<String>, RunError> {
    let entries = fs::read_dir(directory).map_err(RunError::because("read", directory))?;
    Ok(entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect())
}

/// Returns the store id from the status of a server.
async fn store_id(address: &str) -> Result<String, RunError> {
    let unexpected = |found: String| RunError::Unexpected { expected: "a server that returns its status", found };
    let client = Client::connect(address).await.map_err(|error| unexpected(error.to_string()))?;
    let status = client.status().await.map_err(|error| unexpected(error.to_string()))?;
    let status: serde_json::Value = serde_json::from_str(&status)?;
    let id = status.get("store").and_then(serde_json::Value::as_str);
    id.map(str::to_owned).ok_or_else(|| unexpected(status.to_string()))
}
