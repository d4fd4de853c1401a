//! What the disk engine does with a batch: decides, writes, syncs, shows.

use super::files::FileSystem;
use super::identity::Identity;
use super::log::{AppendError, Log};
use super::options::Durability;
use super::record::{self, Encoder, Header};
use crate::conflict_checker::ConflictChecker;
use crate::index::{Found, Index, Record};
use crate::{Clock, Feed};
use parking_lot::RwLock;
use std::io;
use std::sync::Arc;
use syncline_core::{Committed, Outcome, Transaction};
use syncline_wire::Revision;

/// A batch is written as records of this many bytes, or as many as a segment holds. A larger transaction is a record of
/// its own.
const MAX_RECORD: usize = 4 * 1024 * 1024;

/// How many writes are shown at once: readers get in between.
const SHOWN_AT_ONCE: usize = 32;

/// The one who writes.
pub(crate) struct CommitState<F: FileSystem> {
    pub(crate) identity: Identity,
    pub(crate) durability: Durability,
    pub(crate) feed: Feed,
    pub(crate) log: Log<F>,
    /// Everything up to here is known to be synced.
    pub(crate) synced: Revision,
    /// The latest time that a record carries: milliseconds since 1970. It never goes back.
    pub(crate) time: u64,
    pub(crate) clock: Clock,
    /// Why nothing can be written any more.
    pub(crate) failed: Option<Arc<str>>,
    pub(crate) encoder: Encoder,
    pub(crate) conflicts: ConflictChecker,
}

/// The part of a batch that goes into one record, as it was decided.
struct Decided {
    records: Vec<(Found, Record)>,
    /// The revision before, and the last one.
    before: Revision,
    last: Revision,
}

impl<F: FileSystem> CommitState<F> {
    pub(crate) fn commit(&mut self, index: &RwLock<Index>, batch: &[Transaction]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(batch.len());
        let most = MAX_RECORD.min(usize::try_from(self.log.size).unwrap_or(MAX_RECORD).saturating_sub(record::HEADER));
        let (mut start, mut bytes) = (0, 0);
        for (place, transaction) in batch.iter().enumerate() {
            let length = record::length(transaction);
            if bytes + length > most && start < place {
                self.commit_part(index, batch.get(start..place).unwrap_or_default(), &mut outcomes);
                (start, bytes) = (place, 0);
            }
            bytes += length;
        }
        self.commit_part(index, batch.get(start..).unwrap_or_default(), &mut outcomes);
        outcomes
    }

    fn commit_part(&mut self, index: &RwLock<Index>, part: &[Transaction], outcomes: &mut Vec<Outcome>) {
        if let Some(reason) = &self.failed {
            return outcomes.extend(part.iter().map(|_| Outcome::Unavailable { reason: reason.clone() }));
        }
        self.time = self.time.max((self.clock)());
        let first = outcomes.len();
        let decided = self.decide(&index.read(), part, outcomes);
        if decided.before == decided.last {
            return;
        }
        match self.write(decided.before, decided.last) {
            Ok(()) => {
                show(index, decided.records, decided.last);
                (self.feed)(&Committed::accepted(part.iter().cloned(), outcomes.get(first..).unwrap_or_default()));
            }
            Err(error) => {
                let (reason, is_known) = self.reason(&error);
                for outcome in outcomes.iter_mut().skip(first) {
                    undo(outcome, decided.before, &reason, is_known);
                }
            }
        }
    }

    /// Decides on each transaction against the index, and those before it.
    fn decide(&mut self, index: &Index, part: &[Transaction], outcomes: &mut Vec<Outcome>) -> Decided {
        let mut records = Vec::with_capacity(part.len());
        let before = index.head();
        let mut last = before;
        self.encoder.clear();
        self.conflicts.begin(index, part);
        for (place, transaction) in part.iter().enumerate() {
            if !record::fits(transaction) {
                self.conflicts.skip(transaction);
                outcomes.push(Outcome::Unavailable { reason: "the transaction is too large for this store".into() });
                continue;
            }
            outcomes.push(match (self.conflicts.decide(part, place), last.next()) {
                (Err(operation), _) => Outcome::Stale { operation, at: last },
                (Ok(_), None) => Outcome::Unavailable { reason: "no revision is left".into() },
                (Ok(found), Some(revision)) => {
                    let operations = transaction.operations.iter().zip(found);
                    records.extend(operations.filter_map(|(operation, found)| {
                        Some((*found, Record::after(revision, operation, self.time)?))
                    }));
                    self.encoder.push(transaction);
                    last = revision;
                    Outcome::Accepted { revision }
                }
            });
        }
        Decided { records, before, last }
    }

