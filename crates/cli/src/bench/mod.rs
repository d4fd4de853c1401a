//! `syncline bench`

mod link;
mod random;
mod workload;

use crate::args::{Bench, Workload};
use crate::failure::Failure;
use crate::output::print_line;
use hdrhistogram::Histogram;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// What one connection, or all of them, have measured.
pub(crate) struct Measured {
    /// How long each took, in nanoseconds.
    latencies: Histogram<u64>,
    /// How many writes of others were sent to the connections.
    broadcasts: u64,
    /// How many changes the watchers were sent that had not read.
    woken: u64,
}

impl Measured {
    fn new() -> Result<Self, Failure> {
        // Up to a minute, to three digits; more counts as a minute.
        let latencies = Histogram::new_with_bounds(1, 60_000_000_000, 3)
            .map_err(|error| Failure::Usage(format!("can't measure: {error}")))?;
        Ok(Self { latencies, broadcasts: 0, woken: 0 })
    }

    fn record(&mut self, latency: Duration) {
        self.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    fn add(&mut self, other: &Self) {
        // Both have the same bounds.
        let _ = self.latencies.add(&other.latencies);
        self.broadcasts += other.broadcasts;
    }
}

pub(crate) async fn run(args: Bench) -> Result<(), Failure> {
    if args.value_size.0 < workload::STAMP {
        return Err(Failure::Usage(format!("--value-size: expected at least 8 bytes, found {}", args.value_size)));
    }
    let dialer = Arc::new(args.servers.dialer()?);
    let (measured, took) = match args.workload {
        Workload::Put => workload::put(&args, &dialer).await?,
        Workload::Get => workload::get(&args, &dialer).await?,
        Workload::Fanout => workload::fanout(&args, &dialer).await?,
        Workload::Snapshot => workload::snapshot(&args, &dialer).await?,
    };
    let (name, unit) = match args.workload {
        Workload::Put => ("put", "puts"),
        Workload::Get => ("get", "gets"),
        Workload::Fanout => ("fanout", "deliveries"),
        Workload::Snapshot => ("snapshot", "keys"),
    };
    let count = measured.latencies.len();
    let rate = count as f64 / took.as_secs_f64();
    let micros = |nanos: u64| nanos as f64 / 1000.0;
    let at = |quantile| micros(measured.latencies.value_at_quantile(quantile));
    let most = micros(measured.latencies.max());
    if args.json {
        return print_line(
            &json!({
                "workload": name, "base": args.base, "rate": args.rate, "connections": args.connections, "depth": args.depth, "keys": args.keys,
                "value_size": args.value_size.0, "seconds": took.as_secs_f64(), "count": count, "per_second": rate,
                "p50_us": at(0.5), "p99_us": at(0.99), "p999_us": at(0.999), "max_us": most,
                "broadcasts": measured.broadcasts, "stalled": args.stalled, "woken": measured.woken, "machine": machine(),
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
        "latency: p50 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs, most {most:.0} µs",
        at(0.5),
        at(0.99),
        at(0.999)
    ))?;
    if measured.broadcasts > 0 && args.workload == Workload::Put {
        print_line(&format!(
            "broadcasts: {:.0}/s, for each connection is sent what the others write",
            measured.broadcasts as f64 / took.as_secs_f64()
        ))?;
    }
    if args.stalled > 0 {
        print_line(&format!(
            "stalled: {} watchers read nothing meanwhile; then they were sent {} changes, and hold the latest of every key",
            args.stalled, measured.woken
        ))?;
    }
    print_line(&format!("measured on: {}", machine()))
}

/// Which machine this is.
fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{model}, {cores} cores, {}", std::env::consts::OS)
}
