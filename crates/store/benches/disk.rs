//! The disk engine compared with the limit: a bare append and `fdatasync` of the same bytes, interleaved in the same
//! run.
//!
//! `cargo bench -p syncline-store --bench disk -- [--keys 1000000] [--rounds 5] [--seconds 1] [--dir target/bench-data]`
//!
//! Prints the medians of the rounds, and the machine. The directory must be on the disk that is measured.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark"
)]

use bytes::Bytes;
use pollster::block_on;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use syncline_core::{Operation, Outcome, Transaction};
use syncline_store::{DiskOptions, DiskStore, Store};
use syncline_wire::Version;

const KEY: usize = 24;
const VALUE: usize = 100;
const BATCHES: [usize; 4] = [1, 8, 64, 256];

struct Args {
    keys: u64,
    rounds: usize,
    seconds: f64,
    dir: PathBuf,
}

fn main() {
    let mut args = Args {
        keys: 1_000_000,
        rounds: 5,
        seconds: 1.0,
        dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench-data"),
    };
    let mut benched = false;
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || given.next().unwrap_or_else(|| panic!("{name} wants a value"));
        match name.as_str() {
            "--keys" => args.keys = value().parse().unwrap(),
            "--rounds" => args.rounds = value().parse().unwrap(),
            "--seconds" => args.seconds = value().parse().unwrap(),
            "--dir" => args.dir = value().into(),
            "--open" => return open_and_say(Path::new(&value())),
            "--die" => return write_and_die(Path::new(&value()), args.keys),
            // Passed by `cargo bench`, but not by `cargo test --all-targets`, which only checks that this
            // builds.
            "--bench" => benched = true,
            other => panic!("expected --keys, --rounds, --seconds or --dir, found {other}"),
        }
    }
    if !benched {
        return println!("run it by cargo bench");
    }
    let _ = fs::remove_dir_all(&args.dir);
    fs::create_dir_all(&args.dir).unwrap();
    println!("{}", machine());
    println!(
        "{} keys of {KEY} + {VALUE} bytes, uniformly random updates, {} rounds of {} s\n",
        args.keys, args.rounds, args.seconds
    );

    let data = args.dir.join("data");
    let store = DiskStore::open(&data, DiskOptions::default()).unwrap();
    let mut versions = vec![u64::MAX; args.keys as usize];
    // Touches the memory now, so that it is not counted as the store's.
    versions.fill(0);
    let mut random = Random(1);
    fill(&store, &mut versions);
    batches(&args, &store, &mut versions, &mut random);
    reads(&args, &store, &mut versions, &mut random);
    let started = Instant::now();
    drop(store);
    println!("closing, with a checkpoint: {:.3} s", started.elapsed().as_secs_f64());
    openings(&args, &data);
    fs::remove_dir_all(&args.dir).unwrap();
}

/// Measures durable puts per second for several sizes of batches; at 64 also latencies and bytes written.
fn batches(args: &Args, store: &DiskStore, versions: &mut [u64], random: &mut Random) {
    let bare = Bare::new(&args.dir.join("bare"));
    println!("| batch | bare append + fdatasync | the engine | ratio |\n|---|---|---|---|");
    for batch in BATCHES {
        let (mut limits, mut engines) = (Vec::new(), Vec::new());
        let (mut latencies, mut puts, mut written) = (Vec::new(), 0_u64, 0);
        for _ in 0..args.rounds {
            limits.push(rate(args.seconds, || {
                bare.append(batch);
                batch
            }));
            let before = bytes_written();
            let (mut busy, mut done) = (Duration::ZERO, 0);
            while busy < Duration::from_secs_f64(args.seconds) {
                let transactions = (0..batch).map(|_| put(random.below(versions.len() as u64), versions)).collect();
                let started = Instant::now();
                let outcomes = store.commit(transactions);
                let took = started.elapsed();
                latencies.push(took);
                busy += took;
                done += batch;
                assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Accepted { .. })));
            }
            engines.push(done as f64 / busy.as_secs_f64());
            puts += done as u64;
            written += bytes_written() - before;
        }
        let (limit, engine) = (median(&mut limits), median(&mut engines));
        println!("| {batch} | {limit:.0}/s | {engine:.0}/s | {:.2} |", engine / limit);
        if batch == 64 {
            latencies.sort_unstable();
            let at = |p: f64| latencies[((latencies.len() - 1) as f64 * p) as usize].as_secs_f64() * 1e6;
            let (p50, p99, most) = (at(0.5), at(0.99), at(1.0));
            println!(
                "|  | commit p50 {p50:.0} µs, p99 {p99:.0} µs ({:.1} ×), most {most:.0} µs | {:.0} bytes to the device per put, checkpoints included ({:.2} × the record's {}) |  |",
                p99 / p50,
                written as f64 / puts as f64,
                written as f64 / puts as f64 / RECORD as f64,
                RECORD
            );
        }
    }
}

