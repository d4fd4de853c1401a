//! Limits the rate of log lines that unauthenticated clients can cause.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// The number of lines that are allowed within a [`WINDOW`].
const MAX_LINES: u32 = 10;

/// The length of a window.
const WINDOW: Duration = Duration::from_secs(1);

/// Allows at most [`MAX_LINES`] log lines per [`WINDOW`], and counts those that it suppresses.
#[derive(Debug)]
pub(crate) struct Throttle(Mutex<Window>);

#[derive(Debug)]
struct Window {
    since: Instant,
    lines: u32,
    suppressed: u64,
}

impl Throttle {
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(Window { since: now, lines: 0, suppressed: 0 }))
    }

    /// Returns the number of lines that were suppressed since the last allowed one, or `None` if a line must be
    /// suppressed now.
    pub(crate) fn allow(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock();
        if now.duration_since(window.since) >= WINDOW {
            (window.since, window.lines) = (now, 0);
        }
        if window.lines == MAX_LINES {
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
    fn ten_lines_a_second_are_allowed_and_the_rest_is_counted() {
        let start = Instant::now();
        let throttle = Throttle::new(start);
        let flood = |at| (0..1000).filter_map(|_| throttle.allow(at)).collect::<Vec<_>>();
        assert_eq!(flood(start), [0; 10]);
        assert!(flood(start + WINDOW / 2).is_empty());
        assert_eq!(flood(start + WINDOW), [&[1990][..], &[0; 9]].concat());
        assert_eq!(flood(start + WINDOW * 3), [&[990][..], &[0; 9]].concat());
    }
}
