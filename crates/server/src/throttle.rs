//! Limits the rate of log lines that unauthenticated clients can cause.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// Allows a number of log lines in each window of time, and counts those that it suppresses.
#[derive(Debug)]
pub(crate) struct Throttle {
    max_lines: u32,
    length: Duration,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    lines: u32,
    suppressed: u64,
}

impl Throttle {
    /// Allows `max_lines` in each window of this length. The first window begins now.
    pub(crate) fn new(max_lines: u32, length: Duration, now: Instant) -> Self {
        Self { max_lines, length, window: Mutex::new(Window { since: now, lines: 0, suppressed: 0 }) }
    }

    /// Returns the number of lines that were suppressed since the last allowed one, or `None` if a line must be
    /// suppressed now.
    pub(crate) fn allow(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock();
        if now.duration_since(window.since) >= self.length {
            (window.since, window.lines) = (now, 0);
        }
        if window.lines == self.max_lines {
            window.suppressed += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_a_window_are_allowed_and_the_rest_is_counted() {
        const WINDOW: Duration = Duration::from_secs(1);
        let start = Instant::now();
        let throttle = Throttle::new(10, WINDOW, start);
        let flood = |at| (0..1000).filter_map(|_| throttle.allow(at)).collect::<Vec<_>>();
        assert_eq!(flood(start), [0; 10]);
        assert!(flood(start + WINDOW / 2).is_empty());
        assert_eq!(flood(start + WINDOW), [&[1990][..], &[0; 9]].concat());
        assert_eq!(flood(start + WINDOW * 3), [&[990][..], &[0; 9]].concat());
    }
}
