//! A well-behaved client beside the attack: it writes a key of its own, reads it, and believes nothing.
//!
//! It has a thread and a connection of its own, so that what keeps it waiting is the server, or the processors that all
//! share.

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

/// The key that nobody else writes.
const KEY: &str = "bystander";

/// The longest latency that is told; longer ones count as this.
const MAX_LATENCY: u64 = 60_000_000_000;

/// How often it is looked whether a window may end.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// What a bystander has seen for a while.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// How long each durable write took, in nanoseconds.
    pub(super) puts: Histogram<u64>,
    /// And each read.
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
    fault: Mutex<Option<String>>,
    over: AtomicBool,
    /// How often it was served.
    served: AtomicU64,
}

/// A well-behaved client.
pub(super) struct Bystander {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Bystander {
    /// Starts one that writes and reads until it is dropped.
    pub(super) fn start(target: &Target) -> Result<Self, AttackError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (shared, target) = (Arc::new(Shared::default()), target.uncounted());
        let own = shared.clone();
        let thread = thread::Builder::new().name("bystander".into()).spawn(move || {
            if let Err(fault) = runtime.block_on(write_and_read(&target, &own)) {
                *own.fault.lock() = Some(fault.to_string());
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What it sees for so long, and until `done`, and until it was served at least once.
    pub(super) async fn observe(
        &self,
        time: Duration,
        done: impl Fn() -> bool,
        mut look: impl FnMut(),
    ) -> Result<Window, AttackError> {
        *self.shared.window.lock() = Some(Window::new()?);
        let begun = Instant::now();
        loop {
            sleep(POLL_INTERVAL).await;
            look();
            let is_served = self.shared.window.lock().as_ref().is_some_and(|window| !window.gets.is_empty());
            if self.fault().is_some() || (begun.elapsed() >= time && done() && is_served) {
                let window = self.shared.window.lock().take();
                return window.ok_or_else(|| AttackError::unexpected("a window", "none"));
            }
        }
    }

    /// What has gone wrong for it, if something has.
    pub(super) fn fault(&self) -> Option<String> {
        self.shared.fault.lock().clone()
    }

    /// How often it was served.
    pub(super) fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends within its patience; what it has found is told already.
            let _ = thread.join();
        }
    }
}

async fn write_and_read(target: &Target, shared: &Shared) -> Result<(), AttackError> {
    let mut connection = target.connect_with_hello().await?;
    let mut version = 0;
    while !shared.over.load(Ordering::Relaxed) {
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

/// Asks, expects exactly this answer, and answers how many nanoseconds that took.
async fn ask(connection: &mut Connection, request: &Message, expected: &Message) -> Result<u64, AttackError> {
    let begun = Instant::now();
    let found = timeout(RESPONSE_TIMEOUT, connection.request(request)).await;
    let found = found.map_err(|_| {
        AttackError::unexpected("to be served", format_args!("no answer within {RESPONSE_TIMEOUT:?}"))
    })??;
    if found != *expected {
        return Err(AttackError::unexpected(format_args!("{}", expected.redacted()), found.redacted()));
    }
    Ok(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX))
}
