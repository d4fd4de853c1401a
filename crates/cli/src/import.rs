//! `syncline import`: writes the keys of a file of JSON lines, with their versions.

use crate::args::Import;
use crate::failure::Failure;
use crate::line::Line;
use crate::output::{note, print_line};
use crate::progress;
use crate::shown::shown;
use crate::stale::Found;
use serde_json::json;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::time::Instant;
use syncline_client::{Client, PutError, Version};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The longest line, in bytes: the largest value that any server accepts, in the longest notation.
const MAX_LINE: u64 = 128 << 20;

/// The size of a batch of lines, in bytes. The last line may exceed it.
const BATCH: usize = 64 * 1024;

/// The number of batches that may wait to be written.
const MAX_BATCHES: usize = 4;

/// The number of writes in flight.
const MAX_IN_FLIGHT: usize = 1024;

/// The size of the keys and values in flight, in bytes. The last one may exceed it.
const MAX_IN_FLIGHT_BYTES: usize = 8 << 20;

/// The number of attempts to overwrite a key. An attempt fails only if another write was accepted meanwhile.
const MAX_ATTEMPTS: usize = 256;

/// The number of conflicts that are reported one by one.
const MAX_REPORTED: u64 = 20;

pub(crate) async fn run(args: Import) -> Result<(), Failure> {
    let client = args.servers.connect().await?;
    let (lines, total) = open(args.file)?;
    let mut importer = Importer::new(client, args.force);
    let result = importer.import(lines, total).await;
    let Counts { written, unchanged, conflicts } = importer.counts;
    let printed = print_line(&if args.json {
        json!({ "written": written, "unchanged": unchanged, "conflicts": conflicts }).to_string()
    } else {
        format!("{written} written, {unchanged} unchanged, {conflicts} in conflict")
    });
    result?;
    printed.map_err(|failure| failure.after(&format!("{written} writes were committed")))?;
    match conflicts {
        0 => Ok(()),
        1 => Err(Failure::Stale("1 line is in conflict with the server; its key was left unchanged".into())),
        _ => Err(Failure::Stale(format!(
            "{conflicts} lines are in conflict with the server; their keys were left unchanged"
        ))),
    }
}

/// Some lines, and the number of bytes read up to their end.
struct Batch {
    lines: Vec<Vec<u8>>,
    done: u64,
}

type Batches = mpsc::Receiver<io::Result<Batch>>;

/// Starts a thread that reads the lines, because reading from a pipe may block. Also returns the size of the input, if it
/// is known.
fn open(file: Option<PathBuf>) -> Result<(Batches, Option<u64>), Failure> {
    let file = file.filter(|file| file.as_os_str() != "-");
    let unreadable = |error| {
        let name = file.as_ref().map_or_else(|| "stdin".into(), |file| file.display().to_string());
        Failure::Usage(format!("can't read {name}: {error}"))
    };
    let (source, total): (Box<dyn Read + Send>, _) = match &file {
        None => (Box::new(io::stdin()), None),
        Some(path) => {
            let file = File::open(path).map_err(unreadable)?;
            let metadata = file.metadata().map_err(unreadable)?;
            (Box::new(file), metadata.is_file().then_some(metadata.len()))
        }
    };
    let (sender, batches) = mpsc::channel(MAX_BATCHES);
    std::thread::Builder::new().spawn(move || read(source, &sender)).map_err(unreadable)?;
    Ok((batches, total))
}

fn read(source: impl Read, batches: &mpsc::Sender<io::Result<Batch>>) {
    let (mut reader, mut done) = (BufReader::with_capacity(BATCH, source), 0);
    loop {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH {
            let mut line = Vec::new();
            match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(read) => bytes += read,
                Err(error) => {
                    let _ = batches.blocking_send(Err(error));
                    return;
                }
            }
            lines.push(line);
        }
        done += bytes as u64;
        // The receiver is gone after an invalid line.
        if lines.is_empty() || batches.blocking_send(Ok(Batch { lines, done })).is_err() {
            return;
        }
    }
}

#[derive(Default)]
struct Counts {
    written: u64,
    unchanged: u64,
    conflicts: u64,
}

/// The outcome of a line.
enum Outcome {
    Written,
    Unchanged,
    Conflict(Found),
}

/// A write that is complete.
struct Completed {
    number: u64,
    line: Line,
    outcome: Result<Outcome, Failure>,
}

struct Importer {
    client: Client,
    force: bool,
    counts: Counts,
    in_flight: JoinSet<Completed>,
    /// The keys of the writes in flight. Lines of the same key are written one after the other.
    keys: HashSet<Vec<u8>>,
    bytes: usize,
}

