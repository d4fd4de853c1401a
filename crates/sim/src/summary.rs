//! What many runs have shown together, and whether that was enough to show anything.

use crate::check::{Promise, Report};
use crate::history::{Gauge, History};
use std::collections::BTreeMap;
use std::fmt;

/// What many runs have shown together.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// How many runs there were.
    pub runs: u64,
    /// How much time has passed in them, in microseconds.
    pub micros: u64,
    /// How many steps they have taken.
    pub steps: u64,
    /// What has happened how often.
    pub counts: BTreeMap<String, u64>,
    /// How many things the checkers have compared.
    pub compared: BTreeMap<Promise, u64>,
    /// What is bounded, where it was nearest to its bound.
    pub gauges: BTreeMap<String, Gauge>,
}

/// What must have happened in a hundred runs, and how often: less than that shows little.
const LOAD: [(&str, u64); 24] = [
    ("operations", 50_000),
    ("commits", 10_000),
    ("frames", 300_000),
    ("sights", 50_000),
    ("steps of cursors", 5_000),
    ("reads behind a barrier", 500),
    ("MARKs shown", 50_000),
    ("stale", 500),
    ("writes of unknown fate", 200),
    ("batches of several transactions", 1_000),
    ("batches that a crash has left in part or whole", 10),
    ("pages of catch-ups", 500),
    ("pages of resumes", 500),
    ("resumes that begin afresh", 50),
    ("steps that begin afresh", 20),
    ("silent connections given up", 20),
    ("turned away by a full queue", 100),
    ("crashes", 200),
    ("crashes of one front", 20),
    ("restores", 50),
    ("partitions", 200),
    ("stalled readers", 200),
    ("connections half open", 200),
    ("failed syncs", 50),
];

impl Summary {
    /// Adds a run, and what the checkers have found in it.
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
        self.join(Self { runs: 1, micros, steps, counts, compared, gauges: history.gauges.clone() });
    }

    /// Adds what other runs have shown.
    pub fn join(&mut self, other: Self) {
        (self.runs, self.micros, self.steps) =
            (self.runs + other.runs, self.micros + other.micros, self.steps + other.steps);
        for (name, times) in other.counts {
            *self.counts.entry(name).or_default() += times;
        }
        for (promise, compared) in other.compared {
            *self.compared.entry(promise).or_default() += compared;
        }
        for (name, gauge) in other.gauges {
            self.gauges.entry(name).and_modify(|worst| worst.take(&gauge)).or_insert(gauge);
        }
    }

    /// What has happened too seldom to have shown anything.
    pub fn lacks(&self) -> Vec<String> {
        let mut lacks = Vec::new();
        for (name, in_a_hundred) in LOAD {
            let (least, found) = (in_a_hundred * self.runs / 100, self.counts.get(name).copied().unwrap_or(0));
            if found < least {
                lacks.push(format!("{name}: expected at least {least} in {} runs, found {found}", self.runs));
            }
        }
        for promise in Promise::ALL {
            let (least, found) = (5 * self.runs, self.compared.get(&promise).copied().unwrap_or(0));
            if found < least {
                lacks.push(format!("{promise} has compared {found} times, expected at least {least}"));
            }
        }
        lacks
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
        writeln!(f, "\nhappened")?;
        for (name, times) in &self.counts {
            writeln!(f, "{times:>14}  {name}")?;
        }
        writeln!(f, "\nbounded: the most that there was, and the bound")?;
        for (name, gauge) in &self.gauges {
            writeln!(f, "{:>14}  {:>14}  {name}", gauge.highest, gauge.bound)?;
        }
        Ok(())
    }
}
