//! What a client's task and its readers share, without locks where it is read.

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use syncline_core::client::Shown;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};

/// What a client's task and its readers share.
pub(crate) struct Shared {
    shown: ArcSwap<Shown>,
    begun: Instant,
    /// When the last MARK came, in milliseconds since then.
    marked: AtomicU64,
    bells: Mutex<Vec<mpsc::Sender<()>>>,
    /// Somebody wants to know what others write.
    follows: AtomicBool,
    /// That this was said.
    asked_to_follow: Notify,
    /// Why there is no connection.
    trouble: Mutex<Option<String>>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            shown: ArcSwap::from_pointee(Shown::default()),
            begun: Instant::now(),
            marked: AtomicU64::new(0),
            bells: Mutex::default(),
            follows: AtomicBool::new(false),
            asked_to_follow: Notify::new(),
            trouble: Mutex::default(),
        }
    }

    /// What is shown, for one look.
    pub(crate) fn look(&self) -> arc_swap::Guard<Arc<Shown>> {
        self.shown.load()
    }

    /// What is shown, to be kept.
    pub(crate) fn shown(&self) -> Arc<Shown> {
        self.shown.load_full()
    }

    /// Shows something else, and rings all bells.
    pub(crate) fn show(&self, shown: Shown) {
        self.shown.store(Arc::new(shown));
        // A bell that has rung already need not ring again; one whose ear is gone goes too.
        self.bells.lock().retain(|bell| !matches!(bell.try_send(()), Err(TrySendError::Closed(()))));
    }

    /// Rings whenever something else is shown, and may ring once too often.
    pub(crate) fn bell(&self) -> mpsc::Receiver<()> {
        let (bell, ear) = mpsc::channel(1);
        self.bells.lock().push(bell);
        ear
    }

    /// A MARK has come.
    pub(crate) fn marked(&self) {
        let since = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.marked.store(since, Ordering::Relaxed);
    }

    /// How long ago the last MARK came.
    pub(crate) fn since_mark(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.marked.load(Ordering::Relaxed)))
    }

    /// Asks the task to follow what others write.
    pub(crate) fn follow(&self) {
        if !self.follows.swap(true, Ordering::AcqRel) {
            self.asked_to_follow.notify_one();
        }
    }

    pub(crate) fn follows(&self) -> bool {
        self.follows.load(Ordering::Acquire)
    }

    /// Says why there is no connection; `None`: there is one.
    pub(crate) fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock() = trouble;
    }

    /// Why there is no connection, where there is none.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// Waits until somebody [asks to follow](Self::follow).
    pub(crate) async fn asked_to_follow(&self) {
        self.asked_to_follow.notified().await;
    }
}
