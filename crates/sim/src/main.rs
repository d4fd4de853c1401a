//! `syncline-sim`: runs seeds of the simulator, and checks every promise over the resulting histories.
#![allow(clippy::print_stderr, reason = "a command-line program prints errors")]

use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use syncline_sim::history::History;
use syncline_sim::say;
use syncline_sim::seeds::{FailedSeed, Seeds, fresh_seed, run_all};
use syncline_sim::show::show;
use syncline_sim::world::{Variation, Wrong, run};

/// Run seeds of the simulator, and check every promise of Syncline over the resulting histories.
///
/// The simulator runs servers and clients, and the network and the disk between them, under virtual time. The same
/// seed and number of steps make the same run.
///
/// Exit codes: 0 all promises were kept; 1 a promise was broken; 2 invalid arguments; 3 too little load to show
/// anything.
#[derive(Debug, Parser)]
#[command(name = "syncline-sim", version, max_term_width = 100)]
struct Args {
    /// First seed [default: one made from the current time, which is printed]
    #[arg(long)]
    seed: Option<u64>,

    /// Number of seeds to run
    #[arg(long, default_value_t = 1)]
    seeds: u64,

    /// Number of steps of each seed. After them faults end, and the run continues until it has settled
    #[arg(long, default_value_t = 20_000)]
    steps: u64,

    /// Number of seeds to run at the same time
    #[arg(long, default_value_t = 1)]
    jobs: usize,

    /// Run this deliberately wrong variant, which its checker must find
    #[arg(long, value_parser = wrong)]
    wrong: Option<Wrong>,

    /// Number of clients with replicas [default: each seed decides]
    #[arg(long)]
    clients: Option<usize>,

    /// Write the history of the seed that broke a promise to this file, as JSON. With one seed, always write it
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

fn wrong(name: &str) -> Result<Wrong, String> {
    let names: Vec<_> = Wrong::ALL.iter().map(|wrong| format!("{wrong:?}")).collect();
    Wrong::named(name).ok_or_else(|| format!("expected one of {}", names.join(", ")))
}

/// The load is judged only over at least this many seeds: fewer may lack something by chance.
const MIN_JUDGED: u64 = 100;

const BROKEN: u8 = 1;
const TOO_LITTLE_LOAD: u8 = 3;

fn main() -> ExitCode {
    let Args { seed, seeds, steps, jobs, wrong, clients, history } = Args::parse();
    let variation = Variation { wrong, clients };
    let first = seed.unwrap_or_else(fresh_seed);
    say(format_args!("seeds {first} to {}, {steps} steps each", first + seeds.saturating_sub(1)));
    let summary = match run_all(Seeds { first, count: seeds, steps, jobs, variation }) {
        Ok(summary) => summary,
        Err(broken) => {
            report(&broken, steps, variation);
            if let Some(path) = &history {
                keep(path, &broken.history);
            }
            return ExitCode::from(BROKEN);
        }
    };
    if let (Some(path), 1) = (&history, seeds) {
        // A second run makes the same history.
        keep(path, &run(first, steps, variation).history);
    }
    say(format_args!("{summary}"));
    let missing_load = summary.missing_load();
    if summary.runs >= MIN_JUDGED && !missing_load.is_empty() {
        missing_load.iter().for_each(|lack| eprintln!("too little load: {lack}"));
        return ExitCode::from(TOO_LITTLE_LOAD);
    }
    ExitCode::SUCCESS
}

/// Prints what was broken, the events that led to it, and the command that repeats the run.
fn report(FailedSeed { seed, history, violations }: &FailedSeed, steps: u64, variation: Variation) {
    let mut shown = Vec::new();
    if let Some(violation) = violations.first()
        && show(history, violation, &mut shown).is_ok()
    {
        say(format_args!("{}", String::from_utf8_lossy(&shown)));
    }
    say(format_args!("broken in seed {seed}:"));
    violations.iter().for_each(|violation| say(format_args!("  {}: {}", violation.promise, violation.text)));
    let wrong = variation.wrong.map_or_else(String::new, |wrong| format!(" --wrong {wrong:?}"));
    let clients = variation.clients.map_or_else(String::new, |clients| format!(" --clients {clients}"));
    say(format_args!(
        "\nto repeat the run: cargo run -p syncline-sim -- --seed {seed} --steps {steps}{wrong}{clients}"
    ));
}

fn keep(path: &Path, history: &History) {
    let written = serde_json::to_vec(history).map_err(Into::into).and_then(|bytes| std::fs::write(path, bytes));
    match written {
        Ok(()) => say(format_args!("the history is in {}", path.display())),
        Err(error) => eprintln!("cannot write the history to {}: {error}", path.display()),
    }
}
