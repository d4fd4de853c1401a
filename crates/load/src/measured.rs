//! What one connection, or all of them, have measured.

use crate::Error;
use hdrhistogram::Histogram;
use std::time::Duration;

/// Up to a minute; more counts as a minute.
const MOST: u64 = 60_000_000_000;

/// To three digits.
const DIGITS: u8 = 3;

/// What one connection, or all of them, have measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// How long each took, in nanoseconds.
    latencies: Histogram<u64>,
    /// How many writes of others were sent to the connections.
    pub broadcasts: u64,
    /// How many writes a watcher was not sent, because a later one of the same key had overtaken it.
    pub skipped: u64,
}

impl Measured {
    /// Nothing yet.
    ///
    /// # Errors
    /// [`Error::Broken`], never.
    pub fn new() -> Result<Self, Error> {
        let latencies =
            Histogram::new_with_bounds(1, MOST, DIGITS).map_err(|error| Error::Broken(error.to_string()))?;
        Ok(Self { latencies, broadcasts: 0, skipped: 0 })
    }

    /// One more.
    pub fn record(&mut self, latency: Duration) {
        self.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What another connection has measured too.
    pub fn add(&mut self, other: &Self) {
        // Both have the same bounds.
        let _ = self.latencies.add(&other.latencies);
        self.broadcasts += other.broadcasts;
        self.skipped += other.skipped;
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.latencies.len()
    }

    /// The latency that this part of all (0.5, 0.99, …) did not exceed, in microseconds.
    pub fn micros_at(&self, quantile: f64) -> f64 {
        micros(self.latencies.value_at_quantile(quantile))
    }

    /// The longest latency, in microseconds.
    pub fn micros_at_most(&self) -> f64 {
        micros(self.latencies.max())
    }
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_have_measured_is_added_up() {
        let mut all = Measured::new().unwrap();
        for micros in 1..=99 {
            let mut one = Measured::new().unwrap();
            one.record(Duration::from_micros(micros));
            one.broadcasts = 2;
            all.add(&one);
        }
        all.record(Duration::from_secs(3600));
        assert_eq!((all.count(), all.broadcasts), (100, 198));
        assert!((all.micros_at(0.5) - 50.0).abs() < 0.1, "{}", all.micros_at(0.5));
        assert!((all.micros_at(0.99) - 99.0).abs() < 0.2, "{}", all.micros_at(0.99));
        assert!((all.micros_at_most() - 60e6).abs() < 60e3, "an hour counts as a minute: {}", all.micros_at_most());
    }
}
