//! Measures the memory of this process.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub const MIB: usize = 1024 * 1024;

static EXCLUSIVE: Mutex<()> = Mutex::new(());

/// Measures how much the memory of the process grows from now on.
pub struct Memory {
    before: usize,
    max: usize,
    /// Lets only one test measure at a time, because all tests share the memory of the process.
    _exclusive: MutexGuard<'static, ()>,
}

impl Memory {
    pub fn watch() -> Self {
        let exclusive = EXCLUSIVE.lock().unwrap_or_else(PoisonError::into_inner);
        Self { before: resident(), max: 0, _exclusive: exclusive }
    }

    /// Takes a sample.
    pub fn sample(&mut self) {
        self.max = self.max.max(resident());
    }

    /// Returns the largest growth that was sampled, in bytes.
    pub fn grown(&self) -> usize {
        self.max.saturating_sub(self.before)
    }

    /// Expects that the memory never grew by more than `limit` bytes.
    #[track_caller]
    pub fn expect_at_most(&mut self, limit: usize) {
        self.sample();
        assert!(self.grown() <= limit, "grown by {} KiB, expected at most {} KiB", self.grown() / 1024, limit / 1024);
    }
}

/// Returns the anonymous resident memory of the process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}
