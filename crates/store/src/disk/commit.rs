//! How the disk engine commits a batch: it checks, writes, syncs, publishes and feeds it.

use super::files::FileSystem;
use super::health::{Condition, Health, refusal};
use super::identity::Identity;
use super::log::{AppendError, Log};
use super::options::Durability;
use super::ownership;
use super::record::{self, Encoder, Header};
use crate::conflict_checker::ConflictChecker;
use crate::index::{Found, Index, Record};
use crate::{Feed, StoreTime};
use parking_lot::RwLock;
use std::io;
use std::sync::Arc;
use syncline_core::{Committed, Operation, Outcome, Transaction};
use syncline_wire::Revision;

/// The maximum size of a record that holds several transactions; a smaller segment limits it further. A larger
/// transaction is a record of its own.
const MAX_RECORD: usize = 4 * 1024 * 1024;

/// How many writes are published under one lock, so that readers get in between.
const PUBLISHED_AT_ONCE: usize = 32;

/// What the lock of commits guards: everything that writing to the log needs.
pub(crate) struct CommitState<F: FileSystem> {
    pub(crate) identity: Identity,
    pub(crate) durability: Durability,
    pub(crate) feed: Feed,
    pub(crate) log: Log<F>,
    /// Everything up to this revision is known to be synced.
    pub(crate) synced: Revision,
    /// The time of records.
    pub(crate) time: StoreTime,
    pub(crate) health: Arc<Health>,
    pub(crate) encoder: Encoder,
    pub(crate) conflicts: ConflictChecker,
}

/// The accepted writes of the part of a batch that becomes one record.
struct Accepted {
    records: Vec<(Found, Record)>,
    /// The revision before the record, and its last one.
    before: Revision,
    last: Revision,
}

impl<F: FileSystem> CommitState<F> {
    pub(crate) fn commit(&mut self, index: &RwLock<Index>, batch: &[Transaction]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(batch.len());
        let most =
            MAX_RECORD.min(usize::try_from(self.log.max_size).unwrap_or(MAX_RECORD).saturating_sub(record::HEADER));
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
        if let Some(reason) = self.health.reason(Condition::Failed) {
            return outcomes.extend(part.iter().map(|_| Outcome::Unavailable { reason: reason.clone() }));
        }
        if let Err(reason) = ownership::check_place(&self.log, &self.health) {
            return outcomes.extend(part.iter().map(|_| Outcome::Unavailable { reason: reason.clone() }));
        }
        let now = self.time.advance();
        let full = self.health.reason(Condition::DiskRefuses);
        let first = outcomes.len();
        let accepted = self.check(&index.read(), part, now, full.as_ref(), outcomes);
        if accepted.before == accepted.last {
            return;
        }
        match self.write(accepted.before, accepted.last, now) {
            Ok(()) => {
                publish(index, accepted.records, accepted.last);
                (self.feed)(&Committed::accepted(part.iter().cloned(), outcomes.get(first..).unwrap_or_default()));
                // Written, but perhaps to a directory that will not be opened again.
                if let Err(reason) = ownership::check_place(&self.log, &self.health) {
                    for outcome in outcomes.iter_mut().skip(first) {
                        undo(outcome, accepted.before, &reason, false);
                    }
                }
            }
            Err(error) => {
                let (reason, is_known) = self.reason(&error);
                for outcome in outcomes.iter_mut().skip(first) {
                    undo(outcome, accepted.before, &reason, is_known);
                }
            }
        }
    }

