//! What a single operation of a history shows: the writes that were accepted, and the states that were read.

use super::truth::{Held, KeyId, Truth};
use crate::history::{History, Invocation, Moment, Operation, Outcome, Write};

/// Returns the writes of an operation that was answered as accepted.
pub(super) fn accepted(operation: &Operation) -> &[Write] {
    match (&operation.asked, &operation.outcome) {
        (Invocation::Write(write), Outcome::Written | Outcome::Committed { .. }) => std::slice::from_ref(write),
        (Invocation::Txn { writes, .. }, Outcome::Written | Outcome::Committed { .. }) => writes,
        _ => &[],
    }
}

/// Calls `then` with every state that a GET or LIST found.
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

/// Returns whether a held state may be that of `version`, or a later one.
pub(super) fn is_since(truth: &Truth, store: usize, key: KeyId, held: Held, version: u64) -> bool {
    match held {
        Held::State(state) => state.version >= version,
        Held::Absent | Held::AsOf(_) => truth.may_be_deleted_since(store, key, version),
    }
}

/// Returns the stores that were served at some time between two moments.
pub(super) fn served_between(history: &History, from: Moment, to: Moment) -> std::ops::Range<usize> {
    let begun = history.stores.partition_point(|store| store.since <= from);
    let ended = history.stores.partition_point(|store| store.since <= to);
    begun.saturating_sub(1)..ended
}

/// Returns the keys that a LIST covers but does not contain.
pub(super) fn absent_keys<'a>(
    truth: &'a Truth,
    prefix: &str,
    after: &'a str,
    limit: u32,
    entries: &'a [Write],
) -> impl Iterator<Item = KeyId> + 'a {
    let is_all = usize::try_from(limit).is_ok_and(|limit| entries.len() < limit);
    let last = entries.last().map(|entry| &entry.key);
    truth.under(prefix).iter().copied().filter(move |id| {
        let key = truth.key(*id);
        key > after
            && (is_all || last.is_some_and(|last| key < &**last))
            && entries.binary_search_by(|entry| (*entry.key).cmp(key)).is_err()
    })
}
