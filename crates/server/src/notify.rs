//! Wakes a task when there is work for it.

use atomic_waker::AtomicWaker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake};

/// A notification for one task, which any thread can send. Several notifications before the task runs count as one.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    pending: AtomicBool,
    waker: AtomicWaker,
}

impl Notify {
    /// Wakes the task now, or as soon as it calls [`notified`](Self::notified).
    pub(crate) fn notify(&self) {
        // If a notification is pending, the task was woken for it and has yet to take it.
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Takes the pending notification, and returns whether there was one. Registers the task of `context` to be woken by
    /// the next.
    pub(crate) fn notified(&self, context: &Context<'_>) -> bool {
        self.waker.register(context.waker());
        self.pending.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Notify {
    fn wake(self: Arc<Self>) {
        self.notify();
    }
}
