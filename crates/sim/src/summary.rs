//! The combined results of many runs, and whether they had enough load to show anything.

use crate::check::{Promise, Report};
use crate::history::{Gauge, History};
use std::collections::BTreeMap;
use std::fmt;

/// The combined results of many runs.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// The number of runs.
    pub runs: u64,
    /// The time that passed in them, in microseconds.
    pub micros: u64,
    /// The number of steps.
    pub steps: u64,
    /// How often each kind of event happened.
    pub counts: BTreeMap<String, u64>,
    /// In how many runs each kind of event happened.
    pub runs_with: BTreeMap<String, u64>,
    /// How many comparisons each checker made.
    pub compared: BTreeMap<Promise, u64>,
    /// For each bounded quantity, the sample that came closest to its bound.
    pub gauges: BTreeMap<String, Gauge>,
}

/// Events that must have happened, and in what percentage of the runs. The total number of events would not do: a few
/// runs with very many of them would decide it.
const REQUIRED_LOAD: [(&str, u64); 24] = [
    ("operations", 95),
    ("commits", 90),
    ("frames", 95),
    ("sights", 95),
    ("steps of cursors", 50),
    ("reads behind a barrier", 85),
    ("MARKs shown", 95),
    ("stale", 80),
    ("writes of unknown fate", 15),
    ("batches of several transactions", 25),
    ("batches that a crash has left in part or whole", 5),
    ("pages of catch-ups", 45),
    ("pages of resumes", 30),
    ("resumes that begin afresh", 5),
    ("steps that begin afresh", 3),
    ("silent connections given up", 25),
    ("turned away by a full queue", 5),
    ("crashes", 10),
    ("crashes of one front", 1),
    ("restores", 3),
    ("partitions", 10),
    ("stalled readers", 12),
    ("connections half open", 10),
    ("failed syncs", 10),
];

impl Summary {
    /// Adds a run and the reports of its checkers.
    pub fn add(&mut self, micros: u64, steps: u64, history: &History, reports: &[Report]) {
        let mut counts = history.counts.clone();
        let seen = [
            ("operations", history.operations.len()),
            ("commits", history.commits.len()),
            ("sights", history.sights.len()),
        ];
        for (name, times) in seen {
            *counts.entry(name.to_owned()).or_default() += times as u64;
        }
        let compared = reports.iter().map(|report| (report.promise, report.compared)).collect();
        let runs_with = counts.iter().filter(|(_, times)| **times > 0).map(|(name, _)| (name.clone(), 1)).collect();
        self.merge(Self { runs: 1, micros, steps, counts, runs_with, compared, gauges: history.gauges.clone() });
    }

    /// Adds the results of other runs.
    pub fn merge(&mut self, other: Self) {
        (self.runs, self.micros, self.steps) =
            (self.runs + other.runs, self.micros + other.micros, self.steps + other.steps);
        for (name, times) in other.counts {
            *self.counts.entry(name).or_default() += times;
        }
        for (name, runs) in other.runs_with {
            *self.runs_with.entry(name).or_default() += runs;
        }
        for (promise, compared) in other.compared {
            *self.compared.entry(promise).or_default() += compared;
        }
        for (name, gauge) in other.gauges {
            self.gauges.entry(name).and_modify(|worst| worst.merge(&gauge)).or_insert(gauge);
        }
    }

    /// Returns what happened too rarely for the runs to show anything.
    pub fn missing_load(&self) -> Vec<String> {
        let mut missing_load = Vec::new();
        for (name, percent) in REQUIRED_LOAD {
            let (least, found) = (percent * self.runs / 100, self.runs_with.get(name).copied().unwrap_or(0));
            if found < least {
                missing_load
                    .push(format!("{name}: expected in at least {least} of {} runs, found in {found}", self.runs));
            }
        }
        for promise in Promise::ALL.into_iter().filter(|promise| promise.is_simulated()) {
            let (least, found) = (5 * self.runs, self.compared.get(&promise).copied().unwrap_or(0));
            if found < least {
                missing_load.push(format!("{promise}: expected at least {least} comparisons, found {found}"));
            }
        }
        missing_load
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.micros / 1_000_000;
        let (days, hours) = (seconds / 86_400, seconds % 86_400 / 3600);
        writeln!(f, "{} runs, {} steps, {days} days and {hours} hours of simulated time", self.runs, self.steps)?;
        writeln!(f, "\ncompared")?;
        for (promise, compared) in &self.compared {
            writeln!(f, "{compared:>14}  {promise}")?;
        }
        writeln!(f, "\nhappened, and in how many runs")?;
        for (name, times) in &self.counts {
            let runs = self.runs_with.get(name).copied().unwrap_or(0);
            writeln!(f, "{times:>14} {runs:>8}  {name}")?;
        }
        writeln!(f, "\nbounded: the most that there was, and the bound")?;
        for (name, gauge) in &self.gauges {
            writeln!(f, "{:>14}  {:>14}  {name}", gauge.highest, gauge.bound)?;
        }
        Ok(())
    }
}
