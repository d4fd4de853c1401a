//! `syncline-sim`: runs seeds of the simulator, and checks every promise over what was seen.
#![allow(clippy::print_stderr, reason = "a command line talks")]

use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use syncline_sim::history::History;
use syncline_sim::say;
use syncline_sim::seeds::{FailedSeed, Seeds, fresh_seed, run_all};
use syncline_sim::show::show;
use syncline_sim::world::{Variation, Wrong, run};

/// Runs seeds of the simulator: servers and clients, and the network and the disk between them, under virtual time; then
/// checks every promise of Syncline over what was seen. The same seed and steps make the same run.
///
/// Exit codes: 0 all promises were kept; 1 one was broken; 2 bad arguments; 3 there was too little load to show anything.
#[derive(Debug, Parser)]
#[command(name = "syncline-sim", version, max_term_width = 100)]
struct Args {
    /// The first seed; where it is left out, one that is made of the time, and printed
    #[arg(long)]
    seed: Option<u64>,

    /// How many seeds, from the first on
    #[arg(long, default_value_t = 1)]
    seeds: u64,

    /// How many steps each takes, before nothing goes wrong any more and it settles
    #[arg(long, default_value_t = 20_000)]
    steps: u64,

    /// How many seeds are run at once
    #[arg(long, default_value_t = 1)]
    jobs: usize,

    /// Run a deliberately wrong variant, by its name: its checker is to find it
    #[arg(long, value_parser = wrong)]
    wrong: Option<Wrong>,

    /// So many clients that keep replicas, instead of as many as each seed says
    #[arg(long)]
    clients: Option<usize>,

    /// Write the history of the seed that has broken a promise, or of the only one, to this file, as JSON
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

fn wrong(name: &str) -> Result<Wrong, String> {
    let names: Vec<_> = Wrong::ALL.iter().map(|wrong| format!("{wrong:?}")).collect();
    Wrong::named(name).ok_or_else(|| format!("expected one of {}", names.join(", ")))
}

/// How many seeds it takes for the load to be judged.
const JUDGED: u64 = 100;

const BROKEN: u8 = 1;
const TOO_LITTLE: u8 = 3;

fn main() -> ExitCode {
    let Args { seed, seeds, steps, jobs, wrong, clients, history } = Args::parse();
    let variation = Variation { wrong, clients };
    let first = seed.unwrap_or_else(fresh_seed);
    say(format_args!("seeds {first} to {}, {steps} steps each", first + seeds.saturating_sub(1)));
    let summary = match run_all(Seeds { first, count: seeds, steps, jobs, variation }) {
        Ok(summary) => summary,
        Err(broken) => {
            tell(&broken, steps, variation);
            if let Some(path) = &history {
                keep(path, &broken.history);
            }
            return ExitCode::from(BROKEN);
        }
    };
    if let (Some(path), 1) = (&history, seeds) {
        // The same once more.
        keep(path, &run(first, steps, variation).history);
    }
    say(format_args!("{summary}"));
    let missing_load = summary.missing_load();
    if summary.runs >= JUDGED && !missing_load.is_empty() {
        missing_load.iter().for_each(|lack| eprintln!("too little load: {lack}"));
        return ExitCode::from(TOO_LITTLE);
    }
    ExitCode::SUCCESS
}

/// Tells what was broken, what led to it, and how to see it again.
fn tell(FailedSeed { seed, history, violations }: &FailedSeed, steps: u64, variation: Variation) {
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
    say(format_args!("\nto see it again: cargo run -p syncline-sim -- --seed {seed} --steps {steps}{wrong}{clients}"));
}

fn keep(path: &Path, history: &History) {
    let written = serde_json::to_vec(history).map_err(Into::into).and_then(|bytes| std::fs::write(path, bytes));
    match written {
        Ok(()) => say(format_args!("the history is in {}", path.display())),
        Err(error) => eprintln!("the history can't be written to {}: {error}", path.display()),
    }
}
