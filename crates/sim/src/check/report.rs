//! The promises by name, and the reports of their checkers.

use crate::history::Moment;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A promise of Syncline. The function that checks it has the exact definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Promise {
    /// A connection receives changes, including its own writes, in the order of the commits.
    Ordered,
    /// No change is sent twice.
    Unique,
    /// A reader sees all writes of a transaction, or none.
    Atomic,
    /// No commit is skipped: a reader receives each change, or a later change of the same key.
    Reliable,
    /// A reader that resumes receives everything that has changed since its revision, or a reset and then everything.
    Resumable,
    /// At a MARK, a reader holds exactly what the store held at its revision.
    Marked,
    /// Every quantity that could grow, and every silence, stays within its bound.
    Bounded,
    /// A client finds its accepted writes in all later reads.
    ReadYourWrites,
    /// No reader sees an older state after a newer one.
    Monotonic,
    /// Each key behaves like a single copy: an operation takes effect at one instant between its invocation and its
    /// response.
    Linearizable,
    /// An accepted write is never lost, even after crashes.
    Durable,
    /// What STATUS, health checks and the log say about writes is what happens to writes.
    Honest,
}

impl Promise {
    /// All promises.
    pub const ALL: [Self; 12] = [
        Self::Ordered,
        Self::Unique,
        Self::Atomic,
        Self::Reliable,
        Self::Resumable,
        Self::Marked,
        Self::Bounded,
        Self::ReadYourWrites,
        Self::Monotonic,
        Self::Linearizable,
        Self::Durable,
        Self::Honest,
    ];

    /// Returns whether the simulator can break the promise. It has no log, no STATUS and no disk engine.
    pub const fn is_simulated(self) -> bool {
        !matches!(self, Self::Honest)
    }
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The promise.
    pub promise: Promise,
    /// What was expected, and what was found.
    pub text: String,
    /// The moment in the history at which it was found.
    pub at: Moment,
}

/// The result of a checker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The promise that was checked.
    pub promise: Promise,
    /// The number of comparisons. A checker without any has shown nothing.
    pub compared: u64,
    /// The first violations.
    pub violations: Vec<Violation>,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The maximum number of violations in a report. Later violations usually follow from the first ones.
pub(super) const MAX_VIOLATIONS: usize = 20;

/// Collects the report of a checker.
pub(super) struct Findings(Report);

impl Findings {
    pub(super) const fn new(promise: Promise) -> Self {
        Self(Report { promise, compared: 0, violations: Vec::new() })
    }

    /// Counts one comparison. If it does not hold, adds a violation; `text` returns what was expected and what was
    /// found.
    pub(super) fn expect(&mut self, holds: bool, at: Moment, text: impl FnOnce() -> String) {
        self.0.compared += 1;
        if !holds && self.0.violations.len() < MAX_VIOLATIONS {
            self.0.violations.push(Violation { promise: self.0.promise, text: text(), at });
        }
    }

    /// Counts comparisons that held.
    pub(super) const fn compared(&mut self, count: usize) {
        self.0.compared += count as u64;
    }

    pub(super) fn report(self) -> Report {
        self.0
    }
}
