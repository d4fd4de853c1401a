//! The command line, flag by flag: the help texts come from here.

use crate::failure::EXIT_CODES;
use crate::size::Size;
use clap::{ArgGroup, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use syncline_server::{Config, Limits};

/// A versioned key-value server that keeps every client up to date.
///
/// Each key has a version. A write is accepted only if it carries the current version plus 1, and so proves that it has
/// seen the latest; every accepted write is sent to all clients at once, in one order.
#[derive(Parser)]
#[command(name = "syncline", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Serve(Serve),
    Get(Get),
    Put(Put),
    Watch(Watch),
    Backup(Backup),
    Restore(Restore),
    Check(Check),
    Bench(Bench),
}

/// Run a server.
///
/// Prints `listening on HOST:PORT` once clients can connect, and logs to stderr (RUST_LOG=debug says more). Ctrl-C or
/// SIGTERM ends it in order.
#[derive(clap::Args)]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes any that is free
    #[arg(long, env = "SYNCLINE_LISTEN", value_name = "HOST:PORT", default_value_t = Config::default().listen)]
    pub(crate) listen: String,

    /// The directory that the data is kept in; made where it is not there
    #[arg(long, env = "SYNCLINE_DATA", value_name = "DIR", default_value = "syncline-data")]
    pub(crate) data: PathBuf,

    /// What an acknowledged write survives
    #[arg(long, value_enum, default_value_t = Durability::Fsync)]
    pub(crate) durability: Durability,

    /// How long a deleted key is remembered, with its version
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "7d")]
    pub(crate) tombstones: Duration,

    /// The longest key
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().max_key), help_heading = LIMITS)]
    pub(crate) max_key: Size,

    /// The most of key and value together; up to 16 MiB. More than 65,525 bytes only clients get that know PUTL
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().max_entry), help_heading = LIMITS)]
    pub(crate) max_entry: Size,

    /// The most connections; more are refused
    #[arg(long, value_name = "N", default_value_t = Config::default().max_connections, help_heading = LIMITS)]
    pub(crate) max_connections: usize,

    /// The most requests in flight per connection; at it, the connection is not read from
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_requests, help_heading = LIMITS)]
    pub(crate) max_requests: usize,

    /// The most bytes in flight per connection, answers not sent yet included; at it, it is not read from
    #[arg(long, value_name = "SIZE", default_value_t = Size(Limits::default().max_unsent), help_heading = LIMITS)]
    pub(crate) max_unsent: Size,

    /// The most bytes of writes that wait to be committed; at it, nobody who writes is read from
    #[arg(long, value_name = "SIZE", default_value_t = Size(Config::default().max_queue), help_heading = LIMITS)]
    pub(crate) max_queue: Size,

    /// How much of the newest history is kept in memory; who falls behind it is sent the latest of each key
    #[arg(long, value_name = "SIZE", default_value_t = Size(Config::default().recent_log), help_heading = LIMITS)]
    pub(crate) recent_log: Size,

    /// How often a watcher hears from the server at the least; silent for three times as long, the connection is dead
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "2s", help_heading = LIMITS)]
    pub(crate) heartbeat: Duration,
}

const LIMITS: &str = "Limits";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    /// A power cut: it is on disk
    Fsync,
    /// A killed process: the system has it. A power cut may take the newest; then the store has a new id
    Os,
    /// Nothing: all is kept in memory, and lost when the process ends
    Memory,
}

/// Print the value of a key.
///
/// The bytes are printed exactly as they are; on a terminal, with a newline and the version behind them.
#[derive(clap::Args)]
pub(crate) struct Get {
    #[command(flatten)]
    pub(crate) server: ServerArg,

    /// Which key
    pub(crate) key: OsString,

    /// Print a JSON object: key, value, version (bytes that are not UTF-8 as key_hex, value_hex)
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write a key.
///
/// Without --version or --force, the key must be new.
#[derive(clap::Args)]
#[command(group = ArgGroup::new("what").args(["value", "file"]))]
pub(crate) struct Put {
    #[command(flatten)]
    pub(crate) server: ServerArg,

