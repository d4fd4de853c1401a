//! `syncline import`

use crate::args::Import;
use crate::failure::Failure;
use crate::line::Line;
use crate::output::{note, print_line, shown};
use crate::progress;
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

/// The longest line: the largest value that any server takes, in the longest way to write it.
const MAX_LINE: u64 = 128 << 20;

/// How many bytes of lines are read at once, beyond the last line of them.
const BATCH: usize = 64 * 1024;

/// How many such wait to be written.
const MAX_BATCHES: usize = 4;

/// How many writes are in flight.
const MAX_IN_FLIGHT: usize = 1024;

/// How many bytes of keys and values are in flight, beyond the last of them.
const MAX_IN_FLIGHT_BYTES: usize = 8 << 20;

/// How often a write over whatever is there is tried.
const MAX_ATTEMPTS: usize = 256;

/// How many conflicts are told each by its line.
const MAX_TOLD: u64 = 20;

pub(crate) async fn run(args: Import) -> Result<(), Failure> {
    let client = args.servers.connect().await?;
    let (lines, total) = open(args.file)?;
    let mut importer = Importer::new(client, args.force);
    let ended = importer.import(lines, total).await;
    let Counts { written, unchanged, conflicts } = importer.counts;
    print_line(&if args.json {
        json!({ "written": written, "unchanged": unchanged, "conflicts": conflicts }).to_string()
    } else {
        format!("{written} written, {unchanged} unchanged, {conflicts} in conflict")
    })?;
    ended?;
    match conflicts {
        0 => Ok(()),
        _ => Err(Failure::Stale(format!(
            "{conflicts} of the keys are at other versions than the file expects, and were left as they are"
        ))),
    }
}

/// Some lines, and how many bytes were read up to their end.
struct Batch {
    lines: Vec<Vec<u8>>,
    done: u64,
}

type Batches = mpsc::Receiver<io::Result<Batch>>;

/// Reads lines on a thread of its own, for who waits for a pipe must not keep answers waiting. Also answers how many bytes
/// there are, where that is known.
fn open(file: Option<PathBuf>) -> Result<(Batches, Option<u64>), Failure> {
    let file = file.filter(|file| file.as_os_str() != "-");
    let cannot = |error| {
        let name = file.as_ref().map_or_else(|| "stdin".into(), |file| file.display().to_string());
        Failure::Usage(format!("can't read {name}: {error}"))
    };
    let (source, total): (Box<dyn Read + Send>, _) = match &file {
        None => (Box::new(io::stdin()), None),
        Some(path) => {
            let file = File::open(path).map_err(cannot)?;
            let metadata = file.metadata().map_err(cannot)?;
            (Box::new(file), metadata.is_file().then_some(metadata.len()))
        }
    };
    let (sender, batches) = mpsc::channel(MAX_BATCHES);
    std::thread::Builder::new().spawn(move || read(source, &sender)).map_err(cannot)?;
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
        // Nobody reads on after a line that is none.
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

/// What has become of a line.
enum Outcome {
    Written,
    Unchanged,
    Conflict(Found),
}

/// A write that has ended.
struct Ended {
    number: u64,
    line: Line,
    outcome: Result<Outcome, Failure>,
}

struct Importer {
    client: Client,
    force: bool,
    counts: Counts,
    in_flight: JoinSet<Ended>,
    /// Lines of one key are written one after the other.
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
        let mut ended = Ok(());
        'all: while let Some(batch) = batches.recv().await {
            let Batch { lines, done } = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    ended = Err(Failure::Usage(format!("can't read on after line {number}: {error}")));
                    break;
                }
            };
            for text in lines {
                number += 1;
                ended = match Line::parse(&text) {
                    Ok(None) => Ok(()),
                    Ok(Some(line)) => self.write(number, line).await,
                    Err(error) => Err(Failure::Usage(error).in_line(number)),
                };
                if ended.is_err() {
                    break 'all;
                }
            }
            if let Some(total) = total {
                bar.show(Instant::now(), "importing", done, total);
            }
        }
        // What is in flight is written or not: that is counted in any case.
        while !self.in_flight.is_empty() {
            ended = ended.and(self.one_ended().await);
        }
        ended
    }

    /// Puts a write in flight, once there is room for it.
    async fn write(&mut self, number: u64, line: Line) -> Result<(), Failure> {
        while self.in_flight.len() >= MAX_IN_FLIGHT
            || self.bytes >= MAX_IN_FLIGHT_BYTES
            || self.keys.contains(&line.key)
        {
            self.one_ended().await?;
        }
        self.bytes += length(&line);
        self.keys.insert(line.key.clone());
        let (client, force) = (self.client.clone(), self.force);
        self.in_flight.spawn(async move {
            let outcome = if force { overwrite(&client, &line).await } else { write(&client, &line).await };
            Ended { number, line, outcome }
        });
        Ok(())
    }

    /// Waits for the end of one of those in flight.
    async fn one_ended(&mut self) -> Result<(), Failure> {
        let Some(Ok(Ended { number, line, outcome })) = self.in_flight.join_next().await else { return Ok(()) };
        self.bytes -= length(&line);
        self.keys.remove(&line.key);
        match outcome.map_err(|failure| failure.in_line(number))? {
            Outcome::Written => self.counts.written += 1,
            Outcome::Unchanged => self.counts.unchanged += 1,
            Outcome::Conflict(found) => {
                self.counts.conflicts += 1;
                match self.counts.conflicts {
                    ..=MAX_TOLD => {
                        let (key, version) = (shown(&line.key), line.version);
                        note(&format!("line {number}: conflict: {key} is {found}, the file has version {version}"));
                    }
                    next if next == MAX_TOLD + 1 => note("more conflicts are counted only"),
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

/// Writes what a line says, with its version.
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

/// Writes what a line says, over whatever is there.
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
    Err(Failure::Stale(format!("{}: others were faster {MAX_ATTEMPTS} times", shown(&line.key))))
}

async fn write_at(client: &Client, line: &Line, version: Version) -> Result<(), PutError> {
    match &line.value {
        Some(value) => client.put(line.key.clone(), value.clone(), version).await,
        None => client.delete(line.key.clone(), version).await,
    }
}

/// Whether a key is what a line says, but for the version.
fn holds(found: &Found, line: &Line) -> bool {
    match (found, &line.value) {
        (Found::At(found), Some(value)) => found.value == value,
        (Found::Deleted(_), None) => true,
        _ => false,
    }
}
