//! Keeps what strangers do from filling the log.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// How many lines strangers may cause within a [`WINDOW`].
const MAX_LINES: u32 = 10;

/// See [`MAX_LINES`].
const WINDOW: Duration = Duration::from_secs(1);

/// Says which lines may be written. At most [`MAX_LINES`] per second; those that were left out are counted.
#[derive(Debug)]
pub(crate) struct Throttle(Mutex<Window>);

#[derive(Debug)]
struct Window {
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl Throttle {
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(Window { since: now, lines: 0, left_out: 0 }))
    }

    /// Whether a line may be written now; if so, how many were left out before it.
    pub(crate) fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock();
        if now.duration_since(window.since) >= WINDOW {
            (window.since, window.lines) = (now, 0);
        }
        if window.lines == MAX_LINES {
            window.left_out += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_ten_lines_a_second_and_the_rest_is_counted() {
        let start = Instant::now();
        let throttle = Throttle::new(start);
        let flood = |at| (0..1000).filter_map(|_| throttle.admit(at)).collect::<Vec<_>>();
        assert_eq!(flood(start), [0; 10]);
        assert!(flood(start + WINDOW / 2).is_empty());
        assert_eq!(flood(start + WINDOW), [&[1990][..], &[0; 9]].concat());
        assert_eq!(flood(start + WINDOW * 3), [&[990][..], &[0; 9]].concat());
    }
}