impl Importer {
    fn new(client: Client, force: bool) -> Self {
        let (in_flight, keys) = (JoinSet::new(), HashSet::new());
        Self { client, force, counts: Counts::default(), in_flight, keys, bytes: 0 }
    }

    async fn import(&mut self, mut batches: Batches, total: Option<u64>) -> Result<(), Failure> {
        let bar = progress::bar();
        let mut number = 0;
        let mut result = Ok(());
        'all: while let Some(batch) = batches.recv().await {
            let Batch { lines, done } = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    result = Err(Failure::Usage(format!("can't read the line after line {number}: {error}")));
                    break;
                }
            };
            for text in lines {
                number += 1;
                result = match Line::parse(&text) {
                    Ok(None) => Ok(()),
                    Ok(Some(line)) => self.write(number, line).await,
                    Err(error) => Err(Failure::Usage(error).in_line(number)),
                };
                if result.is_err() {
                    break 'all;
                }
            }
            if let Some(total) = total {
                bar.show(Instant::now(), "importing", done, total);
            }
        }
        // Count the writes in flight even after an error, because the server may accept them.
        while !self.in_flight.is_empty() {
            result = result.and(self.complete_one().await);
        }
        result
    }

    /// Starts a write, as soon as the limits on writes in flight allow it.
    async fn write(&mut self, number: u64, line: Line) -> Result<(), Failure> {
        while self.in_flight.len() >= MAX_IN_FLIGHT
            || self.bytes >= MAX_IN_FLIGHT_BYTES
            || self.keys.contains(&line.key)
        {
            self.complete_one().await?;
        }
        self.bytes += length(&line);
        self.keys.insert(line.key.clone());
        let (client, force) = (self.client.clone(), self.force);
        self.in_flight.spawn(async move {
            let outcome = if force { overwrite(&client, &line).await } else { write(&client, &line).await };
            Completed { number, line, outcome }
        });
        Ok(())
    }

    /// Waits until one of the writes in flight is complete, and counts it.
    async fn complete_one(&mut self) -> Result<(), Failure> {
        let Some(Ok(Completed { number, line, outcome })) = self.in_flight.join_next().await else { return Ok(()) };
        self.bytes -= length(&line);
        self.keys.remove(&line.key);
        match outcome.map_err(|failure| failure.in_line(number))? {
            Outcome::Written => self.counts.written += 1,
            Outcome::Unchanged => self.counts.unchanged += 1,
            Outcome::Conflict(found) => {
                self.counts.conflicts += 1;
                match self.counts.conflicts {
                    ..=MAX_REPORTED => {
                        let (key, version) = (shown(&line.key), line.version);
                        note(&format!("line {number}: conflict: {key} is {found}, the file has version {version}"));
                    }
                    next if next == MAX_REPORTED + 1 => note("further conflicts are counted, but not listed"),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn length(line: &Line) -> usize {
    line.key.len() + line.value.as_ref().map_or(0, Vec::len)
}

/// Writes a line with its version.
async fn write(client: &Client, line: &Line) -> Result<Outcome, Failure> {
    match write_at(client, line, line.version).await {
        Ok(()) => return Ok(Outcome::Written),
        Err(PutError::StalePut) => {}
        Err(error) => return Err(error.into()),
    }
    let found = Found::of(client, &line.key).await?;
    let is_same = holds(&found, line) && (found.version() == line.version || found.version() == Version::ABSENT);
    Ok(if is_same { Outcome::Unchanged } else { Outcome::Conflict(found) })
}

/// Writes a line with the next version of its key, whatever that is.
async fn overwrite(client: &Client, line: &Line) -> Result<Outcome, Failure> {
    let mut version = line.version;
    for _ in 0..MAX_ATTEMPTS {
        match write_at(client, line, version).await {
            Ok(()) => return Ok(Outcome::Written),
            Err(PutError::StalePut) => {}
            Err(error) => return Err(error.into()),
        }
        let found = Found::of(client, &line.key).await?;
        if holds(&found, line) {
            return Ok(Outcome::Unchanged);
        }
        version = found.next_version();
    }
    Err(Failure::Stale(format!("{}: the key changed during each of {MAX_ATTEMPTS} attempts", shown(&line.key))))
}

async fn write_at(client: &Client, line: &Line, version: Version) -> Result<(), PutError> {
    match &line.value {
        Some(value) => client.put(line.key.clone(), value.clone(), version).await,
        None => client.delete(line.key.clone(), version).await,
    }
}

/// Returns whether a key has the state of a line, apart from the version.
fn holds(found: &Found, line: &Line) -> bool {
    match (found, &line.value) {
        (Found::At(found), Some(value)) => found.value == value,
        (Found::Deleted(_), None) => true,
        _ => false,
    }
}
