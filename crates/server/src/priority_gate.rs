//! Lines in which connections wait that are less urgent than those that are ready.
//!
//! The runtime runs what is ready in its order, whatever it takes. Who reads a page of the store and sends it takes as long as
//! many who are answered a GET: ten thousand watchers that come back at once would keep everybody else waiting for seconds.
//! So who has much to send stands in a line, for which at most half of the runtime's threads work, or the only one, and so does
//! who has just come in, until its first request was done.
//!
//! Whose turn it is comes after those that are ready at that time, or after as many as the runtime does at once: a line gets on
//! beside any load.
//!
//! A turn to send is one page, one write, or both: what the socket does not take waits for the next.

use crate::notify::Notify;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::yield_now;

/// So many connections come in, or have their first request done, before those that are ready are served.
pub(crate) const ARRIVE_AT_ONCE: u8 = 8;

/// A line, and how many of those who stand in it have their turn at once.
#[derive(Clone, Debug)]
pub(crate) struct PriorityGate(Arc<Semaphore>);

impl PriorityGate {
    fn new(at_once: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_once)))
    }

    /// Of those who have much to send.
    ///
    /// # Panics
    /// Outside a runtime.
    pub(crate) fn to_send() -> Self {
        Self::new((Handle::current().metrics().num_workers() / 2).max(1))
    }

    /// Of those who have come in.
    pub(crate) fn to_arrive() -> Self {
        Self::new(ARRIVE_AT_ONCE.into())
    }
}

/// Whether it is a connection's turn.
#[derive(Default)]
pub(crate) enum GatePermit {
    /// It has not asked for one.
    #[default]
    None,
    /// It stands in the line.
    Waits(Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>),
    /// It is, until this is dropped.
    Taken { _permit: OwnedSemaphorePermit },
}

impl GatePermit {
    /// Ready when it is its turn; until then it stands in the line.
    pub(crate) fn poll(&mut self, line: &PriorityGate, context: &mut Context<'_>) -> Poll<()> {
        if matches!(self, Self::None) {
            let turns = line.0.clone();
            *self = Self::Waits(Box::pin(async move {
                match turns.acquire_owned().await {
                    Ok(permit) => {
                        // Even where nobody stands before it: those that are ready do.
                        others_are_served().await;
                        permit
                    }
                    // Never: nobody closes it.
                    Err(_) => std::future::pending().await,
                }
            }));
        }
        if let Self::Waits(waiting) = self {
            let permit = ready!(waiting.as_mut().poll(context));
            *self = Self::Taken { _permit: permit };
        }
        Poll::Ready(())
    }

    /// Whether it is its turn.
    pub(crate) const fn is_taken(&self) -> bool {
        matches!(self, Self::Taken { .. })
    }

    /// Others have theirs, where it has its own.
    pub(crate) fn give_back(&mut self) {
        if self.is_taken() {
            *self = Self::None;
        }
    }

    /// Whether it stands in the line.
    pub(crate) const fn waits(&self) -> bool {
        matches!(self, Self::Waits(_))
    }
}

/// Ready when those were served that are ready now, or as many of them as the runtime does at once.
async fn others_are_served() {
    let notify = Arc::new(Notify::default());
    let waker = Waker::from(notify.clone());
    // Asked once only: asked again, it is over, whoever was served meanwhile, and a connection asks whenever anything happens.
    let _ = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
    poll_fn(|context| if notify.notified(context) { Poll::Ready(()) } else { Poll::Pending }).await;
}

#[cfg(test)]
mod tests;
