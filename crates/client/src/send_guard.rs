//! Decides whether a request was sent when its caller's time limit expires.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Decides atomically between a caller that cancels a request and the connection task that sends it.
#[derive(Clone, Default)]
pub(crate) struct SendGuard(Arc<AtomicU8>);

const QUEUED: u8 = 0;
const SENT: u8 = 1;
const CANCELLED: u8 = 2;

/// The outcome of [`SendGuard::cancel`].
pub(crate) enum Cancelled {
    /// The request was not sent, and never will be.
    NotSent,
    /// The request was sent before.
    InFlight,
}

impl SendGuard {
    /// Cancels the request, unless it was sent.
    pub(crate) fn cancel(&self) -> Cancelled {
        match self.0.compare_exchange(QUEUED, CANCELLED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Cancelled::NotSent,
            Err(_) => Cancelled::InFlight,
        }
    }

    /// Claims the request for sending. Returns whether the task may send it.
    pub(crate) fn claim(&self) -> bool {
        self.0.compare_exchange(QUEUED, SENT, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Queues the request again, after it was lost with its connection.
    pub(crate) fn requeue(&self) {
        self.0.store(QUEUED, Ordering::Release);
    }
}
