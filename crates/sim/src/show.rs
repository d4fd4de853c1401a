//! Prints a history for people: the events that led to a violation, one per line.
//!
//! ```text
//!      2.000310  client 3            asked   PUT "a/1" version 4 (#19)
//!      2.000350  store 0             commit  7: "a/1" version 4 (#19)
//!      2.000360  connection 2 of 2   ◀       PUT "a/1" version 4 (#19)
//!      2.000370  connection 2 of 2   ◀       MARK 7
//! ```

use crate::check::{Violation, describe_state};
use crate::history::{
    Commit, Direction, Frame, History, Invocation, Moment, Operation, Outcome, Sight, Step, Transcript, Write,
};
use std::collections::BTreeSet;
use std::io;

/// The maximum length of a line in characters. Longer lines are clipped.
const COLUMNS: usize = 160;

/// The number of lines to print before and after a violation.
const BEFORE: usize = 60;
const AFTER: usize = 15;

/// Selects a part of a history. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only events about one of these keys. Empty: all keys.
    pub keys: BTreeSet<String>,
    /// Only operations and observations of this client.
    pub client: Option<u64>,
    /// Only frames of this connection.
    pub connection: Option<u64>,
}

/// Prints the events that led to a violation: those of the keys that it names, the frames of its connection, the
/// observations of its client, and the faults meanwhile.
///
/// # Errors
/// The errors of `out`.
pub fn show(history: &History, violation: &Violation, out: &mut dyn io::Write) -> io::Result<()> {
    let filter = filter_for(history, violation);
    let lines = lines(history, &filter);
    let index = lines.partition_point(|line| line.at.order <= violation.at.order);
    let (from, to) = (index.saturating_sub(BEFORE), lines.len().min(index.saturating_add(AFTER)));
    if from > 0 {
        writeln!(out, "… {from} earlier lines")?;
    }
    for line in lines.get(from..index).unwrap_or_default() {
        line.write(out)?;
    }
    let text = format!("{} is broken: {}", violation.promise, violation.text);
    let characters: Vec<char> = text.chars().collect();
    for part in characters.chunks(COLUMNS - 4) {
        writeln!(out, ">>> {}", part.iter().collect::<String>())?;
    }
    for line in lines.get(index..to).unwrap_or_default() {
        line.write(out)?;
    }
    if to < lines.len() {
        writeln!(out, "… {} later lines", lines.len() - to)?;
    }
    Ok(())
}

/// Prints the selected events of a history, at most the last `max_lines`.
///
/// # Errors
/// The errors of `out`.
pub fn show_all(history: &History, filter: &Filter, max_lines: usize, out: &mut dyn io::Write) -> io::Result<()> {
    let lines = lines(history, filter);
    let from = lines.len().saturating_sub(max_lines);
    if from > 0 {
        writeln!(out, "… {from} earlier lines")?;
    }
    lines.get(from..).unwrap_or_default().iter().try_for_each(|line| line.write(out))
}

/// Returns a filter for the keys that a violation names, and for the client and connection where it was found.
fn filter_for(history: &History, violation: &Violation) -> Filter {
    let mut keys = BTreeSet::new();
    let mut note = |key: &str| {
        if !keys.contains(key) && violation.text.contains(&format!("{key:?}")) {
            keys.insert(key.to_owned());
        }
    };
    history.commits.iter().flat_map(|commit| &commit.writes).for_each(|write| note(&write.key));
    for operation in &history.operations {
        asked_keys(&operation.asked).for_each(&mut note);
    }
    for (_, _, frame) in history.transcripts.iter().flat_map(|transcript| &transcript.frames) {
        frame_keys(frame).for_each(&mut note);
    }
    let is_here = |at: &Moment| at.order == violation.at.order;
    let transcript = history.transcripts.iter().find(|transcript| transcript.frames.iter().any(|(at, ..)| is_here(at)));
    let sight = history.sights.iter().find(|sight| is_here(&sight.at)).map(|sight| sight.client);
    let step = history.steps.iter().find(|step| is_here(&step.at)).map(|step| step.client);
    let client = transcript.map(|transcript| transcript.client).or(sight).or(step);
    Filter { keys, client, connection: transcript.map(|transcript| transcript.connection) }
}

struct Line {
    at: Moment,
    subject: String,
    text: String,
}

