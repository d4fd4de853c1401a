//! Linearizable: each key is as a single copy of it would be.

use super::register::{Did, MAX_TRIED, Op, Register, Unexplained, linearize};
use super::truth::{KeyId, shown};
use super::{Findings, Promise, Report, Truth};
use crate::history::{Asked, History, Key, Moment, Operation, Outcome, State, Write};

/// The operations on one key of one store, each between question and answer, can be put into an order in which they would
/// have been answered as they were by a single copy of the key. So no read is older than what was known before it, no
/// version is given twice, and no write is refused without a reason.
///
/// - A GET is a read, and so is what a LIST tells of each key that it covers, and a CHECK of a TXN; of a TXN as a whole
///   nothing is said here.
/// - What is of an unknown outcome takes effect at any time after it was asked, or never. What nobody has asked, as far as
///   the operations tell, but has happened, is taken for such a write.
/// - What was answered as refused or stale has written nothing: where the commits are known, each deletion is by somebody
///   who was answered otherwise, or not at all.
/// - A LIST tells no more keys than were asked for.
/// - A deleted key may be forgotten at any time; then a write of any version fits.
/// - Of an operation of which is not known which store has answered it, a write may have taken effect in each that was
///   served meanwhile, and a value was read in the one that had it.
pub fn linearizable(history: &History, truth: &Truth) -> Report {
    let mut findings = Findings::new(Promise::Linearizable);
    let mut projected = Projected::of(history, truth);
    projected.add_what_nobody_asked(history, truth, &mut findings);
    for (store, keys) in projected.0.iter().enumerate() {
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
            findings.0.compared += ops.len() as u64;
            if found == Ok(false) {
                let at = operations.iter().find_map(|(_, source)| *source).map_or(Moment::default(), |op| op.ended_at);
                findings.expect(false, at, || {
                    let (key, count) = (truth.key(key), ops.len());
                    format!("{key:?} in store {store}: expected an order of its {count} operations, found none among the first {MAX_TRIED} beginnings")
                });
            }
            if let Err(Unexplained { operation, possible }) = found
                && let (Some(op), Some(Some(source))) = (ops.get(operation), sources.get(operation))
            {
                findings.expect(false, source.ended_at, || {
                    let (client, key, possible) = (source.client, truth.key(key), shown_registers(&possible));
                    let found = shown_did(op.did);
                    format!("{key:?} in store {store}, client {client}: expected {possible}, or what is written meanwhile, found {found}")
                });
            }
        }
    }
    nothing_that_was_denied_has_happened(history, truth, &mut findings);
    no_list_is_too_long(history, &mut findings);
    findings.report()
}

fn no_list_is_too_long(history: &History, findings: &mut Findings) {
    for operation in &history.operations {
        if let (Asked::List { limit, .. }, Outcome::Listed { entries }) = (&operation.asked, &operation.outcome) {
            let is_within = usize::try_from(*limit).is_ok_and(|limit| entries.len() <= limit);
            findings.expect(is_within, operation.ended_at, || {
                let (client, found) = (operation.client, entries.len());
                format!("a LIST of client {client}: expected at most {limit} keys, found {found}")
            });
        }
    }
}

fn nothing_that_was_denied_has_happened(history: &History, truth: &Truth, findings: &mut Findings) {
    for operation in &history.operations {
        let writes = match (&operation.asked, &operation.outcome) {
            (Asked::Write(write), Outcome::Stale { .. } | Outcome::Refused) => std::slice::from_ref(write),
            (Asked::Txn { writes, .. }, Outcome::Stale { .. } | Outcome::Refused) => writes,
            _ => continue,
        };
        // A deletion has no number: it may be somebody else's.
        for write in writes.iter().filter(|write| write.state.value.is_some()) {
            let Some(key) = truth.id(&write.key) else { continue };
            let is_there =
                |store| truth.find(store, key, write.state.version).is_some_and(|known| known.state == write.state);
            findings.expect(!(0..truth.stores()).any(is_there), operation.ended_at, || {
                let (client, key, found) = (operation.client, &write.key, shown(&write.state));
                format!("{key:?}, client {client}: expected nothing of a write that was refused, found {found}")
            });
        }
    }
}

/// What was done to each key of each store, and by which operation.
struct Projected<'a>(Vec<Vec<OfKey<'a>>>);

/// What was done to a key.
type OfKey<'a> = Vec<(Op, Option<&'a Operation>)>;

