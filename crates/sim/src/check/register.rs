//! Whether what was asked and answered of one key could have been asked one after the other of a single copy of it.
//!
//! Just-in-time linearization (Lowe, *Testing for linearizability*, after Wing and Gong): the operations are walked
//! through in the order of time. Kept are all configurations that are possible: what the key holds, and which open
//! operations have taken effect. An operation must have taken effect when it is answered; only then others are
//! tried before it. Equal configurations are kept once.
//!
//! What makes that fast here: an operation that changes nothing takes effect as soon as it can; a write fits one state of
//! the key alone, by its version.
//!
//! # The model of a key
//! ```text
//!   Absent ──── any version from 1 on ────▶ Holds(version, value) ◀──┐
//!     ▲                                       │          └── the next version
//!     └────── forgotten, at any time ──── a deletion
//! ```
//!
//! # Two passes
//! Of a key that was forgotten, versions go on where they were: whoever writes takes a higher one. With that, a write of
//! an unknown outcome is over as soon as its version is passed. The first pass believes it; where it finds nothing,
//! the second does without.

use crate::history::State;
use std::collections::{BTreeMap, BTreeSet};

/// What an operation has found or done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Did {
    /// The key was given this state; or may have been, where that is not known.
    Wrote(State),
    /// A write of this version did not fit.
    Stale(u64),
    /// The key was not at this version (0: it was there).
    StaleCheck(u64),
    /// The key was at this version (0: it was not there).
    Checked(u64),
    /// It held this value.
    Found(State),
    /// It was deleted at this version.
    Deleted(u64),
    /// Nothing is known of it.
    Absent,
    /// It has no value.
    Gone,
}

/// An operation on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Op {
    pub(super) asked: u64,
    /// None: it is open to the end, and may never take effect.
    pub(super) answered: Option<u64>,
    pub(super) did: Did,
}

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Register {
    /// Nothing; versions up to this one were passed.
    Absent(u64),
    /// A value, or a deletion: version and stamp.
    Holds(u64, Option<u64>),
}

/// No order of the operations explains what this one has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unexplained {
    /// Its place among the operations.
    pub(super) operation: usize,
    /// What the key may have held when it was asked, or came to hold until it was answered.
    pub(super) possible: Vec<Register>,
}

impl Register {
    pub(super) fn of(state: Option<State>) -> Self {
        state.map_or(Self::Absent(0), |State { version, value }| Self::Holds(version, value.map(|stamp| stamp.0)))
    }

    /// Whether a write of this version is accepted.
    const fn takes(self, version: u64) -> bool {
        match self {
            Self::Absent(_) => version > 0,
            Self::Holds(current, _) => version > 0 && version - 1 == current,
        }
    }

    const fn is_at(self, version: u64) -> bool {
        match self {
            Self::Absent(_) => version == 0,
            Self::Holds(current, _) => version == current,
        }
    }

    /// Whether an operation that changes nothing finds what it has found.
    fn explains(self, did: Did) -> bool {
        match did {
            Did::Wrote(_) => false,
            Did::Stale(version) => !self.takes(version),
            Did::StaleCheck(version) => !self.is_at(version),
            Did::Checked(version) => self.is_at(version),
            Did::Found(state) => state.value.is_some() && self == Self::of(Some(state)),
            Did::Deleted(version) => self == Self::Holds(version, None),
            Did::Absent => matches!(self, Self::Absent(_)),
            Did::Gone => matches!(self, Self::Absent(_) | Self::Holds(_, None)),
        }
    }
}

/// How many configurations are tried for one key: beyond that, it is not decided.
pub(super) const MAX_TRIED: usize = 1_000_000;

/// Looks for an order that explains everything, for a key that held one of these states at first. Answers whether that was
/// found; if not, there were too many to try.
///
/// # Errors
/// [`Unexplained`], the first operation that none explains.
pub(super) fn linearize(initial: &[Register], operations: &[Op]) -> Result<bool, Unexplained> {
    let unexplained = match Search::new(operations, true).run(initial) {
        Ok(()) => return Ok(true),
        Err(None) => return Ok(false),
        Err(Some(unexplained)) => unexplained,
    };
    match Search::new(operations, false).run(initial) {
        Ok(()) => Ok(true),
        // What can't be decided without is decided with what histories promise of versions.
        Err(other) => Err(other.unwrap_or(unexplained)),
    }
}

/// What is possible at one moment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Configuration {
    register: Register,
    /// The open operations that have taken effect, in order.
    done: Vec<usize>,
}

impl Configuration {
    fn has(&self, operation: usize) -> bool {
        self.done.binary_search(&operation).is_ok()
    }