    /// Writes what the encoder holds, and makes it as durable as was promised.
    fn write(&mut self, before: Revision, last: Revision) -> Result<(), AppendError> {
        let room = self.log.reserve(self.encoder.length())?;
        if room.is_new {
            // A segment is begun when the one before it is synced.
            self.synced = before;
        }
        let first = before.next().unwrap_or(last);
        let header = Header {
            length: 0,
            segment: room.segment,
            first,
            synced: self.synced,
            time: self.time,
            count: 0,
            previous: self.log.previous,
            checksum: 0,
        };
        let (record, checksum) = self.encoder.finish(self.identity.seed, header);
        self.log.append(record, last, checksum)?;
        if self.durability == Durability::Fsync {
            self.log.sync().map_err(AppendError::Failed)?;
            self.synced = last;
        }
        Ok(())
    }

    /// Makes durable everything that was written.
    pub(crate) fn sync(&mut self, head: Revision) -> io::Result<()> {
        if let Some(reason) = &self.failed {
            return Err(io::Error::other(reason.to_string()));
        }
        match self.log.sync() {
            Ok(()) => {
                self.synced = head;
                Ok(())
            }
            Err(error) => {
                self.fail(&error);
                Err(error)
            }
        }
    }

    /// Says in the log that everything is synced, so that any damage to it will be noticed.
    pub(crate) fn close(&mut self, head: Revision) -> io::Result<()> {
        if head == Revision::ZERO {
            return Ok(());
        }
        self.sync(head)?;
        self.encoder.clear();
        match self.write(head, head) {
            Ok(()) => self.log.sync(),
            Err(AppendError::Refused(error) | AppendError::Unknown(error) | AppendError::Failed(error)) => Err(error),
        }
    }

    /// Why a write has failed, for people; and whether it is known that nothing of it was written.
    fn reason(&mut self, error: &AppendError) -> (Arc<str>, bool) {
        match error {
            AppendError::Refused(error) => (format!("the disk refuses: {error}").into(), true),
            AppendError::Unknown(error) => (format!("the disk refuses: {error}").into(), false),
            AppendError::Failed(error) => (self.fail(error), false),
        }
    }

    /// From now on nothing is written: what the kernel still holds of the log is unknown.
    fn fail(&mut self, error: &io::Error) -> Arc<str> {
        let reason: Arc<str> =
            format!("the disk has failed: {error}; restart the server to go on from what is on disk").into();
        tracing::error!(%error, "the disk has failed: no more writes are accepted");
        self.failed.get_or_insert(reason).clone()
    }
}

/// What becomes of an outcome where nothing was written after the revision `before`, or that is not known.
fn undo(outcome: &mut Outcome, before: Revision, reason: &Arc<str>, is_known: bool) {
    match outcome {
        Outcome::Accepted { .. } if !is_known => *outcome = Outcome::Unknown { reason: reason.clone() },
        Outcome::Accepted { .. } => *outcome = Outcome::Unavailable { reason: reason.clone() },
        // It was refused for what has not come to be.
        Outcome::Stale { at, .. } if *at > before => *outcome = Outcome::Unavailable { reason: reason.clone() },
        _ => {}
    }
}

/// Shows what was committed, transaction by transaction.
fn show(index: &RwLock<Index>, records: Vec<(Found, Record)>, last: Revision) {
    // Memory is given back when no reader waits for it.
    let mut overtaken = Vec::with_capacity(records.len());
    let mut records = records.into_iter().peekable();
    while records.peek().is_some() {
        let mut index = index.write();
        let mut shown = 0;
        while let Some((found, record)) = records.next() {
            let revision = record.revision();
            overtaken.extend(index.insert_found(found, record));
            shown += 1;
            if shown >= SHOWN_AT_ONCE && records.peek().is_none_or(|(_, next)| next.revision() != revision) {
                break;
            }
        }
    }
    index.write().advance(last);
}
