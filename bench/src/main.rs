//! `syncline-bench`: compares Syncline, Redis, etcd and NATS under the same work on one machine.
//!
//! `bench/compare` builds this program, installs the other servers, and runs it.

mod args;
mod compare;
mod error;
mod million;
mod peers;
mod plan;
mod reconnect;
mod report;
mod results;
mod rows;
mod run;
mod sample;
mod server;
mod stall;
mod system;
mod target;

use args::{Args, Command, Compare, Existing};
use clap::Parser;
use error::BenchError;
use plan::Plan;
use results::{Results, RunResults};
use sample::{Figures, Sample};
use server::{Data, Paths, ServerInfo, ServerKind};
use std::collections::BTreeMap;
use std::path::absolute;
use std::process::ExitCode;
use std::time::Duration;
use syncline_load::table::figure;
use syncline_load::{Keys, workload};
use system::System;
use target::{Target, Workload};
use tokio::signal::unix::{SignalKind, signal};

/// The default number of rounds and the default measuring time of each run.
const ROUNDS: usize = 5;
const SECONDS: f64 = 2.0;
const QUICK_ROUNDS: usize = 1;
const QUICK_SECONDS: f64 = 0.5;

fn main() -> ExitCode {
    match start(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("syncline-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> Result<(), BenchError> {
    // Each connection is an open file, and there are ten thousand.
    rlimit::increase_nofile_limit(u64::MAX)?;
    let mut builder = match args.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let threads = usize::try_from(args.threads).unwrap_or(1);
    builder.enable_all().worker_threads(threads).build()?.block_on(run(args))
}

/// Runs work until it is done or this process is asked to exit. Dropping the work kills the servers that it has
/// started.
async fn unless_interrupted(work: impl Future<Output = Result<(), BenchError>>) -> Result<(), BenchError> {
    let (mut interrupted, mut terminated) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        done = work => done,
        _ = interrupted.recv() => Err(BenchError::Interrupted),
        _ = terminated.recv() => Err(BenchError::Interrupted),
    }
}

async fn run(args: Args) -> Result<(), BenchError> {
    let threads = args.threads;
    match args.command {
        Command::Compare(args) => compare(args, threads).await,
        Command::Runs => {
            print!("{}", report::run_names());
            Ok(())
        }
        Command::Get { server, connections, depth } => measure(&server, Workload::Get { connections, depth }).await,
        Command::Put { server, writers } => measure(&server, Workload::Put { writers }).await,
        Command::Fanout { server, watchers, depth, rate } => {
            measure(&server, Workload::Fanout { watchers, depth, rate }).await
        }
        Command::Idle { server, connections, watching } => {
            measure(&server, Workload::Idle { connections, watching }).await
        }
        Command::Stall { server, puts, depth } => measure(&server, Workload::Stall { puts, depth }).await,
        Command::Reconnect { server, watchers, behind } => {
            measure(&server, Workload::Reconnect { watchers, behind }).await
        }
    }
}

/// Measures one workload on a server that is already running.
async fn measure(server: &Existing, work: Workload) -> Result<(), BenchError> {
    let system = System::from_id(&server.peer).ok_or_else(|| BenchError::Usage(format!("no peer {}", server.peer)))?;
    let info = ServerInfo { address: server.addr, ca: server.tls_ca.clone(), pid: server.pid };
    let keys = Keys::new(server.keys, server.value_size);
    let peer = system.storing().first_peer(&info)?;
    syncline_load::Peer::open(&peer).await?;
    let peer = system.storing().peer(&info, false)?;
    workload::learn(&peer, &keys).await?;
    workload::fill(&peer, &keys).await?;
    let target = Target::new(system, &info, &keys);
    let figures = run::execute(&target, work, duration(server.seconds)?).await?;
    if server.json {
        println!("{}", serde_json::to_string(&figures).unwrap_or_default());
    } else {
        println!("{}", listed(&figures));
    }
    Ok(())
}

fn duration(seconds: f64) -> Result<Duration, BenchError> {
    Duration::try_from_secs_f64(seconds).map_err(|error| BenchError::Usage(format!("--seconds: {error}")))
}

fn listed(figures: &Figures) -> String {
    let listed: Vec<_> = figures.iter().map(|(name, number)| format!("{name} {}", figure(number.0))).collect();
    listed.join(", ")
}

async fn compare(args: Compare, threads: u64) -> Result<(), BenchError> {
    let known = args.data.join("results.json");
    if args.report_only {
        let results = Results::read(&known)?;
        if results.runs.is_empty() {
            let expected = format!("results in {}", known.display());
            return Err(BenchError::Usage(format!("expected {expected}, found none; run bench/compare first")));
        }
        return args.root.as_ref().map_or(Ok(()), |root| report::write(&results, root));
    }
    let wanted = |kind: &ServerKind| args.peers.is_empty() || args.peers.iter().any(|name| name == kind.name());
    let peers: Vec<_> = ServerKind::ALL.into_iter().filter(wanted).collect();
    let seconds = args.seconds.unwrap_or(if args.quick { QUICK_SECONDS } else { SECONDS });
    let data = Data::new(&absolute(&args.data)?)?;
    let plan = Plan {
        // Servers run in directories of their own, so the paths must be absolute.
        paths: Paths { syncline: absolute(&args.syncline)?, peers: absolute(&args.installed)?, data: data.path() },
        rounds: args.rounds.unwrap_or(if args.quick { QUICK_ROUNDS } else { ROUNDS }),
        time: duration(seconds)?,
        keys: if args.quick { 10_000 } else { 100_000 },
        many_keys: if args.quick { 100_000 } else { 1_000_000 },
        value_size: 100,
        only: args.only.clone(),
        peers,
        is_quick: args.quick,
    };
    let mut versions = BTreeMap::new();
    for &kind in &plan.peers {
        versions.insert(kind.name().to_owned(), plan.paths.version(kind).await?);
    }
    let mut samples: Vec<Sample> = Vec::new();
    let mut report_sample = |sample: &Sample| {
        if args.json {
            println!("{}", serde_json::to_string(sample).unwrap_or_default());
        } else {
            println!("{:14} {:14} {}", sample.run, sample.system, listed(&sample.figures));
        }
        samples.push(sample.clone());
    };
    let outcome = unless_interrupted(compare::compare(&plan, &mut report_sample)).await;
    if outcome.is_err() {
        // The last run is incomplete.
        let last = samples.last().map(|sample| sample.run.clone());
        samples.retain(|sample| Some(&sample.run) != last.as_ref());
    }
    let mut results = Results { machine: results::machine(), versions, runs: BTreeMap::new() };
    for sample in samples {
        let run = results.runs.entry(sample.run.clone()).or_insert_with(|| RunResults {
            date: results::today(),
            seconds,
            keys: plan.keys,
            threads,
            samples: Vec::new(),
        });
        run.samples.push(sample);
    }
    if !args.json {
        println!("\n{}", report::tables(&results));
        if args.quick {
            println!(
                "Quick comparison with {} and {} keys, {seconds} s per run. Its figures are rough.",
                plan.keys, plan.many_keys
            );
        }
    }
    // The samples of a quick comparison are too few to keep.
    if !args.quick {
        let mut all = Results::read(&known)?;
        all.add(results);
        all.write(&known)?;
        if let Some(root) = &args.root {
            report::write(&all, root)?;
        }
    }
    outcome
}
