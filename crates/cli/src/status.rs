//! `syncline status`: prints the state of the server, or checks whether it accepts writes.

use crate::args::Status;
use crate::failure::Failure;
use crate::output::print_line;
use crate::servers::ServersArg;
use bytesize::ByteSize;
use serde_json::{Map, Value};
use std::time::Duration;
use tokio::time::timeout;

pub(crate) async fn run(args: Status) -> Result<(), Failure> {
    if args.check {
        let too_late = |_| Failure::Unavailable(format!("no status within {:?} (--timeout)", args.timeout));
        return timeout(args.timeout, check(&args.servers)).await.map_err(too_late)?;
    }
    let response = fetch(&args.servers).await?;
    if args.json {
        return print_line(&response);
    }
    let status = parse(&response)?;
    let rows = rows(status);
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<_> = rows.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect();
    print_line(&lines.join("\n"))
}

async fn fetch(servers: &ServersArg) -> Result<String, Failure> {
    Ok(servers.connect().await?.status().await?)
}

fn parse(response: &str) -> Result<Map<String, Value>, Failure> {
    serde_json::from_str(response)
        .map_err(|error| Failure::Unavailable(format!("expected a JSON object as status, found {response}: {error}")))
}

/// Checks that the server accepts writes.
async fn check(servers: &ServersArg) -> Result<(), Failure> {
    let status = parse(&fetch(servers).await?)?;
    match status.get(ACCEPTS_WRITES).and_then(Value::as_bool) {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::Unavailable(format!("the server refuses writes: {}", reason(&status)))),
        None => Err(Failure::Unavailable(format!(
            "expected {ACCEPTS_WRITES:?} in the status, found none: the server is of an earlier version"
        ))),
    }
}

/// Returns why the server refuses writes.
fn reason(status: &Map<String, Value>) -> &str {
    status.get(REASON).and_then(Value::as_str).unwrap_or("it gives no reason")
}

/// Returns names and values: first whether the server accepts writes, then those in [`NAMES`], in that order, then
/// those that this version does not know.
fn rows(mut status: Map<String, Value>) -> Vec<(String, String)> {
    let head = status.get("head").and_then(Value::as_u64);
    let mut rows = Vec::new();
    if let Some(accepts_writes) = status.get(ACCEPTS_WRITES).and_then(Value::as_bool) {
        let row = if accepts_writes { "accepted".to_owned() } else { format!("REFUSED: {}", reason(&status)) };
        rows.push(("writes".to_owned(), row));
        status.remove(ACCEPTS_WRITES);
        status.remove(REASON);
    }
    for name in NAMES {
        let Some(value) = status.remove(*name).filter(|value| !value.is_null()) else { continue };
        rows.push((name.replace('_', " "), shown(name, &value, head)));
    }
    rows.extend(status.into_iter().map(|(name, value)| (name.replace('_', " "), plain(&value))));
    for (name, _) in &mut rows {
        match name.as_str() {
            "uptime seconds" => *name = "up".into(),
            // The key is older than the term.
            "strangers" => *name = "unauthenticated".into(),
            _ => {}
        }
    }
    rows
}

/// The fields that say whether the server accepts writes, and if not, why.
const ACCEPTS_WRITES: &str = "accepts_writes";
const REASON: &str = "reason";

const NAMES: &[&str] = &[
    "version",
    "uptime_seconds",
    "store",
    "head",
    "durability",
    "data",
    "keys",
    "tombstones",
    "bytes",
    "connections",
    "base_connections",
    "strangers",
    "verifications",
    "slowest_cursor",
    "recent_log",
    "log_lines_dropped",
];

fn shown(name: &str, value: &Value, head: Option<u64>) -> String {
    let number = value.as_u64();
    match (name, number) {
        ("uptime_seconds", Some(seconds)) => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
        ("head", Some(head)) => format!("revision {head}"),
        ("bytes", Some(bytes)) => ByteSize(bytes).to_string(),
        ("slowest_cursor", Some(cursor)) => {
            format!("revision {cursor}, {} behind", head.unwrap_or(cursor).saturating_sub(cursor))
        }
        ("recent_log", None) => {
            let of = |name| value.get(name).and_then(Value::as_u64).unwrap_or_default();
            format!("{} since revision {}", ByteSize(of("bytes")), of("since"))
        }
        _ => plain(value),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_rows_come_first_in_a_fixed_order() {
        let status = r#"{"aha":[1],"accepts_writes":false,"reason":"the disk is full","head":9,"keys":2,"uptime_seconds":3661,"data":null,"slowest_cursor":7,"bytes":2048,
            "recent_log":{"bytes":0,"since":3}}"#;
        let rows: Vec<_> = rows(serde_json::from_str(status).unwrap());
        let rows: Vec<_> = rows.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let expected = [
            "writes: REFUSED: the disk is full",
            "up: 1h 1m 1s",
            "head: revision 9",
            "keys: 2",
            "bytes: 2.0 KiB",
            "slowest cursor: revision 7, 2 behind",
            "recent log: 0 B since revision 3",
            "aha: [1]",
        ];
        assert_eq!(rows, expected);
    }
}
