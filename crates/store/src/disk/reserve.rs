//! The reserve: a file that keeps disk space, so that a checkpoint can always be written.
//!
//! It contains nothing. If the disk refuses a checkpoint, the reserve is removed, which frees its space for the checkpoint.
//! The checkpoint frees the log and the previous checkpoint, and the reserve is created again from that space.
//!
//! The invariant is that this succeeds if no other program takes the space. For a next checkpoint of `next` bytes and a previous one of `previous`
//! bytes, the reserve therefore has at least `next + (next - previous) + slack` bytes. When the checkpoint is written and
//! the previous one is removed, `next + slack` of them are free again: enough for the next one.
//!
//! Another program that writes to the same disk can take the space between the removal of the reserve and the checkpoint.
//! Then the checkpoint must wait for room.
//!
//! While the reserve is too small and cannot grow, writes that make the checkpoint larger are refused.
//! A power cut at any time leaves no reserve, or one of any size: the next opening looks at its size only.

use super::files::{FileHandle, FileSystem};
use super::names;
use std::io;

/// How many bytes are written at once.
const STEP: u64 = 1024 * 1024;

/// The space that is kept at present.
pub(crate) struct Reserve {
    /// The size of the file; 0 if there is none.
    pub(crate) size: u64,
    /// The size of the newest checkpoint; 0 if there is none.
    pub(crate) checkpoint: u64,
}

impl Reserve {
    /// Looks for the reserve and the checkpoint of an opened directory.
    pub(crate) fn find<F: FileSystem>(files: &F) -> io::Result<Self> {
        let names = files.list()?;
        let length = |name: &str| files.open(name)?.length();
        let newest = names.iter().filter_map(|name| names::checkpoint_revision(name)).max();
        let has_reserve = names.iter().any(|name| name == names::RESERVE);
        Ok(Self {
            size: if has_reserve { length(names::RESERVE)? } else { 0 },
            checkpoint: newest.map_or(Ok(0), |revision| length(&names::checkpoint(revision)))?,
        })
    }

    /// Returns the size that is needed before a checkpoint of `next` bytes. With a slack of 0, no reserve is kept.
    pub(crate) fn needed(&self, next: u64, slack: u64) -> u64 {
        if slack == 0 { 0 } else { next + next.saturating_sub(self.checkpoint) + slack }
    }

    /// Makes the file at least this large. If the disk refuses, the file keeps the size that it has reached.
    pub(crate) fn extend<F: FileSystem>(&mut self, files: &F, size: u64) -> io::Result<()> {
        if self.size >= size {
            return Ok(());
        }
        // Not sparse: only what was written is sure to have its space on the disk.
        let zeros = vec![0; usize::try_from(STEP).unwrap_or_default()];
        let handle = if self.size == 0 { files.create(names::RESERVE)? } else { files.open(names::RESERVE)? };
        while self.size < size {
            let part = zeros.get(..usize::try_from(size - self.size).unwrap_or(usize::MAX)).unwrap_or(&zeros);
            if let Err(error) = handle.write_at(part, self.size).and_then(|()| handle.sync()) {
                // A part may have been written, and is as good.
                self.size = handle.length()?;
                return Err(error);
            }
            self.size += part.len() as u64;
        }
        files.sync_names()
    }

    /// Frees the space of the file. Returns whether there was any.
    pub(crate) fn release<F: FileSystem>(&mut self, files: &F) -> io::Result<bool> {
        if self.size == 0 {
            return Ok(false);
        }
        files.remove(names::RESERVE)?;
        self.size = 0;
        files.sync_names()?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_enough_for_a_checkpoint_and_the_next_reserve() {
        for (previous, next) in [(0, 0), (0, 100), (100, 100), (100, 900), (900, 100)] {
            let before = Reserve { size: 0, checkpoint: previous };
            let size = before.needed(next, 10);
            let freed = size - next + previous;
            let after = Reserve { size: 0, checkpoint: next };
            assert!(after.needed(next, 10) <= freed, "{previous}, {next}: {size}");
        }
        assert_eq!(Reserve { size: 0, checkpoint: 5 }.needed(1000, 0), 0, "no reserve is kept");
    }
}
