//! `syncline-hostile`: attacks the real server, with a well-behaved client beside each attack.
#![allow(clippy::print_stderr, reason = "it is a command")]

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use syncline_sim::hostile::{ATTACKS, Attack, FILES, Options, Report, Scale, SecurityMode, json, run, table};
use syncline_sim::say;

/// Attacks the real server, and checks that its limits hold
///
/// Each attack has a server of its own, and a well-behaved client beside it. The exit code is 1 if a limit was exceeded, if
/// the server exited or panicked, or if it did not serve the client. Latencies are printed; only --max-factor judges them.
#[derive(Parser)]
#[command(name = "syncline-hostile", max_term_width = 100)]
struct Arguments {
    /// Run only this attack; may be repeated
    #[arg(long, value_name = "NAME")]
    attack: Vec<String>,

    /// List all attacks
    #[arg(long)]
    list: bool,

    /// Number of times to measure the client alone and beside each attack
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,

    /// Duration of each measurement
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "2s")]
    time: Duration,

    /// Run a small version of each attack, as the tests do
    #[arg(long)]
    short: bool,

    /// Use TLS; this includes attacks on TLS
    #[arg(long)]
    tls: bool,

    /// Use TLS and a server with users; this includes attacks on both, and other attacks authenticate as a user
    #[arg(long)]
    users: bool,

    /// Print one JSON object per line
    #[arg(long)]
    json: bool,

    /// Fail if the p99 of the client's writes beside an attack exceeds that alone by more than this factor
    #[arg(long, value_name = "N")]
    max_factor: Option<f64>,

    /// Server binary [default: `syncline` in the directory of this program]
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        ATTACKS.iter().for_each(|attack| say(format_args!("{}: {}", attack.name, attack.description)));
        return ExitCode::SUCCESS;
    }
    attack(&arguments).unwrap_or_else(|problem| {
        eprintln!("syncline-hostile: {problem}");
        ExitCode::from(2)
    })
}

/// Why no attack was run.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("expected an attack from --list (some need --tls or --users), found {0:?}")]
    NoAttack(String),
    #[error("expected the server binary beside this program (cargo build -p syncline) or --server PATH, found none")]
    NoServer,
    #[error("expected a limit of at least {FILES} open files, found {0}: raise it with `ulimit -n {FILES}`")]
    Files(u64),
    #[error("cannot run attacks: {0}")]
    Io(#[from] std::io::Error),
}

fn attack(arguments: &Arguments) -> Result<ExitCode, Problem> {
    let attacks = chosen(arguments)?;
    let server = arguments.server.clone().or_else(|| Some(std::env::current_exe().ok()?.with_file_name("syncline")));
    let server = server.filter(|server| server.is_file()).ok_or(Problem::NoServer)?;
    let files = rlimit::increase_nofile_limit(FILES)?;
    if files < FILES && !arguments.short {
        return Err(Problem::Files(files));
    }
    let options = Options {
        server,
        scale: if arguments.short { Scale::Short } else { Scale::Full },
        rounds: arguments.rounds.into(),
        time: arguments.time,
        mode: mode(arguments),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut reports, mut failed) = (Vec::new(), 0);
    for attack in attacks {
        eprintln!("{}: {}", attack.name, attack.description);
        let report = match runtime.block_on(run(&options, attack)) {
            Ok(report) => report,
            Err(error) => {
                // The other attacks still run.
                eprintln!("FOUND {}: {error}", attack.name);
                failed += 1;
                continue;
            }
        };
        if arguments.json {
            say(format_args!("{}", json(&report)));
        }
        reports.push(report);
    }
    if !arguments.json {
        say(format_args!("{}", table(&reports)));
    }
    let bad = reports.iter().filter(|report| is_bad(report, arguments.max_factor)).count();
    Ok(if bad + failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Prints the findings of a report, and returns whether there are any.
fn is_bad(report: &Report, max_factor: Option<f64>) -> bool {
    for finding in &report.findings {
        eprintln!("FOUND {}: {finding}", report.attack);
    }
    let is_slow = max_factor.is_some_and(|limit| report.factor() > limit);
    if is_slow {
        eprintln!("FOUND {}: the p99 of the client's writes grew by a factor of {:.1}", report.attack, report.factor());
    }
    is_slow || !report.findings.is_empty()
}

/// Returns the requested attacks, or all attacks that the mode allows if none is requested.
fn chosen(arguments: &Arguments) -> Result<Vec<&'static Attack>, Problem> {
    let possible = || ATTACKS.iter().filter(|attack| mode(arguments) >= attack.requires);
    if arguments.attack.is_empty() {
        return Ok(possible().collect());
    }
    let find =
        |name: &String| possible().find(|attack| attack.name == name).ok_or_else(|| Problem::NoAttack(name.clone()));
    arguments.attack.iter().map(find).collect()
}

fn mode(arguments: &Arguments) -> SecurityMode {
    match (arguments.users, arguments.tls) {
        (true, _) => SecurityMode::Users,
        (false, true) => SecurityMode::Tls,
        (false, false) => SecurityMode::Plain,
    }
}
