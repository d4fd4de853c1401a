//! The nemesis: injects faults into the server, and into all connections at once.

use super::client;
use super::context::ClientContext;
use super::disk::Disk;
use super::netns::NetNamespace;
use super::proxy::Upstream;
use crate::Random;
use crate::RunError;
use crate::process::{Launcher, ServerProcess};
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
    /// A clean stop and a start.
    Restart,
    /// The proxy discards all traffic.
    Partition,
    /// The proxy resets all connections.
    CutAll,
    /// The proxy discards the traffic on half of the connections.
    HalfOpen,
    /// Large writes while half of the connections are stalled.
    Flood,
    FillDisk,
    Backup,
    Restore,
    /// The link to the server's network namespace is down.
    LinkDown,
    PacketLoss,
}

/// All faults, each as often as it is injected in a cycle. Each cycle has a random order.
const FAULTS: [Fault; 20] = [
    Fault::Kill,
    Fault::Kill,
    Fault::Kill,
    Fault::KillTwice,
    Fault::KillInStart,
    Fault::Pause,
    Fault::Pause,
    Fault::Restart,
    Fault::Partition,
    Fault::Partition,
    Fault::CutAll,
    Fault::HalfOpen,
    Fault::Flood,
    Fault::Flood,
    Fault::FillDisk,
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
        let note = |name: &str| {
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
            Fault::Restart => {
                note("restarts");
                self.terminate().await?;
                self.start(None).await
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
            Fault::FillDisk if !self.disk.is_small() => Ok(()),
            Fault::FillDisk => self.fill(note).await,
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

    /// Fills the disk, writes until the server refuses writes, and frees the space again.
    async fn fill(&mut self, note: impl Fn(&str)) -> Result<(), RunError> {
        note("disk full");
        self.disk.fill()?;
        let flooded = client::flood(&self.context, self.random.fork(), MAX_FULL).await;
        if flooded && self.random.chance(30) {
            // The server must also start on a full disk.
            self.kill_and_restart(note).await?;
        }
        let duration = self.millis(50, 1000);
        let watched = self.monitor(duration).await;
        self.disk.free()?;
        self.context.recorder.note("the disk has space again");
        watched
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

/// Returns the store id from the status of a server.
async fn store_id(address: &str) -> Result<String, RunError> {
    let unexpected = |found: String| RunError::Unexpected { expected: "a server that returns its status", found };
    let client = Client::connect(address).await.map_err(|error| unexpected(error.to_string()))?;
    let status = client.status().await.map_err(|error| unexpected(error.to_string()))?;
    let status: serde_json::Value = serde_json::from_str(&status)?;
    let id = status.get("store").and_then(serde_json::Value::as_str);
    id.map(str::to_owned).ok_or_else(|| unexpected(status.to_string()))
}
