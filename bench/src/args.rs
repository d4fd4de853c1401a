//! The command line.

use clap::Parser;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "The same work on Syncline, Redis, etcd and NATS, on one machine, in turns")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// The threads of the load generator
    #[arg(long, global = true, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=2))]
    pub(crate) threads: u64,
}

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Start the servers, do every run in rounds, and write the report
    Compare(Compare),
    /// Print the names of all runs, and who does them
    Runs,
    /// Reads of random keys
    Get {
        #[command(flatten)]
        server: Existing,
        #[arg(long, value_name = "N", default_value_t = 50)]
        connections: usize,
        /// Requests in flight on each
        #[arg(long, value_name = "N", default_value_t = 1)]
        depth: u16,
    },
    /// Compare-and-swap, one in flight for each writer
    Put {
        #[command(flatten)]
        server: Existing,
        #[arg(long, value_name = "N", default_value_t = 64)]
        writers: usize,
    },
    /// Existing connection writes, the others are sent it
    Fanout {
        #[command(flatten)]
        server: Existing,
        #[arg(long, value_name = "N", default_value_t = 100)]
        watchers: usize,
        /// Writes in flight
        #[arg(long, value_name = "N", default_value_t = 64)]
        depth: u16,
        /// At most so many writes per second
        #[arg(long, value_name = "N")]
        rate: Option<u32>,
    },
    /// Memory of connections that do nothing; needs --pid
    Idle {
        #[command(flatten)]
        server: Existing,
        #[arg(long, value_name = "N", default_value_t = 1000)]
        connections: usize,
        /// They are sent what changes
        #[arg(long)]
        watching: bool,
    },
    /// Existing writes, beside a watcher that does not read, until it does
    Stall {
        #[command(flatten)]
        server: Existing,
        #[arg(long, value_name = "N", default_value_t = 200_000)]
        puts: usize,
        #[arg(long, value_name = "N", default_value_t = 64)]
        depth: u16,
    },
    /// Watchers come back all at once, each so many changes behind
    Reconnect {
        #[command(flatten)]
        server: Existing,
        #[arg(long, value_name = "N", default_value_t = 10_000)]
        watchers: usize,
        #[arg(long, value_name = "N", default_value_t = 1000)]
        behind: usize,
    },
}

/// A server that runs already.
#[derive(clap::Args)]
pub(crate) struct Existing {
    /// What it is: syncline, syncline-base, syncline-tls, redis, redis-pubsub, nats, nats-core, etcd
    #[arg(long, value_name = "NAME")]
    pub(crate) peer: String,
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) addr: SocketAddr,
    /// Its process, to see what it takes
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// The CA of its certificate, for syncline-tls, whose certificate must be for localhost
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) keys: usize,
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    pub(crate) value_size: usize,
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub(crate) seconds: f64,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct Compare {
    /// The Syncline to compare: its binary
    #[arg(long, value_name = "FILE")]
    pub(crate) syncline: PathBuf,

    /// Where the other servers are installed
    #[arg(long, value_name = "DIR")]
    pub(crate) installed: PathBuf,

    /// Where the servers keep their data meanwhile, and results.json what was measured
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,

    /// The repository, whose docs/performance.md is written
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    /// Measure nothing: write docs/performance.md of what was measured last
    #[arg(long)]
    pub(crate) report_only: bool,

    /// Only the run of this name, or those whose names begin so; `runs` lists them. The others stay as they were measured last
    #[arg(long, value_name = "RUN", value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// Only these servers
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = ["syncline", "redis", "nats", "etcd"])]
    pub(crate) peers: Vec<String>,

    /// How often each does each run
    #[arg(long, value_name = "N")]
    pub(crate) rounds: Option<usize>,

    /// How long each run lasts
    #[arg(long, value_name = "SECONDS")]
    pub(crate) seconds: Option<f64>,

    /// Everything in less than 3 minutes: shorter, once, fewer keys. Writes no report
    #[arg(long)]
    pub(crate) quick: bool,

    /// Print each sample as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
