//! The recent log: the newest part of the history, in memory, bounded in bytes.
//!
//! ```text
//!              floor                                            head
//!   the store ───┼───────────────┬──────────┬─────────────────────┤
//!     answers    │    batch    │ batch  │       batch       │   every commit in (floor, head] is here
//!                ┼───────────────┴──────────┴─────────────────────┤
//!                        ▲ a cursor: all up to here was sent
//! ```
//!
//! A cursor is only a revision. A cursor before the floor reads from the store instead: it asks what changed since
//! its revision, and gets each key once. So the log keeps nothing for a slow connection, and no connection can make
//! it grow.

use crate::commit_batch::{CommitBatch, Dialect, EncodedCommit, EncodedWrites};
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::Range;
use syncline_wire::Revision;

/// The newest part of the history, as encoded batches.
#[derive(Debug)]
pub struct RecentLog {
    batches: VecDeque<CommitBatch>,
    bytes: usize,
    max_bytes: usize,
    floor: Revision,
    head: Revision,
}

/// The part of a [`CommitBatch`] after a cursor. It is never empty.
#[derive(Clone, Debug)]
pub struct Unread<'a> {
    batch: &'a CommitBatch,
    start: usize,
}

impl<'a> Unread<'a> {
    /// Returns the transactions, in the order of their revisions.
    pub fn commits(&self) -> &'a [EncodedCommit] {
        self.batch.commits().get(self.start..).unwrap_or_default()
    }

    /// Returns the writes of one of [`Unread::commits`], as positions in the frames.
    pub(crate) fn writes(&self, commit: usize) -> Range<usize> {
        self.batch.writes(self.start + commit)
    }

    /// Returns the frames of a range of [`Unread::commits`], without copying them.
    pub fn frames(&self, dialect: Dialect, commits: Range<usize>) -> Bytes {
        let end = commits.end.checked_sub(1).map_or(0, |last| self.writes(last).end);
        self.all_frames(dialect).slice(self.writes(commits.start).start.min(end)..end)
    }

    /// Returns the frames of all writes of the batch, including those before the cursor.
    pub(crate) fn all_frames(&self, dialect: Dialect) -> &'a EncodedWrites {
        self.batch.frames(dialect)
    }
}

impl RecentLog {
    /// Creates an empty log for a store whose head is `head`. It keeps about `max_bytes` of the history.
    pub const fn new(head: Revision, max_bytes: usize) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, max_bytes, floor: head, head }
    }

    /// Returns the revision of the last appended transaction.
    pub const fn head(&self) -> Revision {
        self.head
    }

    /// Returns the revision after which the log is complete: every transaction after it, up to the head, is in
    /// the log.
    pub const fn floor(&self) -> Revision {
        self.floor
    }

    /// Returns how many bytes of memory the batches take.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a batch that was committed after the head, and drops the oldest batches until the bound holds.
    pub fn append(&mut self, batch: CommitBatch) {
        let Some(last) = batch.last() else { return };
        debug_assert!(
            batch.commits().first().is_some_and(|first| self.head < first.revision),
            "revisions are ascending"
        );
        self.head = last;
        self.bytes += batch.bytes();
        self.batches.push_back(batch);
        while self.bytes > self.max_bytes
            && let Some(oldest) = self.batches.pop_front()
        {
            self.bytes -= oldest.bytes();
            self.floor = oldest.last().unwrap_or(self.floor);
        }
    }

    /// Returns what follows the revision `position`, in order, or `None` if the log no longer holds all of it.
    pub fn after(&self, position: Revision) -> Option<impl Iterator<Item = Unread<'_>>> {
        if position < self.floor {
            return None;
        }
        let first = self.batches.partition_point(|batch| batch.last().is_some_and(|last| last <= position));
        Some(self.batches.range(first..).map(move |batch| {
            let start = batch.commits().partition_point(|committed| committed.revision <= position);
            Unread { batch, start }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::Committed;
    use syncline_wire::{Operation, Version};

    fn batch(revisions: impl IntoIterator<Item = u64>) -> CommitBatch {
        let committed = |revision| {
            let put = Operation::Put { key: "k".into(), value: "v".into(), version: Version::new(revision) };
            Committed { revision: Revision::new(revision), origin: None, operations: [put].into() }
        };
        CommitBatch::encode(&revisions.into_iter().map(committed).collect::<Vec<_>>())
    }

    fn after(log: &RecentLog, position: u64) -> Option<Vec<u64>> {
        let unread = log.after(Revision::new(position))?;
        Some(unread.flat_map(|unread| unread.commits().iter().map(|c| c.revision.get())).collect())
    }

    #[test]
    fn a_cursor_reads_every_later_commit() {
        let mut log = RecentLog::new(Revision::new(10), 10_000);
        assert_eq!(after(&log, 10), Some(vec![]));
        assert_eq!(after(&log, 9), None);
        log.append(batch([11, 12, 15]));
        log.append(batch([16]));
        log.append(batch([]));
        assert_eq!((log.floor().get(), log.head().get()), (10, 16));
        assert_eq!(after(&log, 9), None);
        assert_eq!(after(&log, 10), Some(vec![11, 12, 15, 16]));
        assert_eq!(after(&log, 11), Some(vec![12, 15, 16]));
        assert_eq!(after(&log, 13), Some(vec![15, 16]), "an engine may skip revisions");
        assert_eq!(after(&log, 15), Some(vec![16]));
        assert_eq!(after(&log, 16), Some(vec![]));
    }

    #[test]
    fn the_oldest_batches_are_dropped_to_keep_the_bound() {
        let size = batch([1]).bytes();
        let mut log = RecentLog::new(Revision::ZERO, 3 * size);
        for revision in 1..=10 {
            log.append(batch([revision]));
            assert!(log.bytes() <= 3 * size);
        }
        assert_eq!((log.floor().get(), log.head().get()), (7, 10));
        assert_eq!(after(&log, 7), Some(vec![8, 9, 10]));
        assert_eq!(after(&log, 6), None);
    }

    #[test]
    fn a_batch_larger_than_the_bound_is_not_kept() {
        let mut log = RecentLog::new(Revision::ZERO, 10);
        log.append(batch([1, 2]));
        assert_eq!((log.bytes(), log.floor().get(), log.head().get()), (0, 2, 2));
        assert_eq!(after(&log, 2), Some(vec![]));
        assert_eq!(after(&log, 1), None);
    }
}
