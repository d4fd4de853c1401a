//! Delays the responses to wrong passwords, so that guessing takes time.

use super::source::Source;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// The delay for the first failed attempt of an address. Each further one doubles it.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// The longest delay.
const MAX_DELAY: Duration = Duration::from_secs(2);

/// The time without a failed attempt after which the delay of an address starts over.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5 * 60);

/// The number of addresses that are remembered. At this limit, a new address replaces the one whose last failed attempt
/// is oldest. An address that guesses continuously is therefore never forgotten.
const MAX_ADDRESSES: usize = 4096;

/// The recent failed attempts of each address.
#[derive(Debug, Default)]
pub(super) struct FailedAttempts(BTreeMap<Source, Recent>);

#[derive(Clone, Copy, Debug)]
struct Recent {
    count: u32,
    last: Instant,
}

impl FailedAttempts {
    /// Records a failed attempt of an address, and returns how long to delay its response.
    ///
    /// A successful attempt does not reset the delay. Otherwise a user could guess the passwords of others without delay,
    /// by authenticating with the own password in between.
    pub(super) fn record(&mut self, source: Source, now: Instant) -> Duration {
        if !self.0.contains_key(&source) && self.0.len() >= MAX_ADDRESSES {
            let oldest = self.0.iter().min_by_key(|(_, recent)| recent.last).map(|(source, _)| *source);
            oldest.map(|source| self.0.remove(&source));
        }
        let recent = self.0.entry(source).or_insert(Recent { count: 0, last: now });
        if now.duration_since(recent.last) >= FORGOTTEN_AFTER {
            recent.count = 0;
        }
        let delay = FIRST_DELAY.saturating_mul(2_u32.saturating_pow(recent.count)).min(MAX_DELAY);
        *recent = Recent { count: recent.count.saturating_add(1), last: now };
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn source(number: u32) -> Source {
        SocketAddr::new(std::net::Ipv4Addr::from_bits(number).into(), 1).into()
    }

    #[test]
    fn each_failed_attempt_of_an_address_doubles_the_delay_up_to_a_limit() {
        let (mut attempts, now) = (FailedAttempts::default(), Instant::now());
        let delays: Vec<_> = (0..9).map(|_| attempts.record(source(1), now).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 2000, 2000, 2000, 2000]);
        assert_eq!(attempts.record(source(2), now), FIRST_DELAY, "another address");
        for _ in 0..100 {
            assert_eq!(attempts.record(source(1), now), MAX_DELAY);
        }
    }

    #[test]
    fn failed_attempts_are_forgotten_after_five_minutes() {
        let (mut attempts, start) = (FailedAttempts::default(), Instant::now());
        attempts.record(source(1), start);
        let almost = start + FORGOTTEN_AFTER - Duration::from_secs(1);
        assert_eq!(attempts.record(source(1), almost), FIRST_DELAY * 2);
        assert_eq!(attempts.record(source(1), almost + FORGOTTEN_AFTER), FIRST_DELAY);
    }

    #[test]
    fn a_new_address_replaces_the_one_with_the_oldest_attempt() {
        let (mut attempts, start) = (FailedAttempts::default(), Instant::now());
        let step = Duration::from_millis(1);
        for number in 0..u32::try_from(MAX_ADDRESSES).unwrap() {
            attempts.record(source(number), start + step * number);
        }
        let later = start + step * 10_000;
        assert_eq!(attempts.record(source(0), later), FIRST_DELAY * 2, "remembered, and now the most recent");
        attempts.record(source(1_000_000), later);
        assert_eq!(attempts.0.len(), MAX_ADDRESSES);
        assert_eq!(attempts.record(source(0), later), FIRST_DELAY * 4);
        assert_eq!(attempts.record(source(1), later), FIRST_DELAY, "forgotten");
    }
}
