//! Bounded: every quantity that could grow, and every silence, stays within its bound.

use super::report::{Findings, Promise, Report};
use super::truth::Truth;
use crate::history::History;

/// The highest sample of each gauge is at most its bound.
pub fn bounded(history: &History, _: &Truth) -> Report {
    let mut findings = Findings::new(Promise::Bounded);
    for (name, gauge) in &history.gauges {
        findings.expect(gauge.highest <= gauge.bound, gauge.at, || {
            let (bound, highest, samples) = (gauge.bound, gauge.highest, gauge.samples);
            format!("{name}: expected at most {bound}, found {highest} ({samples} samples)")
        });
    }
    findings.report()
}
