//! The promises of Syncline, and a checker for each.
//!
//! A checker is a function from a [`History`] and its [`Truth`] to a [`Report`]. Its doc comment is the definition of
//! the promise.

mod atomic;
mod bounded;
mod construct;
mod cursor;
mod durable;
mod honest;
mod infer;
mod linearizable;
mod marked;
mod monotonic;
mod operations;
mod ordered;
mod read_your_writes;
mod register;
mod reliable;
mod report;
mod resumable;
#[cfg(test)]
pub(crate) mod tests;
mod transcript;
pub mod truth;
mod unique;

pub use atomic::atomic;
pub use bounded::bounded;
pub use durable::durable;
pub use honest::honest;
pub use linearizable::linearizable;
pub use marked::marked;
pub use monotonic::monotonic;
pub use ordered::ordered;
pub use read_your_writes::read_your_writes;
pub use reliable::reliable;
pub use report::{Promise, Report, Violation};
pub use resumable::resumable;
pub use truth::Truth;
pub(crate) use truth::describe_state;
pub use unique::unique;

use crate::history::History;
use report::MAX_VIOLATIONS;

type Checker = fn(&History, &Truth) -> Report;

const CHECKERS: [(Promise, Checker); 12] = [
    (Promise::Ordered, ordered),
    (Promise::Unique, unique),
    (Promise::Atomic, atomic),
    (Promise::Reliable, reliable),
    (Promise::Resumable, resumable),
    (Promise::Marked, marked),
    (Promise::Bounded, bounded),
    (Promise::ReadYourWrites, read_your_writes),
    (Promise::Monotonic, monotonic),
    (Promise::Linearizable, linearizable),
    (Promise::Durable, durable),
    (Promise::Honest, honest),
];

/// Runs every checker over a history.
pub fn check(history: &History) -> Vec<Report> {
    let truth = Truth::of(history);
    let mut reports: Vec<Report> = CHECKERS.iter().map(|(_, checker)| checker(history, &truth)).collect();
    for violation in truth.contradictions() {
        for report in reports.iter_mut().filter(|report| report.promise == violation.promise) {
            if report.violations.len() < MAX_VIOLATIONS {
                report.violations.push(violation.clone());
            }
        }
    }
    reports
}
