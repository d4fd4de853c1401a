//! What was seen of a run, simulated or real: all that the checkers know.
//!
//! It has three views of the same run, each of which may be empty: what went over the connections ([`Transcript`]), what
//! clients asked and were answered ([`Operation`]), and what their replicas and cursors showed ([`Sight`], [`Step`]). A
//! simulated run also knows what was committed ([`Commit`]); of a real one that is concluded from the rest.
//!
//! Within one store no version of a key comes twice: who writes to a key of which nothing is known takes a version that
//! is higher than all before.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A key. Those of a run are text, so that people can read them.
pub type Key = Arc<str>;

/// When something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment {
    /// Counts what is recorded of a run: of two moments, the lower came first.
    pub order: u64,
    /// The time since the run began, in microseconds; virtual in a simulation.
    pub micros: u64,
}

/// The number in a value, which no other value of the run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp(pub u64);

impl Stamp {
    /// What a value has that nobody has written as it is.
    pub const TORN: Self = Self(u64::MAX);

    /// The shortest value.
    pub const LENGTH: usize = 9;

    /// A value of at least [`Stamp::LENGTH`] bytes. Every byte of it depends on the number and the length.
    pub fn value(self, length: usize) -> Bytes {
        let number = self.0.to_le_bytes();
        let last = number.iter().fold(length.to_le_bytes()[0], |all, byte| all.wrapping_add(*byte));
        let mut value = number.to_vec();
        value.resize(length.max(Self::LENGTH), last);
        value.into()
    }

    /// The number in a value; [`Stamp::TORN`] where that is not a whole one.
    pub fn of(value: &[u8]) -> Self {
        let number = value.first_chunk().map(|number| Self(u64::from_le_bytes(*number)));
        number.filter(|stamp| stamp.value(value.len()) == value).unwrap_or(Self::TORN)
    }
}

/// What a key holds from a write on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The version of the value, or of the deletion.
    pub version: u64,
    /// The value; none: the key was deleted.
    pub value: Option<Stamp>,
}

/// A state that a key was given, or is said to have been given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// Which key.
    pub key: Key,
    /// What it holds from then on.
    #[serde(flatten)]
    pub state: State,
}

/// One history that servers have served: a store id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// Its id, in hexadecimal digits.
    pub id: String,
    /// The earlier store, as its place in [`History::stores`], whose history it begins with, and up to which revision: that
    /// of the backup that it was restored from.
    pub restored: Option<(usize, u64)>,
    /// When it was first served.
    pub since: Moment,
}

/// A transaction that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// By which store: its place in [`History::stores`]. Those that a backup holds are not told again.
    pub store: usize,
    /// Its place in the history.
    pub revision: u64,
    /// What it wrote.
    pub writes: Vec<Write>,
    /// When it became durable and visible.
    pub at: Moment,
}

/// A frame that went over a connection, as far as the checkers want to know. Tags are numbers, 0 that of broadcasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are named as in the protocol")]
pub enum Frame {
    /// A GET.
    Get { tag: u16, key: Key },
    /// A PUT, PUTL or DELETE: asked by the client; or told by the server, of anybody.
    Write { tag: u16, write: Write },
    /// An ERROR.
    Error { tag: u16, text: String },
    /// A HELLO; the server's tells the store id, in hexadecimal digits, and its head.
    Hello { tag: u16, server: Option<(String, u64)> },
    /// A WATCH.
    Watch { tag: u16, prefix: Key, since: u64 },
    /// A MARK.
    Mark { tag: u16, revision: u64 },
    /// A LIST.
    List { tag: u16, prefix: Key, after: Key, limit: u32 },
    /// A TXN: keys and the versions that they must have, and what is written then.
    Txn { tag: u16, checks: Vec<(Key, u64)>, writes: Vec<Write> },
    /// Any other.
    Other { tag: u16, kind: String },
}

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// The client has sent it.
    Sent,
    /// The client has received it.
    Received,
}

/// What went over one connection. A real one may have carried more than the client has read before it was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    /// Names the connection; no two of a run have the same.
    pub connection: u64,
    /// Whose it is.
    pub client: u64,
    /// Which store it leads to: its place in [`History::stores`].
    pub store: usize,
    /// Whole frames, in the order in which they went by.
    pub frames: Vec<(Moment, Direction, Frame)>,
    /// Whether the run has waited at its end until nothing was on the way on it any more: what it was to be told, it was
    /// told.
    pub is_drained: bool,
}

