//! InputPermit for requests that come in: what large ones of all connections take together is bounded.
//!
//! Every connection has some room of its own, [`OWN`], so that nobody who asks for little waits for anybody. Before more
//! than that is read of a frame, there must be room for the longest frame that it can be in what all connections share. It
//! is taken at once and as a whole: so no two wait for each other, each with a half of what it needs. Until then the
//! connection is not read from; those who wait are served in their order.
//!
//! ```text
//!          a frame is longer than OWN         there is room         the frame was taken
//!   Own ──────────────────────────────▶ Waits ────────────▶ Shared ──────────────────────▶ Own
//!                                         │                   │
//!                                         │ WAIT              │ WITHIN, and somebody waits
//!                                         ▼                   ▼
//!                                      InputTimeout: the connection ends, and is told why
//! ```
//!
//! Who is slow is not ended while nobody needs its room.

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

/// The room for input that each connection has of its own.
pub(crate) const OWN: usize = 32 * 1024;

/// How long a connection waits for room.
const WAIT: Duration = Duration::from_secs(30);

/// How long a large frame may take to come, where somebody waits for its room.
const WITHIN: Duration = Duration::from_secs(10);

/// Why a connection ends whose request is large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum InputTimeout {
    /// There was no room for it.
    #[error("too many large requests at once; try again later")]
    Busy,
    /// It did not come.
    #[error("expected all of a large request within {WITHIN:?} while others wait, found a part")]
    Slow,
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct InputBudget {
    /// A permit is a byte.
    free: Arc<Semaphore>,
    /// How many wait for some.
    waiting: AtomicUsize,
}

impl InputBudget {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { free, waiting: AtomicUsize::new(0) })
    }

    /// Takes so much of it, or begins to wait for that.
    fn take(self: &Arc<Self>, bytes: usize) -> InputPermit {
        // Frames are shorter than that.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let now = Instant::now();
        match self.free.clone().try_acquire_many_owned(bytes) {
            Ok(taken) => InputPermit::Shared { _taken: taken, until: now + WITHIN },
            Err(_) => {
                let free = self.free.clone();
                let taking = async move {
                    match free.acquire_many_owned(bytes).await {
                        Ok(taken) => taken,
                        // Never: nobody closes it.
                        Err(_) => std::future::pending().await,
                    }
                };
                InputPermit::Waits { taking: Box::pin(taking), until: now + WAIT, _waiting: Waiting::begin(self) }
            }
        }
    }
}

/// Somebody waits for as long as it is there.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<InputBudget>);

impl Waiting {
    fn begin(shared: &Arc<InputBudget>) -> Self {
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        Self(shared.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The room that a connection has for the frame that comes in.
#[derive(Default)]
pub(crate) enum InputPermit {
    /// Its own.
    #[default]
    Own,
    /// Its own, and it waits for more.
    Waits {
        /// What it waits for.
        taking: Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>,
        /// How long.
        until: Instant,
        /// Others can see that it does.
        _waiting: Waiting,
    },
    /// As much as the frame can need.
    Shared {
        /// Given back when it is dropped.
        _taken: OwnedSemaphorePermit,
        /// When the frame is to be there.
        until: Instant,
    },
}

impl InputPermit {
    /// A frame comes in of which so many bytes are expected by now, and which has so many at the longest: asks for room where
    /// its own is not enough.
    pub(crate) fn ask(&mut self, shared: &Arc<InputBudget>, expected: usize, longest: usize) {
        if expected > OWN && matches!(self, Self::Own) {
            *self = shared.take(longest);
        }
    }

    /// Whether it has just got what it has asked for; where it waits, it is to be asked again.
    pub(crate) fn is_given(&mut self, context: &mut Context<'_>) -> bool {
        let Self::Waits { taking, .. } = self else { return false };
        let Poll::Ready(taken) = taking.as_mut().poll(context) else { return false };
        *self = Self::Shared { _taken: taken, until: Instant::now() + WITHIN };
        true
    }

    /// Until when this may go on; then it may be [overdue](Self::overdue).
    pub(crate) const fn until(&self) -> Option<Instant> {
        match self {
            Self::Own => None,
            Self::Waits { until, .. } | Self::Shared { until, .. } => Some(*until),
        }
    }

    /// What is to be said of it when its time is over; nothing where it may go on.
    pub(crate) fn overdue(&mut self, shared: &InputBudget) -> Option<InputTimeout> {
        match self {
            Self::Own => None,
            Self::Waits { .. } => Some(InputTimeout::Busy),
            Self::Shared { .. } if shared.waiting.load(Ordering::Relaxed) > 0 => Some(InputTimeout::Slow),
            Self::Shared { until, .. } => {
                *until = Instant::now() + WITHIN;
                None
            }
        }
    }
}

impl fmt::Debug for InputPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "Own",
            Self::Waits { .. } => "Waits",
            Self::Shared { .. } => "Shared",
        })
    }
}

#[cfg(test)]
mod tests;
