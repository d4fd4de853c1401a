//! The number of instructions of the hot paths. Unlike times, these figures are repeatable.
//!
//! `cargo bench -p syncline-store --bench instructions` counts with valgrind (callgrind), and compares with the
//! figures in `instructions.txt` beside this file; `-- --write` updates them. Sockets and disks are not included.
//!
//! A figure that is off by more than [`TOLERANCE`] in either direction fails: an improvement must be written down, or
//! it would hide the next regression. Another compiler generates different code, so its figures are printed but not
//! compared.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark"
)]

use bytes::{Buf, BytesMut};
use pollster::block_on;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use syncline_core::server::{
    Access, Effect, Input, Limits, PageRequest, PageResult, ServerConnection, ServerParameters,
};
use syncline_core::{CommitBatch, ConnId, RecentLog};
use syncline_store::{MemoryStore, Store};
use syncline_wire::{Decoded, Message, Revision, Tag, Version, decode};

/// By how much a figure may be off. Each run hashes with other secrets, so its tables differ a little.
const TOLERANCE: f64 = 0.04;

const FIGURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");

/// How often each path runs while it is counted.
const ROUNDS: usize = 50;

/// The number of requests that a client has in flight.
const DEPTH: u16 = 16;

/// The number of connections that watch.
const WATCHERS: usize = 100;

/// The number of keys in the store.
const KEYS: usize = 10_000;

/// What a connection returns when it has consumed all input: it expects at least the head of the next frame.
const ALL_TAKEN: Input = Input::Wanted { expected: 3 };

/// The paths: the name, the function, and how many operations a round has.
const PATHS: [(&str, fn(), usize); 5] = [
    ("decode a PUT", decoding, DEPTH as usize),
    ("encode a PUT", encoding, DEPTH as usize),
    ("GET, from its bytes to those of its response", getting, DEPTH as usize),
    ("PUT, from its bytes to those of its response", putting, DEPTH as usize),
    ("a change, for each of those who watch it", fanning_out, DEPTH as usize * WATCHERS),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        // Called by the counting process itself.
        ["--count", path] => {
            let (_, run, _) = PATHS.iter().find(|(name, ..)| name == path).expect("one of the paths");
            run();
            ExitCode::SUCCESS
        }
        ["--bench"] => compare(&count_all()),
        ["--write", "--bench"] => {
            std::fs::write(FIGURES, written(&count_all())).unwrap();
            ExitCode::SUCCESS
        }
        // With `cargo test --all-targets`: runs every path once.
        [] => {
            PATHS.iter().for_each(|(_, run, _)| run());
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("expected --write or nothing, found {args:?}");
            ExitCode::from(2)
        }
    }
}

/// The instructions of each path, and the compiler.
struct Figures {
    compiler: String,
    counted: BTreeMap<String, f64>,
}

