//! Formats reports as a table or as JSON.

use super::connection::Traffic;
use super::round::{Latencies, Report};
use serde_json::{Value, json as object};
use std::fmt::Write;

/// 2^20 bytes.
const MIB: f64 = 1024.0 * 1024.0;

/// The head of the table.
const HEAD: &str = "| attack | sent: connections, frames, MiB | bound | memory of the bound, MiB | memory before, peak, after, MiB | \
open files | alone: p50, p99 of writes; of reads, µs | beside the attack | factor of the p99 of writes |\n\
|---|---:|---|---:|---:|---:|---:|---:|---:|\n";

/// Formats all reports as a table.
pub fn table(reports: &[Report]) -> String {
    let mut table = HEAD.to_owned();
    for report in reports {
        let _ = writeln!(table, "{}", row(report));
    }
    table
}

/// Formats one report as a row of the table, followed by its notes and findings.
pub fn row(report: &Report) -> String {
    let Traffic { connections, frames, bytes } = report.traffic;
    let [before, most, after] = report.memory.map(mib);
    let [alone, beside] = report.bystander.map(latencies);
    let mut row = format!(
        "| {} | {connections}, {frames}, {:.1} | {}: {} | {:.1} | {before:.1}, {most:.1}, {after:.1} | {} | {alone} | {beside} | {:.1} |",
        report.attack,
        mib(bytes),
        report.bound.name,
        report.bound.value,
        mib(report.bound.memory),
        report.files,
        report.factor(),
    );
    for note in &report.notes {
        let _ = write!(row, "\n  {note}");
    }
    for finding in &report.findings {
        let _ = write!(row, "\n  FOUND: {finding}");
    }
    row
}

/// Formats one report as a JSON object.
pub fn json(report: &Report) -> Value {
    let Traffic { connections, frames, bytes } = report.traffic;
    let [before, most, after] = report.memory;
    let [alone, beside] = report.bystander.map(|latencies| {
        let ([put_p50, put_p99], [get_p50, get_p99]) = (latencies.put, latencies.get);
        object!({ "put_p50_us": put_p50, "put_p99_us": put_p99, "get_p50_us": get_p50, "get_p99_us": get_p99 })
    });
    object!({
        "attack": report.attack, "does": report.description,
        "connections": connections, "frames": frames, "bytes": bytes,
        "bound": report.bound.name, "value": report.bound.value, "bound_bytes": report.bound.memory,
        "memory_before": before, "memory_most": most, "memory_after": after, "open_files": report.files,
        "alone": alone, "beside": beside, "factor": report.factor(), "served": report.served,
        "notes": report.notes, "findings": report.findings,
    })
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB
}

fn latencies(Latencies { put: [put_50, put_99], get: [get_50, get_99] }: Latencies) -> String {
    format!("{put_50:.0}, {put_99:.0}; {get_50:.0}, {get_99:.0}")
}
