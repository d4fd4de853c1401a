//! Atomic: a reader sees all writes of a transaction, or none.

use super::cursor;
use super::report::{Findings, Promise, Report};
use super::transcript::{FrameEvent, TranscriptReader};
use super::truth::{Held, KeyId, Truth};
use crate::history::{History, Moment, Transcript};
use std::collections::{BTreeMap, BTreeSet};

/// The checker compares only the versions of the keys, so it does not depend on the revision that a reader claims to
/// be at:
///
/// - The state of a replica, the state after each step of a cursor, and the state of a connection at each MARK
///   contain all writes of a transaction to keys under the prefix, or none of them. A write counts as contained if
///   its key is at the write's version or at a later one.
/// - If a connection receives the writes of a transaction as they are committed, it receives them between the same
///   two MARKs.
pub fn atomic(history: &History, truth: &Truth) -> Report {
    let mut findings = Findings::new(Promise::Atomic);
    if truth.transactions().is_empty() {
        return findings.report();
    }
    let mut check = AtomicCheck { truth, findings: &mut findings };
    for sight in &history.sights {
        let held: BTreeMap<KeyId, Held> = truth.held_by_replica(sight).collect();
        let shown = held.keys().copied();
        let store_and_moment = (sight.store, sight.at);
        let subject = || format!("the replica {:?} of client {} at {}", sight.prefix, sight.client, sight.revision);
        check.all_or_nothing(store_and_moment, shown, |key| held.get(&key).copied(), subject);
    }
    cursor::walk(history, truth, |_, step, state| {
        let held = |key: KeyId| match state.get(&key) {
            Some(state) => Some(Held::State(*state)),
            None => truth.key(key).starts_with(&*step.prefix).then_some(Held::Absent),
        };
        let changed = step.changes.iter().filter_map(|change| truth.id(&change.key));
        let subject = || format!("the cursor of client {} at {}", step.client, step.revision);
        check.all_or_nothing((step.store, step.at), changed, held, subject);
    });
    for transcript in &history.transcripts {
        check_connection(transcript, &mut check);
    }
    findings.report()
}

/// How many of the latest transactions of a key are compared. A torn transaction is among the latest.
const MAX_TRANSACTIONS: usize = 4;

struct AtomicCheck<'a, 'f> {
    truth: &'a Truth,
    findings: &'f mut Findings,
}

impl AtomicCheck<'_, '_> {
    /// Expects that every transaction that wrote one of `keys` is visible as a whole. `held` returns the state of a
    /// key, or `None` if it is unknown.
    fn all_or_nothing(
        &mut self,
        (store, at): (usize, Moment),
        keys: impl Iterator<Item = KeyId>,
        held: impl Fn(KeyId) -> Option<Held>,
        subject: impl Fn() -> String,
    ) {
        let truth = self.truth;
        for key in keys {
            let (Some(Held::State(state)), Some(key_truth)) = (held(key), truth.key_truth(store, key)) else {
                continue;
            };
            let shown = key_truth.in_transactions.partition_point(|(version, _)| *version <= state.version);
            let latest =
                key_truth.in_transactions.get(shown.saturating_sub(MAX_TRANSACTIONS)..shown).unwrap_or_default();
            for (version, transaction) in latest {
                let Some(together) = truth.transactions().get(*transaction) else { continue };
                for (other, written) in together.writes.iter().filter(|(other, _)| *other != key) {
                    let Some(shows) = held(*other).and_then(|held| self.shows(store, *other, held, *written)) else {
                        continue;
                    };
                    self.findings.expect(shows, at, || {
                        let (key, other) = (truth.key(key), truth.key(*other));
                        format!(
                            "{}: a transaction wrote {key:?} version {version} and {other:?} version {written}: expected both or none, found only {key:?}",
                            subject()
                        )
                    });
                }
            }
        }
    }

    /// Returns whether a held state contains a version of a key, or a later one; `None` if that cannot be decided.
    fn shows(&self, store: usize, key: KeyId, held: Held, version: u64) -> Option<bool> {
        match held {
            Held::State(state) => Some(state.version >= version),
            Held::AsOf(since) => {
                let known = self.truth.find(store, key, version)?;
                (known.through <= since || known.after >= since).then_some(known.through <= since)
            }
            // The key may have been deleted before or after this version.
            Held::Absent => (!self.truth.may_be_deleted_since(store, key, version)).then_some(false),
        }
    }
}

fn check_connection(transcript: &Transcript, check: &mut AtomicCheck<'_, '_>) {
    let truth = check.truth;
    let store = transcript.store;
    let mut reader = TranscriptReader::new(transcript, truth);
    let mut changed: BTreeSet<KeyId> = BTreeSet::new();
    let mut marks = 0_u64;
    // For each transaction, the number of MARKs before its first write.
    let mut told: BTreeMap<usize, u64> = BTreeMap::new();
    while let Some((at, event)) = reader.next() {
        match event {
            FrameEvent::Change { key, state, .. } => {
                changed.insert(key);
                if reader.may_be_paged(key) {
                    continue;
                }
                let Some(transaction) = truth.transaction_of(store, key, state.version) else { continue };
                let first = *told.entry(transaction).or_insert(marks);
                check.findings.expect(first == marks, at, || {
                    let (key, version) = (truth.key(key), state.version);
                    format!(
                        "{}: expected all of a transaction between two MARKs, found {key:?} version {version} after {} of them",
                        reader.label(),
                        marks - first
                    )
                });
            }
            FrameEvent::Mark { of, .. } if of.covers_state() => {
                let keys = std::mem::take(&mut changed).into_iter().filter(|key| reader.is_covered_by_mark(*key));
                let held = |key: KeyId| reader.is_covered_by_mark(key).then(|| reader.held(key));
                check.all_or_nothing((store, at), keys, held, || reader.label());
                marks += 1;
            }
            _ => {}
        }
    }
}
