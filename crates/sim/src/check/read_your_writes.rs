//! ReadYourWrites: a client finds its accepted writes in all later reads.

use super::operations::{accepted, each_read, is_since};
use super::report::{Findings, Promise, Report};
use super::truth::{Held, KeyId, Truth, describe_held};
use crate::history::{History, Moment};
use std::collections::BTreeMap;

/// After a client has received the response that its write was accepted, the following holds for the same client and
/// the same store:
///
/// - The client's replicas contain the write or a later one of the key, whether they are current or not.
/// - Every GET or LIST that the client starts finds the write or a later one of the key.
pub fn read_your_writes(history: &History, truth: &Truth) -> Report {
    let mut findings = Findings::new(Promise::ReadYourWrites);
    let own = OwnWrites::of(history, truth);
    for sight in &history.sights {
        let Some(own) = own.0.get(&(sight.client, sight.store)) else { continue };
        for (key, held) in truth.held_by_replica(sight) {
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
                format!("a read of client {}", operation.client)
            });
        });
    }
    findings.report()
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
            "{}: {key:?}: expected its own version {version} (accepted at {since} µs) or a later one, found {found}",
            subject()
        )
    });
}

/// By key: for each moment of a response, the highest version whose acceptance the client knows.
type WritesByKey = BTreeMap<KeyId, Vec<(Moment, u64)>>;

/// By client and store, the client's accepted writes.
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
