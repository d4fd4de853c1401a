//! `syncline-hostile`: the real server, attacked in one way after the other, with a well-behaved client beside it.
#![allow(clippy::print_stderr, reason = "it is a command")]

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use syncline_sim::hostile::{ATTACKS, Attack, FILES, Options, Report, Scale, SecurityMode, json, run, table};
use syncline_sim::say;

/// Attacks the real server, each way on a server of its own, with a well-behaved client beside it; prints what held.
///
/// Exit code 1: a bound was broken, or the server has died, panicked, or not served the client beside the attack. Times
/// are told, and not judged without --max-factor.
#[derive(Parser)]
#[command(name = "syncline-hostile", max_term_width = 100)]
struct Arguments {
    /// Only this attack; may be given more than once
    #[arg(long, value_name = "NAME")]
    attack: Vec<String>,

    /// List the attacks
    #[arg(long)]
    list: bool,

    /// How often the client is looked at alone and beside each attack
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,

    /// How long each time
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "2s")]
    time: Duration,

    /// Do less of each attack, as the tests do
    #[arg(long)]
    short: bool,

    /// Speak TLS, which has attacks of its own
    #[arg(long)]
    tls: bool,

    /// Speak TLS to a server that has users, which has attacks of its own; the others come from a user
    #[arg(long)]
    users: bool,

    /// Print a JSON object a line
    #[arg(long)]
    json: bool,

    /// Fail where a write of the client takes more than so many times as long as alone, at the 99th percentile
    #[arg(long, value_name = "N")]
    max_factor: Option<f64>,

    /// The server's binary; beside this one where it is left out
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

/// Why nothing was attacked.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("expected an attack of --list, with --tls or --users where it needs that, found {0:?}")]
    NoAttack(String),
    #[error("expected the server's binary beside this one (cargo build -p syncline), or --server PATH, found none")]
    NoServer,
    #[error("expected to be allowed {FILES} open files, found {0}: raise the limit (ulimit -n)")]
    Files(u64),
    #[error("can't attack: {0}")]
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
            Err(fault) => {
                // The others can still tell something.
                eprintln!("FOUND {}: {fault}", attack.name);
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

/// Whether something was found, or took too long.
fn is_bad(report: &Report, max_factor: Option<f64>) -> bool {
    for finding in &report.findings {
        eprintln!("FOUND {}: {finding}", report.attack);
    }
    let is_slow = max_factor.is_some_and(|most| report.factor() > most);
    if is_slow {
        eprintln!("FOUND {}: the client beside it was served {:.1} times as slowly", report.attack, report.factor());
    }
    is_slow || !report.findings.is_empty()
}

/// The attacks that are asked for; all that can be, where none is.
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
