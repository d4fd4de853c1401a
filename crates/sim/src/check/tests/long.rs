//! Long random histories without errors.

use super::{HistoryBuilder, real};
use crate::check::{Truth, check};
use crate::history::History;
use std::time::Instant;

const KEYS: usize = 30;

/// Returns the next number of a linear congruential generator.
fn next(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

/// Returns a history with about this many operations, and a proportional number of other events.
fn long(operations: usize, mut chance: u64) -> History {
    let keys: Vec<String> = (0..KEYS).map(|n| format!("{}/{}{n}", ["a", "b", "c"][n % 3], ["x", "y"][n % 2])).collect();
    let prefixes = ["", "a/", "b/", "b/x", "c/"];
    let mut build = HistoryBuilder::new();
    let mut connections = Vec::new();
    for n in 0..8 {
        let connection = build.connect(n);
        if n == 0 {
            build.own_get(connection, &keys[0]);
        } else {
            build.hello(connection);
            build.watch(connection, prefixes[connection % 5], 0, true);
        }
        connections.push(connection);
    }
    while build.history.operations.len() < operations {
        let key = &keys[usize::try_from(next(&mut chance, KEYS as u64)).unwrap()];
        let other = &keys[usize::try_from(next(&mut chance, KEYS as u64)).unwrap()];
        let client = next(&mut chance, 20);
        let index = usize::try_from(next(&mut chance, 8)).unwrap();
        let connection = connections[index];
        let prefix = prefixes[usize::try_from(next(&mut chance, 5)).unwrap()];
        match next(&mut chance, 40) {
            0..8 => drop(build.put(client, key)),
            8..10 => drop(build.delete(client, key)),
            10..12 if key != other => drop(build.txn(client, &[key, other])),
            12 => build.put_unanswered(client, key),
            13 => build.own_put(connection, key),
            14 if key != other => build.own_txn(connection, &[key, other]),
            15 => build.own_get(connection, key),
            16 if connection > 0 => build.own_barrier(connection),
            17 => build.own_list(0, prefix),
            18..20 => build.list(client, prefix),
            20 => build.barrier(client),
            21 => build.step(client, prefixes[usize::try_from(client % 5).unwrap()], false),
            22 if next(&mut chance, 20) == 0 && connection > 0 => {
                let since = build.head - next(&mut chance, build.head + 1).min(50);
                let again = build.connect(client);
                let is_known = next(&mut chance, 3) > 0;
                build.drain(connection);
                build.hello(again);
                build.watch(again, prefix, since, is_known);
                connections[index] = again;
            }
            22..33 => build.sight(client, prefix),
            _ => build.get(client, key),
        }
    }
    build.history
}

#[test]
fn no_violation_in_long_histories() {
    for chance in 0..20 {
        let history = long(600, chance);
        for history in [&history, &real(&history)] {
            for report in check(history) {
                assert_eq!(report.violations, [], "{}, {chance}", report.promise);
            }
        }
    }
}

/// `cargo test --release -p syncline-sim measure_the_checkers -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn measure_the_checkers() {
    let history = long(20_000, 1);
    let frames: usize = history.transcripts.iter().map(|transcript| transcript.frames.len()).sum();
    println!("{} operations, {frames} frames, {} sights", history.operations.len(), history.sights.len());
    for history in [&history, &real(&history)] {
        let begun = Instant::now();
        let truth = Truth::of(history);
        println!("truth {:?}", begun.elapsed());
        for (promise, checker) in super::super::CHECKERS {
            let begun = Instant::now();
            let report = checker(history, &truth);
            println!("{promise} {:?} {}", begun.elapsed(), report.compared);
            assert_eq!(report.violations, []);
        }
        let begun = Instant::now();
        let compared: u64 = check(history).iter().map(|report| report.compared).sum();
        println!("all {:?}, {compared} compared", begun.elapsed());
    }
}

/// `cargo test --release -p syncline-sim inferred_commits -- --ignored --nocapture`
#[test]
#[ignore = "takes long"]
fn no_violation_in_simulated_runs_with_inferred_commits() {
    for seed in 0..400 {
        let history = crate::world::run(seed, 20_000, crate::world::Variation::default()).history;
        for report in check(&real(&history)) {
            if let Some(violation) = report.violations.first() {
                crate::show::show(&history, violation, &mut std::io::stdout()).unwrap();
                panic!("seed {seed}: {violation:?}");
            }
        }
    }
}
