//! The state that the client's task shares with handles and readers. Reading the views takes no lock.

use crate::error::RequestError;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use syncline_core::client::Views;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};

/// The state that the client's task shares with handles and readers.
pub(crate) struct Shared {
    views: ArcSwap<Views>,
    created: Instant,
    /// When the last MARK was received, in milliseconds since `created`.
    last_mark: AtomicU64,
    /// One channel for each waiting replica handle. It holds at most one wake-up.
    wakers: Mutex<Vec<mpsc::Sender<()>>>,
    /// Whether a handle wants the writes of other connections.
    follows: AtomicBool,
    /// Wakes the task when `follows` is set.
    follow_requested: Notify,
    /// Why there is no connection.
    connect_error: Mutex<Option<String>>,
    /// Why the client has given up.
    given_up: OnceLock<RequestError>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            views: ArcSwap::from_pointee(Views::default()),
            created: Instant::now(),
            last_mark: AtomicU64::new(0),
            wakers: Mutex::default(),
            follows: AtomicBool::new(false),
            follow_requested: Notify::new(),
            connect_error: Mutex::default(),
            given_up: OnceLock::new(),
        }
    }

    /// Returns the current views for a short read. This is cheaper than [`views`](Self::views).
    pub(crate) fn peek(&self) -> arc_swap::Guard<Arc<Views>> {
        self.views.load()
    }

    /// Returns the current views.
    pub(crate) fn views(&self) -> Arc<Views> {
        self.views.load_full()
    }

    /// Replaces the views, and wakes all subscribers.
    pub(crate) fn publish(&self, views: Views) {
        self.views.store(Arc::new(views));
        // A full channel holds a wake-up already. A closed one belongs to a handle that was dropped.
        self.wakers.lock().retain(|waker| !matches!(waker.try_send(()), Err(TrySendError::Closed(()))));
    }

    /// Returns a channel that receives a wake-up whenever the views are replaced. Wake-ups may be spurious.
    /// The channel is closed when the client has given up.
    pub(crate) fn subscribe(&self) -> mpsc::Receiver<()> {
        let (waker, wakeups) = mpsc::channel(1);
        let mut wakers = self.wakers.lock();
        if self.given_up().is_none() {
            wakers.push(waker);
        }
        wakeups
    }

    /// Records that a MARK was received.
    pub(crate) fn mark_received(&self) {
        let since = u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_mark.store(since, Ordering::Relaxed);
    }

    /// Returns the time since the last MARK was received.
    pub(crate) fn since_mark(&self) -> Duration {
        self.created.elapsed().saturating_sub(Duration::from_millis(self.last_mark.load(Ordering::Relaxed)))
    }

    /// Requests the writes of other connections from the task.
    pub(crate) fn follow(&self) {
        if !self.follows.swap(true, Ordering::AcqRel) {
            self.follow_requested.notify_one();
        }
    }

    pub(crate) fn follows(&self) -> bool {
        self.follows.load(Ordering::Acquire)
    }

    /// Waits for a call of [`follow`](Self::follow).
    pub(crate) async fn follow_requested(&self) {
        self.follow_requested.notified().await;
    }

    /// Records why there is no connection; `None` means that there is one.
    pub(crate) fn set_connect_error(&self, error: Option<String>) {
        *self.connect_error.lock() = error;
    }

    /// Returns why there is no connection, or `None` if there is one.
    pub(crate) fn connect_error(&self) -> Option<String> {
        self.connect_error.lock().clone()
    }

    /// Records why the client has given up, and closes the channels of all subscribers.
    pub(crate) fn give_up(&self, error: RequestError) {
        // With the lock, so that no subscriber is added between the two steps.
        let mut wakers = self.wakers.lock();
        let _ = self.given_up.set(error);
        wakers.clear();
    }

    /// Returns why the client has given up, or `None` if it has not.
    pub(crate) fn given_up(&self) -> Option<&RequestError> {
        self.given_up.get()
    }
}