/// What a client has asked of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are named as in the protocol")]
pub enum Invocation {
    /// What a key holds.
    Get { key: Key },
    /// A PUT or a DELETE.
    Write(Write),
    /// A TXN: keys and the versions that they must have (0: not there), and what is written then.
    Txn { checks: Vec<(Key, u64)>, writes: Vec<Write> },
    /// At most so many keys under a prefix, after a key; of a replica behind a barrier, all.
    List { prefix: Key, after: Key, limit: u32 },
    /// A barrier.
    Barrier,
}

/// The name that the torture still uses for an [`Invocation`].
pub type Asked = Invocation;

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are named as in the protocol")]
pub enum Outcome {
    /// The key has a value.
    Found(State),
    /// The key is not there; the version of its deletion, where it is remembered.
    NotFound { deleted_at: Option<u64> },
    /// The write was accepted.
    Written,
    /// The transaction was accepted.
    Committed { revision: u64 },
    /// Nothing was written: the version of this key does not fit.
    Stale { key: Key },
    /// These keys are there, in this order.
    Listed { entries: Vec<Write> },
    /// The barrier was passed: what had been committed when it was asked is not after this.
    Passed { revision: u64 },
    /// Nothing was done.
    Refused,
    /// It may have been done, then or later, or not.
    Unknown,
}

/// What a client has asked, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Who has asked.
    pub client: u64,
    /// The store that has answered; where that is not known, none: it may have been any that was served meanwhile.
    pub store: Option<usize>,
    /// When it was asked.
    pub asked_at: Moment,
    /// What was asked.
    pub asked: Invocation,
    /// When it was answered, or given up.
    pub ended_at: Moment,
    /// What became of it. What is open at the end of a run is [`Outcome::Unknown`].
    pub outcome: Outcome,
}

/// What a replica has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// Whose replica it is.
    pub client: u64,
    /// When.
    pub at: Moment,
    /// What its keys start with.
    pub prefix: Key,
    /// Whose history it shows: its place in [`History::stores`].
    pub store: usize,
    /// As of which revision.
    pub revision: u64,
    /// Whether it says of itself that it is kept up to date.
    pub is_current: bool,
    /// The keys that are there.
    pub keys: BTreeMap<Key, State>,
}

/// What a cursor has told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Whose cursor it is; a client has one.
    pub client: u64,
    /// When.
    pub at: Moment,
    /// What its keys start with.
    pub prefix: Key,
    /// Whose history it tells: its place in [`History::stores`].
    pub store: usize,
    /// Up to which revision.
    pub revision: u64,
    /// Whether what it has told before is to be forgotten.
    pub is_reset: bool,
    /// What has changed since its last step, in the order in which it was told.
    pub changes: Vec<Write>,
}

/// Something that must never be more than so much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gauge {
    /// The bound.
    pub bound: u64,
    /// The most that there was.
    pub highest: u64,
    /// When that was.
    pub at: Moment,
    /// How often it was looked at.
    pub samples: u64,
}

impl Gauge {
    /// Takes in what was found elsewhere. Bounds may differ: what counts is by how much one was passed, or nearly so.
    pub(crate) fn merge(&mut self, other: &Self) {
        let excess = |gauge: &Self| i128::from(gauge.highest) - i128::from(gauge.bound);
        let samples = self.samples + other.samples;
        if excess(other) > excess(self) {
            *self = other.clone();
        }
        self.samples = samples;
    }
}

/// What was seen of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The histories that were served, in the order in which they were.
    pub stores: Vec<Store>,
    /// What was committed, in order; all of it, or, of a real run, nothing.
    pub commits: Vec<Commit>,
    /// What went over the connections.
    pub transcripts: Vec<Transcript>,
    /// What was asked and answered.
    pub operations: Vec<Operation>,
    /// What replicas have shown, in order.
    pub sights: Vec<Sight>,
    /// What cursors have told, in order.
    pub steps: Vec<Step>,
    /// What is bounded, by its name.
    pub gauges: BTreeMap<String, Gauge>,
    /// What has happened how often, by its name: faults, and what shows that a run was no idle one.
    pub counts: BTreeMap<String, u64>,
    /// Faults and other things worth knowing, for people who read the history.
    pub notes: Vec<(Moment, String)>,
}

impl History {
    /// Notes how much of something bounded there is.
    pub fn gauge(&mut self, name: &str, at: Moment, found: u64, bound: u64) {
        let found = Gauge { bound, highest: found, at, samples: 1 };
        if let Some(gauge) = self.gauges.get_mut(name) {
            gauge.merge(&found);
        } else {
            self.gauges.insert(name.to_owned(), found);
        }
    }

    /// Something has happened so many times.
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
    fn a_value_that_was_cut_or_changed_has_no_number() {
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
