//! The history of a run, simulated or real: everything that the checkers know about it.
//!
//! A history has three views of the same run, each of which may be empty: the frames that went over the connections
//! ([`Transcript`]), the operations that clients invoked and their outcomes ([`Operation`]), and the contents of
//! their replicas and cursors ([`Sight`], [`Step`]). The history of a simulated run also contains the commits
//! ([`Commit`]). Those of a real run are inferred from the other views. A real run also has what the server said about
//! itself during faults ([`Incident`]).
//!
//! Within one store, no version of a key occurs twice. A client that writes to an unknown key chooses a version above
//! all earlier ones.
//!
//! The names of fields and variants are the JSON keys of kept histories, so they never change.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A key. The keys of a run are text, so that histories are readable.
pub type Key = Arc<str>;

/// The moment of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment {
    /// The event's number: of two events, the one with the lower number came first.
    pub order: u64,
    /// Microseconds since the start of the run. In a simulation, this is virtual time.
    pub micros: u64,
}

/// The number at the start of a value. Each value of a run has its own number, which identifies the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp(pub u64);

impl Stamp {
    /// The stamp of a value that no client wrote in this form: it was cut or changed.
    pub const TORN: Self = Self(u64::MAX);

    /// The length of the shortest value, in bytes.
    pub const LENGTH: usize = 9;

    /// Returns a value of `length` bytes, at least [`Stamp::LENGTH`]. Every byte depends on the number and the
    /// length.
    pub fn value(self, length: usize) -> Bytes {
        let number = self.0.to_le_bytes();
        let last = number.iter().fold(length.to_le_bytes()[0], |all, byte| all.wrapping_add(*byte));
        let mut value = number.to_vec();
        value.resize(length.max(Self::LENGTH), last);
        value.into()
    }

    /// Returns the number at the start of a value, or [`Stamp::TORN`] if the value was cut or changed.
    pub fn of(value: &[u8]) -> Self {
        let number = value.first_chunk().map(|number| Self(u64::from_le_bytes(*number)));
        number.filter(|stamp| stamp.value(value.len()) == value).unwrap_or(Self::TORN)
    }
}

/// The state of a key after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The version of the value or of the deletion.
    pub version: u64,
    /// The value, or `None` if the key was deleted.
    pub value: Option<Stamp>,
}

/// A key together with a state that it was given, or is reported to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The key.
    pub key: Key,
    /// Its state.
    #[serde(flatten)]
    pub state: State,
}

/// A store that servers have served, identified by its store id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// The store id in hexadecimal digits.
    pub id: String,
    /// For a store that was restored from a backup: the index of the earlier store in [`History::stores`], and the
    /// revision of the backup. The new store begins with the earlier one's history up to that revision.
    pub restored: Option<(usize, u64)>,
    /// When it was first served.
    pub since: Moment,
}

/// A committed transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The index of its store in [`History::stores`]. A restored store does not repeat the commits of its backup.
    pub store: usize,
    /// Its revision.
    pub revision: u64,
    /// Its writes.
    pub writes: Vec<Write>,
    /// When it became durable and visible.
    pub at: Moment,
}

/// A frame, reduced to what the checkers need. Tag 0 marks broadcasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are named as in the protocol")]
pub enum Frame {
    /// A GET.
    Get { tag: u16, key: Key },
    /// A PUT, PUTL or DELETE: a request of the client, or a change that the server sends.
    Write { tag: u16, write: Write },
    /// An ERROR.
    Error { tag: u16, text: String },
    /// A HELLO. The server's HELLO contains the store id in hexadecimal digits, and the head.
    Hello { tag: u16, server: Option<(String, u64)> },
    /// A WATCH.
    Watch { tag: u16, prefix: Key, since: u64 },
    /// A MARK.
    Mark { tag: u16, revision: u64 },
    /// A LIST.
    List { tag: u16, prefix: Key, after: Key, limit: u32 },
    /// A TXN: the keys to check with their expected versions, and the writes.
    Txn { tag: u16, checks: Vec<(Key, u64)>, writes: Vec<Write> },
    /// A frame of any other kind.
    Other { tag: u16, kind: String },
}

/// The direction of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// From the client to the server.
    Sent,
    /// From the server to the client.
    Received,
}

