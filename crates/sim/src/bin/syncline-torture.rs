//! `syncline-torture`: runs the real server under faults, and examines the saved history of a failed run.
#![allow(clippy::print_stderr, reason = "it is a command")]

use clap::{Args, Parser, Subcommand};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use syncline_sim::check::check;
use syncline_sim::seeds::fresh_seed;
use syncline_sim::show::{Filter, show_all};
use syncline_sim::torture::{Options, load_history, run, table};
use syncline_sim::{RunError, say};
use tokio::signal::unix::{SignalKind, signal};

/// Runs the real server under faults such as kills, pauses, lost connections and full disks, and checks its promises
///
/// All random decisions follow from the seed, but time is real: the same seed makes a similar run, not an identical one.
#[derive(Parser)]
#[command(name = "syncline-torture", args_conflicts_with_subcommands = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Subcommand)]
enum Command {
    /// Check a saved history again
    Check {
        /// Directory of the saved history
        directory: PathBuf,
    },
    /// Print a saved history or a part of it, one line per event
    Show(Show),
}

#[derive(Args)]
struct Show {
    /// Directory of the saved history
    directory: PathBuf,

    /// Only events of this key; may be repeated
    #[arg(long)]
    key: Vec<String>,

    /// Only events of this client
    #[arg(long)]
    client: Option<u64>,

    /// Only frames of this connection
    #[arg(long)]
    connection: Option<u64>,

    /// Maximum number of lines, from the end
    #[arg(long, default_value_t = 1000)]
    lines: usize,
}

#[derive(Args)]
struct Run {
    /// Duration of the run, which consists of rounds of about a minute
    #[arg(long, default_value_t = 5)]
    minutes: u64,

    /// Seed of all random decisions [default: random]
    #[arg(long)]
    seed: Option<u64>,

    /// Number of clients that read and write
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u8).range(2..=64))]
    clients: u8,

    /// Duration of the load in each round
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "50s")]
    round: Duration,

    /// Put the server into a network namespace, whose link fails now and then (needs root)
    #[arg(long)]
    netns: bool,

    /// Directory for the data and the history of a failed round
    #[arg(long, value_name = "DIR", default_value = "syncline-torture")]
    keep: PathBuf,

    /// Server binary [default: `syncline` in the directory of this program]
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match arguments.command {
        Some(Command::Check { directory }) => check_again(&directory),
        Some(Command::Show(show)) => show_again(show),
        None => torture(arguments.run),
    };
    ended.unwrap_or_else(|trouble| {
        eprintln!("syncline-torture: {trouble}");
        ExitCode::from(2)
    })
}

fn torture(run: Run) -> Result<ExitCode, RunError> {
    let system = Path::new("this process");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(RunError::because("start a runtime in", system))?.block_on(async {
        let terminated = signal(SignalKind::terminate()).map_err(RunError::because("receive signals for", system));
        let mut terminated = terminated?;
        // Dropping the run ends everything that it has started.
        tokio::select! {
            ended = play(run) => ended,
            _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(130)),
            _ = terminated.recv() => Ok(ExitCode::from(143)),
        }
    })
}

async fn play(arguments: Run) -> Result<ExitCode, RunError> {
    let server = arguments.server.or_else(|| Some(std::env::current_exe().ok()?.with_file_name("syncline")));
    let server = server.filter(|server| server.is_file()).ok_or_else(|| RunError::Unexpected {
        expected: "the server binary beside this program (cargo build -p syncline) or --server PATH",
        found: "none".into(),
    })?;
    let seed = arguments.seed.unwrap_or_else(fresh_seed);
    say(format_args!(
        "seed {seed}: all random decisions follow from it, but time is real, so a repeated run is only similar"
    ));
    let started = std::time::Instant::now();
    let options = Options {
        server,
        seed,
        clients: arguments.clients.into(),
        round: arguments.round,
        minutes: Duration::from_secs(arguments.minutes * 60),
        netns: arguments.netns,
        keep: arguments.keep,
    };
    let run = run(&options, |line| say(format_args!("{line}"))).await?;
    say(format_args!("\n{}\n{:.0?}", table(&run.summary), started.elapsed()));
    let Some(failure) = run.failure else { return Ok(ExitCode::SUCCESS) };
    let directory = failure.directory.display();
    eprintln!("\nFAILED\n{}", failure.text);
    eprintln!("to examine the failure:");
    eprintln!("  syncline-torture check {directory}");
    eprintln!("  syncline-torture show {directory} --key KEY --client N --connection N");
    eprintln!("  syncline check {directory}/data");
    eprintln!("  less {directory}/server.log");
    Ok(ExitCode::from(1))
}

fn check_again(directory: &Path) -> Result<ExitCode, RunError> {
    let reports = check(&load_history(directory)?);
    let mut is_fine = true;
    for report in reports {
        say(format_args!("{}: {} compared, {} broken", report.promise, report.compared, report.violations.len()));
        for violation in report.violations {
            is_fine = false;
            say(format_args!("  moment {}: {}", violation.at.order, violation.text));
        }
    }
    Ok(ExitCode::from(u8::from(!is_fine)))
}

fn show_again(show: Show) -> Result<ExitCode, RunError> {
    let history = load_history(&show.directory)?;
    let filter = Filter { keys: show.key.into_iter().collect(), client: show.client, connection: show.connection };
    // Errors mean that the reader has closed the pipe.
    let _ = show_all(&history, &filter, show.lines, &mut io::stdout().lock());
    Ok(ExitCode::SUCCESS)
}
