//! `syncline bench`: puts load on a server, with the same load generator as the comparison in `bench/`.

use crate::args::{Bench, Workload};
use crate::ending::Ending;
use crate::failure::Failure;
use crate::output::{note, print_line};
use bytes::Bytes;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use syncline_client::{Client, TxnError};
use syncline_load::process::machine;
use syncline_load::workload::{self, Fanout, Load};
use syncline_load::{Error, Keys, Measured, PREFIX, STAMP, SynclinePeer};
use tokio::time::sleep;

/// The number of keys that are removed together.
const PAGE: u32 = 1000;

/// How often the keys are looked for; they may change meanwhile.
const MAX_PASSES: usize = 10;

/// The pause between two passes.
const SETTLING: Duration = Duration::from_millis(100);

/// How long deliveries may take after the last write.
const DRAIN: Duration = Duration::from_secs(10);

/// A measurement that is ready to run.
struct Plan {
    peer: SynclinePeer,
    keys: Keys,
    load: Load,
}

impl Plan {
    fn new(args: &Bench) -> Result<Self, Failure> {
        if args.value_size.0 < STAMP {
            return Err(Failure::Usage(format!("--value-size: expected at least 8 bytes, found {}", args.value_size)));
        }
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        // A snapshot needs the extension.
        let base = args.base && args.workload != Workload::Snapshot;
        Ok(Self {
            peer: SynclinePeer { dialer: Arc::new(args.servers.dialer()?), base },
            keys: Keys::new(size(args.keys), args.value_size.0),
            load: Load {
                connections: size(args.connections),
                depth: u16::try_from(args.depth).unwrap_or(u16::MAX),
                time: args.time,
            },
        })
    }

    /// Runs the workload. Returns the measurements, their duration, and the number of changes that the stalled watchers
    /// received at the end.
    async fn measure(&self, args: &Bench) -> Result<(Measured, Duration, u64), Error> {
        let Self { peer, keys, load } = self;
        workload::learn(peer, keys).await?;
        let mut woken = 0;
        let (measured, took) = match args.workload {
            Workload::Put => {
                let watcher = SynclinePeer { base: false, ..peer.clone() };
                let mut stalled = Vec::new();
                for _ in 0..args.stalled {
                    stalled.push(workload::follow(&watcher).await?);
                }
                let measured = workload::put(peer, keys, *load).await?;
                for mut link in stalled {
                    woken += workload::wake(&mut link).await?;
                }
                measured
            }
            Workload::Get => {
                workload::fill(peer, keys).await?;
                workload::get(peer, keys, *load).await?
            }
            Workload::Fanout => {
                let fanout = Fanout {
                    watchers: load.connections,
                    depth: load.depth,
                    rate: args.rate,
                    time: load.time,
                    late: DRAIN,
                };
                workload::fanout(peer, keys, fanout).await?
            }
            Workload::Snapshot => {
                workload::fill(peer, keys).await?;
                workload::snapshot(peer, load.connections).await?
            }
        };
        Ok((measured, took, woken))
    }
}

pub(crate) async fn run(args: Bench) -> Result<(), Failure> {
    let plan = Plan::new(&args)?;
    let client = args.servers.connect().await?;
    note(&format!("writes keys under {PREFIX}, and removes all keys under it at the end"));
    let mut ending = Ending::new()?;
    let measured = tokio::select! {
        measured = plan.measure(&args) => measured.map_err(Failure::from),
        signal = ending.wait() => Err(Failure::Signal(signal)),
    };
    let removed = tokio::select! {
        removed = remove_keys(&client) => removed,
        signal = ending.wait() => Err(Failure::Signal(signal)),
    };
    if let Err(failure) = removed
        && measured.is_ok()
    {
        note(&format!(
            "warning: some keys under {PREFIX} remain: {}. The next run removes them",
            failure.message().unwrap_or("interrupted")
        ));
    }
    let (measured, took, woken) = measured?;
    report(&args, &measured, took, woken)
}

/// Removes all keys under the prefix of the load generator, including those of earlier runs that were interrupted.
async fn remove_keys(client: &Client) -> Result<(), Failure> {
    let mut removed = 0;
    for _ in 0..MAX_PASSES {
        let (mut after, mut found, mut conflicts) = (Bytes::new(), 0_u64, 0_u64);
        loop {
            let page = client.list(PREFIX, after.clone(), PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = last.clone();
            found += page.len() as u64;
            let deletions = page.into_iter().filter_map(|(key, at)| Some((key, at.version.next()?)));
            let txn = deletions.fold(client.txn(), |txn, (key, version)| txn.delete(key, version));
            match txn.commit().await {
                Ok(_) => {}
                // Another run writes the same keys.
                Err(TxnError::StaleKey { .. }) => conflicts += 1,
                Err(error) => return Err(error.into()),
            }
        }
        removed += found;
        if conflicts == 0 && found == 0 {
            note(&format!("removed {removed} keys under {PREFIX}"));
            return Ok(());
        }
        // After an interruption, writes of connections that were closed may still arrive.
        sleep(SETTLING).await;
    }
    Err(Failure::Unavailable("another run writes to them".to_owned()))
}

/// Prints the measurements.
fn report(args: &Bench, measured: &Measured, took: Duration, woken: u64) -> Result<(), Failure> {
    let (name, unit) = match args.workload {
        Workload::Put => ("put", "puts"),
        Workload::Get => ("get", "gets"),
        Workload::Fanout => ("fanout", "deliveries"),
        Workload::Snapshot => ("snapshot", "keys"),
    };
    let count = measured.count();
    let rate = count as f64 / took.as_secs_f64();
    let at = |quantile| measured.micros_at(quantile);
    let max = measured.micros_at_most();
    if args.json {
        return print_line(
            &json!({
                "workload": name, "base": args.base, "rate": args.rate, "connections": args.connections, "depth": args.depth, "keys": args.keys,
                "value_size": args.value_size.0, "seconds": took.as_secs_f64(), "count": count, "per_second": rate,
                "p50_us": at(0.5), "p99_us": at(0.99), "p999_us": at(0.999), "max_us": max,
                "broadcasts": measured.broadcasts, "stalled": args.stalled, "woken": woken, "machine": machine(),
            })
            .to_string(),
        );
    }
    print_line(&format!(
        "{rate:.0} {unit}/s: {count} in {:.1} s, {} connections, {} in flight on each",
        took.as_secs_f64(),
        args.connections,
        args.depth
    ))?;
    print_line(&format!(
        "latency: p50 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs, max {max:.0} µs",
        at(0.5),
        at(0.99),
        at(0.999)
    ))?;
    if measured.broadcasts > 0 && args.workload == Workload::Put {
        print_line(&format!(
            "broadcasts: {:.0}/s, because each connection receives what the others write",
            measured.broadcasts as f64 / took.as_secs_f64()
        ))?;
    }
    if args.stalled > 0 {
        print_line(&format!(
            "stalled: {} watchers read nothing meanwhile; afterwards they received {} changes, and have the latest version of every key",
            args.stalled, woken
        ))?;
    }
    print_line(&format!("measured on: {}", machine()))
}
