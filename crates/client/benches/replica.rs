//! Compares a replica of many keys with a `BTreeMap` of the same keys, interleaved in one run. It measures a lookup, with
//! and without concurrent changes; a snapshot; and how long a new replica takes to become complete over loopback, including
//! the work of the server.
//!
//! `cargo bench -p syncline-client --bench replica -- [--keys 1000000] [--rounds 5] [--rate 10000]`
//!
//! It prints the medians of the rounds.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a benchmark"
)]

use bytes::Bytes;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use syncline_client::{Client, Replica, Version, Versioned};
use syncline_server::{Config, Server};
use syncline_store::MemoryStore;
use tokio::task::JoinSet;

/// The number of keys written in one transaction.
const BATCH: u64 = 1000;

/// The number of lookups in one measurement.
const LOOKUPS: u32 = 200_000;

fn main() {
    let (mut keys, mut rounds, mut rate) = (1_000_000, 5, 10_000);
    let mut benched = false;
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || given.next().unwrap_or_else(|| panic!("expected a value behind {name}")).parse().unwrap();
        match name.as_str() {
            "--keys" => keys = value(),
            "--rounds" => rounds = value(),
            "--rate" => rate = value(),
            // `cargo bench` passes this. `cargo test --all-targets` does not, and only checks that the benchmark builds.
            "--bench" => benched = true,
            other => panic!("expected --keys, --rounds or --rate, found {other}"),
        }
    }
    if benched {
        tokio::runtime::Runtime::new().unwrap().block_on(run(keys, rounds, rate));
    }
}

fn key(number: u64) -> Bytes {
    format!("key/{number:020}").into()
}

fn value(number: u64) -> Bytes {
    format!("{number:0100}").into()
}

async fn run(keys: u64, rounds: u64, rate: u64) {
    let config = Config { listen: "127.0.0.1:0".into(), ..Config::default() };
    let server = Server::bind(config, MemoryStore::new().unwrap()).await.unwrap();
    let addr = server.local_addr().to_string();
    tokio::spawn(server.run(std::future::pending()));
    fill(&Client::connect(&addr).await.unwrap(), keys).await;

    let mut first = Vec::new();
    for _ in 0..rounds {
        let client = Client::connect(&addr).await.unwrap();
        let begun = Instant::now();
        let replica = client.watch("").await.unwrap();
        first.push(begun.elapsed());
        assert_eq!(replica.len() as u64, keys);
    }
    let first = median(first);
    println!("first snapshot of {keys} keys: {first:?}, {:.0} keys/s", keys as f64 / first.as_secs_f64());

    let replica = Client::connect(&addr).await.unwrap().watch("").await.unwrap();
    let map: BTreeMap<Bytes, Versioned> =
        replica.snapshot().iter().map(|(key, now)| (Bytes::copy_from_slice(key), now.clone())).collect();
    let map = Arc::new(map);
    measure("no changes", &replica, &map, keys, rounds).await;

    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(change(Client::connect(&addr).await.unwrap(), keys, rate, stop.clone()));
    let (begun, before) = (Instant::now(), replica.revision());
    measure("while changes are applied", &replica, &map, keys, rounds).await;
    let applied = replica.revision().get() - before.get();
    println!("  {:.0} changes/s were applied meanwhile", applied as f64 / begun.elapsed().as_secs_f64());
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
}

async fn measure(what: &str, replica: &Replica, map: &Arc<BTreeMap<Bytes, Versioned>>, count: u64, rounds: u64) {
    let (replica, map) = (replica.clone(), map.clone());
    let times = tokio::task::spawn_blocking(move || {
        let mut random = 1;
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..rounds {
            let keys: Vec<_> = (0..LOOKUPS).map(|_| key(next(&mut random) % count)).collect();
            times[0].push(per_item(&keys, |key| drop(black_box(map.get(&key[..]).cloned()))));
            times[1].push(per_item(&keys, |key| drop(black_box(replica.get(key)))));
            times[2].push(per_item(&keys, |_| drop(black_box(replica.snapshot()))));
        }
        times
    });
    let [map, replica, snapshot] = times.await.unwrap().map(median);
    let ratio = replica.as_secs_f64() / map.as_secs_f64();
    println!("{what}: BTreeMap {map:?}, replica {replica:?} ({ratio:.2} times), snapshot {snapshot:?}");
}

fn per_item(keys: &[Bytes], look: impl Fn(&Bytes)) -> Duration {
    let begun = Instant::now();
    keys.iter().for_each(look);
    begun.elapsed() / LOOKUPS
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Returns the next number of xorshift64*, which yields the same sequence in each run.
fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
}

async fn fill(client: &Client, keys: u64) {
    let mut writes = JoinSet::new();
    for first in (0..keys).step_by(BATCH as usize) {
        let txn = (first..keys.min(first + BATCH))
            .fold(client.txn(), |txn, number| txn.put(key(number), value(number), Version::new(1)));
        writes.spawn(txn.commit());
        if writes.len() == 4 {
            writes.join_next().await.unwrap().unwrap().unwrap();
        }
    }
    while let Some(written) = writes.join_next().await {
        written.unwrap().unwrap();
    }
}

/// Changes random keys at this rate per second, until `stop` is set.
async fn change(client: Client, keys: u64, rate: u64, stop: Arc<AtomicBool>) {
    let mut versions = vec![1; usize::try_from(keys).unwrap()];
    let mut random = 2;
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let mut writes = JoinSet::new();
        let mut changed = std::collections::BTreeSet::new();
        for _ in 0..rate.div_ceil(1000) {
            let number = next(&mut random) % keys;
            if changed.insert(number) {
                let version = versions.get_mut(usize::try_from(number).unwrap()).unwrap();
                *version += 1;
                let (client, version) = (client.clone(), *version);
                writes.spawn(async move { client.put(key(number), value(version), Version::new(version)).await });
            }
        }
        while let Some(done) = writes.join_next().await {
            done.unwrap().unwrap();
        }
    }
}
