//! Reliable: no commit is skipped.

use super::cursor;
use super::report::{Findings, Promise, Report};
use super::transcript::{FrameEvent, MarkKind, TranscriptReader};
use super::truth::{Held, Mismatch, Truth, describe_held, describe_state};
use crate::history::{History, Invocation, Moment, Outcome, Transcript};

/// A reader receives every committed change, or a later change of the same key:
///
/// - On a connection, at each MARK except those that answer a TXN or a LIST: every change up to the MARK's revision,
///   under the prefixes whose WATCH is answered.
/// - On a connection that never sent HELLO and was drained at the end: the latest change of each key since the
///   connection began. On every drained connection, every request is answered.
/// - At each step of a cursor: every change up to the step's revision.
/// - The revision at which a barrier is passed includes every write that was answered before the barrier's
///   invocation.
pub fn reliable(history: &History, truth: &Truth) -> Report {
    let mut findings = Findings::new(Promise::Reliable);
    let answered = AnsweredWrites::of(history, truth);
    for transcript in &history.transcripts {
        let mut reader = TranscriptReader::new(transcript, truth);
        let mut first_received = None;
        while let Some((at, event)) = reader.next() {
            if !matches!(event, FrameEvent::Sent(_)) {
                first_received.get_or_insert(at);
            }
            let FrameEvent::Mark { revision, of } = event else { continue };
            if let MarkKind::Barrier { asked_at } = of {
                answered.expect_before(transcript.store, asked_at, (revision, at), &mut findings, || reader.label());
            }
            if !of.covers_state() {
                continue;
            }
            for key in reader.watched_keys().filter(|key| reader.is_covered_by_mark(*key)) {
                let held = reader.held(key);
                let mismatch = truth.mismatch(transcript.store, key, held, revision);
                findings.expect(mismatch != Some(Mismatch::TooOld), at, || {
                    let expected = truth.expected(transcript.store, key, revision);
                    let (subject, key, found) = (reader.label(), truth.key(key), describe_held(held));
                    format!("{subject} at the MARK of {revision}: {key:?}: expected {expected}, found {found}")
                });
            }
        }
        if transcript.is_drained {
            check_end(&reader, transcript, first_received, truth, &mut findings);
        }
    }
    cursor::walk(history, truth, |_, step, state| {
        for key in truth.under(&step.prefix) {
            let held = state.get(key).map_or(Held::Absent, |state| Held::State(*state));
            let mismatch = truth.mismatch(step.store, *key, held, step.revision);
            findings.expect(mismatch != Some(Mismatch::TooOld), step.at, || {
                let expected = truth.expected(step.store, *key, step.revision);
                let (client, revision, key, found) = (step.client, step.revision, truth.key(*key), describe_held(held));
                format!("the cursor of client {client} at {revision}: {key:?}: expected {expected}, found {found}")
            });
        }
    });
    for operation in &history.operations {
        if let (Invocation::Barrier, Outcome::Passed { revision }, Some(store)) =
            (&operation.asked, &operation.outcome, operation.store)
        {
            let passed = (*revision, operation.ended_at);
            let subject = || format!("client {}", operation.client);
            answered.expect_before(store, operation.asked_at, passed, &mut findings, subject);
        }
    }
    findings.report()
}

/// Checks a drained connection at its end.
fn check_end(
    reader: &TranscriptReader<'_>,
    transcript: &Transcript,
    first_received: Option<Moment>,
    truth: &Truth,
    findings: &mut Findings,
) {
    let at = transcript.frames.last().map_or_else(Moment::default, |(at, ..)| *at);
    for (tag, request) in reader.requests.iter().filter(|(tag, _)| **tag > 0) {
        findings.expect(false, at, || {
            format!("{}: expected a response to request {tag}, found none: {:?}", reader.label(), request.frame)
        });
    }
    let Some(first_received) = first_received.filter(|_| !reader.is_extended) else { return };
    for (key, name) in truth.keys().iter().enumerate() {
        let Some(latest) = truth.writes(transcript.store, key).last().filter(|latest| latest.at > first_received)
        else {
            continue;
        };
        let received = reader.last_state(key);
        findings.expect(received.is_some_and(|received| received.version >= latest.state.version), at, || {
            let found = received.as_ref().map_or_else(|| "nothing".into(), describe_state);
            format!(
                "{} at its end: {name:?}: expected {}, found {found}",
                reader.label(),
                describe_state(&latest.state)
            )
        });
    }
}

/// By store: for each moment of a response, a revision that the answered writes are certainly after.
struct AnsweredWrites(Vec<Vec<(Moment, u64)>>);

impl AnsweredWrites {
    fn of(history: &History, truth: &Truth) -> Self {
        let mut by_store = vec![Vec::new(); history.stores.len()];
        for operation in &history.operations {
            let is_accepted = matches!(operation.outcome, Outcome::Written | Outcome::Committed { .. });
            let Some(store) = operation.store.filter(|_| is_accepted) else { continue };
            let Some(answered) = by_store.get_mut(store) else { continue };
            let writes = match &operation.asked {
                Invocation::Write(write) => std::slice::from_ref(write),
                Invocation::Txn { writes, .. } => writes,
                _ => &[],
            };
            for write in writes {
                let known = truth.id(&write.key).and_then(|key| truth.find(store, key, write.state.version));
                answered.extend(known.map(|known| (operation.ended_at, known.after)));
            }
        }
        for answered in &mut by_store {
            answered.sort_unstable();
            let mut highest = 0;
            for (_, after) in answered {
                highest = highest.max(*after);
                *after = highest;
            }
        }
        Self(by_store)
    }

    /// Expects that the revision at which a barrier was passed includes all writes that were answered before its
    /// invocation.
    fn expect_before(
        &self,
        store: usize,
        asked_at: Moment,
        (revision, at): (u64, Moment),
        findings: &mut Findings,
        subject: impl FnOnce() -> String,
    ) {
        let answered = self.0.get(store).map_or(&[][..], Vec::as_slice);
        let before = answered.partition_point(|(answered_at, _)| *answered_at < asked_at);
        let after = before.checked_sub(1).and_then(|last| answered.get(last)).map_or(0, |(_, after)| *after);
        findings.expect(after < revision.max(1), at, || {
            format!(
                "{}: a barrier after a write, which is after revision {after}: expected a later revision, found {revision}",
                subject()
            )
        });
    }
}