fn compare(now: &Figures) -> ExitCode {
    print!("{}", written(now));
    let before = read(&std::fs::read_to_string(FIGURES).expect("the figures are written: -- --write"));
    if before.compiler != now.compiler {
        println!("not compared: the figures are of {}", before.compiler);
        return ExitCode::SUCCESS;
    }
    let mut is_same = true;
    for (name, figure) in &now.counted {
        let expected = before.counted.get(name).copied().unwrap_or_default();
        if (figure / expected - 1.0).abs() > TOLERANCE {
            eprintln!(
                "{name}: expected {expected:.0} instructions, found {figure:.0}: mend it, or run with -- --write"
            );
            is_same = false;
        }
    }
    if is_same { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn written(figures: &Figures) -> String {
    let mut text = format!("{}\n", figures.compiler);
    for (name, figure) in &figures.counted {
        writeln!(text, "{figure:.0}\t{name}").unwrap();
    }
    text
}

fn read(text: &str) -> Figures {
    let (compiler, lines) = text.split_once('\n').expect("the compiler comes first");
    let figure = |line: &str| {
        let (figure, name) = line.split_once('\t').expect("a figure and a name");
        (name.to_owned(), figure.parse().expect("a number"))
    };
    Figures { compiler: compiler.to_owned(), counted: lines.lines().map(figure).collect() }
}

fn count_all() -> Figures {
    let version = Command::new("rustc").arg("--version").output().expect("rustc runs");
    let counted = PATHS.iter().map(|(name, _, many)| ((*name).to_owned(), count(name, *many)));
    Figures { compiler: String::from_utf8(version.stdout).unwrap().trim().to_owned(), counted: counted.collect() }
}

/// Runs a path under callgrind, which counts the instructions within [`counted`].
fn count(path: &str, many: usize) -> f64 {
    let said = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*instructions::counted*"])
        .arg(std::env::current_exe().unwrap())
        .args(["--count", path])
        .output()
        .expect("valgrind is installed (apt-get install valgrind)");
    let said = String::from_utf8_lossy(&said.stderr);
    let all = said.lines().find_map(|line| line.split_once("Collected :")).unwrap_or_else(|| panic!("{said}"));
    let all: f64 = all.1.trim().parse().expect("a number");
    assert!(all > 0.0, "nothing was counted: {said}");
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let each = (ROUNDS * many) as f64;
    all / each
}

/// Runs the work that is counted, and nothing else.
#[inline(never)]
fn counted<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

fn key(number: usize) -> String {
    format!("key-{number:020}")
}

fn put(tag: u16, number: usize, version: u64) -> Message {
    Message::put(Tag::new(tag), key(number), "v".repeat(100), Version::new(version))
}

fn encoded(messages: impl IntoIterator<Item = Message>) -> BytesMut {
    let mut bytes = BytesMut::new();
    messages.into_iter().for_each(|message| message.encode(&mut bytes).unwrap());
    bytes
}

fn puts(version: u64) -> impl Iterator<Item = Message> {
    (1..=DEPTH).map(move |tag| put(tag, usize::from(tag) * 7, version))
}

fn decoding() {
    for _ in 0..ROUNDS {
        let mut bytes = encoded(puts(1));
        counted(|| {
            while let Ok(Decoded::Frame(message)) = decode(&mut bytes) {
                black_box(message);
            }
        });
        assert!(bytes.is_empty());
    }
}

fn encoding() {
    let messages: Vec<_> = puts(1).collect();
    let mut bytes = BytesMut::with_capacity(64 * 1024);
    for _ in 0..ROUNDS {
        bytes.clear();
        counted(|| messages.iter().for_each(|message| message.encode(&mut bytes).unwrap()));
    }
}

/// A server without sockets and threads.
struct Server {
    store: MemoryStore,
    log: RecentLog,
    committed: Arc<Mutex<Vec<CommitBatch>>>,
}

impl Server {
    /// Creates a store with many keys and an empty log.
    fn new() -> Self {
        let store = MemoryStore::new().unwrap();
        let committed = Arc::new(Mutex::new(Vec::new()));
        let feed = committed.clone();
        store.follow(Box::new(move |committed| feed.lock().unwrap().push(CommitBatch::encode(committed))));
        let mut server = Self { store, log: RecentLog::new(Revision::ZERO, 0), committed };
        let mut loader = server.connect(0);
        for number in 0..KEYS {
            server.serve(&mut loader, encoded([put(1, number, 1)]));
        }
        server.log = RecentLog::new(server.store.head(), usize::MAX);
        server
    }

    /// Returns a connection that has sent HELLO.
    fn connect(&self, id: u64) -> ServerConnection {
        let parameters =
            ServerParameters { limits: Limits::default(), store: self.store.id(), heartbeat: Duration::from_secs(2) };
        let mut connection = ServerConnection::new(ConnId::new(id), parameters, Access::open());
        connection.handle_log(&self.log);
        self.exchange(&mut connection, &mut encoded([Message::hello(Tag::new(1), "")]));
        connection
    }

    /// Handles requests as a driver does, and takes the output. Returns its length.
    fn serve(&mut self, connection: &mut ServerConnection, mut bytes: BytesMut) -> usize {
        assert_eq!(connection.handle_input(&mut bytes), ALL_TAKEN);
        let (mut transactions, mut keys) = (Vec::new(), Vec::new());
        while let Some(effect) = connection.poll_effect() {
            match effect {
                Effect::Commit { transaction } => transactions.push(transaction),
                Effect::Get { key } => {
                    keys.push(key);
                    keys.extend(std::iter::from_fn(|| connection.poll_get()));
                    let entries = block_on(self.store.get_all(&keys, usize::MAX)).unwrap();
                    entries.into_iter().for_each(|entry| connection.handle_entry(Ok(entry)));
                    keys.clear();
                }
                other => panic!("{other:?}"),
            }
        }
        if !transactions.is_empty() {
            let outcomes = self.store.commit(transactions);
            self.committed.lock().unwrap().drain(..).for_each(|batch| self.log.append(batch));
            outcomes.into_iter().for_each(|outcome| connection.handle_outcome(outcome));
        }
        self.show(connection)
    }

    /// Shows a connection the log, and takes its output. Returns its length.
    fn show(&self, connection: &mut ServerConnection) -> usize {
        connection.handle_log(&self.log);
        let output = connection.output();
        let written = output.remaining();
        output.advance(written);
        output.shrink();
        connection.own_keys();
        written
    }

    /// Handles a request that needs neither the store nor the committer.
    fn exchange(&self, connection: &mut ServerConnection, bytes: &mut BytesMut) {
        assert_eq!(connection.handle_input(bytes), ALL_TAKEN);
        assert!(self.show(connection) > 0);
    }
}

fn getting() {
    let mut server = Server::new();
    let mut connection = server.connect(1);
    for round in 0..ROUNDS {
        let keys = (1..=DEPTH).map(|tag| (tag, key((usize::from(tag) * 613 + round * 97) % KEYS)));
        let bytes = encoded(keys.map(|(tag, key)| Message::get(Tag::new(tag), key)));
        let written = counted(|| server.serve(&mut connection, bytes));
        assert_eq!(written, encoded(puts(1)).len(), "each is there");
    }
}

fn putting() {
    let mut server = Server::new();
    let mut connection = server.connect(1);
    for round in 0..ROUNDS {
        let version = 2 + u64::try_from(round).unwrap();
        let bytes = encoded(puts(version));
        let written = counted(|| server.serve(&mut connection, bytes));
        assert_eq!(written, encoded(puts(version)).len(), "each is accepted");
    }
}

fn fanning_out() {
    let mut server = Server::new();
    let mut writer = server.connect(0);
    let mut watchers: Vec<_> = (1..).take(WATCHERS).map(|id| server.connect(id)).collect();
    for watcher in &mut watchers {
        let head = server.log.head();
        let mut watch = encoded([Message::watch(Tag::new(1), "", head)]);
        assert_eq!(watcher.handle_input(&mut watch), ALL_TAKEN);
        server.show(watcher);
        let Some(Effect::Page(PageRequest::Changes { since, prefix, max_bytes })) = watcher.poll_effect() else {
            panic!("a WATCH reads")
        };
        let page = block_on(server.store.changed_since(since, &prefix, max_bytes)).unwrap();
        watcher.handle_page(PageResult::Changes(Ok(page)));
        server.show(watcher);
        assert!(watcher.is_watching() && watcher.poll_effect().is_none());
    }
    for round in 0..ROUNDS {
        server.serve(&mut writer, encoded(puts(2 + u64::try_from(round).unwrap())));
        for watcher in &mut watchers {
            let written = counted(|| server.show(watcher));
            assert!(written > encoded(puts(1)).len(), "all of it, and a MARK");
        }
    }
}
