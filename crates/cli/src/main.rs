//! The binary `syncline`: parses the command line, sets up logging and the runtime, and runs one command.
//!
//! Each command has a file of its own. `failure.rs` defines the failures and exit codes that they share. Only `main`
//! ends the process with an exit code (clap does as well, for `--help` and usage errors).

mod args;
mod bench;
mod cert;
mod command_line;
mod data;
mod delete;
mod ending;
mod engine;
mod exec;
mod export;
mod exposure;
mod failure;
mod get;
mod import;
mod keys;
mod line;
mod list;
mod log;
mod output;
mod passwd;
mod progress;
mod put;
mod serve;
mod servers;
mod settings;
mod shown;
mod signals;
mod stale;
mod status;
mod txn;
mod watch;

use args::Command;
use failure::Failure;
use log::Log;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::Builder;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// How long the end of the process waits for work on other threads. Nothing needs the result of that work any more.
const RUNTIME_GRACE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let args = match command_line::parse_args(std::env::args_os()) {
        Ok(args) => args,
        Err(failure) => return fail(&failure, None),
    };
    let (mut runtime, log) = match args.command {
        Command::Serve(ref serve) => {
            let mut runtime = Builder::new_multi_thread();
            runtime.worker_threads(serve.threads());
            (runtime, filter(LevelFilter::INFO).and_then(Log::start).map(Some))
        }
        Command::Bench(_) => (Builder::new_multi_thread(), start_plain_log()),
        _ => (Builder::new_current_thread(), start_plain_log()),
    };
    let log = match log {
        Ok(log) => log,
        Err(failure) => return fail(&failure, None),
    };
    // The others handle signals in their own way.
    if !matches!(args.command, Command::Serve(_) | Command::Watch(_) | Command::Bench(_))
        && let Err(failure) = ending::end_as_first_process()
    {
        return fail(&failure, None);
    }
    let result = match runtime.enable_all().build() {
        Err(error) => Err(Failure::Unavailable(format!("can't start the runtime: {error}"))),
        Ok(runtime) => {
            let result = runtime.block_on(run(args.command, log.as_ref()));
            runtime.shutdown_timeout(RUNTIME_GRACE);
            result
        }
    };
    let exit_code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure, log.as_ref()),
    };
    if let Some(log) = log {
        log.flush();
    }
    exit_code
}

async fn run(command: Command, log: Option<&Log>) -> Result<(), Failure> {
    match command {
        // In a task, the accept loop runs on the worker threads; `block_on` would add one more thread.
        Command::Serve(serve) => tokio::spawn(serve::run(serve, log.map(Log::dropped).unwrap_or_default()))
            .await
            .unwrap_or_else(|error| Err(Failure::Unavailable(format!("the server failed: {error}")))),
        Command::Get(get) => get::run(get).await,
        Command::Put(put) => put::run(put).await,
        Command::Watch(watch) => watch::run(watch).await,
        Command::Delete(delete) => delete::run(delete).await,
        Command::List(list) => list::run(list).await,
        Command::Txn(txn) => txn::run(txn).await,
        Command::Status(status) => status::run(status).await,
        Command::Export(export) => export::run(export).await,
        Command::Import(import) => import::run(import).await,
        Command::Backup(backup) => data::backup(&backup),
        Command::Restore(restore) => data::restore(&restore),
        Command::Check(check) => data::check(&check),
        Command::Passwd(passwd) => passwd::run(&passwd),
        Command::Bench(bench) => bench::run(bench).await,
        Command::Cert(cert) => cert::run(&cert),
    }
}

/// Returns the filter that RUST_LOG asks for.
fn filter(default_level: LevelFilter) -> Result<EnvFilter, Failure> {
    let filter = EnvFilter::builder().with_default_directive(default_level.into()).from_env();
    filter.map_err(|error| Failure::Usage(format!("{}: {error}", EnvFilter::DEFAULT_ENV)))
}

/// Sends warnings and errors to stderr, for a command that logs few lines. Such a log needs no further care.
fn start_plain_log() -> Result<Option<Log>, Failure> {
    tracing_subscriber::fmt()
        .with_env_filter(filter(LevelFilter::WARN)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // Without this, the subscriber would panic when stderr is closed, because it reports write errors there.
        .log_internal_errors(false)
        .init();
    Ok(None)
}

/// Prints the reason, and returns the exit code. A server prints by way of its log, which cannot block.
fn fail(failure: &Failure, log: Option<&Log>) -> ExitCode {
    if let Some(message) = failure.message() {
        let text = format!("syncline: {message}");
        match log {
            Some(log) => log.print(&text),
            None => output::note(&text),
        }
    }
    failure.exit_code()
}
