//! The command line of Syncline.
//!
//! Each command lives in a file of its own; what all of them may say of a failure, and the exit codes, in `failure.rs`.

mod args;
mod bench;
mod cert;
mod config_file;
mod data;
mod delete;
mod exec;
mod export;
mod failure;
mod get;
mod import;
mod line;
mod list;
mod output;
mod passwd;
mod progress;
mod put;
mod serve;
mod servers;
mod settings;
mod size;
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
    let args = match settings::parse_args(std::env::args_os()) {
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
        // Where the log can't be written, as when its reader or the terminal is gone, telling that there would panic.
        .log_internal_errors(false)
        .init();
    let ended = match runtime.enable_all().build() {
        Err(error) => Err(Failure::Unavailable(format!("can't start the runtime: {error}"))),
        Ok(runtime) => runtime.block_on(async {
            match args.command {
                // As a task, who comes in is taken in by the threads that serve, not beside them.
                Command::Serve(serve) => tokio::spawn(serve::run(serve))
                    .await
                    .unwrap_or_else(|died| Err(Failure::Unavailable(format!("the server has died: {died}")))),
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
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

/// Tells people why, and programs by the exit code.
fn fail(failure: &Failure) -> ExitCode {
    if let Some(message) = failure.message() {
        // Where even this can't be said, the exit code has to do.
        let _ = writeln!(std::io::stderr(), "syncline: {message}");
    }
    failure.exit_code()
}