impl Line {
    fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let Self { at, subject, text } = self;
        let (seconds, micros) = (at.micros / 1_000_000, at.micros % 1_000_000);
        let line = format!("{seconds:>6}.{micros:06}  {subject:<24} {text}");
        if line.chars().count() <= COLUMNS {
            return writeln!(out, "{line}");
        }
        writeln!(out, "{}…", line.chars().take(COLUMNS - 1).collect::<String>())
    }
}

/// Returns the lines of all selected events, in order of time.
fn lines(history: &History, filter: &Filter) -> Vec<Line> {
    let mut lines = Vec::new();
    for (at, text) in &history.notes {
        lines.push(Line { at: *at, subject: "fault".into(), text: text.clone() });
    }
    for store in &history.stores {
        let restored = store.restored.map(|(parent, through)| format!(", restored: store {parent} up to {through}"));
        let text = format!("served, id {}{}", store.id, restored.unwrap_or_default());
        lines.push(Line { at: store.since, subject: "store".into(), text });
    }
    lines.extend(history.commits.iter().filter_map(|commit| of_commit(commit, filter)));
    for operation in &history.operations {
        of_operation(operation, filter, &mut lines);
    }
    for transcript in &history.transcripts {
        of_transcript(transcript, filter, &mut lines);
    }
    lines.extend(history.sights.iter().filter_map(|sight| of_sight(sight, filter)));
    lines.extend(history.steps.iter().filter_map(|step| of_step(step, filter)));
    lines.sort_by_key(|line| line.at);
    lines
}

impl Filter {
    fn has_key(&self, key: &str) -> bool {
        self.keys.is_empty() || self.keys.contains(key)
    }

    /// Returns whether the filter selects a client or a connection but no keys.
    fn shows_one_source(&self) -> bool {
        self.keys.is_empty() && (self.client.is_some() || self.connection.is_some())
    }

    fn has_client(&self, client: u64) -> bool {
        self.client.is_none_or(|wanted| wanted == client)
    }
}

fn of_commit(commit: &Commit, filter: &Filter) -> Option<Line> {
    if filter.shows_one_source() || !commit.writes.iter().any(|write| filter.has_key(&write.key)) {
        return None;
    }
    let text = format!("commit  {}: {}", commit.revision, describe_writes(&commit.writes));
    Some(Line { at: commit.at, subject: format!("store {}", commit.store), text })
}

fn of_operation(operation: &Operation, filter: &Filter, lines: &mut Vec<Line>) {
    let Operation { client, asked_at, asked, ended_at, outcome, store } = operation;
    // A key's history includes the operations of all clients.
    let is_wanted = if filter.keys.is_empty() {
        filter.connection.is_none() && filter.has_client(*client)
    } else {
        asked_keys(asked).any(|key| filter.keys.contains(key))
            || matches!(asked, Invocation::List { prefix, .. } if filter.keys.iter().any(|key| key.starts_with(&**prefix)))
    };
    if !is_wanted {
        return;
    }
    let (subject, asked) = (format!("client {client}"), describe_invocation(asked));
    lines.push(Line { at: *asked_at, subject: subject.clone(), text: format!("asked   {asked}") });
    let store = store.map_or_else(|| "an unknown store".into(), |store| format!("store {store}"));
    let text = format!("ended   {asked}: {} ({store})", describe_outcome(outcome, filter));
    lines.push(Line { at: *ended_at, subject, text });
}

fn of_transcript(transcript: &Transcript, filter: &Filter, lines: &mut Vec<Line>) {
    let is_wanted = match filter.connection {
        Some(connection) => connection == transcript.connection,
        None => filter.has_client(transcript.client),
    };
    if !is_wanted {
        return;
    }
    let subject = format!("connection {} of {}", transcript.connection, transcript.client);
    for (at, direction, frame) in &transcript.frames {
        // Frames without a key, such as MARKs, concern all keys of their connection.
        let mut keys = frame_keys(frame).peekable();
        let is_about = match keys.peek() {
            Some(_) => keys.any(|key| filter.has_key(key)),
            None => filter.keys.is_empty() || filter.connection.is_some(),
        };
        if !is_about {
            continue;
        }
        let arrow = match direction {
            Direction::Sent => '▶',
            Direction::Received => '◀',
        };
        lines.push(Line {
            at: *at,
            subject: subject.clone(),
            text: format!("{arrow}       {}", describe_frame(frame)),
        });
    }
}

