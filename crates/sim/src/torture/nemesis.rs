//! What befalls the server, and all connections at once.

use super::client;
use super::disk::Disk;
use super::load::Load;
use super::net::Net;
use super::proxy::Target;
use crate::Random;
use crate::Trouble;
use crate::process::{Launch, Server};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use syncline_client::Client;
use tokio::time::{Instant, sleep};

/// The memory that a server may have: much more than it needs, and much less than a leak would take.
const MAX_MEMORY: u64 = 512 * 1024 * 1024;

/// The files that a server may have open.
const MAX_FILES: u64 = 512;

/// How often the server is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A pause between two faults is at most this part of a round.
const PAUSES: u64 = 20;

/// How long clients get to connect before what is meant for many of them.
const GATHER: Duration = Duration::from_millis(500);

/// How long a disk stays full at the most.
const FULL: Duration = Duration::from_secs(8);

/// What is counted where packets can't be lost.
pub(super) const NO_LOSS: &str = "packet loss that this machine does not allow";

/// What befalls all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    KillTwice,
    KillInStart,
    Stop,
    Restart,
    Part,
    CutAll,
    HalfOpen,
    Flood,
    FillDisk,
    Backup,
    Restore,
    Unplug,
    Disturb,
}

/// Each as often as it comes until all have come: a deck, which is shuffled when it is empty.
const DECK: [Fault; 20] = [
    Fault::Kill,
    Fault::Kill,
    Fault::Kill,
    Fault::KillTwice,
    Fault::KillInStart,
    Fault::Stop,
    Fault::Stop,
    Fault::Restart,
    Fault::Part,
    Fault::Part,
    Fault::CutAll,
    Fault::HalfOpen,
    Fault::Flood,
    Fault::Flood,
    Fault::FillDisk,
    Fault::Backup,
    Fault::Restore,
    Fault::Unplug,
    Fault::Unplug,
    Fault::Disturb,
];

/// A backup, of which store, and up to which revision.
#[derive(Debug)]
struct Backup {
    file: PathBuf,
    store: usize,
    revision: u64,
}

/// Starts, ends, stops and starves the server.
#[derive(Debug)]
pub(super) struct Nemesis {
    load: Load,
    launch: Launch,
    disk: Disk,
    net: Option<Arc<Net>>,
    /// Where backups go.
    directory: PathBuf,
    random: Random,
    server: Option<Server>,
    store: usize,
    /// How many data directories there were.
    restores: usize,
    backup: Option<Backup>,
    deck: Vec<Fault>,
    dealt: usize,
}

impl Nemesis {
    pub(super) fn new(load: Load, launch: Launch, disk: Disk, net: Option<Arc<Net>>, random: Random) -> Self {
        let directory = launch.log.parent().unwrap_or(Path::new(".")).to_owned();
        let (server, backup, deck) = (None, None, Vec::new());
        Self { load, launch, disk, net, directory, random, server, store: 0, restores: 0, backup, deck, dealt: 0 }
    }

    /// Where the data is.
    pub(super) fn data(&self) -> PathBuf {
        self.disk.root.join(format!("data-{}", self.restores))
    }

    /// Starts a server that has little room, and is to be heard of often.
    fn spawn(&self) -> Result<Server, Trouble> {
        let recorder = self.load.recorder.clone();
        let flags = ["--recent-log", "16KiB", "--heartbeat", "200ms"];
        self.launch.spawn(&self.data(), &flags, move |said| recorder.find(said))
    }

    /// Starts the server, and leads everybody to it.
    pub(super) async fn start(&mut self, restored: Option<(usize, u64)>) -> Result<(), Trouble> {
        let since = self.load.recorder.now();
        let mut server = self.spawn()?;
        let listens = server.listens().await;
        self.server = Some(server);
        let address = listens?;
        let id = store_id(&address).await?;
        self.store = self.load.recorder.serve(&id, since, restored);
        let address = address.parse().map_err(|_| Trouble::Unexpected { expected: "an address", found: address })?;
        self.load.proxy.lead_to(Some(Target { address, store: self.store }));
        Ok(())
    }

