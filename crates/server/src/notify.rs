//! Wakes the task of a connection: something has happened that it should look at.

use atomic_waker::AtomicWaker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake};

/// Rung by anybody, heard by one task. Rung many times before it is heard, it is heard once.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    pending: AtomicBool,
    waker: AtomicWaker,
}

impl Notify {
    /// Wakes the task, now or as soon as it listens.
    pub(crate) fn notify(&self) {
        // Whoever rings while it is still pending needs to do no more: the task has yet to hear the first.
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Whether it was pending since it was heard last; the task of `context` is woken when it is pending after this.
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
