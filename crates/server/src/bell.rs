//! Wakes the task of a connection: something has happened that it should look at.

use atomic_waker::AtomicWaker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake};

/// Rung by anybody, heard by one task. Rung many times before it is heard, it is heard once.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    waker: AtomicWaker,
}

impl Bell {
    /// Wakes the task, now or as soon as it listens.
    pub(crate) fn ring(&self) {
        // Whoever rings while it is still rung needs to do no more: the task has yet to hear the first.
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Whether it was rung since it was heard last; the task of `context` is woken when it is rung after this.
    pub(crate) fn heard(&self, context: &Context<'_>) -> bool {
        self.waker.register(context.waker());
        self.rung.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}
