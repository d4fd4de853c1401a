//! Resumable: who was away is told what has changed meanwhile.

use super::reader::{Mark, Reader, Seen};
use super::truth::{Held, Truth, shown_held};
use super::{Findings, Promise, Report, cursor};
use crate::history::History;

/// - By the MARK of a WATCH that asked for what came after a revision, whoever held what the store held then holds what
///   it holds at the MARK, deletions included. Or he was told to forget, and everything since.
/// - The steps of a cursor are one chain: each takes what the store held at the revision of the one before to what it held
///   at its own; into another store only by a step that says to forget.
pub fn resumable(history: &History, truth: &Truth) -> Report {
    let mut findings = Findings::new(Promise::Resumable);
    for transcript in &history.transcripts {
        let mut reader = Reader::new(transcript, truth);
        while let Some((at, seen)) = reader.next() {
            let Seen::Mark { revision, of: Mark::Watch { prefix, since, is_reset } } = seen else { continue };
            if since == 0 && !is_reset {
                continue;
            }
            findings.expect(since <= revision, at, || {
                format!(
                    "{}: WATCH {prefix:?} since {since}: expected a MARK not before, found {revision}",
                    reader.who()
                )
            });
            for key in truth.under(prefix).iter().copied().filter(|key| reader.is_promised(*key)) {
                let held = reader.held(key);
                let fault = truth.fault(transcript.store, key, held, revision);
                findings.expect(fault.is_none(), at, || {
                    let (who, found) = (reader.who(), shown_held(held));
                    let (key, expected) = (truth.key(key), truth.expected(transcript.store, key, revision));
                    let how = if is_reset { "told to forget".into() } else { format!("since {since}") };
                    format!("{who}: WATCH {prefix:?} {how}, at the MARK of {revision}: {key:?}: expected {expected}, found {found}")
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
            let held = state.get(key).map_or(Held::Nothing, |state| Held::Told(*state));
            let fault = truth.fault(step.store, *key, held, step.revision);
            findings.expect(fault.is_none(), step.at, || {
                let expected = truth.expected(step.store, *key, step.revision);
                let (client, since, revision) = (step.client, before.revision, step.revision);
                let (key, found) = (truth.key(*key), shown_held(held));
                format!("the cursor of client {client}: from {since} to {revision}: {key:?}: expected {expected}, found {found}")
            });
        }
    });
    findings.report()
}
