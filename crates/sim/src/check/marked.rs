//! Marked: at a MARK, a reader holds what the store held at its revision.

use super::report::{Findings, Promise, Report};
use super::transcript::{FrameEvent, TranscriptReader};
use super::truth::Truth;
use super::truth::{Held, describe_held};
use crate::history::{History, Moment};

/// What somebody holds at a revision is what the store held then, neither more nor less:
///
/// - whoever reads a connection, at each MARK that promises it (not that of a TXN or LIST): the keys under the prefixes
///   whose WATCH is answered;
/// - each replica, whenever it is looked at;
/// - whoever applies the steps of a cursor, after each of them.
pub fn marked(history: &History, truth: &Truth) -> Report {
    let mut findings = Findings::new(Promise::Marked);
    for transcript in &history.transcripts {
        let mut reader = TranscriptReader::new(transcript, truth);
        while let Some((at, event)) = reader.next() {
            if let FrameEvent::Mark { revision, of } = event
                && of.covers_state()
            {
                for key in reader.watched_keys().filter(|key| reader.is_covered_by_mark(*key)) {
                    let point = ReadPoint { store: transcript.store, revision, at };
                    compare(&mut findings, truth, point, (key, reader.held(key)), || reader.label());
                }
            }
        }
    }
    for sight in &history.sights {
        let point = ReadPoint { store: sight.store, revision: sight.revision, at: sight.at };
        for (key, held) in truth.held_by_replica(sight) {
            compare(&mut findings, truth, point, (key, held), || {
                format!("the replica {:?} of client {}", sight.prefix, sight.client)
            });
        }
    }
    super::cursor::walk(history, truth, |_, step, state| {
        let point = ReadPoint { store: step.store, revision: step.revision, at: step.at };
        for key in truth.under(&step.prefix) {
            let held = state.get(key).map_or(Held::Absent, |state| Held::State(*state));
            compare(&mut findings, truth, point, (*key, held), || format!("the cursor of client {}", step.client));
        }
    });
    findings.report()
}

/// When, and as of when.
#[derive(Clone, Copy)]
struct ReadPoint {
    store: usize,
    revision: u64,
    at: Moment,
}

fn compare(
    findings: &mut Findings,
    truth: &Truth,
    ReadPoint { store, revision, at }: ReadPoint,
    (key, held): (usize, Held),
    subject: impl FnOnce() -> String,
) {
    let mismatch = truth.mismatch(store, key, held, revision);
    findings.expect(mismatch.is_none(), at, || {
        let (expected, found) = (truth.expected(store, key, revision), describe_held(held));
        format!("{} at revision {revision}: {:?}: expected {expected}, found {found}", subject(), truth.key(key))
    });
}
