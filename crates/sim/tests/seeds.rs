//! Seeds of the simulator: some fixed ones, and some new ones each time.
#![allow(clippy::panic, clippy::print_stdout, reason = "a test fails by panicking, and prints what it has found")]

use std::io::Write;
use std::num::NonZeroUsize;
use syncline_sim::Summary;
use syncline_sim::check::check;
use syncline_sim::seeds::{FailedSeed, Seeds, fresh_seed, run_all};
use syncline_sim::world::{Variation, run};

/// The number of fixed seeds, and the number of new ones.
const FIXED: u64 = 300;
const FRESH: u64 = 100;

const STEPS: u64 = 20_000;

const UNCHANGED: Variation = Variation { wrong: None, clients: None };

fn expect_all_promises_kept(first: u64, count: u64) -> Summary {
    let jobs = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    match run_all(Seeds { first, count, steps: STEPS, jobs, variation: UNCHANGED }) {
        Ok(summary) => {
            println!("seeds {first} to {}\n{summary}", first + count - 1);
            summary
        }
        Err(broken) => {
            let FailedSeed { seed, violations, .. } = *broken;
            panic!(
                "broken: {violations:#?}\nto repeat the run: cargo run -p syncline-sim -- --seed {seed} --steps {STEPS}"
            );
        }
    }
}

#[test]
fn fixed_seeds_keep_all_promises() {
    // Only the fixed seeds are judged by their load, because among a hundred new ones some event may be too rare by
    // chance. The load depends on how a seed becomes a run, which is the same for both.
    let missing_load = expect_all_promises_kept(1, FIXED).missing_load();
    assert!(missing_load.is_empty(), "too little load: {missing_load:#?}");
}

#[test]
fn fresh_seeds_keep_all_promises() {
    let first = fresh_seed();
    // Not `eprintln`, whose output the test harness hides when the test passes.
    let _ = writeln!(std::io::stderr(), "fresh seeds: {first} to {}", first + FRESH - 1);
    expect_all_promises_kept(first, FRESH);
}

#[test]
fn a_thousand_clients_of_one_store_keep_all_promises() {
    let run = run(6, 200_000, Variation { clients: Some(1000), ..UNCHANGED });
    let violations: Vec<_> = check(&run.history).into_iter().flat_map(|report| report.violations).collect();
    assert!(violations.is_empty(), "{violations:#?}");
    let connections = run.history.transcripts.len();
    assert!(connections >= 1000, "{connections} connections");
    let marks = run.history.counts["MARKs shown"];
    assert!(marks >= 10_000, "{marks} MARKs");
}

#[test]
fn a_seed_makes_the_same_run_each_time() {
    for seed in [3, 4, 8] {
        let (one, other) = (run(seed, STEPS, UNCHANGED), run(seed, STEPS, UNCHANGED));
        assert_eq!((one.micros, one.steps), (other.micros, other.steps), "seed {seed}");
        assert!(one.history == other.history, "seed {seed}: the histories differ");
        assert!(one.history.operations.len() > 20, "seed {seed}: {} operations", one.history.operations.len());
        assert_ne!(one.history.operations, run(seed + 100, STEPS, UNCHANGED).history.operations);
    }
}

#[test]
fn a_kept_history_is_checked_with_the_same_result() {
    let history = run(5, STEPS, UNCHANGED).history;
    let kept = serde_json::to_vec(&history).unwrap();
    let read = serde_json::from_slice(&kept).unwrap();
    assert!(history == read, "the history that was read differs from the written one");
    assert_eq!(check(&history), check(&read));
}
