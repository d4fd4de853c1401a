//! The input budget: it bounds the memory of all large, partly received requests together.
//!
//! Example: with a budget of 256 MiB and transactions of at most 1 MiB, about 256 connections can be in the middle of a
//! large transaction at once. Further ones wait.
//!
//! Every connection has a small budget of its own, [`OWN`], so that small requests never wait. Before the server reads more
//! than that of a frame, the connection needs a permit for the longest frame that it can be. It acquires the whole permit at
//! once, so two connections never wait for each other with half a permit each. Until it has the permit, the server does not
//! read from it. Permits are granted in the order of the requests for them.
//!
//! ```text
//!          a frame is longer than OWN           permit granted          the frame is complete
//!   Own ──────────────────────────────▶ Waiting ──────────────▶ Shared ──────────────────────▶ Own
//!                                          │                      │
//!                                          │ MAX_WAIT             │ TRANSFER_TIMEOUT, and another connection waits
//!                                          ▼                      ▼
//!                                       InputTimeout: the connection is sent the reason, and ends
//! ```
//!
//! A slow connection keeps its permit as long as no other connection needs it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The budget of each connection alone, in bytes.
pub(crate) const OWN: usize = 32 * 1024;

/// How long a connection waits for a permit.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// How long the transfer of a large frame may take while other connections wait for a permit.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(10);

/// An error: a connection with a large request ends, because a time limit has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum InputTimeout {
    /// It was not granted a permit.
    #[error("too many large requests at once; try again later")]
    Busy,
    /// It did not send the rest of the request.
    #[error("expected all of a large request within {TRANSFER_TIMEOUT:?} while others wait, found a part")]
    Slow,
}

/// The budget that all connections share.
#[derive(Debug)]
pub(crate) struct InputBudget {
    /// One permit of the semaphore is one byte.
    available: Arc<Semaphore>,
    /// The number of connections that wait for a permit.
    waiting: AtomicUsize,
}

impl InputBudget {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        let available = Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { available, waiting: AtomicUsize::new(0) })
    }

    /// Acquires a permit for this many bytes, or starts to wait for it.
    fn acquire(self: &Arc<Self>, bytes: usize) -> InputPermit {
        // Never saturates, because frames are shorter.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let now = Instant::now();
        match self.available.clone().try_acquire_many_owned(bytes) {
            Ok(permit) => InputPermit::Shared { _permit: permit, deadline: now + TRANSFER_TIMEOUT },
            Err(_) => {
                let available = self.available.clone();
                let acquiring = async move {
                    match available.acquire_many_owned(bytes).await {
                        Ok(permit) => permit,
                        // Cannot happen: the semaphore is never closed.
                        Err(_) => std::future::pending().await,
                    }
                };
                InputPermit::Waiting {
                    acquiring: Box::pin(acquiring),
                    deadline: now + MAX_WAIT,
                    _counted: CountedWaiter::new(self),
                }
            }
        }
    }
}

/// Counts a connection as waiting until it is dropped.
#[derive(Debug)]
pub(crate) struct CountedWaiter(Arc<InputBudget>);

impl CountedWaiter {
    fn new(budget: &Arc<InputBudget>) -> Self {
        budget.waiting.fetch_add(1, Ordering::Relaxed);
        Self(budget.clone())
    }
}

impl Drop for CountedWaiter {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The permit of a connection for the frame that it receives.
#[derive(Default)]
pub(crate) enum InputPermit {
    /// Its own budget.
    #[default]
    Own,
    /// Its own budget, while it waits for a permit.
    Waiting {
        /// Resolves to the permit.
        acquiring: Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>,
        /// When the wait ends.
        deadline: Instant,
        /// Shows other connections that this one waits.
        _counted: CountedWaiter,
    },
    /// A permit for the longest frame that it can be.
    Shared {
        /// Returned to the budget when it is dropped.
        _permit: OwnedSemaphorePermit,
        /// When the frame must be complete.
        deadline: Instant,
    },
}

impl InputPermit {
    /// Requests a permit for `longest` bytes, if the `expected` bytes of a frame exceed the connection's own budget.
    pub(crate) fn request(&mut self, budget: &Arc<InputBudget>, expected: usize, longest: usize) {
        if expected > OWN && matches!(self, Self::Own) {
            *self = budget.acquire(longest);
        }
    }

    /// Polls for the requested permit, and returns whether it was granted just now. While it waits, the task of `context`
    /// is woken to poll again.
    pub(crate) fn poll_granted(&mut self, context: &mut Context<'_>) -> bool {
        let Self::Waiting { acquiring, .. } = self else { return false };
        let Poll::Ready(permit) = acquiring.as_mut().poll(context) else { return false };
        *self = Self::Shared { _permit: permit, deadline: Instant::now() + TRANSFER_TIMEOUT };
        true
    }

    /// Returns when to call [`handle_deadline`](Self::handle_deadline), if ever.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Own => None,
            Self::Waiting { deadline, .. } | Self::Shared { deadline, .. } => Some(*deadline),
        }
    }

    /// Handles the end of the time limit. Returns why the connection must end, or `None` if it may continue.
    pub(crate) fn handle_deadline(&mut self, budget: &InputBudget) -> Option<InputTimeout> {
        match self {
            Self::Own => None,
            Self::Waiting { .. } => Some(InputTimeout::Busy),
            Self::Shared { .. } if budget.waiting.load(Ordering::Relaxed) > 0 => Some(InputTimeout::Slow),
            Self::Shared { deadline, .. } => {
                *deadline = Instant::now() + TRANSFER_TIMEOUT;
                None
            }
        }
    }
}

impl fmt::Debug for InputPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "Own",
            Self::Waiting { .. } => "Waiting",
            Self::Shared { .. } => "Shared",
        })
    }
}

#[cfg(test)]
mod tests;
