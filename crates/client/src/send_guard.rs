//! Who has the last word on a request whose caller's time runs out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Settles between a caller whose time has run out and the connection's task whether a request was sent.
#[derive(Clone, Default)]
pub(crate) struct SendGuard(Arc<AtomicU8>);

const WAITING: u8 = 0;
const SENT: u8 = 1;
const WITHDRAWN: u8 = 2;

/// What a caller who withdraws a request learns of it.
pub(crate) enum Withdrawn {
    /// It was not sent, and never will be.
    NotSent,
    /// It is on its way.
    InFlight,
}

impl SendGuard {
    /// The caller waits no longer.
    pub(crate) fn withdraw(&self) -> Withdrawn {
        match self.0.compare_exchange(WAITING, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Withdrawn::NotSent,
            Err(_) => Withdrawn::InFlight,
        }
    }

    /// The task is about to send the request; it must not where this answers no.
    pub(crate) fn may_send(&self) -> bool {
        self.0.compare_exchange(WAITING, SENT, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The request was lost with its connection, and may be sent again.
    pub(crate) fn lost(&self) {
        self.0.store(WAITING, Ordering::Release);
    }
}
