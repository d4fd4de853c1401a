//! Linearizable: each key behaves like a single copy.

use super::operations::{absent_keys, served_between};
use super::register::{MAX_TRIED, Op, OpResult, Register, Unexplained, linearize};
use super::report::{Findings, Promise, Report};
use super::truth::Truth;
use super::truth::{KeyId, describe_state};
use crate::history::{History, Invocation, Key, Moment, Operation, Outcome, State, Write};

/// For each key of each store, the operations can be ordered so that a single copy of the key would have given the
/// same responses, and each operation takes its place in that order between its invocation and its response. It
/// follows that no read is older than what was known before it, no version is given twice, and no write is refused
/// without a reason.
///
/// - A GET reads one key. A LIST reads every key that it covers, and a CHECK of a TXN reads its key. A TXN is not
///   checked as a whole here; see Atomic.
/// - A write with an unknown outcome takes effect at any time after its invocation, or never. A write that happened
///   without a known invocation counts as such a write.
/// - A write that was answered as refused or stale has no effect. If the commits are known, every committed deletion
///   must belong to a client that was not refused.
/// - A LIST returns at most as many keys as it asked for.
/// - A deleted key may be forgotten at any time. After that, a write of any version is accepted.
/// - If it is unknown which store answered an operation, a write may have taken effect in any store that was served
///   meanwhile, and a value was read from the only store that had it.
pub fn linearizable(history: &History, truth: &Truth) -> Report {
    let mut findings = Findings::new(Promise::Linearizable);
    let mut by_key = OperationsByKey::of(history, truth);
    by_key.add_unattributed_writes(history, truth, &mut findings);
    for (store, keys) in by_key.0.iter().enumerate() {
        for (key, operations) in keys.iter().enumerate() {
            let (ops, sources): (Vec<Op>, Vec<Option<&Operation>>) = operations.iter().copied().unzip();
            if ops.is_empty() {
                continue;
            }
            let initial = match history.stores.get(store).and_then(|store| store.restored) {
                Some((_, through)) => truth.possible_at(store, key, through).map(Register::of).collect(),
                None => vec![Register::Absent(0)],
            };
            let found = linearize(&initial, &ops);
            findings.compared(ops.len());
            if found == Ok(false) {
                let at = operations.iter().find_map(|(_, source)| *source).map_or(Moment::default(), |op| op.ended_at);
                findings.expect(false, at, || {
                    let (key, count) = (truth.key(key), ops.len());
                    format!("{key:?} in store {store}: expected an order of its {count} operations, found none among the first {MAX_TRIED} configurations")
                });
            }
            if let Err(Unexplained { operation, possible }) = found
                && let (Some(op), Some(Some(source))) = (ops.get(operation), sources.get(operation))
            {
                findings.expect(false, source.ended_at, || {
                    let (client, key, possible) = (source.client, truth.key(key), describe_registers(&possible));
                    let found = describe_result(op.result);
                    format!("{key:?} in store {store}, client {client}: expected {possible}, or a concurrent write, found {found}")
                });
            }
        }
    }
    check_refused_writes(history, truth, &mut findings);
    check_list_limits(history, &mut findings);
    findings.report()
}

fn check_list_limits(history: &History, findings: &mut Findings) {
    for operation in &history.operations {
        if let (Invocation::List { limit, .. }, Outcome::Listed { entries }) = (&operation.asked, &operation.outcome) {
            let is_within = usize::try_from(*limit).is_ok_and(|limit| entries.len() <= limit);
            findings.expect(is_within, operation.ended_at, || {
                let (client, found) = (operation.client, entries.len());
                format!("a LIST of client {client}: expected at most {limit} keys, found {found}")
            });
        }
    }
}

fn check_refused_writes(history: &History, truth: &Truth, findings: &mut Findings) {
    for operation in &history.operations {
        let writes = match (&operation.asked, &operation.outcome) {
            (Invocation::Write(write), Outcome::Stale { .. } | Outcome::Refused) => std::slice::from_ref(write),
            (Invocation::Txn { writes, .. }, Outcome::Stale { .. } | Outcome::Refused) => writes,
            _ => continue,
        };
        // A deletion has no stamp, so it may belong to another client.
        for write in writes.iter().filter(|write| write.state.value.is_some()) {
            let Some(key) = truth.id(&write.key) else { continue };
            let is_there =
                |store| truth.find(store, key, write.state.version).is_some_and(|known| known.state == write.state);
            findings.expect(!(0..truth.stores()).any(is_there), operation.ended_at, || {
                let (client, key, found) = (operation.client, &write.key, describe_state(&write.state));
                format!("{key:?}, client {client}: expected no effect of a refused write, found {found}")
            });
        }
    }
}

/// For each store and key, the operations on that key.
struct OperationsByKey<'a>(Vec<Vec<KeyOperations<'a>>>);

/// The operations on one key, with their sources. A write whose invocation is unknown has no source.
type KeyOperations<'a> = Vec<(Op, Option<&'a Operation>)>;

impl<'a> OperationsByKey<'a> {
    fn of(history: &'a History, truth: &Truth) -> Self {
        let mut by_key = Self(vec![vec![Vec::new(); truth.keys().len()]; truth.stores()]);
        for operation in &history.operations {
            let stores = served_between(history, operation.asked_at, operation.ended_at);
            each_result(operation, truth, |key, result, is_certain| {
                let mut take = |store, is_certain: bool| by_key.take(store, key, operation, result, is_certain);
                match (operation.store, result) {
                    (Some(store), _) => take(store, is_certain),
                    (None, OpResult::Wrote(_)) => stores.clone().for_each(|store| take(store, false)),
                    (None, OpResult::Found(state)) => {
                        let has = |store: &usize| {
                            truth.find(*store, key, state.version).is_some_and(|known| known.state == state)
                        };
                        let mut having = (0..truth.stores()).filter(has);
                        if let (Some(store), None) = (having.next(), having.next()) {
                            take(store, is_certain);
                        }
                    }
                    (None, _) => {}
                }
            });
        }
        by_key
    }

