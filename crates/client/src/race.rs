//! Connecting to one of several addresses of a host, as RFC 8305 (Happy Eyeballs) describes.
//!
//! An attempt has two stages: opening the socket, and the greeting, which is everything up to a connection that is ready
//! for requests. Sockets are opened in parallel, each [`ATTEMPT_DELAY`] after the one before. Greetings send the password,
//! so a second one starts only if the first has failed, or has used up its share of the time. An address that accepts
//! connections but never answers therefore does not keep the client from the next address.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The time between the starts of two attempts to open a socket, as RFC 8305 recommends.
pub(crate) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The maximum number of addresses of a host that are tried.
pub(crate) const MAX_ADDRESSES: usize = 16;

/// Returns the addresses in the order in which they are tried: each once, IPv6 and IPv4 in turn, beginning with the kind
/// that the resolver prefers.
pub(crate) fn in_turn(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let (mut preferred, mut others) = (VecDeque::new(), VecDeque::new());
    let mut is_v6 = None;
    for address in addresses {
        let is_preferred = address.is_ipv6() == *is_v6.get_or_insert(address.is_ipv6());
        let queue = if is_preferred { &mut preferred } else { &mut others };
        if !queue.contains(&address) {
            queue.push_back(address);
        }
    }
    let mut ordered = Vec::new();
    while ordered.len() < MAX_ADDRESSES
        && let Some(address) = preferred.pop_front()
    {
        ordered.push(address);
        std::mem::swap(&mut preferred, &mut others);
        if preferred.is_empty() {
            std::mem::swap(&mut preferred, &mut others);
        }
    }
    ordered
}

/// Why an attempt to connect to an address failed. `None` means that it was not complete at the deadline.
pub(crate) type Failed<E> = (SocketAddr, Option<E>);

/// Connects to the first address that completes both stages before the deadline. All other attempts are dropped.
///
/// An error for which `is_final` returns `true` ends the race: the other addresses would answer the same.
///
/// # Errors
/// The failures of all attempts, in the order in which they ended.
pub(crate) async fn race<S, T, E, D, G>(
    addresses: &[SocketAddr],
    deadline: Instant,
    dial: impl Fn(SocketAddr) -> D,
    greet: impl Fn(SocketAddr, S) -> G,
    is_final: impl Fn(&E) -> bool,
) -> Result<T, Vec<Failed<E>>>
where
    D: Future<Output = Result<S, E>>,
    G: Future<Output = Result<T, E>>,
{
    let mut untried: VecDeque<_> = addresses.iter().copied().collect();
    let mut opened = VecDeque::new();
    let (mut dials, mut greetings) = (Running::new(), Running::new());
    let mut failures = Vec::new();
    // Before these instants, no further socket is opened, and no further greeting is started.
    let mut next_dial = Instant::now();
    let mut next_greeting = next_dial;
    loop {
        let now = Instant::now();
        if greetings.is_empty() {
            next_greeting = now;
        }
        if now >= next_greeting {
            let left = untried.len() + opened.len() + dials.len();
            if let Some((address, socket)) = opened.pop_front() {
                greetings.start(address, greet(address, socket));
                next_greeting = now + share(deadline.saturating_duration_since(now), left);
                continue;
            }
            if now >= next_dial
                && let Some(address) = untried.pop_front()
            {
                dials.start(address, dial(address));
                next_dial = now + ATTEMPT_DELAY;
                continue;
            }
        }
        if dials.is_empty() && greetings.is_empty() {
            if untried.is_empty() && opened.is_empty() {
                return Err(failures);
            }
            // The last attempt has failed, so the next one starts at once.
            next_dial = now;
            continue;
        }
        let next_start = match (opened.is_empty(), untried.is_empty()) {
            (false, _) => next_greeting,
            (true, false) => next_dial.max(next_greeting),
            (true, true) => deadline,
        };
        tokio::select! {
            (address, opening) = dials.next() => match opening {
                Ok(socket) => opened.push_back((address, socket)),
                Err(error) => {
                    failures.push((address, Some(error)));
                    next_dial = Instant::now();
                }
            },
            (address, greeting) = greetings.next() => match greeting {
                Ok(connected) => return Ok(connected),
                Err(error) => {
                    let is_final = is_final(&error);
                    failures.push((address, Some(error)));
                    if is_final {
                        return Err(failures);
                    }
                    next_dial = Instant::now();
                }
            },
            () = sleep_until(next_start.min(deadline)) => {
                if Instant::now() >= deadline {
                    let opened = opened.iter().map(|(address, _)| *address);
                    failures.extend(greetings.addresses().chain(opened).chain(dials.addresses()).map(|address| (address, None)));
                    return Err(failures);
                }
            }
        }
    }
}

/// Returns the share of a greeting in the remaining time, of which `others` addresses want as much.
fn share(remaining: Duration, others: usize) -> Duration {
    remaining / u32::try_from(others).unwrap_or(u32::MAX).max(1)
}

/// Futures that run at the same time, each for an address.
struct Running<F>(Vec<(SocketAddr, Pin<Box<F>>)>);

impl<F: Future> Running<F> {
    const fn new() -> Self {
        Self(Vec::new())
    }