    fn insert(&mut self, operation: usize) {
        if let Err(place) = self.done.binary_search(&operation) {
            self.done.insert(place, operation);
        }
    }
}

struct Search<'a> {
    operations: &'a [Op],
    /// Whether versions grow although the key is forgotten in between.
    grows: bool,
    open_reads: Vec<usize>,
    /// By their versions.
    open_writes: BTreeMap<u64, Vec<(usize, State)>>,
    tried: usize,
}

impl<'a> Search<'a> {
    const fn new(operations: &'a [Op], grows: bool) -> Self {
        Self { operations, grows, open_reads: Vec::new(), open_writes: BTreeMap::new(), tried: 0 }
    }

    /// # Errors
    /// The first operation that is not explained; nothing where that took too long to find out.
    fn run(mut self, initial: &[Register]) -> Result<(), Option<Unexplained>> {
        let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(self.operations.len() * 2);
        for (place, operation) in self.operations.iter().enumerate() {
            events.push((operation.asked, false, place));
            events.extend(operation.answered.map(|answered| (answered, true, place)));
        }
        events.sort_unstable();
        let configuration = |register: &Register| Configuration { register: *register, done: Vec::new() };
        let mut possible: BTreeSet<Configuration> = initial.iter().map(configuration).collect();
        for (_, is_answer, place) in events {
            let Some(operation) = self.operations.get(place) else { continue };
            possible = if is_answer {
                self.close(place, *operation);
                let before: Vec<Register> = possible.iter().map(|configuration| configuration.register).collect();
                let after = self.answer(place, *operation, possible)?;
                if after.is_empty() {
                    return Err(Some(Unexplained { operation: place, possible: before }));
                }
                after
            } else {
                self.open(place, *operation);
                self.ask(place, *operation, possible)
            };
        }
        Ok(())
    }

    fn open(&mut self, place: usize, operation: Op) {
        match operation.did {
            Did::Wrote(state) => self.open_writes.entry(state.version).or_default().push((place, state)),
            _ => self.open_reads.push(place),
        }
    }

    fn close(&mut self, place: usize, operation: Op) {
        if !matches!(operation.did, Did::Wrote(_)) {
            self.open_reads.retain(|open| *open != place);
        }
    }

    fn ask(&self, place: usize, operation: Op, possible: BTreeSet<Configuration>) -> BTreeSet<Configuration> {
        if matches!(operation.did, Did::Wrote(_)) {
            return possible;
        }
        let asked = possible.into_iter().map(|mut configuration| {
            if configuration.register.explains(operation.did) {
                configuration.insert(place);
            }
            configuration
        });
        asked.collect()
    }

    /// What is possible when an operation has taken effect, which is open no more.
    fn answer(
        &mut self,
        place: usize,
        operation: Op,
        possible: BTreeSet<Configuration>,
    ) -> Result<BTreeSet<Configuration>, Option<Unexplained>> {
        let mut after = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut open = Vec::new();
        let highest = self.highest_of_use(operation.did);
        for configuration in possible {
            open.push(configuration);
            while let Some(mut configuration) = open.pop() {
                self.tried += 1;
                if self.tried > MAX_TRIED {
                    return Err(None);
                }
                if configuration.has(place)
                    || (!matches!(operation.did, Did::Wrote(_)) && configuration.register.explains(operation.did))
                {
                    configuration.done.retain(|done| *done != place);
                    after.insert(configuration);
                } else if seen.insert(configuration.clone()) {
                    self.push_next(&configuration, highest, &mut open);
                }
            }
        }
        if let Did::Wrote(state) = operation.did
            && let Some(writes) = self.open_writes.get_mut(&state.version)
        {
            writes.retain(|(open, _)| *open != place);
            if writes.is_empty() {
                self.open_writes.remove(&state.version);
            }
        }
        Ok(after)
    }

    /// What is written beyond this version can't help to explain an operation.
    const fn highest_of_use(&self, did: Did) -> u64 {
        match did {
            Did::Wrote(State { version, .. }) | Did::Found(State { version, .. }) if self.grows => version,
            Did::Deleted(version) if self.grows => version,
            Did::Checked(version) if self.grows && version > 0 => version,
            _ => u64::MAX,
        }
    }

