//! Runs many seeds until a promise is broken.

use crate::Summary;
use crate::check::{Violation, check};
use crate::history::History;
use crate::world::{Variation, run};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The seeds to run, and how to run them.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// The first seed.
    pub first: u64,
    /// The number of seeds.
    pub count: u64,
    /// The number of steps of each seed. After them faults end, and the run settles.
    pub steps: u64,
    /// The number of seeds that run at the same time.
    pub jobs: usize,
    /// What differs from the plan of each seed.
    pub variation: Variation,
}

/// A seed whose run broke a promise.
#[derive(Debug)]
pub struct FailedSeed {
    /// The seed.
    pub seed: u64,
    /// The history of its run.
    pub history: History,
    /// The violations.
    pub violations: Vec<Violation>,
}

/// Returns a seed made from the current time.
pub fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Far enough from the next second's seed that runs of many seeds do not overlap.
    now.as_secs() * 1_000_000
}

/// Runs the seeds, and checks every promise over each history.
///
/// # Errors
/// The first seed that was found to break a promise. No further seeds are started after it.
pub fn run_all(seeds: Seeds) -> Result<Summary, Box<FailedSeed>> {
    let next = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    let found = Mutex::new((Summary::default(), None));
    let work = || {
        let mut summary = Summary::default();
        let mut broken = None;
        while !is_over.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= seeds.count {
                break;
            }
            let seed = seeds.first + index;
            let run = run(seed, seeds.steps, seeds.variation);
            let reports = check(&run.history);
            summary.add(run.micros, run.steps, &run.history, &reports);
            let violations: Vec<_> = reports.into_iter().flat_map(|report| report.violations).collect();
            if !violations.is_empty() {
                is_over.store(true, Ordering::Relaxed);
                broken = Some(Box::new(FailedSeed { seed, history: run.history, violations }));
            }
        }
        if let Ok(mut found) = found.lock() {
            found.0.merge(summary);
            found.1 = found.1.take().or(broken);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..seeds.jobs.max(1) {
            scope.spawn(work);
        }
    });
    let (summary, broken) = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    broken.map_or(Ok(summary), Err)
}
