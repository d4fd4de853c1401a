//! Counts and formats the results of rounds and runs.

use crate::Summary;
use crate::check::Report;
use crate::history::{Direction, Frame, Gauge, History, Key, Moment, Transcript};
use crate::show::show;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// The maximum number of violations in a description.
const SHOWN: usize = 5;

/// The note that marks the end of all faults.
pub(super) const FAULTS_STOPPED: &str = "all faults have stopped";

/// The longest time between two MARKs of a connection after that, in microseconds. It is far longer than the heartbeat
/// interval, because the machine has other load.
const MAX_SILENCE: u64 = 20_000_000;

/// Adds counts and gauges to a history.
pub(super) fn count(history: &mut History) {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut frames = 0;
    let stopped_at = history.notes.iter().find(|(_, note)| note == FAULTS_STOPPED).map(|(at, _)| *at);
    let mut silences = Vec::new();
    for transcript in &history.transcripts {
        // The last version of each key that the connection has received.
        let mut received: BTreeMap<&Key, u64> = BTreeMap::new();
        for (_, direction, frame) in &transcript.frames {
            frames += 1;
            match (direction, frame) {
                (Direction::Received, Frame::Mark { .. }) => *counts.entry("MARKs").or_default() += 1,
                (Direction::Received, Frame::Write { tag: 0, write }) => {
                    let before = received.insert(&write.key, write.state.version);
                    let is_skipping = before.is_some_and(|before| write.state.version > before + 1);
                    *counts.entry("skipped intermediate versions").or_default() += u64::from(is_skipping);
                }
                (Direction::Received, Frame::Write { write, .. }) => {
                    received.insert(&write.key, write.state.version);
                }
                (Direction::Sent, Frame::Watch { since, .. }) => {
                    let name = if *since > 0 { "WATCHes that resume" } else { "WATCHes from the start" };
                    *counts.entry(name).or_default() += 1;
                }
                _ => {}
            }
        }
        *counts.entry("connections drained").or_default() += u64::from(transcript.is_drained);
        if let Some((silence, at)) = stopped_at.and_then(|since| silence(transcript, since)) {
            silences.push((silence, at));
        }
    }
    counts.insert("frames", frames);
    counts.insert("stores", history.stores.len() as u64);
    counts.insert("cursor steps", history.steps.len() as u64);
    for (name, times) in counts {
        history.count(name, times);
    }
    for (silence, at) in silences {
        history.gauge("microseconds without a MARK after all faults", at, silence, MAX_SILENCE);
    }
}

/// Returns the longest time between two MARKs after all faults, on a connection that watches and was open until the
/// end.
fn silence(transcript: &Transcript, since: Moment) -> Option<(u64, Moment)> {
    let is_watched = transcript.frames.iter().any(|(.., frame)| matches!(frame, Frame::Watch { .. }));
    let is_mark = |frame: &Frame| matches!(frame, Frame::Mark { .. });
    let received =
        transcript.frames.iter().filter(|(at, way, _)| *way == Direction::Received && at.order > since.order);
    let marks: Vec<_> = received.filter(|(.., frame)| is_mark(frame)).map(|(at, ..)| *at).collect();
    let gaps = marks.windows(2).filter_map(|pair| Some((pair.last()?.micros - pair.first()?.micros, *pair.last()?)));
    gaps.max().filter(|_| is_watched && transcript.is_drained)
}

/// Formats a round as one line.
pub(super) fn line(history: &History, reports: &[Report], checked_in: Duration) -> String {
    let mut line = format!("{} operations, {} sights", history.operations.len(), history.sights.len());
    for name in [
        "accepted writes",
        "writes with unknown outcome",
        "successful reads",
        "kill -9",
        "SIGSTOP",
        "restarts",
        "partitions",
        "link failures",
        "disk full",
        "dead disks",
        "data directories moved away",
        "data directories replaced",
        "volumes mounted over the data",
        "logs that nothing reads",
        "restores",
        "connections",
        "connections cut",
        "connections half open",
        "connections stalled",
        "cursor steps",
        "MARKs",
        "frames",
    ] {
        if let Some(times) = history.counts.get(name) {
            let _ = write!(line, ", {times} {name}");
        }
    }
    let worst = history.gauges.iter().max_by_key(|(_, gauge)| gauge.highest.saturating_mul(100) / gauge.bound.max(1));
    if let Some((name, gauge)) = worst {
        let _ = write!(line, "; {name}: {} of {}", gauge.highest, gauge.bound);
    }
    let compared: u64 = reports.iter().map(|report| report.compared).sum();
    let _ = write!(line, "; {compared} compared in {checked_in:.1?}");
    line
}

/// Describes what has failed, or returns `None` if nothing has.
pub(super) fn failure(history: &History, findings: &[String], reports: &[Report]) -> Option<String> {
    let mut text = String::new();
    for finding in findings {
        let _ = writeln!(text, "{finding}");
    }
    for report in reports {
        for violation in report.violations.iter().take(SHOWN) {
            let _ = writeln!(text, "{} (moment {}): {}", violation.promise, violation.at.order, violation.text);
        }
        if report.violations.len() > SHOWN {
            let _ = writeln!(text, "{}: {} more", report.promise, report.violations.len() - SHOWN);
        }
    }
    if let Some(violation) = reports.iter().flat_map(|report| &report.violations).min_by_key(|violation| violation.at) {
        let mut shown = Vec::new();
        if show(history, violation, &mut shown).is_ok() {
            let _ = write!(text, "\n{}", String::from_utf8_lossy(&shown));
        }
    }
    (!text.is_empty()).then_some(text)
}

/// Formats the summary of a run as a table.
pub fn table(summary: &Summary) -> String {
    let Summary { runs, micros, counts, compared, gauges, .. } = summary;
    let mut table = format!("| {runs} rounds, {} minutes | count |\n|---|---:|\n", micros / 60_000_000);
    for (name, times) in counts {
        let _ = writeln!(table, "| {name} | {times} |");
    }
    for (promise, compared) in compared {
        let _ = writeln!(table, "| compared: {promise} | {compared} |");
    }
    for (name, Gauge { highest, bound, .. }) in gauges {
        let _ = writeln!(table, "| {name}, at most {bound} | {highest} |");
    }
    table
}
