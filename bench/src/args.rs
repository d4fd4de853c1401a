//! The command line.

use clap::Parser;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "Compares Syncline, Redis, etcd and NATS under the same work on one machine")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Number of load generator threads
    #[arg(long, global = true, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=2))]
    pub(crate) threads: u64,
}

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Start the servers, do all runs in alternating rounds, and write bench/results.md
    Compare(Compare),
    /// Print the names of all runs and the systems of each
    Runs,
    /// Measure reads of random keys
    Get {
        #[command(flatten)]
        server: Existing,
        #[arg(long, value_name = "N", default_value_t = 50)]
        connections: usize,
        /// Requests in flight on each connection
        #[arg(long, value_name = "N", default_value_t = 1)]
        depth: u16,
    },
    /// Measure compare-and-swap, one in flight for each writer
    Put {
        #[command(flatten)]
        server: Existing,
        #[arg(long, value_name = "N", default_value_t = 64)]
        writers: usize,
    },
    /// Measure fan-out: one connection writes, and watchers receive each write
    Fanout {
        #[command(flatten)]
        server: Existing,
        #[arg(long, value_name = "N", default_value_t = 100)]
        watchers: usize,
        /// Writes in flight
        #[arg(long, value_name = "N", default_value_t = 64)]
        depth: u16,
        /// Limit of writes per second
        #[arg(long, value_name = "N")]
        rate: Option<u32>,
    },
    /// Measure the memory of idle connections; needs --pid
    Idle {
        #[command(flatten)]
        server: Existing,
        #[arg(long, value_name = "N", default_value_t = 1000)]
        connections: usize,
        /// Let the connections watch all keys
        #[arg(long)]
        watching: bool,
    },
    /// Measure a writer beside a watcher that does not read, and how the watcher catches up
    Stall {
        #[command(flatten)]
        server: Existing,
        #[arg(long, value_name = "N", default_value_t = 200_000)]
        puts: usize,
        #[arg(long, value_name = "N", default_value_t = 64)]
        depth: u16,
    },
    /// Measure watchers that all reconnect at once
    Reconnect {
        #[command(flatten)]
        server: Existing,
        #[arg(long, value_name = "N", default_value_t = 10_000)]
        watchers: usize,
        /// Changes that each watcher has missed
        #[arg(long, value_name = "N", default_value_t = 1000)]
        behind: usize,
    },
}

/// A server that is already running.
#[derive(clap::Args)]
pub(crate) struct Existing {
    /// System: syncline, syncline-base, syncline-tls, redis, redis-pubsub, nats, nats-core, etcd
    #[arg(long, value_name = "NAME")]
    pub(crate) peer: String,
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) addr: SocketAddr,
    /// Process id of the server, to measure its memory and processor time
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// CA certificate of the server, for syncline-tls; the server's certificate must be for localhost
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) keys: usize,
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    pub(crate) value_size: usize,
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub(crate) seconds: f64,
    /// Print the figures as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct Compare {
    /// Syncline binary to compare
    #[arg(long, value_name = "FILE")]
    pub(crate) syncline: PathBuf,

    /// Directory in which the other servers are installed
    #[arg(long, value_name = "DIR")]
    pub(crate) installed: PathBuf,

    /// Directory for the data of the servers and for results.json, which keeps all samples
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,

    /// Root of the repository, in which bench/results.md and the plots are written
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    /// Measure nothing: write bench/results.md from the stored samples
    #[arg(long)]
    pub(crate) report_only: bool,

    /// Do only these runs, given by name or by prefix (see `runs`); the report keeps the stored samples of the others
    #[arg(long, value_name = "RUN", value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// Compare only these servers
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = ["syncline", "redis", "nats", "etcd"])]
    pub(crate) peers: Vec<String>,

    /// Number of rounds
    #[arg(long, value_name = "N")]
    pub(crate) rounds: Option<usize>,

    /// Measuring time of each run
    #[arg(long, value_name = "SECONDS")]
    pub(crate) seconds: Option<f64>,

    /// Do all runs in less than 3 minutes: one short round with fewer keys; writes no report
    #[arg(long)]
    pub(crate) quick: bool,

    /// Print each sample as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
