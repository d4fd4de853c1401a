//! `syncline watch`: prints the keys under a prefix and then every change, or runs a command for each.

use crate::args::Watch;
use crate::ending::{Ending, end_as_first_process};
use crate::exec::Exec;
use crate::failure::Failure;
use crate::keys::KeyNotation;
use crate::output::{Json, Printer, deletion, entry, note};
use serde_json::json;
use std::io::Stdout;
use syncline_client::{Cursor, KeyChange, Position, Progress, Step};

pub(crate) async fn run(args: Watch) -> Result<(), Failure> {
    let endpoints = args.servers.endpoints().to_string();
    let prefix = args.notation.read(args.prefix)?;
    let cursor = args.servers.cursor(prefix, args.since).await?;
    let connection = Connection { cursor, started: (!args.once).then_some(endpoints) };
    let reporter =
        Reporter { is_json: args.json, has_marks: args.marks, notation: args.notation, printer: Printer::stdout() };
    match args.exec {
        None => print(connection, reporter, args.once).await,
        Some(command) => execute(connection, reporter, Exec::new(command, args.json), args.once).await,
    }
}

/// Prints every step, or only the first one.
async fn print(mut connection: Connection, mut reporter: Reporter, once: bool) -> Result<(), Failure> {
    end_as_first_process()?;
    loop {
        let Some(Step { is_reset, changes, at }) = connection.next(once).await? else { continue };
        reporter.reset(is_reset, at)?;
        for change in &changes {
            reporter.printer.line(reporter.line(change, at).as_bytes())?;
        }
        reporter.mark(at)?;
        if once {
            return Ok(());
        }
    }
}

/// Runs the command for every change, or only for those of the first step. While it runs, later changes of a key replace
/// earlier ones.
async fn execute(
    mut connection: Connection,
    mut reporter: Reporter,
    mut exec: Exec,
    once: bool,
) -> Result<(), Failure> {
    let mut ending = Ending::new()?;
    let mut is_last = false;
    // The position up to which everything is run when no run is left.
    let mut reached = None;
    loop {
        if exec.is_idle()
            && let Some(at) = reached.take()
        {
            reporter.mark(at)?;
            if is_last {
                return exec.result();
            }
        }
        tokio::select! {
            signal = ending.wait() => {
                exec.end().await;
                return Err(Failure::Signal(signal));
            }
            step = connection.next(once), if !is_last && !exec.is_full() => {
                let Some(Step { is_reset, changes, at }) = step? else { continue };
                if is_reset {
                    note(RESET);
                    exec.clear();
                }
                changes.into_iter().for_each(|change| exec.push(change, at.revision));
                (reached, is_last) = (Some(at), once);
            }
            () = exec.run_next(), if !exec.is_idle() => {}
        }
    }
}

const RESET: &str = "the history is another one: forget what was printed before, because the complete state follows";

/// A cursor that reports its connection on stderr.
struct Connection {
    cursor: Cursor,
    /// The servers, until they are reported with the first step.
    started: Option<String>,
}

impl Connection {
    /// Waits for the next step; `None` means that only the connection has changed. If a step is wanted only `once`, a lost
    /// connection is a failure.
    async fn next(&mut self, once: bool) -> Result<Option<Step>, Failure> {
        match self.cursor.next().await? {
            Progress::Step(step) => {
                if let Some(endpoints) = self.started.take() {
                    note(&format!("watching {endpoints} (Ctrl-C to end)"));
                }
                return Ok(Some(step));
            }
            Progress::Disconnected { reason } if once => return Err(Failure::Unavailable(reason)),
            Progress::Disconnected { reason } => note(&format!("connection lost: {reason}; connecting again")),
            Progress::Reconnected => note("connected again; no change was missed"),
        }
        Ok(None)
    }
}

/// Prints changes.
struct Reporter {
    is_json: bool,
    has_marks: bool,
    notation: KeyNotation,
    printer: Printer<Stdout>,
}

impl Reporter {
    /// Prints that everything before is to be forgotten, if it is.
    fn reset(&mut self, is_reset: bool, Position { store, revision }: Position) -> Result<(), Failure> {
        if is_reset && self.is_json {
            let store = store.map(|store| store.to_string());
            let line = json!({ "reset": true, "revision": revision.get(), "store": store });
            self.printer.line(line.to_string().as_bytes())?;
        } else if is_reset {
            note(RESET);
        }
        Ok(())
    }

    /// Prints the position, if the user wants it, and flushes the output.
    fn mark(&mut self, Position { store, revision }: Position) -> Result<(), Failure> {
        if self.has_marks {
            let store = store.map(|store| store.to_string());
            let line = json!({ "revision": revision.get(), "store": store });
            self.printer.line(line.to_string().as_bytes())?;
        }
        self.printer.flush()
    }

    fn line(&self, KeyChange { key, value, version }: &KeyChange, at: Position) -> String {
        match value {
            Some(value) if self.is_json => Json::new(key, *version).value(value).revision(at.revision).to_string(),
            None if self.is_json => Json::new(key, *version).deleted().revision(at.revision).to_string(),
            Some(value) => entry(&self.notation.show(key), value, *version),
            None => deletion(&self.notation.show(key), *version),
        }
    }
}