/// The frames of one connection. The server may have sent more than the client received before a real connection was
/// lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    /// The number of the connection, unique within a run.
    pub connection: u64,
    /// The client that opened it.
    pub client: u64,
    /// The index of the connected store in [`History::stores`].
    pub store: usize,
    /// Complete frames, in order.
    pub frames: Vec<(Moment, Direction, Frame)>,
    /// Whether the run waited until nothing was in flight on the connection, so that the transcript contains
    /// everything that the server had to send.
    pub is_drained: bool,
}

/// What a client asks a store to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are named as in the protocol")]
pub enum Invocation {
    /// Read a key.
    Get { key: Key },
    /// A PUT or a DELETE.
    Write(Write),
    /// A TXN: keys with their expected versions (0: the key does not exist), and the writes.
    Txn { checks: Vec<(Key, u64)>, writes: Vec<Write> },
    /// List at most `limit` keys under a prefix, after a key. A read of a replica behind a barrier is a LIST of all
    /// its keys.
    List { prefix: Key, after: Key, limit: u32 },
    /// A barrier.
    Barrier,
}

/// The outcome of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are named as in the protocol")]
pub enum Outcome {
    /// The key has a value.
    Found(State),
    /// The key does not exist; the version of its deletion, if it is remembered.
    NotFound { deleted_at: Option<u64> },
    /// The write was accepted.
    Written,
    /// The transaction was accepted.
    Committed { revision: u64 },
    /// Nothing was written, because the version of this key did not match.
    Stale { key: Key },
    /// These keys exist, in this order.
    Listed { entries: Vec<Write> },
    /// The barrier was passed at this revision, which includes every commit before the barrier's invocation.
    Passed { revision: u64 },
    /// Nothing was done.
    Refused,
    /// The operation took effect at some time, or not at all.
    Unknown,
}

/// An operation of a client: its invocation and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// The client.
    pub client: u64,
    /// The store that answered. If it is unknown, the operation may have reached any store that was served meanwhile.
    pub store: Option<usize>,
    /// When the operation was invoked.
    pub asked_at: Moment,
    /// The invocation.
    pub asked: Invocation,
    /// When the response arrived, or when the client gave up.
    pub ended_at: Moment,
    /// The outcome: [`Outcome::Unknown`] if the operation was still open at the end of the run.
    pub outcome: Outcome,
}

/// The contents of a replica at one moment, as its client saw them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// The client.
    pub client: u64,
    /// When it saw them.
    pub at: Moment,
    /// The prefix of the replica.
    pub prefix: Key,
    /// The index of its store in [`History::stores`].
    pub store: usize,
    /// Its revision.
    pub revision: u64,
    /// Whether the replica reports that it is being kept up to date.
    pub is_current: bool,
    /// The keys that exist.
    pub keys: BTreeMap<Key, State>,
}

/// A step of a cursor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The client of the cursor. A client has one cursor.
    pub client: u64,
    /// When the step arrived.
    pub at: Moment,
    /// The prefix of the cursor.
    pub prefix: Key,
    /// The index of its store in [`History::stores`].
    pub store: usize,
    /// The revision that the step leads to.
    pub revision: u64,
    /// Whether the step is a reset, which discards the state of all earlier steps.
    pub is_reset: bool,
    /// The changes since the previous step, in their order of arrival.
    pub changes: Vec<Write>,
}

/// A measured quantity with a bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gauge {
    /// The bound.
    pub bound: u64,
    /// The highest sample.
    pub highest: u64,
    /// When the highest sample was taken.
    pub at: Moment,
    /// The number of samples.
    pub samples: u64,
}

impl Gauge {
    /// Merges the samples of another gauge. The bounds may differ; the sample that comes closest to its bound, or
    /// exceeds it most, remains.
    pub(crate) fn merge(&mut self, other: &Self) {
        let excess = |gauge: &Self| i128::from(gauge.highest) - i128::from(gauge.bound);
        let samples = self.samples + other.samples;
        if excess(other) > excess(self) {
            *self = other.clone();
        }
        self.samples = samples;
    }
}

/// What happens to a real server from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Trouble {
    /// The data directory is moved away.
    DirectoryMoved,
    /// The data directory is moved away, and an empty one takes its place.
    DirectoryReplaced,
    /// A volume is mounted over the data directory.
    DirectoryCovered,
    /// The disk is full.
    DiskFull,
    /// The disk returns errors.
    DiskDead,
    /// Nothing reads the log.
    LogUnread,
}