    /// Which key
    pub(crate) key: OsString,

    /// What it shall hold; without this and --file, it is read from stdin
    pub(crate) value: Option<OsString>,

    /// Read the value from a file; - is stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// The version that the value will have: the current one plus 1, or 1 for a new key
    #[arg(long, value_name = "N", conflicts_with = "force", default_value_t = 1)]
    pub(crate) version: u64,

    /// Put over whatever is there
    #[arg(long)]
    pub(crate) force: bool,

    /// Print a JSON object: key, version
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print every change as it happens, until Ctrl-C.
///
/// Changes of all keys, from now on. Where some may have been missed, because the connection was lost for a while, it
/// says so on stderr (with --json: {"gap":true} on stdout).
#[derive(clap::Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(crate) server: ServerArg,

    /// Print a JSON object a line: key, value, version (bytes that are not UTF-8 as key_hex, value_hex)
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write everything of a data directory to one file.
///
/// A server may be running on it: what was acknowledged before is in the backup, all as of one revision.
#[derive(clap::Args)]
pub(crate) struct Backup {
    /// The file to write, which must not be there yet; or a directory to write it to
    #[arg(value_name = "FILE_OR_DIR")]
    pub(crate) to: PathBuf,

    /// The data directory
    #[arg(long, env = "SYNCLINE_DATA", value_name = "DIR", default_value = "syncline-data")]
    pub(crate) data: PathBuf,
}

/// Make a data directory of a backup.
///
/// The same keys, values, versions and revisions, under a new store id: clients that knew the old one start afresh.
#[derive(clap::Args)]
pub(crate) struct Restore {
    /// The backup
    #[arg(value_name = "FILE")]
    pub(crate) from: PathBuf,

    /// The data directory to make; what is there must be empty
    #[arg(long, env = "SYNCLINE_DATA", value_name = "DIR", default_value = "syncline-data")]
    pub(crate) data: PathBuf,
}

/// Look whether a data directory is whole, and count what is in it.
///
/// Reads everything, checks every checksum, and that all orders agree. Changes nothing; a server may be running on it.
#[derive(clap::Args)]
pub(crate) struct Check {
    /// The data directory
    #[arg(env = "SYNCLINE_DATA", value_name = "DIR", default_value = "syncline-data")]
    pub(crate) data: PathBuf,
}

/// Measure a server: how much it does a second, and how long each request takes.
///
/// A closed loop: each connection keeps --depth requests in flight, and sends the next when one is answered. Writes go to
/// keys that start with `syncline-bench/`, which stay there. Run it on another machine than the server's, or share its
/// processors; it says which machine it ran on.
#[derive(Clone, clap::Args)]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(crate) server: ServerArg,

    /// What to do
    #[arg(value_enum)]
    pub(crate) workload: Workload,

    /// Connections; for fanout, those that are sent every change
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) connections: u64,

    /// Requests in flight on each connection; for fanout, on the one that writes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub(crate) depth: u64,

    /// Keys, shared out among the connections
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) keys: u64,

    /// The bytes of each value; at least 8
    #[arg(long, value_name = "SIZE", default_value_t = Size(100))]
    pub(crate) value_size: Size,

    /// Connect as programs do that know no HELLO: each connection is sent what all others write
    #[arg(long)]
    pub(crate) base: bool,

    /// For put: watchers of everything that read nothing before the end
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub(crate) stalled: u64,

    /// For fanout: at most so many puts per second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: Option<u32>,

    /// How long to measure
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "5s")]
    pub(crate) time: Duration,

    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Compare-and-swap: each connection writes its own keys
    Put,
    /// Reads of random keys, which are written before
    Get,
    /// One connection writes; how long until the others, which watch, are sent it
    Fanout,
    /// Each connection begins to watch everything; how fast the keys come
    Snapshot,
}

#[derive(Clone, clap::Args)]
pub(crate) struct ServerArg {
    /// The server
    #[arg(long, env = "SYNCLINE_ADDR", value_name = "HOST:PORT", default_value_t = Config::default().listen)]
    pub(crate) addr: String,
}
