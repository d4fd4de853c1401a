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
//! A cursor is a revision, no more. One that stands before the floor is served from the store instead: "what changed
//! since", each key once. So nothing is kept for anybody, and nobody can make the log grow.

use crate::commit_batch::{CommitBatch, Dialect, EncodedCommit, EncodedWrites};
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::Range;
use syncline_wire::Revision;

/// The newest part of the history.
#[derive(Debug)]
pub struct RecentLog {
    batches: VecDeque<CommitBatch>,
    bytes: usize,
    max_bytes: usize,
    floor: Revision,
    head: Revision,
}

/// The part of a [`CommitBatch`] that a cursor has not read yet; never empty.
#[derive(Clone, Debug)]
pub struct Unread<'a> {
    batch: &'a CommitBatch,
    start: usize,
}

impl<'a> Unread<'a> {
    /// The transactions, in the order of their revisions.
    pub fn commits(&self) -> &'a [EncodedCommit] {
        self.batch.commits().get(self.start..).unwrap_or_default()
    }

    /// The writes of one of [`Unread::commits`], as the frames count them.
    pub(crate) fn writes(&self, commit: usize) -> Range<usize> {
        self.batch.writes(self.start + commit)
    }

    /// The frames of a range of [`Unread::commits`], not copied.
    pub fn frames(&self, dialect: Dialect, commits: Range<usize>) -> Bytes {
        let end = commits.end.checked_sub(1).map_or(0, |last| self.writes(last).end);
        self.all_frames(dialect).slice(self.writes(commits.start).start.min(end)..end)
    }

    /// The frames of all writes of the batch, of those too that were read before.
    pub(crate) fn all_frames(&self, dialect: Dialect) -> &'a EncodedWrites {
        self.batch.frames(dialect)
    }
}

impl RecentLog {
    /// An empty log of a store that is at `head`, which keeps about `max_bytes` of the history.
    pub const fn new(head: Revision, max_bytes: usize) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, max_bytes, floor: head, head }
    }

    /// Everything up to here is in the history.
    pub const fn head(&self) -> Revision {
        self.head
    }

    /// Everything after this, up to the head, is in the log.
    pub const fn floor(&self) -> Revision {
        self.floor
    }

    /// The memory that it takes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds what was committed after the head, and forgets the oldest until the bound holds again.
    pub fn append(&mut self, batch: CommitBatch) {
        let Some(last) = batch.last() else { return };
        debug_assert!(batch.commits().first().is_some_and(|first| self.head < first.revision), "revisions grow");
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

    /// What a cursor that stands at `position` has not read yet, in order; `None` where that is more than the log
    /// holds.
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
    fn a_cursor_reads_what_it_has_not_read() {
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
        assert_eq!(after(&log, 13), Some(vec![15, 16]), "a revision that an engine left out");
        assert_eq!(after(&log, 15), Some(vec![16]));
        assert_eq!(after(&log, 16), Some(vec![]));
    }

    #[test]
    fn the_bound_holds_and_the_oldest_goes_first() {
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
    fn a_stretch_over_the_bound_is_not_kept() {
        let mut log = RecentLog::new(Revision::ZERO, 10);
        log.append(batch([1, 2]));
        assert_eq!((log.bytes(), log.floor().get(), log.head().get()), (0, 2, 2));
        assert_eq!(after(&log, 2), Some(vec![]));
        assert_eq!(after(&log, 1), None);
    }
}
