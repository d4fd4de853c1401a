//! A search among random schedules. It is the same each time, unless another one is asked for: `PROPTEST_CASES` and
//! `PROPTEST_RNG_SEED` make it longer or another one.
#![allow(clippy::print_stdout, reason = "what has occurred is worth seeing")]

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// How often each thing must have occurred, so that what is checked is known to have been there.
const LEAST: usize = 100;

/// How often something has occurred.
pub(crate) type Counts = BTreeMap<&'static str, usize>;

pub(crate) fn count(counts: &mut Counts, what: &'static str, times: usize) {
    *counts.entry(what).or_default() += times;
}

pub(crate) fn add(counts: &mut Counts, more: &Counts) {
    more.iter().for_each(|(what, times)| count(counts, what, *times));
}

/// Runs schedules, each of which answers what has occurred in it; of `expected`, each must have occurred often.
pub(crate) fn search<S: Strategy>(schedules: &S, expected: &[&str], run: impl Fn(S::Value) -> Counts) {
    let total = RefCell::new(Counts::new());
    let given = ProptestConfig::default();
    let rng_seed = if given.rng_seed == RngSeed::Random { RngSeed::Fixed(1) } else { given.rng_seed };
    let mut runner = TestRunner::new(ProptestConfig { rng_seed, failure_persistence: None, ..given });
    let found = runner.run(schedules, |schedule| {
        add(&mut total.borrow_mut(), &run(schedule));
        Ok(())
    });
    if let Err(failure) = found {
        panic!("{failure}");
    }
    let total = total.into_inner();
    println!("{total:#?}");
    for what in expected {
        let times = total.get(what).copied().unwrap_or(0);
        assert!(times >= LEAST, "{what}: expected at least {LEAST}, found {times}");
    }
}
