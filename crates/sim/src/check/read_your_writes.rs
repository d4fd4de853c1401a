//! ReadYourWrites: who has been answered that a write was accepted finds it.

use super::linearizable::absent_keys;
use super::marked::held_by;
use super::truth::{Held, KeyId, Truth, describe_held};
use super::{Findings, Promise, Report};
use crate::history::{History, Invocation, Moment, Operation, Outcome, Write};
use std::collections::BTreeMap;

/// After a client was answered that a write was accepted, the same store and the same client given,
///
/// - its replicas show it, or something later of the key, whether they are up to date or not;
/// - what it asks from then on, by GET or LIST, finds it, or something later.
pub fn read_your_writes(history: &History, truth: &Truth) -> Report {
    let mut findings = Findings::new(Promise::ReadYourWrites);
    let own = OwnWrites::of(history, truth);
    for sight in &history.sights {
        let Some(own) = own.0.get(&(sight.client, sight.store)) else { continue };
        for (key, held) in held_by(sight, truth) {
            expect(own, truth, sight.store, (key, held), (sight.at, sight.at), &mut findings, || {
                format!("the replica {:?} of client {} at {}", sight.prefix, sight.client, sight.revision)
            });
        }
    }
    for operation in &history.operations {
        let Some(store) = operation.store else { continue };
        let Some(own) = own.0.get(&(operation.client, store)) else { continue };
        let moments = (operation.asked_at, operation.ended_at);
        each_read(operation, truth, |key, held| {
            expect(own, truth, store, (key, held), moments, &mut findings, || {
                format!("what client {} has asked", operation.client)
            });
        });
    }
    findings.report()
}

/// What a GET or LIST has found of each key.
pub(super) fn each_read(operation: &Operation, truth: &Truth, mut then: impl FnMut(KeyId, Held)) {
    match (&operation.asked, &operation.outcome) {
        (Invocation::Get { key }, outcome) => {
            let Some(key) = truth.id(key) else { return };
            match outcome {
                Outcome::Found(state) => then(key, Held::State(*state)),
                Outcome::NotFound { .. } => then(key, Held::Absent),
                _ => {}
            }
        }
        (Invocation::List { prefix, after, limit }, Outcome::Listed { entries }) => {
            for Write { key, state } in entries {
                if let Some(key) = truth.id(key) {
                    then(key, Held::State(*state));
                }
            }
            absent_keys(truth, prefix, after, *limit, entries).for_each(|key| then(key, Held::Absent));
        }
        _ => {}
    }
}

/// Whether what is held of a key may be a version or something later.
pub(super) fn is_since(truth: &Truth, store: usize, key: KeyId, held: Held, version: u64) -> bool {
    match held {
        Held::State(state) => state.version >= version,
        Held::Absent | Held::AsOf(_) => truth.may_be_deleted_since(store, key, version),
    }
}

fn expect(
    own: &WritesByKey,
    truth: &Truth,
    store: usize,
    (key, held): (KeyId, Held),
    (asked_at, at): (Moment, Moment),
    findings: &mut Findings,
    subject: impl FnOnce() -> String,
) {
    let Some(written) = own.get(&key) else { return };
    let before = written.partition_point(|(answered_at, _)| *answered_at < asked_at);
    let Some((answered_at, version)) = before.checked_sub(1).and_then(|last| written.get(last)) else { return };
    findings.expect(is_since(truth, store, key, held, *version), at, || {
        let (key, found, since) = (truth.key(key), describe_held(held), answered_at.micros);
        format!(
            "{}: {key:?}: expected its own version {version} (answered at {since} µs) or a later one, found {found}",
            subject()
        )
    });
}

/// The versions of each key that a client was answered to have written: at each moment, the highest by then.
type WritesByKey = BTreeMap<KeyId, Vec<(Moment, u64)>>;

/// By client and store, what it has written.
struct OwnWrites(BTreeMap<(u64, usize), WritesByKey>);

impl OwnWrites {
    fn of(history: &History, truth: &Truth) -> Self {
        let mut own = Self(BTreeMap::new());
        for operation in &history.operations {
            let Some(store) = operation.store else { continue };
            for write in accepted(operation) {
                if let Some(key) = truth.id(&write.key) {
                    let of_client = own.0.entry((operation.client, store)).or_default();
                    of_client.entry(key).or_default().push((operation.ended_at, write.state.version));
                }
            }
        }
        for written in own.0.values_mut().flat_map(BTreeMap::values_mut) {
            written.sort_unstable();
            let mut highest = 0;
            for (_, version) in written {
                highest = highest.max(*version);
                *version = highest;
            }
        }
        own
    }
}

/// What an operation has written, if it was answered that it was accepted.
pub(super) fn accepted(operation: &Operation) -> &[Write] {
    match (&operation.asked, &operation.outcome) {
        (Invocation::Write(write), Outcome::Written | Outcome::Committed { .. }) => std::slice::from_ref(write),
        (Invocation::Txn { writes, .. }, Outcome::Written | Outcome::Committed { .. }) => writes,
        _ => &[],
    }
}
