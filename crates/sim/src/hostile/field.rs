//! What an attack has to work with, and what it is told.

use super::Fault;
use super::link::{Link, Target, number};
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
pub(super) struct Field {
    pub(super) target: Target,
    pub(super) scale: Scale,
    over: watch::Sender<bool>,
    enough: AtomicBool,
    notes: parking_lot::Mutex<Vec<String>>,
}

impl Field {
    pub(super) fn new(target: Target, scale: Scale) -> Arc<Self> {
        let (over, enough) = (watch::Sender::new(false), AtomicBool::new(false));
        Arc::new(Self { target, scale, over, enough, notes: parking_lot::Mutex::default() })
    }

    /// All that the attack is about has been there once: it may end from now on.
    pub(super) fn enough(&self) {
        self.enough.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_enough(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
    }

    /// Numbers what is done over and over: so many times at the least, and then on until the attack is to end.
    pub(super) fn laps(&self, least: usize) -> impl Iterator<Item = usize> + Send {
        (0..).take_while(move |done| {
            if *done == least {
                self.enough();
            }
            *done < least || !self.is_over()
        })
    }

    /// The attack is to end.
    pub(super) fn end(&self) {
        self.over.send_replace(true);
    }

    pub(super) fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    /// Waits for [`Field::end`].
    pub(super) async fn until_over(&self) {
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }

    /// Does something until the attack is to end; what fails before that has failed.
    pub(super) async fn while_on<T, E: Into<Fault>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<(), Fault> {
        tokio::select! {
            done = work => done.map(drop).map_err(Into::into),
            () = self.until_over() => Ok(()),
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
    pub(super) async fn greeted(&self, connections: usize) -> Result<Vec<Link>, Fault> {
        let mut links = Vec::with_capacity(connections);
        for _ in 0..connections {
            links.push(self.target.greet().await?);
        }
        Ok(links)
    }

    /// Does something so many times side by side, and waits until all have done it.
    pub(super) async fn side_by_side<F>(
        self: &Arc<Self>,
        times: usize,
        work: impl Fn(Arc<Self>, usize) -> F,
    ) -> Result<(), Fault>
    where
        F: Future<Output = Result<(), Fault>> + Send + 'static,
    {
        let mut all = JoinSet::new();
        for number in 0..times {
            all.spawn(work(self.clone(), number));
        }
        while let Some(ended) = all.join_next().await {
            ended.map_err(|error| Fault::wrong("an attacker that goes on", error))??;
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
        let memory = number(times).saturating_mul(number(bytes));
        Self { name: name.into(), value: value.to_string(), memory, files: None }
    }

    /// And these bytes.
    pub(super) fn and(mut self, bytes: usize) -> Self {
        self.memory += number(bytes);
        self
    }

    /// And no more files.
    pub(super) fn files(mut self, files: usize) -> Self {
        self.files = Some(number(files));
        self
    }

    /// What a server may grow to that holds to this: half as much again, for rooms of buffers are rounded up, and what an
    /// allocator has freed is not at once the system's; and as much as a server grows under harmless load.
    pub(super) fn limit(&self) -> u64 {
        self.memory + self.memory / 2 + SLACK
    }
}

/// As much as a server grows under harmless load: threads that get an arena of their own, the recent log, the files of the
/// store.
const SLACK: u64 = 8 * 1024 * 1024;
