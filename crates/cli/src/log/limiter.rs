//! Limits the lines that one place in the code can log, and counts those that it suppresses.
//!
//! A line that repeats many times a second hides all others and fills disks. Each place has a window: its first lines are
//! logged, the others are counted, and a summary follows when the window ends. So a problem that lasts appears again and
//! again, and its extent is visible. Memory is bounded: one small bucket for each place in the code that has logged.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};
use tracing::Level;

/// The number of lines that a place may log within a [`WINDOW`].
const MAX_LINES: u32 = 5;

/// The length of a window, which begins with a line.
const WINDOW: Duration = Duration::from_secs(10);

/// The longest example in a summary, in bytes.
const MAX_EXAMPLE: usize = 500;

/// Limits lines. `K` identifies the place that logs a line.
pub(super) struct Limiter<K>(Mutex<HashMap<K, Bucket>>);

impl<K> Default for Limiter<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// The current window of a place.
struct Bucket {
    end: Instant,
    lines: u32,
    suppressed: Option<Suppressed>,
}

/// Lines that were suppressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Suppressed {
    pub(super) level: Level,
    pub(super) target: &'static str,
    pub(super) count: u64,
    /// The text of the first of them.
    pub(super) example: String,
}

impl<K: Hash + Eq> Limiter<K> {
    /// Returns whether a line may be logged now. If not, counts it.
    pub(super) fn admit(
        &self,
        place: K,
        level: Level,
        target: &'static str,
        now: Instant,
        text: impl FnOnce() -> String,
    ) -> bool {
        let mut buckets = self.0.lock();
        let new = || Bucket { end: now + WINDOW, lines: 0, suppressed: None };
        let bucket = buckets.entry(place).or_insert_with(new);
        if now >= bucket.end {
            // What was suppressed stays until it is taken.
            (bucket.end, bucket.lines) = (now + WINDOW, 0);
        }
        if bucket.lines < MAX_LINES {
            bucket.lines += 1;
            return true;
        }
        let example = || {
            let mut example = text();
            example.truncate(example.floor_char_boundary(MAX_EXAMPLE));
            Suppressed { level, target, count: 0, example }
        };
        bucket.suppressed.get_or_insert_with(example).count += 1;
        false
    }

    /// Returns when the next window ends in which lines may have been suppressed.
    pub(super) fn next_end(&self) -> Option<Instant> {
        let buckets = self.0.lock();
        let full = buckets.values().filter(|bucket| bucket.lines == MAX_LINES || bucket.suppressed.is_some());
        full.map(|bucket| bucket.end).min()
    }

    /// Takes what was suppressed in windows that have ended.
    pub(super) fn take_ended(&self, now: Instant) -> Vec<Suppressed> {
        self.0.lock().extract_if(|_, bucket| now >= bucket.end).filter_map(|(_, bucket)| bucket.suppressed).collect()
    }

    /// Takes everything that was suppressed.
    pub(super) fn take_all(&self) -> Vec<Suppressed> {
        self.0.lock().values_mut().filter_map(|bucket| bucket.suppressed.take()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: &str = "target";

    /// Logs lines at a time, and returns how many of them were admitted.
    fn flood(limiter: &Limiter<u8>, place: u8, lines: usize, now: Instant) -> usize {
        let admit = |number| limiter.admit(place, Level::WARN, TARGET, now, || format!("line {number}"));
        (0..lines).filter(|number| admit(*number)).count()
    }

    fn suppressed(count: u64, example: &str) -> Suppressed {
        Suppressed { level: Level::WARN, target: TARGET, count, example: example.to_owned() }
    }

    #[test]
    fn five_lines_of_a_place_pass_and_the_others_are_counted() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        assert_eq!(flood(&limiter, 1, 1000, start), 5);
        assert_eq!(flood(&limiter, 1, 10, start + WINDOW / 2), 0);
        assert_eq!(flood(&limiter, 2, 3, start + WINDOW / 2), 3, "another place has its own limit");
        assert_eq!(limiter.take_ended(start + WINDOW / 2), []);
        assert_eq!(limiter.next_end(), Some(start + WINDOW));
        assert_eq!(limiter.take_ended(start + WINDOW), [suppressed(1005, "line 5")]);
        assert_eq!(limiter.take_ended(start + WINDOW * 2), [], "nothing of the second place was suppressed");
    }

    #[test]
    fn a_line_that_repeats_for_ever_appears_in_every_window() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        for window in 0..100 {
            assert_eq!(flood(&limiter, 1, 50, start + WINDOW * window), 5, "window {window}");
        }
        assert_eq!(limiter.take_ended(start + WINDOW * 100), [suppressed(45 * 100, "line 5")]);
    }

    #[test]
    fn a_window_that_has_ended_is_not_waited_for_again() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        assert_eq!(limiter.next_end(), None);
        assert_eq!(flood(&limiter, 1, 4, start), 4);
        assert_eq!(limiter.next_end(), None, "nothing can have been suppressed");
        assert_eq!(flood(&limiter, 1, 1, start), 1);
        assert_eq!(limiter.next_end(), Some(start + WINDOW));
        assert_eq!(limiter.take_ended(start + WINDOW), []);
        assert_eq!(limiter.next_end(), None);
    }

    #[test]
    fn the_end_of_the_process_does_not_wait_for_the_end_of_a_window() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        assert_eq!(flood(&limiter, 1, 6, start), 5);
        assert_eq!(limiter.take_all(), [suppressed(1, "line 5")]);
        assert_eq!(limiter.take_all(), []);
        assert_eq!(flood(&limiter, 1, 6, start), 0, "the window continues");
    }

    #[test]
    fn an_example_has_a_bound_between_characters() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        let long = || format!("x{}", "é".repeat(MAX_EXAMPLE));
        let admitted = (0..=MAX_LINES).filter(|_| limiter.admit(1, Level::ERROR, TARGET, start, long)).count();
        assert_eq!(admitted, 5);
        assert_eq!(limiter.take_all()[0].example.len(), MAX_EXAMPLE - 1);
    }
}
