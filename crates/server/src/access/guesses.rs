//! What wrong guesses cost: time, of the guesser.

use super::source::Source;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long the verdict on the first wrong guess of an address is held back. Each further one takes twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// The longest that a verdict is held back.
const MAX_DELAY: Duration = Duration::from_secs(5);

/// After so much time without a wrong guess, an address begins anew.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5 * 60);

/// The most addresses that are remembered. At it, the one that has been quiet for longest is forgotten for a new one:
/// who guesses all the time is not.
const MAX_ADDRESSES: usize = 4096;

/// The wrong guesses of late.
#[derive(Debug, Default)]
pub(super) struct Guesses(BTreeMap<Source, Recent>);

#[derive(Clone, Copy, Debug)]
struct Recent {
    wrong: u32,
    last: Instant,
}

impl Guesses {
    /// An address has guessed wrong. Answers how long it is to wait before it is told. Right guesses change nothing: else a
    /// user could guess the passwords of others for nothing, with an own one in between.
    pub(super) fn wrong(&mut self, source: Source, now: Instant) -> Duration {
        if !self.0.contains_key(&source) && self.0.len() >= MAX_ADDRESSES {
            let quietest = self.0.iter().min_by_key(|(_, recent)| recent.last).map(|(source, _)| *source);
            quietest.map(|source| self.0.remove(&source));
        }
        let recent = self.0.entry(source).or_insert(Recent { wrong: 0, last: now });
        if now.duration_since(recent.last) >= FORGOTTEN_AFTER {
            recent.wrong = 0;
        }
        let delay = FIRST_DELAY.saturating_mul(2_u32.saturating_pow(recent.wrong)).min(MAX_DELAY);
        *recent = Recent { wrong: recent.wrong.saturating_add(1), last: now };
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
    fn each_wrong_guess_of_an_address_costs_twice_as_much_up_to_a_bound() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        let delays: Vec<_> = (0..9).map(|_| guesses.wrong(source(1), now).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert_eq!(guesses.wrong(source(2), now), FIRST_DELAY, "another address");
        for _ in 0..100 {
            assert_eq!(guesses.wrong(source(1), now), MAX_DELAY);
        }
    }

    #[test]
    fn wrong_guesses_are_forgotten_after_quiet_minutes() {
        let (mut guesses, start) = (Guesses::default(), Instant::now());
        guesses.wrong(source(1), start);
        let almost = start + FORGOTTEN_AFTER - Duration::from_secs(1);
        assert_eq!(guesses.wrong(source(1), almost), FIRST_DELAY * 2);
        assert_eq!(guesses.wrong(source(1), almost + FORGOTTEN_AFTER), FIRST_DELAY);
    }

    #[test]
    fn the_quietest_address_is_forgotten_for_a_new_one() {
        let (mut guesses, start) = (Guesses::default(), Instant::now());
        let second = Duration::from_millis(1);
        for number in 0..u32::try_from(MAX_ADDRESSES).unwrap() {
            guesses.wrong(source(number), start + second * number);
        }
        let later = start + second * 10_000;
        assert_eq!(guesses.wrong(source(0), later), FIRST_DELAY * 2, "known, and now the least quiet");
        guesses.wrong(source(1_000_000), later);
        assert_eq!(guesses.0.len(), MAX_ADDRESSES);
        assert_eq!(guesses.wrong(source(0), later), FIRST_DELAY * 4);
        assert_eq!(guesses.wrong(source(1), later), FIRST_DELAY, "forgotten");
    }
}
