//! Gates that give other tasks priority over connections with a large backlog, and over new connections.
//!
//! Example: ten thousand watchers reconnect at once. The runtime runs ready tasks in their order, regardless of how long each
//! takes. To read and send one page takes as long as to answer many GETs. Without a gate, every other connection would wait
//! for seconds.
//!
//! So a connection needs a permit of a gate to send a large backlog. At most half of the runtime's threads, but at least
//! one, send backlogs at the same time. A new connection needs a permit of a second gate for its first request.
//!
//! A permit is granted only after the tasks that are ready at that time have run, or after as many of them as the runtime
//! polls in one round. So other tasks come first, and yet the gate makes progress under any load.
//!
//! A permit to send covers one page, one write, or both. If the socket does not accept everything, the rest needs the next
//! permit.

use crate::notify::Notify;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::yield_now;

/// The number of new connections that are accepted, or whose first request is handled, before ready tasks run.
pub(crate) const MAX_ARRIVALS: u8 = 8;

/// Grants a limited number of permits at once, in the order in which connections ask for them.
#[derive(Clone, Debug)]
pub(crate) struct PriorityGate(Arc<Semaphore>);

impl PriorityGate {
    fn new(permits: usize) -> Self {
        Self(Arc::new(Semaphore::new(permits)))
    }

    /// Creates the gate for connections that send a large backlog.
    ///
    /// # Panics
    /// Panics outside a runtime.
    pub(crate) fn for_sends() -> Self {
        Self::new((Handle::current().metrics().num_workers() / 2).max(1))
    }

    /// Creates the gate for new connections.
    pub(crate) fn for_arrivals() -> Self {
        Self::new(MAX_ARRIVALS.into())
    }
}

/// The permit of a connection, or its request for one.
#[derive(Default)]
pub(crate) enum GatePermit {
    /// It has not requested a permit.
    #[default]
    None,
    /// It waits for a permit.
    Waiting(Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>),
    /// It holds a permit until this is dropped.
    Held { _permit: OwnedSemaphorePermit },
}

impl GatePermit {
    /// Polls for a permit, and requests one first if necessary. Ready when the connection holds a permit.
    pub(crate) fn poll_acquire(&mut self, gate: &PriorityGate, context: &mut Context<'_>) -> Poll<()> {
        if matches!(self, Self::None) {
            let permits = gate.0.clone();
            *self = Self::Waiting(Box::pin(async move {
                match permits.acquire_owned().await {
                    Ok(permit) => {
                        // Also if a permit was free: the ready tasks come first in any case.
                        yield_to_ready_tasks().await;
                        permit
                    }
                    // Cannot happen: the semaphore is never closed.
                    Err(_) => std::future::pending().await,
                }
            }));
        }
        if let Self::Waiting(acquiring) = self {
            let permit = ready!(acquiring.as_mut().poll(context));
            *self = Self::Held { _permit: permit };
        }
        Poll::Ready(())
    }

    /// Returns whether the connection holds a permit.
    pub(crate) const fn is_taken(&self) -> bool {
        matches!(self, Self::Held { .. })
    }

    /// Returns the permit to the gate, if the connection holds one. A pending request stays.
    pub(crate) fn release(&mut self) {
        if self.is_taken() {
            *self = Self::None;
        }
    }

    /// Returns whether the connection waits for a permit.
    pub(crate) const fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting(_))
    }
}

/// Completes after the tasks that are ready now have run, or as many of them as the runtime polls in one round.
async fn yield_to_ready_tasks() {
    let notify = Arc::new(Notify::default());
    let waker = Waker::from(notify.clone());
    // Polled only once: a second poll would complete it, even if no other task has run, and a connection is polled at every
    // event.
    let _ = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
    poll_fn(|context| if notify.notified(context) { Poll::Ready(()) } else { Poll::Pending }).await;
}

#[cfg(test)]
mod tests;