    fn take(&mut self, store: usize, key: KeyId, operation: &'a Operation, result: OpResult, is_certain: bool) {
        if let Some(index) = self.0.get_mut(store).and_then(|keys| keys.get_mut(key)) {
            let completed = is_certain.then_some(operation.ended_at.order);
            index.push((Op { invoked: operation.asked_at.order, completed, result }, Some(operation)));
        }
    }

    fn add_unattributed_writes(&mut self, history: &History, truth: &Truth, findings: &mut Findings) {
        for (store, keys) in self.0.iter_mut().enumerate() {
            let inherited =
                history.stores.get(store).and_then(|store| store.restored).map_or(0, |(_, through)| through);
            for (key, operations) in keys.iter_mut().enumerate().filter(|(_, operations)| !operations.is_empty()) {
                let asked = operations.iter().filter_map(|(op, _)| match op.result {
                    OpResult::Wrote(state) => Some((state.version, state.value)),
                    _ => None,
                });
                let asked: std::collections::BTreeSet<_> = asked.collect();
                for known in truth.writes(store, key).iter().filter(|known| known.through > inherited) {
                    if !asked.contains(&(known.state.version, known.state.value)) {
                        // A committed deletion without a possible source belongs to a refused client. Refused values
                        // are found by their stamps in `check_refused_writes`.
                        findings.expect(!truth.is_exact() || known.state.value.is_some(), known.at, || {
                            let (key, found) = (truth.key(key), describe_state(&known.state));
                            format!(
                                "{key:?} in store {store}: expected a client that may have written it, found {found}"
                            )
                        });
                        operations
                            .push((Op { invoked: 0, completed: None, result: OpResult::Wrote(known.state) }, None));
                    }
                }
            }
        }
    }
}

/// Calls `then` with the result of an operation for each of its keys, and whether the operation certainly took
/// effect.
fn each_result(operation: &Operation, truth: &Truth, mut then: impl FnMut(KeyId, OpResult, bool)) {
    let mut tell = |key: &Key, result, is_certain| {
        if let Some(key) = truth.id(key) {
            then(key, result, is_certain);
        }
    };
    match (&operation.asked, &operation.outcome) {
        (Invocation::Get { key }, Outcome::Found(state)) => tell(key, OpResult::Found(*state), true),
        (Invocation::Get { key }, Outcome::NotFound { deleted_at }) => {
            tell(key, deleted_at.map_or(OpResult::Absent, OpResult::Deleted), true);
        }
        (Invocation::Write(Write { key, state }), Outcome::Written | Outcome::Committed { .. }) => {
            tell(key, OpResult::Wrote(*state), true);
        }
        (Invocation::Write(Write { key, state }), Outcome::Unknown) => tell(key, OpResult::Wrote(*state), false),
        (Invocation::Write(Write { key, state }), Outcome::Stale { .. }) => {
            tell(key, OpResult::Stale(state.version), true);
        }
        (Invocation::Txn { checks, writes }, Outcome::Written | Outcome::Committed { .. }) => {
            checks.iter().for_each(|(key, version)| tell(key, OpResult::Checked(*version), true));
            writes.iter().for_each(|write| tell(&write.key, OpResult::Wrote(write.state), true));
        }
        (Invocation::Txn { writes, .. }, Outcome::Unknown) => {
            writes.iter().for_each(|write| tell(&write.key, OpResult::Wrote(write.state), false));
        }
        (Invocation::Txn { checks, writes }, Outcome::Stale { key }) => {
            for (_, version) in checks.iter().filter(|(checked, _)| checked == key) {
                tell(key, OpResult::StaleCheck(*version), true);
            }
            for write in writes.iter().filter(|write| write.key == *key) {
                tell(key, OpResult::Stale(write.state.version), true);
            }
        }
        (Invocation::List { prefix, after, limit }, Outcome::Listed { entries }) => {
            entries.iter().for_each(|entry| tell(&entry.key, OpResult::Found(entry.state), true));
            for key in absent_keys(truth, prefix, after, *limit, entries) {
                then(key, OpResult::NoValue, true);
            }
        }
        _ => {}
    }
}

fn describe_registers(possible: &[Register]) -> String {
    let shown = possible.iter().map(|register| match register {
        Register::Absent(_) => "nothing".to_owned(),
        Register::Holds(version, value) => {
            describe_state(&State { version: *version, value: value.map(crate::history::Stamp) })
        }
    });
    shown.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" or ")
}

fn describe_result(result: OpResult) -> String {
    match result {
        OpResult::Wrote(state) => format!("accepted: {}", describe_state(&state)),
        OpResult::Stale(version) => format!("stale: a write of version {version}"),
        OpResult::StaleCheck(version) => format!("stale: a check for version {version}"),
        OpResult::Checked(version) => format!("a check that passed: version {version}"),
        OpResult::Found(state) => describe_state(&state),
        OpResult::Deleted(version) => format!("deleted at version {version}"),
        OpResult::Absent => "nothing".into(),
        OpResult::NoValue => "no value".into(),
    }
}
