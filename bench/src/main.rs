//! `syncline-bench`: the same work on Syncline, Redis, etcd and NATS, on one machine, in turns.
//!
//! `./bench/compare` builds this, installs the others, and calls it.

mod compare;
mod contender;
mod failure;
mod million;
mod peers;
mod reconnect;
mod rows;
mod run;
mod server;
mod stall;

use clap::Parser;
use compare::Plan;
use failure::Failure;
use server::{Kind, Places};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
#[command(about = "The same work on Syncline, Redis, etcd and NATS, on one machine, in turns")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Start the servers, do every run in rounds, and write the report
    Compare(Compare),
}

#[derive(clap::Args)]
struct Compare {
    /// The Syncline to compare: its binary
    #[arg(long, value_name = "FILE")]
    syncline: PathBuf,

    /// Where the other servers are installed
    #[arg(long, value_name = "DIR")]
    installed: PathBuf,

    /// The repository, whose docs/performance.md is written
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Where the servers keep their data meanwhile
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// Only the runs whose names begin like this; `rows` lists them
    #[arg(long, value_name = "RUN", value_delimiter = ',')]
    only: Vec<String>,

    /// Only these servers
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = ["syncline", "redis", "nats", "etcd"])]
    peers: Vec<String>,

    /// How often each does each run
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: Option<u64>,

    /// How long each run lasts, in seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,

    /// Everything in less than 3 minutes: shorter, fewer rounds, fewer keys
    #[arg(long)]
    quick: bool,

    /// The threads of the load generator
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=2))]
    threads: u64,

    /// Print each sample as a JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match start(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("syncline-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> Result<(), Failure> {
    // Ten thousand connections are ten thousand files.
    rlimit::increase_nofile_limit(u64::MAX)?;
    let Command::Compare(args) = args.command;
    let mut builder = match args.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let threads = usize::try_from(args.threads).unwrap_or(1);
    builder.enable_all().worker_threads(threads).build()?.block_on(compare(args))
}

async fn compare(args: Compare) -> Result<(), Failure> {
    let peers =
        Kind::ALL.into_iter().filter(|kind| args.peers.is_empty() || args.peers.iter().any(|p| p == kind.name()));
    let seconds = args.seconds.unwrap_or(if args.quick { 0.5 } else { 2.0 });
    let plan = Plan {
        places: Places {
            // Servers run in their own directories.
            syncline: std::path::absolute(args.syncline)?,
            peers: std::path::absolute(args.installed)?,
            data: std::path::absolute(args.data)?,
        },
        rounds: args.rounds.map_or(if args.quick { 2 } else { 5 }, |rounds| usize::try_from(rounds).unwrap_or(1)),
        time: Duration::try_from_secs_f64(seconds).map_err(|error| Failure::Usage(format!("--seconds: {error}")))?,
        keys: if args.quick { 10_000 } else { 100_000 },
        many_keys: if args.quick { 100_000 } else { 1_000_000 },
        value_size: 100,
        only: args.only,
        peers: peers.collect(),
    };
    plan.compare(&mut |sample| {
        if args.json {
            println!("{}", serde_json::to_string(&sample).unwrap_or_default());
        } else {
            let figures: Vec<_> = sample
                .figures
                .iter()
                .map(|(name, figure)| format!("{name} {}", syncline_load::table::figure(*figure)))
                .collect();
            println!("{:14} {:14} {}", sample.run, sample.contender, figures.join(", "));
        }
    })
    .await
}
