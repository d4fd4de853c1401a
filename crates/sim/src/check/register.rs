//! Decides whether the operations on one key can be explained by a single copy of it.
//!
//! The algorithm is just-in-time linearization (Lowe, *Testing for linearizability*, after Wing and Gong). It visits
//! invocations and responses in the order of time, and keeps all possible configurations: what the key holds, and
//! which open operations have taken effect. An operation must have taken effect when its response arrives; only then
//! the search tries other operations before it. Equal configurations are kept once.
//!
//! Two facts make the search fast. An operation that changes nothing can take effect as soon as it is possible. A
//! write fits a single state of the key, because of its version.
//!
//! # The model of a key
//! ```text
//!   Absent ──── any version from 1 on ────▶ Holds(version, value) ◀──┐
//!     ▲                                       │          └── the next version
//!     └────── forgotten, at any time ──── a deletion
//! ```
//!
//! # Two passes
//! The clients of a run write versions above all earlier ones, even to a key that was forgotten. If versions grow, a
//! write with an unknown outcome cannot take effect after a higher version. The first pass assumes that. If it finds
//! no order, the second pass searches again without the assumption.

use crate::history::State;
use std::collections::{BTreeMap, BTreeSet};

/// The result of an operation on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpResult {
    /// The key was given this state. If the outcome is unknown, it may have been.
    Wrote(State),
    /// A write of this version was refused.
    Stale(u64),
    /// A check failed: the key was not at this version (0: the key existed).
    StaleCheck(u64),
    /// A check passed: the key was at this version (0: the key did not exist).
    Checked(u64),
    /// The key held this value.
    Found(State),
    /// The key was deleted at this version.
    Deleted(u64),
    /// The key is unknown.
    Absent,
    /// The key has no value.
    NoValue,
}

/// An operation on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Op {
    pub(super) invoked: u64,
    /// `None`: the operation is open to the end, and may never take effect.
    pub(super) completed: Option<u64>,
    pub(super) result: OpResult,
}

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Register {
    /// No state. All writes had at most this version.
    Absent(u64),
    /// A version with the stamp of its value, or with `None` for a deletion.
    Holds(u64, Option<u64>),
}

/// An operation whose result no order explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unexplained {
    /// Its index among the operations.
    pub(super) operation: usize,
    /// What the key may have held between its invocation and its response.
    pub(super) possible: Vec<Register>,
}

impl Register {
    pub(super) fn of(state: Option<State>) -> Self {
        state.map_or(Self::Absent(0), |State { version, value }| Self::Holds(version, value.map(|stamp| stamp.0)))
    }

    /// Returns whether a write of this version is accepted.
    const fn accepts(self, version: u64) -> bool {
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

    /// Returns whether an operation that changes nothing has this result.
    fn explains(self, result: OpResult) -> bool {
        match result {
            OpResult::Wrote(_) => false,
            OpResult::Stale(version) => !self.accepts(version),
            OpResult::StaleCheck(version) => !self.is_at(version),
            OpResult::Checked(version) => self.is_at(version),
            OpResult::Found(state) => state.value.is_some() && self == Self::of(Some(state)),
            OpResult::Deleted(version) => self == Self::Holds(version, None),
            OpResult::Absent => matches!(self, Self::Absent(_)),
            OpResult::NoValue => matches!(self, Self::Absent(_) | Self::Holds(_, None)),
        }
    }
}

/// The maximum number of configurations for one key. Beyond it, the search gives up.
pub(super) const MAX_TRIED: usize = 1_000_000;

/// Looks for an order that explains all operations on a key that initially held one of these states. Returns whether
/// it found one; `false` means that it gave up.
///
/// # Errors
/// [`Unexplained`]: the first operation that no order explains.
pub(super) fn linearize(initial: &[Register], operations: &[Op]) -> Result<bool, Unexplained> {
    let unexplained = match Search::new(operations, true).run(initial) {
        Ok(()) => return Ok(true),
        Err(None) => return Ok(false),
        Err(Some(unexplained)) => unexplained,
    };
    match Search::new(operations, false).run(initial) {
        Ok(()) => Ok(true),
        // If the second pass gives up, the result of the first one counts: histories promise that versions grow.
        Err(other) => Err(other.unwrap_or(unexplained)),
    }
}

/// A possible state at one moment.
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
        if let Err(index) = self.done.binary_search(&operation) {
            self.done.insert(index, operation);
        }
    }
}

