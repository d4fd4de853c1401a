//! Whose password is verified next.
//!
//! Few verifications run at once, for they take memory and time. Each address has a line of its own, and the lines take
//! turns: an address that floods waits behind itself.

use super::per_source_limit::{self, PerSourceLimit};
use super::source::Source;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::oneshot;

/// The most authorizations of one address that wait, run, or have their verdict held back.
pub(super) const MAX_PER_ADDRESS: usize = 8;

/// An address asks for more at once than it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("too many authorizations from your address at once; try again later")]
pub(crate) struct TooMany;

/// Gives out turns.
#[derive(Debug)]
pub(super) struct FairQueue {
    max_running: usize,
    /// Of those who wait, run, or have their verdict held back.
    places: Arc<PerSourceLimit>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// Those who wait, address by address; the first address is next. None of the lines is empty.
    lines: VecDeque<(Source, VecDeque<oneshot::Sender<RunPermit>>)>,
}

/// A place in the line of an address, or behind it.
#[derive(Debug)]
pub(super) struct QueuePlace {
    turns: Arc<FairQueue>,
    taken: per_source_limit::SourcePermit,
}

/// The right to run; the next has it when it is dropped.
#[derive(Debug)]
pub(super) struct RunPermit(Arc<FairQueue>);

impl FairQueue {
    pub(super) fn new(max_running: usize) -> Arc<Self> {
        // In all, there are as many as the strangers who come.
        let places = PerSourceLimit::new(usize::MAX, MAX_PER_ADDRESS);
        Arc::new(Self { max_running: max_running.max(1), places, state: Mutex::default() })
    }

    /// Takes a place of an address.
    ///
    /// # Errors
    /// [`TooMany`] where it has [`MAX_PER_ADDRESS`].
    pub(super) fn enter(self: &Arc<Self>, source: Source) -> Result<QueuePlace, TooMany> {
        let taken = self.places.enter(source).map_err(|_| TooMany)?;
        Ok(QueuePlace { turns: self.clone(), taken })
    }
}

impl QueuePlace {
    /// Waits for its turn.
    pub(super) async fn turn(&self) -> RunPermit {
        let waiting = {
            let mut state = self.turns.state.lock();
            if state.running < self.turns.max_running {
                state.running += 1;
                return RunPermit(self.turns.clone());
            }
            let (sender, waiting) = oneshot::channel();
            let own = self.taken.source();
            match state.lines.iter_mut().find(|(source, _)| *source == own) {
                Some((_, line)) => {
                    // Of those who went away, nothing is left behind.
                    line.retain(|waiting| !waiting.is_closed());
                    line.push_back(sender);
                }
                None => state.lines.push_back((own, VecDeque::from([sender]))),
            }
            waiting
        };
        match waiting.await {
            Ok(turn) => turn,
            // Never: whoever is in a line is given a turn or is closed, and it is not closed while it waits.
            Err(_) => std::future::pending().await,
        }
    }
}

impl State {
    /// The next who still waits; the address goes to the end.
    fn next(&mut self) -> Option<oneshot::Sender<RunPermit>> {
        while let Some((source, mut line)) = self.lines.pop_front() {
            let next = line.pop_front();
            if !line.is_empty() {
                self.lines.push_back((source, line));
            }
            if let Some(next) = next.filter(|next| !next.is_closed()) {
                return Some(next);
            }
        }
        None
    }
}

impl Drop for RunPermit {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        let Some(next) = state.next() else {
            state.running -= 1;
            return;
        };
        drop(state);
        // Where it has gone away this very moment, the turn is dropped with the message, and passed on from there.
        let _ = next.send(Self(self.0.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::net::SocketAddr;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    fn source(number: u8) -> Source {
        SocketAddr::from(([192, 0, 2, number], 1)).into()
    }

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn few_run_at_once_and_addresses_take_turns() {
        let turns = FairQueue::new(1);
        let running = poll(pin!(turns.enter(source(9)).unwrap().turn())).unwrap();
        let places: Vec<QueuePlace> = [1, 1, 1, 2, 3, 3].map(|number| turns.enter(source(number)).unwrap()).into();
        let mut waiting: Vec<_> = places.iter().map(|place| Box::pin(place.turn())).collect();
        assert!(waiting.iter_mut().all(|turn| poll(turn.as_mut()).is_none()));
        let mut order = Vec::new();
        let mut turn = Some(running);
        while let Some(ended) = turn.take() {
            drop(ended);
            for (number, waits) in waiting.iter_mut().enumerate() {
                if !order.contains(&number)
                    && let Some(given) = poll(waits.as_mut())
                {
                    order.push(number);
                    assert!(turn.replace(given).is_none(), "one at a time");
                }
            }
        }
        assert_eq!(order, [0, 3, 4, 1, 5, 2], "addresses 1, 2, 3, then 1 and 3 again");
        assert_eq!(turns.state.lock().running, 0);
    }

    #[test]
    fn an_address_has_so_many_places_and_others_have_theirs() {
        let turns = FairQueue::new(1);
        let mut places: Vec<QueuePlace> = (0..MAX_PER_ADDRESS).map(|_| turns.enter(source(1)).unwrap()).collect();
        assert_eq!(turns.enter(source(1)).unwrap_err(), TooMany);
        let other = turns.enter(source(2)).unwrap();
        places.pop();
        places.push(turns.enter(source(1)).unwrap());
        assert_eq!(turns.enter(source(1)).unwrap_err(), TooMany);
        drop((places, other));
        assert_eq!(turns.places.count(), 0);
    }

    #[test]
    fn whoever_goes_away_is_passed_over_and_takes_no_turn_along() {
        let turns = FairQueue::new(1);
        let place = turns.enter(source(1)).unwrap();
        let running = poll(pin!(place.turn())).unwrap();
        for _ in 0..1000 {
            assert!(poll(pin!(place.turn())).is_none());
        }
        assert_eq!(turns.state.lock().lines[0].1.len(), 1, "of those who have gone, the last");
        let mut given = Box::pin(place.turn());
        let mut next = Box::pin(place.turn());
        assert!(poll(given.as_mut()).is_none() && poll(next.as_mut()).is_none());
        drop(running);
        // It has been given the turn, and goes away before it looks.
        drop(given);
        drop(poll(next.as_mut()).unwrap());
        assert_eq!(turns.state.lock().running, 0);
    }
}
