//! Reliable: nothing that was committed is passed over.

use super::reader::{Mark, Reader, Seen};
use super::truth::{Fault, Held, Truth, shown, shown_held};
use super::{Findings, Promise, Report, cursor};
use crate::history::{Asked, History, Moment, Outcome, Transcript};

/// What was committed is told, or something later of its key:
///
/// - on a connection, at each MARK that promises it, everything up to its revision, of the prefixes whose WATCH is
///   answered;
/// - at the end of a connection that has not said HELLO and on which nothing is on the way any more, the latest of each
///   key that has changed since it came; and on every such connection every request is answered;
/// - at each step of a cursor, everything up to its revision;
/// - who has passed a barrier is told of a revision that is not before any write that was answered before it was asked.
pub fn reliable(history: &History, truth: &Truth) -> Report {
    let mut findings = Findings::new(Promise::Reliable);
    let answered = Answered::of(history, truth);
    for transcript in &history.transcripts {
        let mut reader = Reader::new(transcript, truth);
        let mut joined = None;
        while let Some((at, seen)) = reader.next() {
            if !matches!(seen, Seen::Sent(_)) {
                joined.get_or_insert(at);
            }
            let Seen::Mark { revision, of } = seen else { continue };
            if let Mark::Barrier { asked_at } = of {
                answered.expect_before(transcript.store, asked_at, (revision, at), &mut findings, || reader.who());
            }
            if !of.promises() {
                continue;
            }
            for key in reader.watched_keys().filter(|key| reader.is_promised(*key)) {
                let held = reader.held(key);
                let fault = truth.fault(transcript.store, key, held, revision);
                findings.expect(fault != Some(Fault::TooOld), at, || {
                    let expected = truth.expected(transcript.store, key, revision);
                    let (who, key, found) = (reader.who(), truth.key(key), shown_held(held));
                    format!("{who} at the MARK of {revision}: {key:?}: expected to be told {expected}, found {found}")
                });
            }
        }
        if transcript.is_drained {
            drained(&reader, transcript, joined, truth, &mut findings);
        }
    }
    cursor::walk(history, truth, |_, step, state| {
        for key in truth.under(&step.prefix) {
            let held = state.get(key).map_or(Held::Nothing, |state| Held::Told(*state));
            let fault = truth.fault(step.store, *key, held, step.revision);
            findings.expect(fault != Some(Fault::TooOld), step.at, || {
                let expected = truth.expected(step.store, *key, step.revision);
                let (client, revision, key, found) = (step.client, step.revision, truth.key(*key), shown_held(held));
                format!("the cursor of client {client} at {revision}: {key:?}: expected {expected}, found {found}")
            });
        }
    });
    for operation in &history.operations {
        if let (Asked::Barrier, Outcome::Passed { revision }, Some(store)) =
            (&operation.asked, &operation.outcome, operation.store)
        {
            let passed = (*revision, operation.ended_at);
            let who = || format!("client {}", operation.client);
            answered.expect_before(store, operation.asked_at, passed, &mut findings, who);
        }
    }
    findings.report()
}

/// At the end of a connection on which nothing is on the way any more.
fn drained(
    reader: &Reader<'_>,
    transcript: &Transcript,
    joined: Option<Moment>,
    truth: &Truth,
    findings: &mut Findings,
) {
    let at = transcript.frames.last().map_or_else(Moment::default, |(at, ..)| *at);
    for (tag, request) in reader.requests.iter().filter(|(tag, _)| **tag > 0) {
        findings.expect(false, at, || {
            format!("{}: expected an answer to request {tag}, found none: {:?}", reader.who(), request.frame)
        });
    }
    let Some(joined) = joined.filter(|_| !reader.is_greeted) else { return };
    for (key, name) in truth.keys().iter().enumerate() {
        let Some(latest) = truth.writes(transcript.store, key).last().filter(|latest| latest.at > joined) else {
            continue;
        };
        let told = reader.told(key);
        findings.expect(told.is_some_and(|told| told.version >= latest.state.version), at, || {
            let found = told.as_ref().map_or_else(|| "nothing".into(), shown);
            format!("{} at its end: {name:?}: expected {}, found {found}", reader.who(), shown(&latest.state))
        });
    }
}

/// After which revision the writes are, at the least, that were answered by some time.
struct Answered(Vec<Vec<(Moment, u64)>>);

impl Answered {
    fn of(history: &History, truth: &Truth) -> Self {
        let mut by_store = vec![Vec::new(); history.stores.len()];
        for operation in &history.operations {
            let is_accepted = matches!(operation.outcome, Outcome::Written | Outcome::Committed { .. });
            let Some(store) = operation.store.filter(|_| is_accepted) else { continue };
            let Some(answered) = by_store.get_mut(store) else { continue };
            let writes = match &operation.asked {
                Asked::Write(write) => std::slice::from_ref(write),
                Asked::Txn { writes, .. } => writes,
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

    /// A barrier that was asked at a time, and passed with a revision.
    fn expect_before(
        &self,
        store: usize,
        asked_at: Moment,
        (revision, at): (u64, Moment),
        findings: &mut Findings,
        who: impl FnOnce() -> String,
    ) {
        let answered = self.0.get(store).map_or(&[][..], Vec::as_slice);
        let before = answered.partition_point(|(answered_at, _)| *answered_at < asked_at);
        let after = before.checked_sub(1).and_then(|last| answered.get(last)).map_or(0, |(_, after)| *after);
        findings.expect(after < revision.max(1), at, || {
            format!(
                "{}: a barrier: a write after {after} was answered before: expected a later revision, found {revision}",
                who()
            )
        });
    }
}
