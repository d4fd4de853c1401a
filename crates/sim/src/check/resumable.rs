//! Resumable: a reader that resumes receives everything that has changed since its revision.

use super::cursor;
use super::report::{Findings, Promise, Report};
use super::transcript::{FrameEvent, MarkKind, TranscriptReader};
use super::truth::{Held, Truth, describe_held};
use crate::history::History;

/// - A WATCH since a revision: a reader that held the state of the store at that revision holds, at the MARK that
///   answers the WATCH, the state at the MARK's revision, including deletions. Otherwise the reader was sent a reset,
///   and everything after it.
/// - The steps of a cursor form a chain: each step leads from the state at the previous step's revision to the state
///   at its own. Only a step that is a reset leads to another store.
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
                    "{}: WATCH {prefix:?} since {since}: expected a MARK at or after it, found {revision}",
                    reader.label()
                )
            });
            for key in truth.under(prefix).iter().copied().filter(|key| reader.is_covered_by_mark(*key)) {
                let held = reader.held(key);
                let mismatch = truth.mismatch(transcript.store, key, held, revision);
                findings.expect(mismatch.is_none(), at, || {
                    let (subject, found) = (reader.label(), describe_held(held));
                    let (key, expected) = (truth.key(key), truth.expected(transcript.store, key, revision));
                    let how = if is_reset { "after a reset".into() } else { format!("since {since}") };
                    format!("{subject}: WATCH {prefix:?} {how}, at the MARK of {revision}: {key:?}: expected {expected}, found {found}")
                });
            }
        }
    }
    cursor::walk(history, truth, |before, step, state| {
        let Some(before) = before else { return };
        findings.expect(step.is_reset || before.store == step.store, step.at, || {
            let (client, expected, found) = (step.client, before.store, step.store);
            format!("the cursor of client {client}: expected store {expected}, or a reset, found store {found}")
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