    /// One fault after the other, for so long, and each once at the least.
    pub(super) async fn storm(&mut self, lasts: Duration) -> Result<(), Trouble> {
        let until = Instant::now() + lasts;
        self.watch_for(Duration::from_secs(1)).await?;
        while Instant::now() < until || self.dealt < DECK.len() {
            if self.deck.is_empty() {
                self.deck = DECK.to_vec();
            }
            let place = usize::try_from(self.random.below(self.deck.len() as u64)).unwrap_or(0);
            let fault = self.deck.swap_remove(place);
            self.dealt += 1;
            self.strike(fault).await?;
            let longest = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX) / PAUSES;
            let pause = self.millis(50, longest);
            self.watch_for(pause).await?;
        }
        Ok(())
    }

    /// Ends the server in order, and has its data looked at.
    pub(super) async fn end(&mut self) -> Result<(), Trouble> {
        self.terminate().await?;
        self.launch.run(&[OsStr::new("check"), self.data().as_os_str()]).await.map(drop)
    }

    /// Ends the server at once, if there is one.
    pub(super) async fn give_up(&mut self) {
        if let Some(server) = self.server.take() {
            // Whatever has failed is told already.
            let _ = server.kill().await;
        }
    }

    /// Looks at the server for so long.
    async fn watch_for(&mut self, time: Duration) -> Result<(), Trouble> {
        let until = Instant::now() + time;
        loop {
            let Some(server) = &mut self.server else { return Ok(()) };
            if let Some(status) = server.has_ended() {
                return Err(Trouble::Ended { status: status.to_string() });
            }
            if let (Some(memory), Some(files)) = (server.memory(), server.files()) {
                self.load.recorder.gauge("memory of the server", memory, MAX_MEMORY);
                self.load.recorder.gauge("files that the server has open", files, MAX_FILES);
            }
            if Instant::now() >= until {
                return Ok(());
            }
            sleep(LOOK.min(time)).await;
        }
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.random.spread(least, most))
    }

    async fn strike(&mut self, fault: Fault) -> Result<(), Trouble> {
        let load = self.load.clone();
        let note = |name: &str| {
            load.recorder.count(name, 1);
            load.recorder.note(name);
        };
        match fault {
            Fault::Kill => self.kill_and_start(note).await,
            Fault::KillTwice => {
                self.kill_and_start(note).await?;
                let soon = self.millis(1, 200);
                self.watch_for(soon).await?;
                self.kill_and_start(note).await
            }
            Fault::KillInStart => {
                note("kill -9");
                self.kill().await?;
                let server = self.spawn()?;
                let soon = self.millis(1, 60);
                sleep(soon).await;
                note("kill -9 while it starts");
                server.kill().await?;
                self.start(None).await
            }
            Fault::Stop => self.stop(note).await,
            Fault::Restart => {
                note("restarts");
                self.terminate().await?;
                self.start(None).await
            }
            Fault::Part => {
                note("partitions");
                self.load.proxy.part(true);
                let long = self.millis(200, 3000);
                let watched = self.watch_for(long).await;
                self.load.proxy.part(false);
                watched
            }
            Fault::CutAll => {
                note("all connections cut at once");
                let cut = self.load.proxy.cut_all();
                self.load.recorder.count("connections cut", u64::try_from(cut).unwrap_or(0));
                Ok(())
            }
            Fault::HalfOpen => {
                self.watch_for(GATHER).await?;
                let swallowed = self.load.proxy.swallow(&mut self.random);
                load.recorder.note(format!("{swallowed} connections half open"));
                load.recorder.count("connections half open", u64::try_from(swallowed).unwrap_or(0));
                let long = self.millis(200, 2000);
                let watched = self.watch_for(long).await;
                self.load.proxy.go_on();
                watched
            }
            Fault::Flood => {
                self.watch_for(GATHER).await?;
                note("floods beside stalled connections");
                let stalled = self.load.proxy.stall(&mut self.random);
                load.recorder.count("connections stalled", u64::try_from(stalled).unwrap_or(0));
                let long = self.millis(500, 1500);
                client::flood(&self.load, self.random.fork(), long).await;
                self.load.proxy.go_on();
                Ok(())
            }
            Fault::FillDisk if !self.disk.is_small() => Ok(()),
            Fault::FillDisk => self.fill(note).await,
            Fault::Backup => self.back_up(note).await,
            Fault::Restore => self.restore(note).await,
            Fault::Unplug => {
                let Some(net) = self.net.clone() else { return Ok(()) };
                note("cables pulled");
                net.plug(false)?;
                let long = self.millis(200, 4000);
                let watched = self.watch_for(long).await;
                net.plug(true)?;
                watched
            }
            Fault::Disturb => {
                let Some(net) = self.net.clone() else { return Ok(()) };
                if let Err(trouble) = net.disturb(true) {
                    // Not every kernel can.
                    load.recorder.note(format!("{NO_LOSS}: {trouble}"));
                    load.recorder.count(NO_LOSS, 1);
                    return Ok(());
                }
                note("times of packet loss");
                let long = self.millis(500, 5000);
                let watched = self.watch_for(long).await;
                net.disturb(false)?;
                watched
            }
        }
    }

    async fn kill(&mut self) -> Result<(), Trouble> {
        self.load.proxy.lead_to(None);
        match self.server.take() {
            Some(server) => server.kill().await,
            None => Ok(()),
        }
    }

    /// Ends the server in order, if there is one.
    async fn terminate(&mut self) -> Result<(), Trouble> {
        self.load.proxy.lead_to(None);
        match self.server.take() {
            Some(server) => server.terminate().await,
            None => Ok(()),
        }
    }

    async fn kill_and_start(&mut self, note: impl Fn(&str)) -> Result<(), Trouble> {
        note("kill -9");
        self.kill().await?;
        self.start(None).await
    }

    async fn stop(&mut self, note: impl Fn(&str)) -> Result<(), Trouble> {
        let Some(server) = &self.server else { return Ok(()) };
        note("SIGSTOP");
        server.signal("STOP").await?;
        let long = self.millis(50, 4000);
        sleep(long).await;
        if self.random.chance(20) {
            return self.kill_and_start(note).await;
        }
        match &self.server {
            Some(server) => server.signal("CONT").await,
            None => Ok(()),
        }
    }

    /// Fills the disk, writes until the server feels it, and makes room again.
    async fn fill(&mut self, note: impl Fn(&str)) -> Result<(), Trouble> {
        note("disk full");
        self.disk.fill()?;
        let flooded = client::flood(&self.load, self.random.fork(), FULL).await;
        if flooded && self.random.chance(30) {
            // It must start on a full disk, too.
            self.kill_and_start(note).await?;
        }
        let long = self.millis(50, 1000);
        let watched = self.watch_for(long).await;
        self.disk.free()?;
        self.load.recorder.note("there is room again");
        watched
    }

    async fn back_up(&mut self, note: impl Fn(&str)) -> Result<(), Trouble> {
        note("backups");
        let file = self.directory.join("backup");
        let _ = fs::remove_file(&file);
        let data = self.data();
        let args = [OsStr::new("backup"), file.as_os_str(), OsStr::new("--data"), data.as_os_str()];
        let said = self.launch.run(&args).await?;
        let told = said.split_once("revision ").and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
        let revision = told.ok_or(Trouble::Unexpected { expected: "the revision of a backup", found: said })?;
        self.load.recorder.note(format!("a backup of store {} at revision {revision}", self.store));
        self.backup = Some(Backup { file, store: self.store, revision });
        Ok(())
    }

    async fn restore(&mut self, note: impl Fn(&str)) -> Result<(), Trouble> {
        if self.backup.is_none() {
            self.back_up(&note).await?;
        }
        note("restores");
        if self.random.chance(50) {
            self.kill().await?;
        } else {
            self.terminate().await?;
        }
        self.load.recorder.end(self.store);
        let old = self.data();
        fs::remove_dir_all(&old).map_err(Trouble::because("remove", &old))?;
        self.restores += 1;
        let data = self.data();
        let Some(Backup { file, store, revision }) = &self.backup else { return Ok(()) };
        let restored = Some((*store, *revision));
        self.launch.run(&[OsStr::new("restore"), file.as_os_str(), OsStr::new("--data"), data.as_os_str()]).await?;
        self.start(restored).await
    }
}

/// The store that a server says that it serves.
async fn store_id(address: &str) -> Result<String, Trouble> {
    let unexpected = |found: String| Trouble::Unexpected { expected: "a server that tells its status", found };
    let client = Client::connect(address).await.map_err(|error| unexpected(error.to_string()))?;
    let status = client.status().await.map_err(|error| unexpected(error.to_string()))?;
    let status: serde_json::Value = serde_json::from_str(&status)?;
    let id = status.get("store").and_then(serde_json::Value::as_str);
    id.map(str::to_owned).ok_or_else(|| unexpected(status.to_string()))
}
