//! Resumable: who was away is told what has changed meanwhile.

use super::cursor;
use super::report::{Findings, Promise, Report};
use super::transcript::{FrameEvent, MarkKind, TranscriptReader};
use super::truth::{Held, Truth, describe_held};
use crate::history::History;

/// - By the MARK of a WATCH that asked for what came after a revision, whoever held what the store held then holds what
///   it holds at the MARK, deletions included. Or he was told to forget, and everything since.
/// - The steps of a cursor are one chain: each takes what the store held at the revision of the one before to what it held
///   at its own; into another store only by a step that says to forget.
pub fn resumable(history: &History, truth: &Truth) -> Report {
    let mut findings = Findings::new(Promise::Resumable);
    for transcript in &history.transcripts {
        let mut reader = TranscriptReader::new(transcript, truth);
        while let Some((at, event)) = reader.next() {
            let FrameEvent::Mark { revision, of: MarkKind::Watch { prefix, since, is_reset } } = event else {
                continue;
            };
            if since == 0 && !is_reset {
                continue;
            }
            findings.expect(since <= revision, at, || {
                format!(
                    "{}: WATCH {prefix:?} since {since}: expected a MARK not before, found {revision}",
                    reader.label()
                )
            });
            for key in truth.under(prefix).iter().copied().filter(|key| reader.is_covered_by_mark(*key)) {
                let held = reader.held(key);
                let mismatch = truth.mismatch(transcript.store, key, held, revision);
                findings.expect(mismatch.is_none(), at, || {
                    let (subject, found) = (reader.label(), describe_held(held));
                    let (key, expected) = (truth.key(key), truth.expected(transcript.store, key, revision));
                    let how = if is_reset { "told to forget".into() } else { format!("since {since}") };
                    format!("{subject}: WATCH {prefix:?} {how}, at the MARK of {revision}: {key:?}: expected {expected}, found {found}")
                });
            }
        }
    }
    cursor::walk(history, truth, |before, step, state| {
        let Some(before) = before else { return };
        findings.expect(step.is_reset || before.store == step.store, step.at, || {
            let (client, expected, found) = (step.client, before.store, step.store);
            format!("the cursor of client {client}: expected store {expected}, or to forget, found store {found}")
        });
        for key in truth.under(&step.prefix) {
            let held = state.get(key).map_or(Held::Absent, |state| Held::State(*state));
            let mismatch = truth.mismatch(step.store, *key, held, step.revision);
            findings.expect(mismatch.is_none(), step.at, || {
                let expected = truth.expected(step.store, *key, step.revision);
                let (client, since, revision) = (step.client, before.revision, step.revision);
                let (key, found) = (truth.key(*key), describe_held(held));
                format!("the cursor of client {client}: from {since} to {revision}: {key:?}: expected {expected}, found {found}")
            });
        }
    });
    findings.report()
}
