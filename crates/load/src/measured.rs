//! The measurements of one connection, or of all of them.

use crate::Error;
use hdrhistogram::Histogram;
use std::time::Duration;

/// The longest latency in nanoseconds, a minute. Longer ones count as a minute.
const MAX_LATENCY: u64 = 60_000_000_000;

/// The precision, in significant digits.
const DIGITS: u8 = 3;

/// The measurements of one connection, or of all of them.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The latency of each request or delivery, in nanoseconds.
    latencies: Histogram<u64>,
    /// How many writes of other connections were received.
    pub broadcasts: u64,
    /// How many writes a watcher did not receive, because a later write of the same key had replaced them.
    pub skipped: u64,
}

impl Measured {
    /// Returns an empty measurement.
    ///
    /// # Errors
    /// [`Error::Broken`] if the histogram refuses its bounds. They are constants that it accepts.
    pub fn new() -> Result<Self, Error> {
        let latencies =
            Histogram::new_with_bounds(1, MAX_LATENCY, DIGITS).map_err(|error| Error::Broken(error.to_string()))?;
        Ok(Self { latencies, broadcasts: 0, skipped: 0 })
    }

    /// Records one latency.
    pub fn record(&mut self, latency: Duration) {
        self.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds the measurements of another connection.
    pub fn add(&mut self, other: &Self) {
        // Cannot fail: both have the same bounds.
        let _ = self.latencies.add(&other.latencies);
        self.broadcasts += other.broadcasts;
        self.skipped += other.skipped;
    }

    /// Returns how many latencies were recorded.
    pub fn count(&self) -> u64 {
        self.latencies.len()
    }

    /// Returns the latency at this quantile (0.5, 0.99, …), in microseconds.
    pub fn micros_at(&self, quantile: f64) -> f64 {
        micros(self.latencies.value_at_quantile(quantile))
    }

    /// Returns the longest latency, in microseconds.
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
    fn measurements_of_several_connections_are_added_up() {
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