impl<'a> Projected<'a> {
    fn of(history: &'a History, truth: &Truth) -> Self {
        let mut projected = Self(vec![vec![Vec::new(); truth.keys().len()]; truth.stores()]);
        for operation in &history.operations {
            let stores = served_between(history, operation.asked_at, operation.ended_at);
            each_key(operation, truth, |key, did, is_certain| {
                let mut take = |store, is_certain: bool| projected.take(store, key, operation, did, is_certain);
                match (operation.store, did) {
                    (Some(store), _) => take(store, is_certain),
                    (None, Did::Wrote(_)) => stores.clone().for_each(|store| take(store, false)),
                    (None, Did::Found(state)) => {
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
        projected
    }

    fn take(&mut self, store: usize, key: KeyId, operation: &'a Operation, did: Did, is_certain: bool) {
        if let Some(place) = self.0.get_mut(store).and_then(|keys| keys.get_mut(key)) {
            let answered = is_certain.then_some(operation.ended_at.order);
            place.push((Op { asked: operation.asked_at.order, answered, did }, Some(operation)));
        }
    }

    fn add_what_nobody_asked(&mut self, history: &History, truth: &Truth, findings: &mut Findings) {
        for (store, keys) in self.0.iter_mut().enumerate() {
            let inherited =
                history.stores.get(store).and_then(|store| store.restored).map_or(0, |(_, through)| through);
            for (key, operations) in keys.iter_mut().enumerate().filter(|(_, operations)| !operations.is_empty()) {
                let asked = operations.iter().filter_map(|(op, _)| match op.did {
                    Did::Wrote(state) => Some((state.version, state.value)),
                    _ => None,
                });
                let asked: std::collections::BTreeSet<_> = asked.collect();
                for known in truth.writes(store, key).iter().filter(|known| known.through > inherited) {
                    if !asked.contains(&(known.state.version, known.state.value)) {
                        // Whoever was refused is among those who did not. A value is told apart from others all the same.
                        findings.expect(!truth.is_exact() || known.state.value.is_some(), known.at, || {
                            let (key, found) = (truth.key(key), shown(&known.state));
                            format!(
                                "{key:?} in store {store}: expected somebody who may have written it, found {found}"
                            )
                        });
                        operations.push((Op { asked: 0, answered: None, did: Did::Wrote(known.state) }, None));
                    }
                }
            }
        }
    }
}

/// The stores that were served at some time between two moments.
pub(super) fn served_between(history: &History, from: Moment, to: Moment) -> std::ops::Range<usize> {
    let begun = history.stores.partition_point(|store| store.since <= from);
    let ended = history.stores.partition_point(|store| store.since <= to);
    begun.saturating_sub(1)..ended
}

/// What an operation tells of each key, and whether that is certain.
fn each_key(operation: &Operation, truth: &Truth, mut then: impl FnMut(KeyId, Did, bool)) {
    let mut tell = |key: &Key, did, is_certain| {
        if let Some(key) = truth.id(key) {
            then(key, did, is_certain);
        }
    };
    match (&operation.asked, &operation.outcome) {
        (Asked::Get { key }, Outcome::Found(state)) => tell(key, Did::Found(*state), true),
        (Asked::Get { key }, Outcome::NotFound { deleted_at }) => {
            tell(key, deleted_at.map_or(Did::Absent, Did::Deleted), true);
        }
        (Asked::Write(Write { key, state }), Outcome::Written | Outcome::Committed { .. }) => {
            tell(key, Did::Wrote(*state), true);
        }
        (Asked::Write(Write { key, state }), Outcome::Unknown) => tell(key, Did::Wrote(*state), false),
        (Asked::Write(Write { key, state }), Outcome::Stale { .. }) => tell(key, Did::Stale(state.version), true),
        (Asked::Txn { checks, writes }, Outcome::Written | Outcome::Committed { .. }) => {
            checks.iter().for_each(|(key, version)| tell(key, Did::Checked(*version), true));
            writes.iter().for_each(|write| tell(&write.key, Did::Wrote(write.state), true));
        }
        (Asked::Txn { writes, .. }, Outcome::Unknown) => {
            writes.iter().for_each(|write| tell(&write.key, Did::Wrote(write.state), false));
        }
        (Asked::Txn { checks, writes }, Outcome::Stale { key }) => {
            for (_, version) in checks.iter().filter(|(checked, _)| checked == key) {
                tell(key, Did::StaleCheck(*version), true);
            }
            for write in writes.iter().filter(|write| write.key == *key) {
                tell(key, Did::Stale(write.state.version), true);
            }
        }
        (Asked::List { prefix, after, limit }, Outcome::Listed { entries }) => {
            entries.iter().for_each(|entry| tell(&entry.key, Did::Found(entry.state), true));
            for key in gone(truth, prefix, after, *limit, entries) {
                then(key, Did::Gone, true);
            }
        }
        _ => {}
    }
}

/// The keys that a LIST covers and does not tell of.
pub(super) fn gone<'a>(
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

fn shown_registers(possible: &[Register]) -> String {
    let shown = possible.iter().map(|register| match register {
        Register::Absent(_) => "nothing".to_owned(),
        Register::Holds(version, value) => shown(&State { version: *version, value: value.map(crate::history::Stamp) }),
    });
    shown.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" or ")
}

fn shown_did(did: Did) -> String {
    match did {
        Did::Wrote(state) => format!("accepted: {}", shown(&state)),
        Did::Stale(version) => format!("stale: a write of version {version}"),
        Did::StaleCheck(version) => format!("stale: a check for version {version}"),
        Did::Checked(version) => format!("a check that passed: version {version}"),
        Did::Found(state) => shown(&state),
        Did::Deleted(version) => format!("deleted at version {version}"),
        Did::Absent => "nothing".into(),
        Did::Gone => "no value".into(),
    }
}