/// The size of a put in a record of the log.
const RECORD: usize = 2 + 1 + 2 + KEY + 2 + VALUE + 8;

/// Measures GETs from two threads while batches of 64 commit.
fn reads(args: &Args, store: &DiskStore, versions: &mut [u64], random: &mut Random) {
    let done = AtomicBool::new(false);
    let keys = args.keys;
    let mut latencies: Vec<u64> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|seed| {
                let done = &done;
                scope.spawn(move || {
                    let mut random = Random(100 + seed);
                    let mut latencies = Vec::new();
                    while !done.load(Ordering::Relaxed) {
                        let key = key(random.below(keys));
                        let started = Instant::now();
                        let found = block_on(store.get(&key)).unwrap();
                        latencies.push(started.elapsed().as_nanos() as u64);
                        assert!(found.is_some());
                    }
                    latencies
                })
            })
            .collect();
        rate(args.seconds * args.rounds as f64, || {
            store.commit((0..64).map(|_| put(random.below(keys), versions)).collect()).len()
        });
        done.store(true, Ordering::Relaxed);
        readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect()
    });
    latencies.sort_unstable();
    let at = |p: f64| latencies[((latencies.len() - 1) as f64 * p) as usize] as f64 / 1e3;
    println!(
        "\nGET from 2 threads while batches of 64 commit: p50 {:.2} µs, p99 {:.1} µs, p999 {:.1} µs ({} reads)",
        at(0.5),
        at(0.99),
        at(0.999),
        latencies.len()
    );
}

/// Measures opening after a clean stop, and after a kill with a full segment after the checkpoint.
fn openings(args: &Args, data: &Path) {
    let open = |how: &str| {
        let mut said: Vec<String> = (0..args.rounds)
            .map(|_| {
                let output = Command::new(std::env::current_exe().unwrap()).arg("--open").arg(data).output().unwrap();
                String::from_utf8(output.stdout).unwrap()
            })
            .collect();
        said.sort();
        println!("opening {how}: {}", said[said.len() / 2].trim());
    };
    open("after a clean stop");
    let died = Command::new(std::env::current_exe().unwrap())
        .args(["--keys", &args.keys.to_string(), "--die"])
        .arg(data)
        .status()
        .unwrap();
    assert!(!died.success());
    open("after a kill, with a segment more to replay");
}

fn open_and_say(data: &Path) {
    let started = Instant::now();
    let store = DiskStore::open(data, DiskOptions::default()).unwrap();
    println!("{:.3} s, revision {}", started.elapsed().as_secs_f64(), store.head());
}

