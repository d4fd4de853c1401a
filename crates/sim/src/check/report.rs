//! What checkers report.

use crate::history::Moment;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What Syncline promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Promise {
    /// What a connection is told, its own writes included, comes in the order of the commits.
    Ordered,
    /// Nothing is told twice.
    Unique,
    /// Of a transaction all is told, or shown, or nothing.
    Atomic,
    /// Nothing that was committed is passed over: it is told, or something later of its key.
    Reliable,
    /// Who was away is told what has changed meanwhile, or to forget and then everything.
    Resumable,
    /// At a MARK, a reader holds what the store held at its revision.
    Marked,
    /// Everything that could grow, and every silence, has a bound that holds.
    Bounded,
    /// Who has been answered that a write was accepted finds it.
    ReadYourWrites,
    /// Nobody is shown an older state after a newer one.
    Monotonic,
    /// Each key is as a single copy of it would be: an operation takes effect at one instant between question and answer.
    Linearizable,
    /// What was accepted stays, whatever crashes.
    Durable,
}

impl Promise {
    /// All of them.
    pub const ALL: [Self; 11] = [
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
    ];
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// What was expected, and what was found.
    pub text: String,
    /// Where in the history to look.
    pub at: Moment,
}

/// What a checker has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which promise it has checked.
    pub promise: Promise,
    /// How many things it has compared: a checker that had nothing to compare has shown nothing.
    pub compared: u64,
    /// What was broken; the first ones, if there are many.
    pub violations: Vec<Violation>,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How many broken promises a report tells of: what comes after the first ones follows from them.
pub(super) const MAX_VIOLATIONS: usize = 20;

/// A report in the making.
pub(super) struct Findings(Report);

impl Findings {
    pub(super) const fn new(promise: Promise) -> Self {
        Self(Report { promise, compared: 0, violations: Vec::new() })
    }

    /// One thing was compared. Where it is not as it must be, `text` says what was expected and what was found.
    pub(super) fn expect(&mut self, holds: bool, at: Moment, text: impl FnOnce() -> String) {
        self.0.compared += 1;
        if !holds && self.0.violations.len() < MAX_VIOLATIONS {
            self.0.violations.push(Violation { promise: self.0.promise, text: text(), at });
        }
    }

    /// So many things were compared, and found as they must be.
    pub(super) const fn compared(&mut self, count: usize) {
        self.0.compared += count as u64;
    }

    pub(super) fn report(self) -> Report {
        self.0
    }
}
