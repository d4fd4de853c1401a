//! What the process takes of the machine's memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub const MIB: usize = 1024 * 1024;

static ALONE: Mutex<()> = Mutex::new(());

/// Watches how much memory the process takes, from now on.
pub struct Memory {
    before: usize,
    most: usize,
    /// The process has one memory: whoever measures does so alone.
    _alone: MutexGuard<'static, ()>,
}

impl Memory {
    pub fn watch() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self { before: resident(), most: 0, _alone: alone }
    }

    /// Looks now.
    pub fn look(&mut self) {
        self.most = self.most.max(resident());
    }

    /// The most that was seen above what there was in the beginning.
    pub fn grown(&self) -> usize {
        self.most.saturating_sub(self.before)
    }

    /// Expects that it never took more than `bound` bytes above what there was in the beginning.
    #[track_caller]
    pub fn expect_at_most(&mut self, bound: usize) {
        self.look();
        assert!(self.grown() <= bound, "grown by {} KiB, expected at most {} KiB", self.grown() / 1024, bound / 1024);
    }
}

/// The bytes of memory that the process has, of its own and not swapped.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}
