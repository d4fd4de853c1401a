//! A well-behaved client beside an attack. It writes a key of its own, reads it, and checks each response.
//!
//! It has a thread and a connection of its own, so that only the server and the shared processors can delay it.

use super::connection::{Connection, RESPONSE_TIMEOUT, Target};
use super::error::AttackError;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use syncline_wire::{Message, Tag, Version};
use tokio::time::{sleep, timeout};

/// The key that only the bystander writes.
const KEY: &str = "bystander";

/// The longest latency that histograms record, in nanoseconds. Longer ones count as this one.
const MAX_LATENCY: u64 = 60_000_000_000;

/// The interval at which the end of a window is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The latencies of a bystander during a period.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// The latencies of durable writes, in nanoseconds.
    pub(super) puts: Histogram<u64>,
    /// The latencies of reads, in nanoseconds.
    pub(super) gets: Histogram<u64>,
}

impl Window {
    fn new() -> Result<Self, AttackError> {
        let histogram = || {
            Histogram::new_with_bounds(1, MAX_LATENCY, 3).map_err(|error| AttackError::unexpected("a histogram", error))
        };
        Ok(Self { puts: histogram()?, gets: histogram()? })
    }
}

#[derive(Default)]
struct Shared {
    window: Mutex<Option<Window>>,
    error: Mutex<Option<String>>,
    stopped: AtomicBool,
    /// The number of write and read pairs that succeeded.
    served: AtomicU64,
}

/// A well-behaved client. It stops when this is dropped.
pub(super) struct Bystander {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Bystander {
    /// Starts a client that writes and reads.
    pub(super) fn start(target: &Target) -> Result<Self, AttackError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (shared, target) = (Arc::new(Shared::default()), target.uncounted());
        let own = shared.clone();
        let thread = thread::Builder::new().name("bystander".into()).spawn(move || {
            if let Err(error) = runtime.block_on(write_and_read(&target, &own)) {
                *own.error.lock() = Some(error.to_string());
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Returns the latencies of a period: at least `time`, until `done` returns `true`, and with at least one read.
    /// Calls `poll` at regular intervals.
    pub(super) async fn observe(
        &self,
        time: Duration,
        done: impl Fn() -> bool,
        mut poll: impl FnMut(),
    ) -> Result<Window, AttackError> {
        *self.shared.window.lock() = Some(Window::new()?);
        let started = Instant::now();
        loop {
            sleep(POLL_INTERVAL).await;
            poll();
            let is_served = self.shared.window.lock().as_ref().is_some_and(|window| !window.gets.is_empty());
            if self.error().is_some() || (started.elapsed() >= time && done() && is_served) {
                let window = self.shared.window.lock().take();
                return window.ok_or_else(|| AttackError::unexpected("a window", "none"));
            }
        }
    }

    /// Returns why the client has failed, if it has.
    pub(super) fn error(&self) -> Option<String> {
        self.shared.error.lock().clone()
    }

    /// Returns the number of write and read pairs that succeeded.
    pub(super) fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends within the response timeout. `error` has reported its errors.
            let _ = thread.join();
        }
    }
}

async fn write_and_read(target: &Target, shared: &Shared) -> Result<(), AttackError> {
    let mut connection = target.connect_with_hello().await?;
    let mut version = 0;
    while !shared.stopped.load(Ordering::Relaxed) {
        version += 1;
        let put = |tag| Message::put(tag, KEY, format!("{version:064}"), Version::new(version));
        let written = ask(&mut connection, &put(Tag::new(1)), &put(Tag::new(1))).await?;
        let read = ask(&mut connection, &Message::get(Tag::new(2), KEY), &put(Tag::new(2))).await?;
        shared.served.fetch_add(1, Ordering::Relaxed);
        if let Some(window) = shared.window.lock().as_mut() {
            window.puts.saturating_record(written);
            window.gets.saturating_record(read);
        }
    }
    Ok(())
}

/// Sends a request, expects exactly this response, and returns the latency in nanoseconds.
async fn ask(connection: &mut Connection, request: &Message, expected: &Message) -> Result<u64, AttackError> {
    let started = Instant::now();
    let found = timeout(RESPONSE_TIMEOUT, connection.request(request)).await;
    let found = found
        .map_err(|_| AttackError::unexpected("a response", format_args!("none within {RESPONSE_TIMEOUT:?}")))??;
    if found != *expected {
        return Err(AttackError::unexpected(format_args!("{}", expected.redacted()), found.redacted()));
    }
    Ok(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX))
}
