//! The time by which a store measures the age of tombstones.
//!
//! It continues from the latest recorded time, and advances only while the store is open. So the system's clock, which may
//! be wrong by centuries, can neither keep tombstones for ever nor make all of them old at once.

use crate::Clock;
use std::time::{Instant, SystemTime};

/// The time of a store, in milliseconds. It never decreases, also across restarts.
pub(crate) struct StoreTime {
    clock: Clock,
    /// What the clock showed when it was last read.
    seen: u64,
    time: u64,
}

impl StoreTime {
    /// Continues from the latest recorded time. A store without any, which has the time 0, begins with that of the clock.
    pub(crate) fn resume(recorded: u64, clock: Clock) -> Self {
        let seen = clock();
        Self { clock, seen, time: if recorded == 0 { seen } else { recorded } }
    }

    /// Returns the time, without reading the clock for the next call of [`StoreTime::advance`].
    pub(crate) fn now(&self) -> u64 {
        self.time.saturating_add((self.clock)().saturating_sub(self.seen))
    }

    /// Adds the time that has passed since the last call, and returns the sum. A step back of the clock counts as no time.
    pub(crate) fn advance(&mut self) -> u64 {
        let shown = (self.clock)();
        self.time = self.time.saturating_add(shown.saturating_sub(self.seen));
        self.seen = shown;
        self.time
    }
}

/// Returns a clock that starts with the system's time, and never steps: setting the system's clock does not change it.
pub(crate) fn monotonic_clock() -> Clock {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let started = Instant::now();
    Box::new(move || u64::try_from((since + started.elapsed()).as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn a_new_store_begins_with_the_time_of_the_clock() {
        assert_eq!(StoreTime::resume(0, Box::new(|| 70)).advance(), 70);
    }

    #[test]
    fn only_what_passes_while_the_store_is_open_is_added() {
        let shown = Arc::new(AtomicU64::new(50));
        let clock = shown.clone();
        let mut time = StoreTime::resume(1000, Box::new(move || clock.load(Ordering::Relaxed)));
        assert_eq!(time.advance(), 1000);
        for (set, expected) in [(53, 1003), (13, 1003), (14, 1004)] {
            shown.store(set, Ordering::Relaxed);
            assert_eq!(time.advance(), expected);
        }
    }

    #[test]
    fn the_monotonic_clock_does_not_go_back() {
        let clock = monotonic_clock();
        let first = clock();
        assert!(first > 0 && clock() >= first);
    }
}