    /// Checks each transaction against the index and the transactions before it, and encodes the accepted ones.
    /// If the disk is full for the reason `full`, transactions that need more space are refused.
    fn check(
        &mut self,
        index: &Index,
        part: &[Transaction],
        now: u64,
        full: Option<&Arc<str>>,
        outcomes: &mut Vec<Outcome>,
    ) -> Accepted {
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
            if let Some(reason) = full
                && grows(index, transaction)
            {
                self.conflicts.skip(transaction);
                outcomes.push(Outcome::Unavailable { reason: reason.clone() });
                continue;
            }
            outcomes.push(match (self.conflicts.decide(part, place), last.next()) {
                (Err(operation), _) => Outcome::Stale { operation, at: last },
                (Ok(_), None) => Outcome::Unavailable { reason: "no revision is left".into() },
                (Ok(found), Some(revision)) => {
                    let operations = transaction.operations.iter().zip(found);
                    records.extend(
                        operations
                            .filter_map(|(operation, found)| Some((*found, Record::after(revision, operation, now)?))),
                    );
                    self.encoder.push(transaction);
                    last = revision;
                    Outcome::Accepted { revision }
                }
            });
        }
        Accepted { records, before, last }
    }

    /// Writes the encoded record, and makes it as durable as the option demands.
    fn write(&mut self, before: Revision, last: Revision, time: u64) -> Result<(), AppendError> {
        let length = self.encoder.length();
        if !self.log.has_room(length) {
            let is_refused = self.health.reason(Condition::DiskRefuses).is_some();
            self.log.ensure_spare(length, !is_refused)?;
            self.seal(before, time)?;
        }
        let reservation = self.log.reserve(length)?;
        if reservation.is_new {
            // The log begins a segment only when the previous one is synced.
            self.synced = before;
        }
        let header = self.header(reservation.segment, before, time);
        self.log.expect_room(self.identity.seed)?;
        let (record, checksum) = self.encoder.finish(self.identity.seed, header);
        self.log.append(record, last, checksum)?;
        if self.durability == Durability::Fsync {
            self.log.sync().map_err(AppendError::Failed)?;
            self.log.expect_last_record(self.identity.seed)?;
            self.synced = last;
        }
        Ok(())
    }

    /// Returns the header of the next record, which follows the revision `before`. The encoder adds what depends on the
    /// transactions.
    fn header(&self, segment: u64, before: Revision, time: u64) -> Header {
        Header {
            length: 0,
            segment,
            first: before.next().unwrap_or(before),
            synced: self.synced,
            time,
            count: 0,
            previous: self.log.previous,
            checksum: 0,
        }
    }

    /// Appends an empty record to the current segment, if it has room for one, before the next segment begins. Another
    /// writer, whose records are shorter and still fit there, thereby notices this one.
    fn seal(&mut self, last: Revision, time: u64) -> Result<(), AppendError> {
        let Some(segment) = self.log.current.as_ref().map(|current| current.id) else { return Ok(()) };
        if !self.log.has_room(record::HEADER) {
            return Ok(());
        }
        let mut encoder = Encoder::default();
        encoder.clear();
        let header = self.header(segment, last, time);
        self.log.expect_room(self.identity.seed)?;
        let (record, checksum) = encoder.finish(self.identity.seed, header);
        self.log.append(record, last, checksum)
    }

    /// Makes everything that was written durable.
    pub(crate) fn sync(&mut self, head: Revision) -> io::Result<()> {
        if let Some(reason) = self.health.reason(Condition::Failed) {
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

    /// Appends an empty record that says that everything is synced, so that later damage to the log is noticed.
    pub(crate) fn close(&mut self, head: Revision) -> io::Result<()> {
        if head == Revision::ZERO {
            return Ok(());
        }
        self.sync(head)?;
        let now = self.time.advance();
        self.encoder.clear();
        match self.write(head, head, now) {
            Ok(()) => self.log.sync(),
            Err(AppendError::Refused(error) | AppendError::Unknown(error) | AppendError::Failed(error)) => Err(error),
            Err(error @ AppendError::OtherWriter { .. }) => Err(io::Error::other(self.reason(&error).0.to_string())),
        }
    }

    /// Returns why a write failed, for people, and whether it is certain that nothing of it was written.
    pub(crate) fn reason(&mut self, error: &AppendError) -> (Arc<str>, bool) {
        match error {
            AppendError::Refused(error) => (self.refuse(error), true),
            AppendError::Unknown(error) => (self.refuse(error), false),
            AppendError::Failed(error) => (self.fail(error), false),
            AppendError::OtherWriter { is_written } => (self.stop_for_other_writer(), !is_written),
        }
    }

    /// Refuses writes that need space until maintenance finds that the disk accepts them.
    fn refuse(&self, error: &io::Error) -> Arc<str> {
        let reason = refusal(error);
        // Without a number of the system, the fault is in the write, for example in its length.
        if error.raw_os_error().is_none() { reason.into() } else { self.health.begin(Condition::DiskRefuses, reason) }
    }

    /// Refuses all further writes: another process writes to the same log.
    fn stop_for_other_writer(&self) -> Arc<str> {
        let path = self.log.files.path("");
        let path = path.display();
        let reason = format!(
            "another process has written to the data directory {path}: end it, `syncline check` the directory, and restart the server"
        );
        self.health.begin(Condition::Failed, reason)
    }

    /// Refuses all further writes: after a failed sync, it is unknown what the kernel still holds of the log.
    fn fail(&mut self, error: &io::Error) -> Arc<str> {
        let path = self.log.files.path("");
        let path = path.display();
        let reason =
            format!("the disk of {path} has failed: {error}; restart the server to go on from what is on disk");
        self.health.begin(Condition::Failed, reason)
    }
}

/// Returns whether a transaction would make the next checkpoint larger.
fn grows(index: &Index, transaction: &Transaction) -> bool {
    let size_now = |key: &[u8]| index.get(key).map(|record| record.value().map_or(0, <[u8]>::len));
    transaction.operations.iter().any(|operation| match operation {
        Operation::Check { .. } => false,
        Operation::Put { key, value, .. } => size_now(key).is_none_or(|now| now < value.len()),
        Operation::Delete { key, .. } => size_now(key).is_none(),
    })
}

/// Replaces an outcome after a failed write. Nothing after the revision `before` was written, or, unless `is_known`,
/// that is uncertain.
fn undo(outcome: &mut Outcome, before: Revision, reason: &Arc<str>, is_known: bool) {
    match outcome {
        Outcome::Accepted { .. } if !is_known => *outcome = Outcome::Unknown { reason: reason.clone() },
        Outcome::Accepted { .. } => *outcome = Outcome::Unavailable { reason: reason.clone() },
        // It conflicted with a write that has not become part of the history.
        Outcome::Stale { at, .. } if *at > before => *outcome = Outcome::Unavailable { reason: reason.clone() },
        _ => {}
    }
}

/// Publishes what was committed in the index, without splitting a transaction.
fn publish(index: &RwLock<Index>, records: Vec<(Found, Record)>, last: Revision) {
    // Replaced records are freed after the lock is released.
    let mut replaced = Vec::with_capacity(records.len());
    let mut records = records.into_iter().peekable();
    while records.peek().is_some() {
        let mut index = index.write();
        let mut published = 0;
        while let Some((found, record)) = records.next() {
            let revision = record.revision();
            replaced.extend(index.insert_found(found, record));
            published += 1;
            if published >= PUBLISHED_AT_ONCE && records.peek().is_none_or(|(_, next)| next.revision() != revision) {
                break;
            }
        }
    }
    index.write().advance(last);
}
