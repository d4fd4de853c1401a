//! A search among random schedules that counts what they have covered.
//!
//! The search is the same each time. `PROPTEST_CASES` makes it longer, and `PROPTEST_RNG_SEED` selects another one.
#![allow(clippy::print_stdout, reason = "shows what the search has covered")]

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// How often each expected case must occur in a search. A check of a case that never occurs checks nothing.
const MIN_OCCURRENCES: usize = 100;

/// How often each case has occurred.
#[derive(Debug, Default)]
pub(crate) struct Coverage(BTreeMap<&'static str, usize>);

impl Coverage {
    /// Counts `times` occurrences of a case.
    pub(crate) fn count(&mut self, case: &'static str, times: usize) {
        *self.0.entry(case).or_default() += times;
    }

    /// Counts one occurrence of a case if `occurred`.
    pub(crate) fn count_if(&mut self, case: &'static str, occurred: bool) {
        self.count(case, usize::from(occurred));
    }

    /// Adds everything that `other` has counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(case, times)| self.count(case, *times));
    }
}

/// Runs schedules, each of which returns what it has covered. Panics if a schedule fails, after shrinking it, or if one of
/// the `expected` cases is rare.
pub(crate) fn search<S: Strategy>(schedules: &S, expected: &[&str], run: impl Fn(S::Value) -> Coverage) {
    let total = RefCell::new(Coverage::default());
    let given = ProptestConfig::default();
    let rng_seed = if given.rng_seed == RngSeed::Random { RngSeed::Fixed(1) } else { given.rng_seed };
    let mut runner = TestRunner::new(ProptestConfig { rng_seed, failure_persistence: None, ..given });
    let result = runner.run(schedules, |schedule| {
        total.borrow_mut().merge(&run(schedule));
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let total = total.into_inner();
    println!("{total:#?}");
    for case in expected {
        let times = total.0.get(case).copied().unwrap_or(0);
        assert!(times >= MIN_OCCURRENCES, "{case}: expected at least {MIN_OCCURRENCES} occurrences, found {times}");
    }
}