struct Search<'a> {
    operations: &'a [Op],
    /// Whether the search assumes that versions grow even if the key is forgotten in between.
    versions_grow: bool,
    open_reads: Vec<usize>,
    /// By version.
    open_writes: BTreeMap<u64, Vec<(usize, State)>>,
    tried: usize,
}

impl<'a> Search<'a> {
    const fn new(operations: &'a [Op], versions_grow: bool) -> Self {
        Self { operations, versions_grow, open_reads: Vec::new(), open_writes: BTreeMap::new(), tried: 0 }
    }

    /// # Errors
    /// The first unexplained operation, or `None` if the search gave up.
    fn run(mut self, initial: &[Register]) -> Result<(), Option<Unexplained>> {
        let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(self.operations.len() * 2);
        for (index, operation) in self.operations.iter().enumerate() {
            events.push((operation.invoked, false, index));
            events.extend(operation.completed.map(|completed| (completed, true, index)));
        }
        events.sort_unstable();
        let configuration = |register: &Register| Configuration { register: *register, done: Vec::new() };
        let mut possible: BTreeSet<Configuration> = initial.iter().map(configuration).collect();
        for (_, is_completion, index) in events {
            let Some(operation) = self.operations.get(index) else { continue };
            possible = if is_completion {
                self.close(index, *operation);
                let before: Vec<Register> = possible.iter().map(|configuration| configuration.register).collect();
                let after = self.complete(index, *operation, possible)?;
                if after.is_empty() {
                    return Err(Some(Unexplained { operation: index, possible: before }));
                }
                after
            } else {
                self.open(index, *operation);
                self.invoke(index, *operation, possible)
            };
        }
        Ok(())
    }

    fn open(&mut self, index: usize, operation: Op) {
        match operation.result {
            OpResult::Wrote(state) => self.open_writes.entry(state.version).or_default().push((index, state)),
            _ => self.open_reads.push(index),
        }
    }

    fn close(&mut self, index: usize, operation: Op) {
        if !matches!(operation.result, OpResult::Wrote(_)) {
            self.open_reads.retain(|open| *open != index);
        }
    }

    fn invoke(&self, index: usize, operation: Op, possible: BTreeSet<Configuration>) -> BTreeSet<Configuration> {
        if matches!(operation.result, OpResult::Wrote(_)) {
            return possible;
        }
        let invoked = possible.into_iter().map(|mut configuration| {
            if configuration.register.explains(operation.result) {
                configuration.insert(index);
            }
            configuration
        });
        invoked.collect()
    }

    /// Returns the configurations that remain after an operation has completed.
    fn complete(
        &mut self,
        index: usize,
        operation: Op,
        possible: BTreeSet<Configuration>,
    ) -> Result<BTreeSet<Configuration>, Option<Unexplained>> {
        let mut after = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut open = Vec::new();
        let highest = self.highest_useful(operation.result);
        for configuration in possible {
            open.push(configuration);
            while let Some(mut configuration) = open.pop() {
                self.tried += 1;
                if self.tried > MAX_TRIED {
                    return Err(None);
                }
                if configuration.has(index)
                    || (!matches!(operation.result, OpResult::Wrote(_))
                        && configuration.register.explains(operation.result))
                {
                    configuration.done.retain(|done| *done != index);
                    after.insert(configuration);
                } else if seen.insert(configuration.clone()) {
                    self.push_next(&configuration, highest, &mut open);
                }
            }
        }
        if let OpResult::Wrote(state) = operation.result
            && let Some(writes) = self.open_writes.get_mut(&state.version)
        {
            writes.retain(|(open, _)| *open != index);
            if writes.is_empty() {
                self.open_writes.remove(&state.version);
            }
        }
        Ok(after)
    }

    /// Returns the highest version whose write can help to explain a result.
    const fn highest_useful(&self, result: OpResult) -> u64 {
        match result {
            OpResult::Wrote(State { version, .. }) | OpResult::Found(State { version, .. }) if self.versions_grow => {
                version
            }
            OpResult::Deleted(version) if self.versions_grow => version,
            OpResult::Checked(version) if self.versions_grow && version > 0 => version,
            _ => u64::MAX,
        }
    }

    /// Adds the configurations that may follow: one open write takes effect, or the deletion is forgotten.
    fn push_next(&self, from: &Configuration, highest: u64, open: &mut Vec<Configuration>) {
        let (lowest, highest) = match from.register {
            Register::Absent(passed) => (passed.saturating_add(1), highest),
            Register::Holds(version, _) => {
                let next = version.saturating_add(1);
                (next, next.min(highest))
            }
        };
        if lowest <= highest {
            for (index, state) in self.open_writes.range(lowest..=highest).flat_map(|(_, writes)| writes) {
                if !from.has(*index) {
                    let mut next = Configuration { register: Register::of(Some(*state)), done: from.done.clone() };
                    next.insert(*index);
                    self.push_settled(next, open);
                }
            }
        }
        if let Register::Holds(version, None) = from.register {
            let register = Register::Absent(if self.versions_grow { version } else { 0 });
            self.push_settled(Configuration { register, done: from.done.clone() }, open);
        }
    }

