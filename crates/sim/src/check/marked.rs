//! Marked: at a MARK, a reader holds exactly what the store held at its revision.

use super::report::{Findings, Promise, Report};
use super::transcript::{FrameEvent, TranscriptReader};
use super::truth::Truth;
use super::truth::{Held, describe_held};
use crate::history::{History, Moment};

/// The state of a reader at a revision is the state of the store at that revision, with no key more and none less:
///
/// - For the reader of a connection: at each MARK except those that answer a TXN or a LIST, for the keys under the
///   prefixes whose WATCH is answered.
/// - For a replica: whenever it is observed.
/// - For a cursor: after each step.
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

/// The store and revision of a read, and its moment.
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
