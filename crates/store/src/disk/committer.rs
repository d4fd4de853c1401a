//! What the disk engine does with a batch: decides, writes, syncs, shows.

use super::Durability;
use super::files::Files;
use super::identity::Identity;
use super::log::{AppendError, Log};
use super::record::{self, Encoder, Header};
use crate::Feed;
use crate::index::{Index, Record};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;
use syncline_core::{Operation, Outcome, Stretch, StretchBuilder, Transaction};
use syncline_wire::{Revision, Version};

/// A batch is written as records of this many bytes, or as many as a segment holds. A larger transaction is a record of
/// its own.
const MAX_RECORD: usize = 4 * 1024 * 1024;

/// How many writes are shown at once: readers get in between.
const SHOWN_AT_ONCE: usize = 32;

/// What tells the time: milliseconds since 1970. It may jump, in both directions.
pub(crate) type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// The one who writes.
pub(crate) struct Committer<F: Files> {
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
}

/// The part of a batch that goes into one record, as it was decided.
struct Decided {
    outcomes: Vec<Outcome>,
    records: Vec<Record>,
    stretch: Stretch,
    /// The revision before, and the last one.
    before: Revision,
    last: Revision,
}

impl<F: Files> Committer<F> {
    pub(crate) fn commit(&mut self, index: &RwLock<Index>, batch: Vec<Transaction>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut part = Vec::with_capacity(batch.len());
        let mut bytes = 0;
        let most = MAX_RECORD.min(usize::try_from(self.log.size).unwrap_or(MAX_RECORD).saturating_sub(record::HEADER));
        for transaction in batch {
            if bytes + record::length(&transaction) > most && !part.is_empty() {
                outcomes.extend(self.commit_part(index, &part));
                part.clear();
                bytes = 0;
            }
            bytes += record::length(&transaction);
            part.push(transaction);
        }
        if !part.is_empty() {
            outcomes.extend(self.commit_part(index, &part));
        }
        outcomes
    }

    fn commit_part(&mut self, index: &RwLock<Index>, part: &[Transaction]) -> Vec<Outcome> {
        if let Some(reason) = &self.failed {
            return part.iter().map(|_| Outcome::Unavailable { reason: reason.clone() }).collect();
        }
        self.time = self.time.max((self.clock)());
        let decided = self.decide(&index.read(), part);
        if decided.before == decided.last {
            return decided.outcomes;
        }
        match self.write(decided.before, decided.last) {
            Ok(()) => {
                show(index, decided.records, decided.last);
                (self.feed)(decided.stretch);
                decided.outcomes
            }
            Err(error) => self.undo(decided, &error),
        }
    }

    /// Decides on each transaction against the index, and those before it.
    fn decide(&mut self, index: &Index, part: &[Transaction]) -> Decided {
        let mut staged: HashMap<&[u8], Version> = HashMap::new();
        let mut outcomes = Vec::with_capacity(part.len());
        let mut records = Vec::with_capacity(part.len());
        let mut stretch = StretchBuilder::with_capacity(part.iter().map(Transaction::bytes).sum());
        let before = index.head();
        let mut last = before;
        self.encoder.clear();
        for transaction in part {
            if !record::fits(transaction) {
                outcomes.push(Outcome::Unavailable { reason: "the transaction is too large for this store".into() });
                continue;
            }
            let current = |key: &[u8]| match staged.is_empty() {
                false => staged.get(key).copied().or_else(|| index.version(key)),
                true => index.version(key),
            };
            outcomes.push(match (transaction.check(current), last.next()) {
                (Err(operation), _) => Outcome::Stale { operation, at: last },
                (Ok(()), None) => Outcome::Unavailable { reason: "no revision is left".into() },
                (Ok(()), Some(revision)) => {
                    for operation in &transaction.operations {
                        records.extend(Record::after(revision, operation, self.time));
                        match operation {
                            Operation::Check { .. } => {}
                            Operation::Put { key, version, .. } | Operation::Delete { key, version } => {
                                staged.insert(key.as_ref(), *version);
                            }
                        }
                    }
                    self.encoder.push(transaction);
                    stretch.push(revision, transaction);
                    last = revision;
                    Outcome::Accepted { revision }
                }
            });
        }
        Decided { outcomes, records, stretch: stretch.finish(), before, last }
    }

    /// Writes what the encoder holds, and makes it as durable as was promised.
    fn write(&mut self, before: Revision, last: Revision) -> Result<(), AppendError> {
        let room = self.log.make_room(self.encoder.length())?;
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
        let (record, checksum) = self.encoder.finish(self.identity.seal, header);
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

    /// Nothing of the part was accepted, or it is not known.
    fn undo(&mut self, decided: Decided, error: &AppendError) -> Vec<Outcome> {
        let (reason, is_known): (Arc<str>, _) = match error {
            AppendError::Refused(error) => (format!("the disk refuses: {error}").into(), true),
            AppendError::Unknown(error) => (format!("the disk refuses: {error}").into(), false),
            AppendError::Failed(error) => (self.fail(error), false),
        };
        let undone = |outcome| match outcome {
            Outcome::Accepted { .. } if !is_known => Outcome::Unknown { reason: reason.clone() },
            Outcome::Accepted { .. } => Outcome::Unavailable { reason: reason.clone() },
            // It was refused for what has not come to be.
            Outcome::Stale { at, .. } if at > decided.before => Outcome::Unavailable { reason: reason.clone() },
            other => other,
        };
        decided.outcomes.into_iter().map(undone).collect()
    }

    /// From now on nothing is written: what the kernel still holds of the log is unknown.
    fn fail(&mut self, error: &io::Error) -> Arc<str> {
        let reason: Arc<str> =
            format!("the disk has failed: {error}; restart the server to go on from what is on disk").into();
        tracing::error!(%error, "the disk has failed: no more writes are accepted");
        self.failed.get_or_insert(reason).clone()
    }
}

/// Shows what was committed, transaction by transaction.
fn show(index: &RwLock<Index>, records: Vec<Record>, last: Revision) {
    let mut records = records.into_iter().peekable();
    while records.peek().is_some() {
        let mut index = index.write();
        let mut shown = 0;
        while let Some(record) = records.next() {
            let revision = record.revision();
            drop(index.insert(record));
            shown += 1;
            if shown >= SHOWN_AT_ONCE && records.peek().is_none_or(|next| next.revision() != revision) {
                break;
            }
        }
    }
    index.write().advance(last);
}

/// Milliseconds since 1970, as far as the clock knows.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
