//! What an attack has to work with, and what it is told.

use super::connection::{Connection, Target, as_u64};
use super::error::AttackError;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// All of it, for a table.
    Full,
    /// Enough to see that the bounds hold, in the time that a test has.
    Short,
}

impl Scale {
    /// The one of two numbers.
    pub(super) const fn of(self, full: usize, short: usize) -> usize {
        match self {
            Self::Full => full,
            Self::Short => short,
        }
    }
}

/// What an attack has to work with.
pub(super) struct AttackContext {
    pub(super) target: Target,
    pub(super) scale: Scale,
    over: watch::Sender<bool>,
    enough: AtomicBool,
    notes: parking_lot::Mutex<Vec<String>>,
}

impl AttackContext {
    pub(super) fn new(target: Target, scale: Scale) -> Arc<Self> {
        let (over, enough) = (watch::Sender::new(false), AtomicBool::new(false));
        Arc::new(Self { target, scale, over, enough, notes: parking_lot::Mutex::default() })
    }

    /// All that the attack is about has been there once: it may end from now on.
    pub(super) fn report_complete(&self) {
        self.enough.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_complete(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
    }

    /// Numbers what is done over and over: so many times at the least, and then on until the attack is to end.
    pub(super) fn repeat(&self, least: usize) -> impl Iterator<Item = usize> + Send {
        (0..).take_while(move |done| {
            if *done == least {
                self.report_complete();
            }
            *done < least || !self.is_stopped()
        })
    }

    /// The attack is to end.
    pub(super) fn stop(&self) {
        self.over.send_replace(true);
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.over.borrow()
    }

    /// Waits for [`AttackContext::end`].
    pub(super) async fn stopped(&self) {
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }

    /// Does something until the attack is to end; what fails before that has failed.
    pub(super) async fn run_until_stopped<T, E: Into<AttackError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<(), AttackError> {
        tokio::select! {
            done = work => done.map(drop).map_err(Into::into),
            () = self.stopped() => Ok(()),
        }
    }

    /// Says something for the table.
    pub(super) fn note(&self, said: String) {
        self.notes.lock().push(said);
    }

    pub(super) fn notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock())
    }

    /// So many connections that have said HELLO.
    pub(super) async fn connect_many(&self, count: usize) -> Result<Vec<Connection>, AttackError> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(self.target.connect_with_hello().await?);
        }
        Ok(connections)
    }

    /// Does something so many times side by side, and waits until all have done it.
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
            ended.map_err(|error| AttackError::unexpected("an attacker that goes on", error))??;
        }
        Ok(())
    }
}

/// What holds an attack, and the memory that it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The constant or the setting.
    pub name: String,
    /// What it is.
    pub value: String,
    /// The memory that follows from it, in bytes, beyond what the server has before.
    pub memory: u64,
    /// The most files that the server may have open beyond those that it has before any connection.
    pub files: Option<u64>,
}

impl Bound {
    /// So many things of so many bytes each.
    pub(super) fn new(name: &str, value: impl std::fmt::Display, times: usize, bytes: usize) -> Self {
        let memory = as_u64(times).saturating_mul(as_u64(bytes));
        Self { name: name.into(), value: value.to_string(), memory, files: None }
    }

    /// And these bytes.
    pub(super) fn plus(mut self, bytes: usize) -> Self {
        self.memory += as_u64(bytes);
        self
    }

    /// And no more files.
    pub(super) fn files(mut self, files: usize) -> Self {
        self.files = Some(as_u64(files));
        self
    }

    /// What a server may grow to that holds to this: half as much again, for rooms of buffers are rounded up, and what an
    /// allocator has freed is not at once the system's; and as much as a server grows under harmless load.
    pub(super) fn max_growth(&self) -> u64 {
        self.memory + self.memory / 2 + NORMAL_GROWTH
    }
}

/// As much as a server grows under harmless load: threads that get an arena of their own, the recent log, the files of the
/// store.
const NORMAL_GROWTH: u64 = 8 * 1024 * 1024;