/// The result of a write that only tests whether writes are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// The write was accepted.
    Accepted,
    /// The write was refused.
    Refused {
        /// The reason, in the server's words.
        reason: String,
    },
    /// There was no response, or the outcome is unknown.
    Unanswered {
        /// What the client reported.
        why: String,
    },
}

/// What STATUS says about the server's health. A field is `None` if the server does not send it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether the server accepts writes.
    pub accepts_writes: Option<bool>,
    /// Why it does not.
    pub reason: Option<String>,
    /// The number of lines that are missing in the log.
    pub log_lines_dropped: Option<u64>,
}

/// A write, then what the server says about itself, and then another write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examination {
    /// When it ended.
    pub at: Moment,
    /// The write before.
    pub before: Probe,
    /// The STATUS, or `None` if there was no response.
    pub health: Option<Health>,
    /// The exit code of `syncline status --check`, or `None` if it did not end by itself.
    pub exit_code: Option<i32>,
    /// The write after.
    pub after: Probe,
}

/// A trouble, and what the server said about itself during and after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// The trouble.
    pub trouble: Trouble,
    /// When it began.
    pub began_at: Moment,
    /// The examinations while it lasted, in order.
    pub during: Vec<Examination>,
    /// The lines of the log in this time.
    pub log_during: Vec<String>,
    /// What was found where the data directory should be, besides the data directory.
    pub strays: Vec<String>,
    /// When it ended.
    pub ended_at: Moment,
    /// Whether the server was restarted to end it.
    pub is_restarted: bool,
    /// The examinations after its end, in order.
    pub after: Vec<Examination>,
    /// The lines of the log after its end.
    pub log_after: Vec<String>,
}

/// Everything that was observed during a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The stores that were served, in order.
    pub stores: Vec<Store>,
    /// The commits in order. Empty for a real run, whose commits are unknown.
    pub commits: Vec<Commit>,
    /// The frames of all connections.
    pub transcripts: Vec<Transcript>,
    /// The operations of all clients.
    pub operations: Vec<Operation>,
    /// The observed contents of replicas, in order.
    pub sights: Vec<Sight>,
    /// The steps of cursors, in order.
    pub steps: Vec<Step>,
    /// What the server said about itself during faults, in order.
    #[serde(default)]
    pub incidents: Vec<Incident>,
    /// Bounded quantities by name.
    pub gauges: BTreeMap<String, Gauge>,
    /// How often each kind of event happened, by name: faults, and signs of enough load.
    pub counts: BTreeMap<String, u64>,
    /// Faults and other events that help a reader of the history.
    pub notes: Vec<(Moment, String)>,
}

impl History {
    /// Adds a sample of a bounded quantity.
    pub fn gauge(&mut self, name: &str, at: Moment, found: u64, bound: u64) {
        let found = Gauge { bound, highest: found, at, samples: 1 };
        if let Some(gauge) = self.gauges.get_mut(name) {
            gauge.merge(&found);
        } else {
            self.gauges.insert(name.to_owned(), found);
        }
    }

    /// Adds `times` occurrences of an event.
    pub fn count(&mut self, name: &str, times: u64) {
        if let Some(count) = self.counts.get_mut(name) {
            *count += times;
        } else {
            self.counts.insert(name.to_owned(), times);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_was_cut_or_changed_has_no_stamp() {
        for length in [9, 10, 100] {
            let value = Stamp(77).value(length);
            assert_eq!((value.len(), Stamp::of(&value)), (length, Stamp(77)));
        }
        let whole = Stamp(77).value(20);
        assert_eq!(Stamp::of(&whole[..19]), Stamp::TORN);
        assert_eq!(Stamp::of(&[whole.as_ref(), &[whole[19]]].concat()), Stamp::TORN);
        for index in 0..20 {
            let mut changed = whole.to_vec();
            changed[index] ^= 1;
            assert_eq!(Stamp::of(&changed), Stamp::TORN, "byte {index}");
        }
        assert_eq!((Stamp::of(b""), Stamp::of(b"1234567")), (Stamp::TORN, Stamp::TORN));
    }
}
