//! Many seeds, one after the other, until a promise is broken.

use crate::Summary;
use crate::check::{Violation, check};
use crate::history::History;
use crate::world::{Variation, run};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Which seeds are run, and how.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// The first one.
    pub first: u64,
    /// How many, from the first on.
    pub count: u64,
    /// How many steps each takes, before nothing goes wrong any more and it settles.
    pub steps: u64,
    /// How many are run at once.
    pub jobs: usize,
    /// What is to be otherwise than they say.
    pub variation: Variation,
}

/// A seed that has broken a promise.
#[derive(Debug)]
pub struct FailedSeed {
    /// Which seed.
    pub seed: u64,
    /// What was seen.
    pub history: History,
    /// What was broken.
    pub violations: Vec<Violation>,
}

/// A seed that nobody has chosen: the clock's.
pub fn fresh_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Far enough from the last one that runs of many seeds don't meet.
    now.as_secs() * 1_000_000
}

/// Runs these seeds, and checks every promise over what was seen of each.
///
/// # Errors
/// The first seed that was found to break one; no more are begun then.
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
