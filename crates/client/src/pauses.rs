//! The pauses between attempts to reconnect.

use crate::options::Options;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use std::time::Duration;
use tokio::time::Instant;

/// The pauses between attempts to reconnect. They grow exponentially, with jitter, and never end.
///
/// A connection that is lost soon does not make the pauses short again. Otherwise a server that accepts connections and
/// ends them would be connected to many times per second, each time with a TLS handshake and a password.
#[derive(Debug)]
pub(crate) struct Pauses {
    pauses: ExponentialBackoff,
    min: Duration,
    max: Duration,
    connected: Option<Instant>,
}

impl Pauses {
    pub(crate) fn new(options: &Options) -> Self {
        let (min, max) = (options.min_pause, options.max_pause);
        Self { pauses: exponential(min, max), min, max, connected: None }
    }

    /// Records that there is a connection.
    pub(crate) fn connected(&mut self) {
        self.connected = Some(Instant::now());
    }

    /// Records that the connection was lost. If it existed for at least the longest pause, the pauses are short again.
    pub(crate) fn lost(&mut self) {
        if self.connected.take().is_some_and(|since| since.elapsed() >= self.max) {
            self.pauses = exponential(self.min, self.max);
        }
    }

    /// Returns the pause before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        self.pauses.next().unwrap_or(self.max)
    }
}

fn exponential(min: Duration, max: Duration) -> ExponentialBackoff {
    let builder = ExponentialBuilder::default().with_jitter().without_max_times();
    builder.with_min_delay(min).with_max_delay(max).build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    #[tokio::test(start_paused = true)]
    async fn pauses_are_short_again_only_after_a_connection_that_lasted() {
        let mut pauses = Pauses::new(&Options::default());
        let is_short = |pause: Duration| pause < Duration::from_millis(200);
        assert!(is_short(pauses.next()), "the pause before the first attempt");
        for _ in 0..20 {
            pauses.connected();
            sleep(Duration::from_millis(10)).await;
            pauses.lost();
            pauses.next();
        }
        assert!(pauses.next() >= Duration::from_secs(5), "connections that end soon");
        pauses.connected();
        sleep(Duration::from_secs(5)).await;
        pauses.lost();
        assert!(is_short(pauses.next()), "a connection that lasted");
    }
}