/// Writes a full segment, and aborts the process.
fn write_and_die(data: &Path, keys: u64) {
    let store = DiskStore::open(data, DiskOptions::default()).unwrap();
    let mut random = Random(7);
    let mut written = 0;
    while written < DiskOptions::default().segment_size {
        let batch: Vec<_> = (0..256)
            .map(|_| {
                let key = key(random.below(keys));
                let version = block_on(store.get(&key)).unwrap().unwrap().version.next().unwrap();
                let operation = Operation::Put { key: key.to_vec().into(), value: vec![7; VALUE].into(), version };
                Transaction { origin: None, operations: [operation].into() }
            })
            .collect();
        store.commit(batch);
        written += 256 * RECORD as u64;
    }
    std::process::abort();
}

fn fill(store: &DiskStore, versions: &mut [u64]) {
    let before = resident();
    let started = Instant::now();
    let keys = versions.len() as u64;
    for start in (0..keys).step_by(1000) {
        let batch = (start..(start + 1000).min(keys)).map(|number| put(number, versions)).collect();
        assert!(store.commit(batch).iter().all(|outcome| matches!(outcome, Outcome::Accepted { .. })));
    }
    let per_key = (resident() - before) as f64 / keys as f64;
    println!(
        "filled in {:.1} s; memory: {per_key:.0} bytes per key, of which {} are data\n",
        started.elapsed().as_secs_f64(),
        KEY + VALUE
    );
}

/// Returns the next put of a key.
fn put(number: u64, versions: &mut [u64]) -> Transaction {
    let version = &mut versions[number as usize];
    *version += 1;
    let mut value = vec![0x5a; VALUE];
    value[..8].copy_from_slice(&version.to_le_bytes());
    let operation = Operation::Put {
        key: Bytes::copy_from_slice(&key(number)),
        value: value.into(),
        version: Version::new(*version),
    };
    Transaction { origin: None, operations: [operation].into() }
}

fn key(number: u64) -> [u8; KEY] {
    let mut key = [b'k'; KEY];
    key[..16].copy_from_slice(format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).as_bytes());
    key
}

/// The limit: a pre-zeroed file that is overwritten from start to end repeatedly, with a sync after each batch.
struct Bare {
    file: File,
    offset: std::cell::Cell<u64>,
    bytes: Vec<u8>,
}

const BARE_SIZE: u64 = 64 * 1024 * 1024;

impl Bare {
    fn new(path: &Path) -> Self {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path).unwrap();
        let zeros = vec![0; 1 << 20];
        (0..BARE_SIZE >> 20).for_each(|mib| file.write_all_at(&zeros, mib << 20).unwrap());
        file.sync_all().unwrap();
        Self { file, offset: 0.into(), bytes: vec![0x5a; RECORD * 1024] }
    }

    fn append(&self, puts: usize) {
        let bytes = &self.bytes[..RECORD * puts];
        if self.offset.get() + bytes.len() as u64 > BARE_SIZE {
            self.offset.set(0);
        }
        self.file.write_all_at(bytes, self.offset.get()).unwrap();
        self.file.sync_data().unwrap();
        self.offset.set(self.offset.get() + bytes.len() as u64);
    }
}

/// Returns how many items per second `step` processes; each call returns how many it did.
fn rate(seconds: f64, mut step: impl FnMut() -> usize) -> f64 {
    let started = Instant::now();
    let mut done = 0;
    while started.elapsed() < Duration::from_secs_f64(seconds) {
        done += step();
    }
    done as f64 / started.elapsed().as_secs_f64()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the bytes that all processes have written to all disks. (The kernel's figure per process counts whole
/// pages and more.)
fn bytes_written() -> u64 {
    let disks = fs::read_dir("/sys/block").unwrap();
    let sectors = |disk: fs::DirEntry| {
        let stat = fs::read_to_string(disk.path().join("stat")).unwrap_or_default();
        stat.split_whitespace().nth(6).and_then(|sectors| sectors.parse::<u64>().ok()).unwrap_or(0)
    };
    disks.map(|disk| sectors(disk.unwrap())).sum::<u64>() * 512
}

/// Returns the bytes of memory of this process.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

/// A xorshift generator with a fixed seed, so every run is the same.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