    const fn len(&self) -> usize {
        self.0.len()
    }

    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|(address, _)| *address)
    }

    fn start(&mut self, address: SocketAddr, future: F) {
        self.0.push((address, Box::pin(future)));
    }

    /// Waits for the next result. Cancellation safe.
    async fn next(&mut self) -> (SocketAddr, F::Output) {
        poll_fn(|context| {
            for index in 0..self.0.len() {
                if let Some((address, future)) = self.0.get_mut(index)
                    && let Poll::Ready(result) = future.as_mut().poll(context)
                {
                    let address = *address;
                    drop(self.0.swap_remove(index));
                    return Poll::Ready((address, result));
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::time::Duration;
    use tokio::time::sleep;

    /// What an address does, after how many milliseconds.
    #[derive(Clone, Copy)]
    enum Stage {
        Completes(u64),
        Fails(u64),
        Refuses(u64),
        Hangs,
    }
    use Stage::{Completes, Fails, Hangs, Refuses};

    async fn perform(stage: Stage) -> Result<(), &'static str> {
        let (millis, result) = match stage {
            Completes(millis) => (millis, Ok(())),
            Fails(millis) => (millis, Err("failed")),
            Refuses(millis) => (millis, Err("refused")),
            Hangs => return std::future::pending().await,
        };
        sleep(Duration::from_millis(millis)).await;
        result
    }

    /// The number of an address, `d` for the start of its dial or `g` for that of its greeting, and when it started.
    type Log = Vec<(usize, char, u64)>;

    fn address(number: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], u16::try_from(number).unwrap()))
    }

    /// Races addresses with these stages within 5 s. Returns the winner or the failures, and what was started when.
    async fn run(stages: &[(Stage, Stage)]) -> (Result<usize, Vec<(usize, Option<&'static str>)>>, Log) {
        let start = Instant::now();
        let log = Mutex::new(Vec::new());
        let note = |number: usize, stage: char| {
            log.lock().unwrap().push((number, stage, u64::try_from(start.elapsed().as_millis()).unwrap()));
        };
        let number = |address: SocketAddr| usize::from(address.port());
        let addresses: Vec<_> = (0..stages.len()).map(address).collect();
        let result = race(
            &addresses,
            start + Duration::from_secs(5),
            |address| {
                note(number(address), 'd');
                perform(stages[number(address)].0)
            },
            |address, ()| {
                note(number(address), 'g');
                async move { perform(stages[number(address)].1).await.map(|()| number(address)) }
            },
            |error| *error == "refused",
        )
        .await;
        let result =
            result.map_err(|failures| failures.into_iter().map(|(address, error)| (number(address), error)).collect());
        (result, log.into_inner().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_address_wins_if_it_answers() {
        let (result, log) = run(&[(Completes(10), Completes(1000)), (Completes(1), Completes(1))]).await;
        assert_eq!((result, log), (Ok(0), vec![(0, 'd', 0), (0, 'g', 10)]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_delays_the_next_by_250_ms() {
        let (result, log) = run(&[(Hangs, Hangs), (Hangs, Hangs), (Completes(10), Completes(1))]).await;
        let expected = vec![(0, 'd', 0), (1, 'd', 250), (2, 'd', 500), (2, 'g', 510)];
        assert_eq!((result, log), (Ok(2), expected));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_connection_starts_the_next_at_once() {
        let (result, log) = run(&[(Fails(3), Hangs), (Completes(4), Completes(1))]).await;
        assert_eq!((result, log), (Ok(1), vec![(0, 'd', 0), (1, 'd', 3), (1, 'g', 7)]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_accepts_and_never_answers_has_a_share_of_the_time() {
        let (result, log) = run(&[(Completes(10), Hangs), (Completes(5), Completes(1))]).await;
        assert_eq!((result, log), (Ok(1), vec![(0, 'd', 0), (0, 'g', 10), (1, 'd', 2505), (1, 'g', 2510)]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_greeting_is_not_abandoned_while_others_are_tried() {
        let (result, _) = run(&[(Completes(0), Completes(4000)), (Completes(0), Hangs)]).await;
        assert_eq!(result, Ok(0));
    }

    #[tokio::test(start_paused = true)]
    async fn two_open_sockets_do_not_send_the_password_twice() {
        let (result, log) = run(&[(Completes(300), Completes(400)), (Completes(10), Completes(400))]).await;
        assert_eq!((result, log), (Ok(1), vec![(0, 'd', 0), (1, 'd', 250), (1, 'g', 260)]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_socket_is_used_if_the_greeting_of_another_fails() {
        let (result, log) = run(&[(Completes(300), Completes(1)), (Completes(10), Fails(400))]).await;
        assert_eq!((result, log), (Ok(0), vec![(0, 'd', 0), (1, 'd', 250), (1, 'g', 260), (0, 'g', 660)]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_ends_the_race() {
        let (result, log) = run(&[(Completes(1), Refuses(1000)), (Completes(1), Completes(1))]).await;
        assert_eq!((result, log), (Err(vec![(0, Some("refused"))]), vec![(0, 'd', 0), (0, 'g', 1)]));
    }

    #[tokio::test(start_paused = true)]
    async fn the_failures_of_all_addresses_are_returned() {
        let start = Instant::now();
        let (result, _) =
            run(&[(Fails(3), Hangs), (Completes(1), Fails(1)), (Completes(1), Hangs), (Hangs, Hangs)]).await;
        let expected = vec![(0, Some("failed")), (1, Some("failed")), (2, None), (3, None)];
        assert_eq!((result, start.elapsed()), (Err(expected), Duration::from_secs(5)));
        assert_eq!(run(&[]).await.0, Err(vec![]));
    }

    #[test]
    fn ipv6_and_ipv4_are_tried_in_turn_and_each_address_once() {
        let [a, b, c]: [SocketAddr; 3] = [1, 2, 3].map(address);
        let [v, w]: [SocketAddr; 2] = ["[::1]:1", "[::1]:2"].map(|text| text.parse().unwrap());
        assert_eq!(in_turn([v, w, a, v, b, c]), [v, a, w, b, c]);
        assert_eq!(in_turn([a, b, v]), [a, v, b]);
        assert_eq!(in_turn([]), []);
        assert_eq!(in_turn((1..100).map(address)).len(), MAX_ADDRESSES);
    }
}
