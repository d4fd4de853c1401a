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
mod engine;
mod exec;
mod export;
mod failure;
mod get;
mod import;
mod keys;
mod line;
mod list;
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
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use tokio::runtime::Builder;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = match command_line::parse_args(std::env::args_os()) {
        Ok(args) => args,
        Err(failure) => return fail(&failure),
    };
    let (mut runtime, default_level) = match args.command {
        Command::Serve(ref serve) => {
            let mut runtime = Builder::new_multi_thread();
            runtime.worker_threads(serve.threads());
            (runtime, LevelFilter::INFO)
        }
        Command::Bench(_) => (Builder::new_multi_thread(), LevelFilter::WARN),
        _ => (Builder::new_current_thread(), LevelFilter::WARN),
    };
    let filter = EnvFilter::builder().with_default_directive(default_level.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // Without this, the subscriber would panic when stderr is closed, because it reports write errors there.
        .log_internal_errors(false)
        .init();
    // These handle signals in their own way.
    if !matches!(args.command, Command::Serve(_) | Command::Watch(_) | Command::Bench(_))
        && let Err(failure) = signals::end_as_first_process()
    {
        return fail(&failure);
    }
    let result = match runtime.enable_all().build() {
        Err(error) => Err(Failure::Unavailable(format!("can't start the runtime: {error}"))),
        Ok(runtime) => runtime.block_on(async {
            match args.command {
                // In a task, the accept loop runs on the worker threads; `block_on` would add one more thread.
                Command::Serve(serve) => tokio::spawn(serve::run(serve))
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
        }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

/// Prints the reason on stderr and returns the exit code.
fn fail(failure: &Failure) -> ExitCode {
    if let Some(message) = failure.message() {
        // If stderr is closed, the exit code alone reports the failure.
        let _ = writeln!(std::io::stderr(), "syncline: {message}");
    }
    failure.exit_code()
}
