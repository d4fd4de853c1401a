//! `syncline watch`: prints the keys under a prefix and then every change, or runs a command for each.

use crate::args::Watch;
use crate::exec::Exec;
use crate::failure::Failure;
use crate::output::{Json, Printer, deletion, entry, note};
use serde_json::json;
use std::io::Stdout;
use syncline_client::{KeyChange, Position, Progress, Step};

pub(crate) async fn run(args: Watch) -> Result<(), Failure> {
    let endpoints = args.servers.endpoints();
    let prefix = args.prefix.into_encoded_bytes();
    let mut cursor = args.servers.cursor(prefix, args.since).await?;
    let exec = args.exec.map(|command| Exec::new(command, args.json));
    let mut reporter = Reporter { is_json: args.json, has_marks: args.marks, exec, printer: Printer::stdout() };
    let mut is_first = true;
    loop {
        match cursor.next().await? {
            Progress::Step(step) => {
                if std::mem::take(&mut is_first) && !args.once {
                    note(&format!("watching {endpoints} (Ctrl-C to end)"));
                }
                reporter.report(step).await?;
                if args.once {
                    return reporter.exec.map_or(Ok(()), Exec::result);
                }
            }
            Progress::Disconnected { reason } if args.once => return Err(Failure::Unavailable(reason)),
            Progress::Disconnected { reason } => note(&format!("connection lost: {reason}; connecting again")),
            Progress::Reconnected => note("connected again; no change was missed"),
        }
    }
}

/// Prints changes, or runs the command for them.
struct Reporter {
    is_json: bool,
    has_marks: bool,
    exec: Option<Exec>,
    printer: Printer<Stdout>,
}

impl Reporter {
    async fn report(&mut self, Step { is_reset, changes, at }: Step) -> Result<(), Failure> {
        let Position { store, revision } = at;
        let store = store.map(|store| store.to_string());
        if is_reset && self.is_json && self.exec.is_none() {
            let line = json!({ "reset": true, "revision": revision.get(), "store": store });
            self.printer.line(line.to_string().as_bytes())?;
        } else if is_reset {
            note("the history is another one: forget what was printed before, because the complete state follows");
        }
        for change in &changes {
            match &mut self.exec {
                Some(exec) => exec.run(change, revision).await,
                None => self.printer.line(self.line(change, at).as_bytes())?,
            }
        }
        if self.has_marks {
            let line = json!({ "revision": revision.get(), "store": store });
            self.printer.line(line.to_string().as_bytes())?;
        }
        self.printer.flush()
    }

    fn line(&self, KeyChange { key, value, version }: &KeyChange, at: Position) -> String {
        match value {
            Some(value) if self.is_json => Json::new(key, *version).value(value).revision(at.revision).to_string(),
            None if self.is_json => Json::new(key, *version).deleted().revision(at.revision).to_string(),
            Some(value) => entry(key, value, *version),
            None => deletion(key, *version),
        }
    }
}