fn of_sight(sight: &Sight, filter: &Filter) -> Option<Line> {
    let is_about = |key: &String| key.starts_with(&*sight.prefix);
    let is_wanted = filter.connection.is_none() && filter.has_client(sight.client);
    if !is_wanted || !(filter.keys.is_empty() || filter.keys.iter().any(is_about)) {
        return None;
    }
    let keys = sight.keys.iter().filter(|(key, _)| filter.has_key(key));
    let keys: Vec<String> = keys.map(|(key, state)| format!("{key:?} {}", describe_state(state))).collect();
    let keys = if keys.is_empty() { "none of these keys".into() } else { keys.join(", ") };
    let age = if sight.is_current { "" } else { ", not current" };
    let text = format!("shows   {:?} at {} of store {}{age}: {keys}", sight.prefix, sight.revision, sight.store);
    Some(Line { at: sight.at, subject: format!("client {}", sight.client), text })
}

fn of_step(step: &Step, filter: &Filter) -> Option<Line> {
    let is_about = |key: &String| key.starts_with(&*step.prefix);
    let is_wanted = filter.connection.is_none() && filter.has_client(step.client);
    if !is_wanted || !(filter.keys.is_empty() || filter.keys.iter().any(is_about)) {
        return None;
    }
    let changes = step.changes.iter().filter(|write| filter.has_key(&write.key)).map(describe_write);
    let changes = changes.collect::<Vec<_>>().join(", ");
    let reset = if step.is_reset { ", reset" } else { "" };
    let text = format!("step    {:?} to {} of store {}{reset}: {changes}", step.prefix, step.revision, step.store);
    Some(Line { at: step.at, subject: format!("cursor of {}", step.client), text })
}

fn asked_keys(asked: &Invocation) -> impl Iterator<Item = &str> {
    let (one, checks, writes) = match asked {
        Invocation::Get { key } => (Some(key), &[][..], &[][..]),
        Invocation::Write(write) => (Some(&write.key), &[][..], &[][..]),
        Invocation::Txn { checks, writes } => (None, checks.as_slice(), writes.as_slice()),
        Invocation::List { .. } | Invocation::Barrier => (None, &[][..], &[][..]),
    };
    let checks = checks.iter().map(|(key, _)| key);
    one.into_iter().chain(checks).chain(writes.iter().map(|write| &write.key)).map(|key| &**key)
}

fn frame_keys(frame: &Frame) -> impl Iterator<Item = &str> {
    let (one, checks, writes) = match frame {
        Frame::Get { key, .. } => (Some(key), &[][..], &[][..]),
        Frame::Write { write, .. } => (Some(&write.key), &[][..], &[][..]),
        Frame::Txn { checks, writes, .. } => (None, checks.as_slice(), writes.as_slice()),
        _ => (None, &[][..], &[][..]),
    };
    let checks = checks.iter().map(|(key, _)| key);
    one.into_iter().chain(checks).chain(writes.iter().map(|write| &write.key)).map(|key| &**key)
}

fn describe_write(write: &Write) -> String {
    format!("{:?} {}", write.key, describe_state(&write.state))
}

fn describe_writes(writes: &[Write]) -> String {
    writes.iter().map(describe_write).collect::<Vec<_>>().join(", ")
}

fn describe_txn(checks: &[(crate::history::Key, u64)], writes: &[Write]) -> String {
    let checks: String = checks.iter().map(|(key, version)| format!(" CHECK {key:?} {version},")).collect();
    format!("TXN{checks} {}", describe_writes(writes))
}

fn describe_invocation(asked: &Invocation) -> String {
    match asked {
        Invocation::Get { key } => format!("GET {key:?}"),
        Invocation::Write(write) => format!("write {}", describe_write(write)),
        Invocation::Txn { checks, writes } => describe_txn(checks, writes),
        Invocation::List { prefix, after, limit } => format!("LIST {prefix:?} after {after:?}, at most {limit}"),
        Invocation::Barrier => "barrier".into(),
    }
}

fn describe_outcome(outcome: &Outcome, filter: &Filter) -> String {
    match outcome {
        Outcome::Found(state) => describe_state(state),
        Outcome::NotFound { deleted_at: None } => "not found".into(),
        Outcome::NotFound { deleted_at: Some(version) } => format!("deleted at version {version}"),
        Outcome::Written => "accepted".into(),
        Outcome::Committed { revision } => format!("accepted as {revision}"),
        Outcome::Stale { key } => format!("stale: {key:?}"),
        Outcome::Listed { entries } => {
            let listed = entries.iter().filter(|entry| filter.has_key(&entry.key)).map(describe_write);
            format!("{} keys: {}", entries.len(), listed.collect::<Vec<_>>().join(", "))
        }
        Outcome::Passed { revision } => format!("passed at {revision}"),
        Outcome::Refused => "refused".into(),
        Outcome::Unknown => "unknown".into(),
    }
}