    /// Adds a configuration, after every open read that it explains has taken effect.
    fn push_settled(&self, mut configuration: Configuration, open: &mut Vec<Configuration>) {
        let register = configuration.register;
        for index in &self.open_reads {
            if self.operations.get(*index).is_some_and(|read| register.explains(read.result)) {
                configuration.insert(*index);
            }
        }
        if self.versions_grow {
            let passed = match register {
                Register::Absent(version) | Register::Holds(version, _) => version,
            };
            // A write without a response that was passed by a higher version has no further effect. Whether it took
            // effect makes no difference any more.
            let is_useful = |index: &usize| {
                let operation = self.operations.get(*index);
                operation.is_some_and(|operation| match operation.result {
                    OpResult::Wrote(state) => operation.completed.is_some() || state.version > passed,
                    _ => true,
                })
            };
            configuration.done.retain(is_useful);
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

    fn op(invoked: u64, completed: u64, result: OpResult) -> Op {
        Op { invoked, completed: Some(completed), result }
    }

    fn open(invoked: u64, result: OpResult) -> Op {
        Op { invoked, completed: None, result }
    }

    const NEW: &[Register] = &[Register::Absent(0)];

    fn deletion(version: u64) -> State {
        State { version, value: None }
    }

    #[test]
    fn sequential_operations_are_explained() {
        let operations = [
            op(1, 2, OpResult::Absent),
            op(3, 4, OpResult::Wrote(value(1, 10))),
            op(5, 6, OpResult::Found(value(1, 10))),
            op(7, 8, OpResult::Stale(1)),
            op(9, 10, OpResult::Checked(1)),
            op(11, 12, OpResult::Wrote(deletion(2))),
            op(13, 14, OpResult::Deleted(2)),
            op(15, 16, OpResult::NoValue),
            op(17, 18, OpResult::Absent),
            op(19, 20, OpResult::Wrote(value(7, 11))),
            op(21, 22, OpResult::StaleCheck(0)),
        ];
        assert_eq!(linearize(NEW, &operations), Ok(true));
    }

    #[test]
    fn a_superseded_value_is_not_found_again() {
        let operations = [
            op(1, 2, OpResult::Wrote(value(1, 10))),
            op(3, 4, OpResult::Wrote(value(2, 11))),
            op(5, 6, OpResult::Found(value(1, 10))),
        ];
        let possible = vec![Register::Holds(2, Some(11))];
        assert_eq!(linearize(NEW, &operations), Err(Unexplained { operation: 2, possible }));
    }

    #[test]
    fn a_write_in_flight_may_be_found_but_does_not_vanish_again() {
        let write = op(1, 20, OpResult::Wrote(value(1, 10)));
        let (found, not) = (OpResult::Found(value(1, 10)), OpResult::Absent);
        for (first, second, expected) in
            [(not, found, true), (found, found, true), (not, not, true), (found, not, false)]
        {
            let operations = [write, op(2, 3, first), op(4, 5, second)];
            assert_eq!(linearize(NEW, &operations).is_ok(), expected, "{first:?}, {second:?}");
        }
    }

    #[test]
    fn a_write_with_unknown_outcome_may_take_effect_late_or_never() {
        let unknown = open(1, OpResult::Wrote(value(2, 11)));
        let first = op(2, 3, OpResult::Wrote(value(1, 10)));
        let not_yet = op(4, 5, OpResult::Found(value(1, 10)));
        let found = op(6, 7, OpResult::Found(value(2, 11)));
        assert_eq!(linearize(NEW, &[unknown, first, not_yet]), Ok(true));
        assert_eq!(linearize(NEW, &[unknown, first, not_yet, found]), Ok(true));
        assert!(linearize(NEW, &[unknown, first, found, op(8, 9, OpResult::Found(value(1, 10)))]).is_err());
        // It cannot take effect before its invocation.
        assert!(linearize(NEW, &[first, op(4, 5, OpResult::Found(value(2, 11))), open(6, unknown.result)]).is_err());
    }

    #[test]
    fn of_two_writes_of_one_version_one_is_accepted() {
        let one = op(1, 10, OpResult::Wrote(value(1, 10)));
        assert_eq!(linearize(NEW, &[one, op(2, 9, OpResult::Stale(1))]), Ok(true));
        assert!(linearize(NEW, &[one, op(2, 9, OpResult::Wrote(value(1, 11)))]).is_err());
        // A refusal needs a reason.
        assert!(linearize(NEW, &[op(2, 9, OpResult::Stale(1))]).is_err());
    }

    #[test]
    fn a_hundred_thousand_operations_over_30_keys_are_checked_at_once() {
        // 20 clients. Every seventh write has an unknown outcome, and every other one of those takes effect.
        for key in 0..30_u64 {
            let (mut operations, mut version) = (Vec::new(), 0);
            let mut last = OpResult::Absent;
            for n in 0..3334_u64 {
                let (invoked, completed) = (n * 10, n * 10 + 9 + (n * 7 + key) % 190);
                if n % 3 == 0 {
                    let state = if n % 30 == 3 { deletion(version + 1) } else { value(version + 1, n) };
                    let is_unknown = n % 7 == 0;
                    if is_unknown {
                        operations.push(open(invoked, OpResult::Wrote(state)));
                    }
                    if !is_unknown || n % 2 == 0 {
                        version += 1;
                        last = if state.value.is_some() { OpResult::Found(state) } else { OpResult::Deleted(version) };
                        if !is_unknown {
                            operations.push(op(invoked, invoked + 9, OpResult::Wrote(state)));
                        }
                    }
                } else {
                    // The read returns what the key holds at its end at the latest, because an unknown write may not
                    // have taken effect yet.
                    operations.push(op(invoked, completed, last));
                }
            }
            assert_eq!(linearize(NEW, &operations), Ok(true), "key {key}");
        }
    }

    /// Tries every order.
    fn brute_force(register: Register, operations: &[Op], done: u32) -> bool {
        let is_open = |index: &usize| done & (1 << index) == 0;
        let left: Vec<usize> = (0..operations.len()).filter(is_open).collect();
        if left.iter().all(|index| operations[*index].completed.is_none()) {
            return true;
        }
        let before = left.iter().filter_map(|index| operations[*index].completed).min().unwrap();
        let next = left.iter().filter(|index| operations[**index].invoked < before).any(|index| {
            let after = match operations[*index].result {
                OpResult::Wrote(state) if register.accepts(state.version) => Some(Register::of(Some(state))),
                result => register.explains(result).then_some(register),
            };
            after.is_some_and(|after| brute_force(after, operations, done | 1 << index))
        });
        let is_deleted = matches!(register, Register::Holds(_, None));
        next || (is_deleted && brute_force(Register::Absent(0), operations, done))
    }

    fn result() -> impl Strategy<Value = OpResult> {
        let version = 0..4_u64;
        let state = (1..4_u64, 0..3_u64).prop_map(|(version, stamp)| match stamp {
            0 => deletion(version),
            stamp => value(version, version * 10 + stamp),
        });
        let value = (1..4_u64, 1..3_u64).prop_map(|(version, stamp)| value(version, version * 10 + stamp));
        prop_oneof![
            5 => state.prop_map(OpResult::Wrote),
            1 => version.clone().prop_map(OpResult::Stale),
            1 => version.clone().prop_map(OpResult::StaleCheck),
            1 => version.clone().prop_map(OpResult::Checked),
            4 => value.prop_map(OpResult::Found),
            1 => version.prop_map(OpResult::Deleted),
            1 => Just(OpResult::Absent),
            1 => Just(OpResult::NoValue),
        ]
    }

    fn operation() -> impl Strategy<Value = Op> {
        (0..12_u64, 1..8_u64, prop::bool::weighted(0.2), result()).prop_map(|(invoked, accepts, is_unknown, result)| {
            let is_unknown = is_unknown && matches!(result, OpResult::Wrote(_));
            Op { invoked, completed: (!is_unknown).then_some(invoked + accepts), result }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]
        #[test]
        fn finds_what_a_search_of_all_orders_finds(operations in prop::collection::vec(operation(), 1..8)) {
            // Makes all moments different. Responses come after the invocations of the same moment.
            let operations: Vec<Op> = operations.iter().enumerate().map(|(index, op)| {
                let index = index as u64;
                Op { invoked: op.invoked * 100 + index, completed: op.completed.map(|at| at * 100 + 50 + index), ..*op }
            }).collect();
            prop_assert_eq!(linearize(NEW, &operations).is_ok(), brute_force(NEW[0], &operations, 0));
        }
    }
}