    /// What may come next: one open write, or the deletion is forgotten.
    fn push_next(&self, from: &Configuration, highest: u64, open: &mut Vec<Configuration>) {
        let (lowest, highest) = match from.register {
            Register::Absent(passed) => (passed.saturating_add(1), highest),
            Register::Holds(version, _) => {
                let next = version.saturating_add(1);
                (next, next.min(highest))
            }
        };
        if lowest <= highest {
            for (place, state) in self.open_writes.range(lowest..=highest).flat_map(|(_, writes)| writes) {
                if !from.has(*place) {
                    let mut next = Configuration { register: Register::of(Some(*state)), done: from.done.clone() };
                    next.insert(*place);
                    self.push_settled(next, open);
                }
            }
        }
        if let Register::Holds(version, None) = from.register {
            let register = Register::Absent(if self.grows { version } else { 0 });
            self.push_settled(Configuration { register, done: from.done.clone() }, open);
        }
    }

    /// Whatever finds what it has found takes effect now.
    fn push_settled(&self, mut configuration: Configuration, open: &mut Vec<Configuration>) {
        let register = configuration.register;
        for place in &self.open_reads {
            if self.operations.get(*place).is_some_and(|read| register.explains(read.did)) {
                configuration.insert(*place);
            }
        }
        if self.grows {
            let passed = match register {
                Register::Absent(version) | Register::Holds(version, _) => version,
            };
            // An open end that is passed can't take effect again: whether it has is of no use any more.
            let is_of_use = |place: &usize| {
                let operation = self.operations.get(*place);
                operation.is_some_and(|operation| match operation.did {
                    Did::Wrote(state) => operation.answered.is_some() || state.version > passed,
                    _ => true,
                })
            };
            configuration.done.retain(is_of_use);
        }
        open.push(configuration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Stamp;
    use proptest::prelude::*;

    fn value(version: u64, stamp: u64) -> State {
        State { version, value: Some(Stamp(stamp)) }
    }

    fn op(asked: u64, answered: u64, did: Did) -> Op {
        Op { asked, answered: Some(answered), did }
    }

    fn open(asked: u64, did: Did) -> Op {
        Op { asked, answered: None, did }
    }

    const NEW: &[Register] = &[Register::Absent(0)];

    fn deletion(version: u64) -> State {
        State { version, value: None }
    }

    #[test]
    fn one_after_the_other_is_explained() {
        let operations = [
            op(1, 2, Did::Absent),
            op(3, 4, Did::Wrote(value(1, 10))),
            op(5, 6, Did::Found(value(1, 10))),
            op(7, 8, Did::Stale(1)),
            op(9, 10, Did::Checked(1)),
            op(11, 12, Did::Wrote(deletion(2))),
            op(13, 14, Did::Deleted(2)),
            op(15, 16, Did::Gone),
            op(17, 18, Did::Absent),
            op(19, 20, Did::Wrote(value(7, 11))),
            op(21, 22, Did::StaleCheck(0)),
        ];
        assert_eq!(linearize(NEW, &operations), Ok(true));
    }

    #[test]
    fn what_was_overtaken_is_found_no_more() {
        let operations = [
            op(1, 2, Did::Wrote(value(1, 10))),
            op(3, 4, Did::Wrote(value(2, 11))),
            op(5, 6, Did::Found(value(1, 10))),
        ];
        let possible = vec![Register::Holds(2, Some(11))];
        assert_eq!(linearize(NEW, &operations), Err(Unexplained { operation: 2, possible }));
    }

    #[test]
    fn a_write_in_flight_is_found_or_not_but_not_found_and_then_not() {
        let write = op(1, 20, Did::Wrote(value(1, 10)));
        let (found, not) = (Did::Found(value(1, 10)), Did::Absent);
        for (first, second, expected) in
            [(not, found, true), (found, found, true), (not, not, true), (found, not, false)]
        {
            let operations = [write, op(2, 3, first), op(4, 5, second)];
            assert_eq!(linearize(NEW, &operations).is_ok(), expected, "{first:?}, {second:?}");
        }
    }

    #[test]
    fn a_write_of_an_unknown_outcome_may_take_effect_long_after_or_never() {
        let unknown = open(1, Did::Wrote(value(2, 11)));
        let first = op(2, 3, Did::Wrote(value(1, 10)));
        let not_yet = op(4, 5, Did::Found(value(1, 10)));
        let found = op(6, 7, Did::Found(value(2, 11)));
        assert_eq!(linearize(NEW, &[unknown, first, not_yet]), Ok(true));
        assert_eq!(linearize(NEW, &[unknown, first, not_yet, found]), Ok(true));
        assert!(linearize(NEW, &[unknown, first, found, op(8, 9, Did::Found(value(1, 10)))]).is_err());
        // Nor before it was asked.
        assert!(linearize(NEW, &[first, op(4, 5, Did::Found(value(2, 11))), open(6, unknown.did)]).is_err());
    }

    #[test]
    fn of_two_writes_of_one_version_one_is_accepted() {
        let one = op(1, 10, Did::Wrote(value(1, 10)));
        assert_eq!(linearize(NEW, &[one, op(2, 9, Did::Stale(1))]), Ok(true));
        assert!(linearize(NEW, &[one, op(2, 9, Did::Wrote(value(1, 11)))]).is_err());
        // And a refusal needs a reason.
        assert!(linearize(NEW, &[op(2, 9, Did::Stale(1))]).is_err());
    }

    #[test]
    fn a_hundred_thousand_operations_over_30_keys_are_checked_at_once() {
        // 20 clients; every seventh write is of an unknown outcome, every other of those takes effect.
        for key in 0..30_u64 {
            let (mut operations, mut version) = (Vec::new(), 0);
            let mut last = Did::Absent;
            for n in 0..3334_u64 {
                let (asked, answered) = (n * 10, n * 10 + 9 + (n * 7 + key) % 190);
                if n % 3 == 0 {
                    let state = if n % 30 == 3 { deletion(version + 1) } else { value(version + 1, n) };
                    let is_unknown = n % 7 == 0;
                    if is_unknown {
                        operations.push(open(asked, Did::Wrote(state)));
                    }
                    if !is_unknown || n % 2 == 0 {
                        version += 1;
                        last = if state.value.is_some() { Did::Found(state) } else { Did::Deleted(version) };
                        if !is_unknown {
                            operations.push(op(asked, asked + 9, Did::Wrote(state)));
                        }
                    }
                } else {
                    // What it holds at the end of it at the latest; an unknown write may not have taken effect yet.
                    operations.push(op(asked, answered, last));
                }
            }
            assert_eq!(linearize(NEW, &operations), Ok(true), "key {key}");
        }
    }

    /// Every order, one after the other.
    fn brute_force(register: Register, operations: &[Op], done: u32) -> bool {
        let is_open = |place: &usize| done & (1 << place) == 0;
        let left: Vec<usize> = (0..operations.len()).filter(is_open).collect();
        if left.iter().all(|place| operations[*place].answered.is_none()) {
            return true;
        }
        let before = left.iter().filter_map(|place| operations[*place].answered).min().unwrap();
        let next = left.iter().filter(|place| operations[**place].asked < before).any(|place| {
            let after = match operations[*place].did {
                Did::Wrote(state) if register.takes(state.version) => Some(Register::of(Some(state))),
                did => register.explains(did).then_some(register),
            };
            after.is_some_and(|after| brute_force(after, operations, done | 1 << place))
        });
        let is_deleted = matches!(register, Register::Holds(_, None));
        next || (is_deleted && brute_force(Register::Absent(0), operations, done))
    }

    fn did() -> impl Strategy<Value = Did> {
        let version = 0..4_u64;
        let state = (1..4_u64, 0..3_u64).prop_map(|(version, stamp)| match stamp {
            0 => deletion(version),
            stamp => value(version, version * 10 + stamp),
        });
        let value = (1..4_u64, 1..3_u64).prop_map(|(version, stamp)| value(version, version * 10 + stamp));
        prop_oneof![
            5 => state.prop_map(Did::Wrote),
            1 => version.clone().prop_map(Did::Stale),
            1 => version.clone().prop_map(Did::StaleCheck),
            1 => version.clone().prop_map(Did::Checked),
            4 => value.prop_map(Did::Found),
            1 => version.prop_map(Did::Deleted),
            1 => Just(Did::Absent),
            1 => Just(Did::Gone),
        ]
    }

    fn operation() -> impl Strategy<Value = Op> {
        (0..12_u64, 1..8_u64, prop::bool::weighted(0.2), did()).prop_map(|(asked, takes, is_unknown, did)| {
            let is_unknown = is_unknown && matches!(did, Did::Wrote(_));
            Op { asked, answered: (!is_unknown).then_some(asked + takes), did }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]
        #[test]
        fn finds_what_a_search_of_all_orders_finds(operations in prop::collection::vec(operation(), 1..8)) {
            // Moments that differ: answers come after what was asked at the same.
            let operations: Vec<Op> = operations.iter().enumerate().map(|(place, op)| {
                let place = place as u64;
                Op { asked: op.asked * 100 + place, answered: op.answered.map(|at| at * 100 + 50 + place), ..*op }
            }).collect();
            prop_assert_eq!(linearize(NEW, &operations).is_ok(), brute_force(NEW[0], &operations, 0));
        }
    }
}