fn describe_frame(frame: &Frame) -> String {
    let tagged = |tag: &u16| if *tag == 0 { String::new() } else { format!(" [{tag}]") };
    match frame {
        Frame::Get { tag, key } => format!("GET{} {key:?}", tagged(tag)),
        Frame::Write { tag, write } => {
            let kind = if write.state.value.is_some() { "PUT" } else { "DELETE" };
            format!("{kind}{} {}", tagged(tag), describe_write(write))
        }
        Frame::Error { tag, text } => format!("ERROR{} {text}", tagged(tag)),
        Frame::Hello { tag, server: None } => format!("HELLO{}", tagged(tag)),
        Frame::Hello { tag, server: Some((id, head)) } => format!("HELLO{} store {id}, head {head}", tagged(tag)),
        Frame::Watch { tag, prefix, since } => format!("WATCH{} {prefix:?} since {since}", tagged(tag)),
        Frame::Mark { tag, revision } => format!("MARK{} {revision}", tagged(tag)),
        Frame::List { tag, prefix, after, limit } => {
            format!("LIST{} {prefix:?} after {after:?}, at most {limit}", tagged(tag))
        }
        Frame::Txn { tag, checks, writes } => format!("{}{}", describe_txn(checks, writes), tagged(tag)),
        Frame::Other { tag, kind } => format!("{kind}{}", tagged(tag)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Promise;
    use crate::check::tests::good;

    fn shown_as_text(violation: &Violation) -> String {
        let mut out = Vec::new();
        show(&good().history, violation, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn violation(order: u64, text: &str) -> Violation {
        Violation { promise: Promise::Marked, text: text.into(), at: Moment { order, micros: order * 10 } }
    }

    #[test]
    fn a_violation_is_shown_among_events_of_its_keys_and_connection() {
        let history = good().history;
        let (at, ..) = history.transcripts[1].frames[9];
        let text = shown_as_text(&violation(at.order, "\"a/1\": expected version 2, found nothing"));
        let index = text.lines().position(|line| line.starts_with(">>> Marked is broken: \"a/1\"")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[index - 1].contains("connection 2 of 2"), "{text}");
        assert!(lines[..index].iter().any(|line| line.contains("asked   write \"a/1\"")), "{text}");
        assert!(lines[..index].iter().any(|line| line.contains("▶       WATCH [3] \"a/\"")), "{text}");
        assert!(lines[..index].iter().any(|line| line.contains("commit  1: \"a/1\"")), "{text}");
        assert!(!text.contains("connection 1 of 1") && !text.contains("write \"a/2\""), "{text}");
    }

    #[test]
    fn lines_are_clipped_and_bounded() {
        let mut history = good().history;
        let at = Moment { order: 100, micros: 1 };
        history.notes.extend(std::iter::repeat_n((at, "ä".repeat(500)), 200));
        let mut out = Vec::new();
        show(&history, &violation(100, &"x".repeat(500)), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        assert!(text.lines().count() < BEFORE + AFTER + 10, "{text}");
        assert!(text.starts_with("… "), "{text}");
    }

    #[test]
    fn a_filter_selects_what_it_names() {
        let shown = |filter: &Filter| {
            let mut out = Vec::new();
            show_all(&good().history, filter, 1000, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let all = shown(&Filter::default());
        let key = shown(&Filter { keys: ["b/2".to_owned()].into(), ..Filter::default() });
        let client = shown(&Filter { client: Some(4), ..Filter::default() });
        let connection = shown(&Filter { connection: Some(1), ..Filter::default() });
        assert!(all.contains("connection 3 of 5") && all.contains("cursor of 4") && all.contains("restored: store 0"));
        assert!(key.contains("commit  5: \"a/1\" version 4 (#8), \"b/2\" version 1 (#9)"), "{key}");
        assert!(!key.contains("GET") && !key.contains("MARK"), "{key}");
        assert!(client.contains("cursor of 4") && !client.contains("client 3"), "{client}");
        assert!(connection.contains("connection 1 of 1") && !connection.contains("connection 2"), "{connection}");
    }
}
