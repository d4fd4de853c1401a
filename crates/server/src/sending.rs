//! Turns to send much: how many connections do so at once is bounded.
//!
//! The runtime runs what is ready in its order, whatever it takes. Who reads a page of the store and sends it takes as long as
//! many who are answered a GET: ten thousand watchers that come back at once would keep everybody else waiting for seconds.
//! So who has much to send stands in a line of its own, and at most half of the runtime's threads work for that line.
//!
//! A turn is one page, one write, or both: what the socket does not take waits for the next.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// More bytes than this wait for a turn.
pub(crate) const MUCH: usize = 64 * 1024;

/// The turns of all connections.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Turns {
    /// As this runtime has threads for.
    ///
    /// # Panics
    /// Outside a runtime.
    pub(crate) fn of_runtime() -> Self {
        let at_once = (Handle::current().metrics().num_workers() / 2).max(1);
        Self(Arc::new(Semaphore::new(at_once)))
    }
}

/// Whether it is a connection's turn.
#[derive(Default)]
pub(crate) enum Turn {
    /// It has not asked for one.
    #[default]
    None,
    /// It stands in the line.
    Waits(Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>),
    /// It is, until this is dropped.
    Taken { _permit: OwnedSemaphorePermit },
}

impl Turn {
    /// Takes a turn where nobody else waits for one; answers whether it has one.
    pub(crate) fn try_take(&mut self, turns: &Turns) -> bool {
        if matches!(self, Self::None)
            && let Ok(permit) = turns.0.clone().try_acquire_owned()
        {
            *self = Self::Taken { _permit: permit };
        }
        matches!(self, Self::Taken { .. })
    }

    /// Ready when it is its turn; until then it stands in the line.
    pub(crate) fn poll(&mut self, turns: &Turns, context: &mut Context<'_>) -> Poll<()> {
        if self.try_take(turns) {
            return Poll::Ready(());
        }
        if matches!(self, Self::None) {
            let turns = turns.0.clone();
            *self = Self::Waits(Box::pin(async move {
                match turns.acquire_owned().await {
                    Ok(permit) => permit,
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

    /// Others have theirs, where it has its own.
    pub(crate) fn give_back(&mut self) {
        if matches!(self, Self::Taken { .. }) {
            *self = Self::None;
        }
    }

    /// Whether it stands in the line.
    pub(crate) const fn waits(&self) -> bool {
        matches!(self, Self::Waits(_))
    }
}

#[cfg(test)]
mod tests;
