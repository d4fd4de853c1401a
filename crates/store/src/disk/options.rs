//! The settings of the disk engine.

use std::time::Duration;

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A power cut: the write is synced to the disk.
    Fsync,
    /// The end of the process, but not a power cut: the operating system has the write.
    Os,
}

impl Durability {
    /// Returns the name of the option.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Os => "os",
        }
    }
}

/// The settings of the disk engine. Start from [`DiskOptions::default`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// How long a deleted key is remembered.
    pub tombstones: Duration,
    /// How much more disk space is kept than the next checkpoint is estimated to need, in bytes. Nothing is kept if it
    /// is 0.
    pub reserve: u64,
    /// The size of the largest files of the log, in bytes. An existing data directory keeps the size that it was
    /// created with.
    pub segment_size: u64,
    /// The size of the first files of the log, in bytes: `segment_size`, or a half, a quarter … of it.
    pub first_segment_size: u64,
}

impl Default for DiskOptions {
    /// Returns fsync, 7 days, a reserve of 1 MiB, and files of the log from 1 MiB to 32 MiB.
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            tombstones: Duration::from_secs(7 * 24 * 3600),
            reserve: 1024 * 1024,
            segment_size: 32 * 1024 * 1024,
            first_segment_size: 1024 * 1024,
        }
    }
}
