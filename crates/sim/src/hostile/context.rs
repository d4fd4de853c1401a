//! The context of an attack: its target, its progress, and when it must stop.

use super::connection::{Connection, Target, as_u64};
use super::error::AttackError;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How much an attack does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// All of it, as measured for `docs/hostile.md`.
    Full,
    /// Enough to check the bounds in the time of a test.
    Short,
}

impl Scale {
    /// Returns the number for this scale.
    pub(super) const fn of(self, full: usize, short: usize) -> usize {
        match self {
            Self::Full => full,
            Self::Short => short,
        }
    }
}

/// The context of one attack, which all its connections share.
pub(super) struct AttackContext {
    pub(super) target: Target,
    pub(super) scale: Scale,
    stop: watch::Sender<bool>,
    complete: AtomicBool,
    notes: parking_lot::Mutex<Vec<String>>,
}

impl AttackContext {
    pub(super) fn new(target: Target, scale: Scale) -> Arc<Self> {
        let (stop, complete) = (watch::Sender::new(false), AtomicBool::new(false));
        Arc::new(Self { target, scale, stop, complete, notes: parking_lot::Mutex::default() })
    }

    /// Reports that the attack has reached its full extent once. It may be stopped from now on.
    pub(super) fn report_complete(&self) {
        self.complete.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    /// Returns the numbers of repetitions: at least `least` of them, and then more until the attack must stop.
    pub(super) fn repeat(&self, least: usize) -> impl Iterator<Item = usize> + Send {
        (0..).take_while(move |done| {
            if *done == least {
                self.report_complete();
            }
            *done < least || !self.is_stopped()
        })
    }

    /// Tells the attack to stop.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits for [`AttackContext::stop`].
    pub(super) async fn stopped(&self) {
        let _ = self.stop.subscribe().wait_for(|is_stopped| *is_stopped).await;
    }

    /// Runs work until the attack must stop. Errors before that are returned.
    pub(super) async fn run_until_stopped<T, E: Into<AttackError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<(), AttackError> {
        tokio::select! {
            done = work => done.map(drop).map_err(Into::into),
            () = self.stopped() => Ok(()),
        }
    }

    /// Adds a note to the report.
    pub(super) fn note(&self, text: String) {
        self.notes.lock().push(text);
    }

    pub(super) fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock())
    }

    /// Opens `count` extended connections.
    pub(super) async fn connect_many(&self, count: usize) -> Result<Vec<Connection>, AttackError> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(self.target.connect_with_hello().await?);
        }
        Ok(connections)
    }

    /// Runs work `times` times concurrently, and waits until all of it is done.
    pub(super) async fn run_concurrently<F>(
        self: &Arc<Self>,
        times: usize,
        work: impl Fn(Arc<Self>, usize) -> F,
    ) -> Result<(), AttackError>
    where
        F: Future<Output = Result<(), AttackError>> + Send + 'static,
    {
        let mut all = JoinSet::new();
        for number in 0..times {
            all.spawn(work(self.clone(), number));
        }
        while let Some(ended) = all.join_next().await {
            ended.map_err(|error| AttackError::unexpected("an attacker that does not panic", error))??;
        }
        Ok(())
    }
}

/// What limits an attack, and the memory that follows from the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The name of the setting or constant.
    pub name: String,
    /// Its value.
    pub value: String,
    /// The memory that follows from it, in bytes, in addition to the memory before the attack.
    pub memory: u64,
    /// The maximum of open files, in addition to those before any connection.
    pub files: Option<u64>,
}

impl Bound {
    /// Makes a bound of `times` things of `bytes` each.
    pub(super) fn new(name: &str, value: impl std::fmt::Display, times: usize, bytes: usize) -> Self {
        let memory = as_u64(times).saturating_mul(as_u64(bytes));
        Self { name: name.into(), value: value.to_string(), memory, files: None }
    }

    /// Adds bytes to the bound.
    pub(super) fn plus(mut self, bytes: usize) -> Self {
        self.memory += as_u64(bytes);
        self
    }

    /// Sets the maximum of open files.
    pub(super) fn files(mut self, files: usize) -> Self {
        self.files = Some(as_u64(files));
        self
    }

    /// Returns by how much a server that respects the bound may grow. Half is added, because buffer capacities are
    /// rounded up and an allocator does not return freed memory at once. The growth under normal load is added as well.
    pub(super) fn max_growth(&self) -> u64 {
        self.memory + self.memory / 2 + NORMAL_GROWTH
    }
}

/// By how much a server grows under normal load: the allocator's arenas per thread, the recent log, the store's files.
const NORMAL_GROWTH: u64 = 8 * 1024 * 1024;
