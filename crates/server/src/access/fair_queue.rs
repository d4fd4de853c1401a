//! Decides which password is verified next.
//!
//! Few verifications run at once, because each takes much memory and time. Every address has a queue of its own, and the
//! queues are served in rotation. So an address that floods the server delays only itself.

use super::per_source_limit::{LimitReached, PerSourceLimit, SourcePermit};
use super::source::Source;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::oneshot;

/// The number of authorizations of one address that may be queued, running, or delayed at once.
pub(super) const MAX_PER_ADDRESS: usize = 8;

/// An error: an address has as many authorizations at once as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("too many authorizations from your address at once; try again later")]
pub(crate) struct TooManyAuthorizations;

/// A queue that is fair between addresses.
#[derive(Debug)]
pub(super) struct FairQueue {
    pub(super) max_running: usize,
    /// Counts the authorizations of each address that are queued, running, or delayed.
    limit: Arc<PerSourceLimit>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// The queue of each address that has one. The address in front is served next. No queue is empty.
    queues: VecDeque<(Source, VecDeque<oneshot::Sender<RunPermit>>)>,
}

/// One of the authorizations that an address may have at once. Released when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    queue: Arc<FairQueue>,
    permit: SourcePermit,
}

/// The right to run. When it is dropped, it passes to the next in the queue.
#[derive(Debug)]
pub(super) struct RunPermit(Arc<FairQueue>);

impl FairQueue {
    pub(super) fn new(max_running: usize) -> Arc<Self> {
        // The total needs no limit here: the number of unauthenticated connections bounds it.
        let limit = PerSourceLimit::new(MAX_PER_ADDRESS);
        Arc::new(Self { max_running: max_running.max(1), limit, state: Mutex::default() })
    }

    /// Takes a slot of an address.
    ///
    /// # Errors
    /// Returns [`TooManyAuthorizations`] if the address holds [`MAX_PER_ADDRESS`] slots.
    pub(super) fn enter(self: &Arc<Self>, source: Source) -> Result<Slot, TooManyAuthorizations> {
        let permit = self.limit.acquire(source).map_err(|LimitReached| TooManyAuthorizations)?;
        Ok(Slot { queue: self.clone(), permit })
    }
}

impl Slot {
    /// Waits in the queue of its address until it may run.
    pub(super) async fn run_permit(&self) -> RunPermit {
        let receiver = {
            let mut state = self.queue.state.lock();
            if state.running < self.queue.max_running {
                state.running += 1;
                return RunPermit(self.queue.clone());
            }
            let (sender, receiver) = oneshot::channel();
            let own = self.permit.source();
            match state.queues.iter_mut().find(|(source, _)| *source == own) {
                Some((_, queue)) => {
                    // Removes the entries of cancelled waiters, so that they do not accumulate.
                    queue.retain(|waiting| !waiting.is_closed());
                    queue.push_back(sender);
                }
                None => state.queues.push_back((own, VecDeque::from([sender]))),
            }
            receiver
        };
        match receiver.await {
            Ok(permit) => permit,
            // Cannot happen: an entry is removed only to send it a permit, or because its receiver is closed.
            Err(_) => std::future::pending().await,
        }
    }
}

impl State {
    /// Removes and returns the next entry whose receiver still waits. Its address moves to the back.
    fn next(&mut self) -> Option<oneshot::Sender<RunPermit>> {
        while let Some((source, mut queue)) = self.queues.pop_front() {
            let next = queue.pop_front();
            if !queue.is_empty() {
                self.queues.push_back((source, queue));
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
        // If the receiver was closed just now, the permit is dropped with the message, and passes on from there.
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
    fn few_run_at_once_and_addresses_are_served_in_rotation() {
        let queue = FairQueue::new(1);
        let running = poll(pin!(queue.enter(source(9)).unwrap().run_permit())).unwrap();
        let slots: Vec<Slot> = [1, 1, 1, 2, 3, 3].map(|number| queue.enter(source(number)).unwrap()).into();
        let mut waiting: Vec<_> = slots.iter().map(|slot| Box::pin(slot.run_permit())).collect();
        assert!(waiting.iter_mut().all(|permit| poll(permit.as_mut()).is_none()));
        let mut order = Vec::new();
        let mut held = Some(running);
        while let Some(ended) = held.take() {
            drop(ended);
            for (number, waiter) in waiting.iter_mut().enumerate() {
                if !order.contains(&number)
                    && let Some(permit) = poll(waiter.as_mut())
                {
                    order.push(number);
                    assert!(held.replace(permit).is_none(), "one at a time");
                }
            }
        }
        assert_eq!(order, [0, 3, 4, 1, 5, 2], "addresses 1, 2, 3, then 1 and 3 again");
        assert_eq!(queue.state.lock().running, 0);
    }

    #[test]
    fn slots_are_limited_per_address() {
        let queue = FairQueue::new(1);
        let mut slots: Vec<Slot> = (0..MAX_PER_ADDRESS).map(|_| queue.enter(source(1)).unwrap()).collect();
        assert_eq!(queue.enter(source(1)).unwrap_err(), TooManyAuthorizations);
        let other = queue.enter(source(2)).unwrap();
        slots.pop();
        slots.push(queue.enter(source(1)).unwrap());
        assert_eq!(queue.enter(source(1)).unwrap_err(), TooManyAuthorizations);
        drop((slots, other));
        assert_eq!(queue.limit.count(), 0);
    }

    #[test]
    fn cancelled_waiters_are_skipped_and_keep_no_permit() {
        let queue = FairQueue::new(1);
        let slot = queue.enter(source(1)).unwrap();
        let running = poll(pin!(slot.run_permit())).unwrap();
        for _ in 0..1000 {
            assert!(poll(pin!(slot.run_permit())).is_none());
        }
        assert_eq!(queue.state.lock().queues[0].1.len(), 1, "only the last cancelled waiter is left");
        let mut given = Box::pin(slot.run_permit());
        let mut next = Box::pin(slot.run_permit());
        assert!(poll(given.as_mut()).is_none() && poll(next.as_mut()).is_none());
        drop(running);
        // The first waiter has been sent the permit, and is cancelled before it receives it.
        drop(given);
        drop(poll(next.as_mut()).unwrap());
        assert_eq!(queue.state.lock().running, 0);
    }
}
