//! A stretch of the history: transactions that were committed together, encoded once for everybody.

use crate::server::Limits;
use crate::{ConnId, Operation, Transaction};
use bytes::{Bytes, BytesMut};
use std::ops::Range;
use syncline_wire::{Put, Revision, Tag};

/// Where a committed transaction stands in its [`Stretch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the history.
    pub revision: Revision,
    /// The connection that asked for it; `None` where another process did.
    pub origin: Option<ConnId>,
    /// Where its frames end.
    end: usize,
}

/// Transactions that were committed together, in the order of their revisions, as the frames that are broadcast.
#[derive(Clone, Debug, Default)]
pub struct Stretch {
    frames: Bytes,
    commits: Vec<Committed>,
}

impl Stretch {
    /// The transactions, in the order of their revisions.
    pub fn commits(&self) -> &[Committed] {
        &self.commits
    }

    /// The revision of the last transaction; `None` of an empty stretch.
    pub fn last(&self) -> Option<Revision> {
        self.commits.last().map(|committed| committed.revision)
    }

    /// The memory that it takes.
    pub fn bytes(&self) -> usize {
        self.frames.len() + self.commits.len() * size_of::<Committed>()
    }

    /// The frames of the transactions of this range, one after the other, not copied.
    pub(crate) fn frames(&self, commits: Range<usize>) -> Bytes {
        // Cannot panic: the ends grow from commit to commit, up to the length.
        self.frames.slice(self.place(commits))
    }

    /// The bytes of [`Stretch::frames`].
    pub(crate) fn frames_length(&self, commits: Range<usize>) -> usize {
        self.place(commits).len()
    }

    fn place(&self, commits: Range<usize>) -> Range<usize> {
        let end_of = |count: usize| match count.checked_sub(1) {
            None => 0,
            Some(last) => self.commits.get(last).map_or(self.frames.len(), |committed| committed.end),
        };
        let start = end_of(commits.start);
        start..end_of(commits.end).max(start)
    }
}

/// Makes a [`Stretch`], as a store accepts one transaction after the other.
#[derive(Debug, Default)]
pub struct StretchBuilder {
    frames: BytesMut,
    commits: Vec<Committed>,
}

impl StretchBuilder {
    /// An empty stretch, with room for the frames of so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { frames: BytesMut::with_capacity(bytes), commits: Vec::new() }
    }

    /// Adds an accepted transaction. Revisions only grow.
    pub fn push(&mut self, revision: Revision, transaction: &Transaction) {
        debug_assert!(self.commits.last().is_none_or(|last| last.revision < revision), "revisions grow");
        for operation in &transaction.operations {
            let (key, value, version) = match operation {
                Operation::Check { .. } => continue,
                Operation::Put { key, value, version } => (key, value.as_ref(), version),
                // To a base connection, a deletion is a PUT of nothing.
                Operation::Delete { key, version } => (key, &[][..], version),
            };
            // What a PUT can't carry is not broadcast to base connections, which could not read it.
            if key.len() + value.len() <= Limits::MAX_PUT {
                let encoded = Put::encode_parts(&mut self.frames, Tag::BROADCAST, key, value, *version);
                debug_assert!(encoded.is_ok(), "within the limits of a PUT");
            }
        }
        self.commits.push(Committed { revision, origin: transaction.origin, end: self.frames.len() });
    }

    /// The stretch.
    pub fn finish(self) -> Stretch {
        Stretch { frames: self.frames.freeze(), commits: self.commits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_wire::{Decoded, Message, Version, decode};

    fn put(key: &'static str) -> Operation {
        Operation::Put { key: key.into(), value: "v".into(), version: Version::new(1) }
    }

    fn stretch(transactions: &[(u64, Vec<Operation>)]) -> Stretch {
        let mut builder = StretchBuilder::default();
        for (revision, operations) in transactions {
            let transaction = Transaction { origin: None, operations: operations.clone() };
            builder.push(Revision::new(*revision), &transaction);
        }
        builder.finish()
    }

    fn keys(frames: &Bytes) -> Vec<String> {
        let mut buffer = BytesMut::from(frames.as_ref());
        let mut keys = Vec::new();
        while let Ok(Decoded::Frame(Message::Put(put))) = decode(&mut buffer) {
            assert_eq!(put.tag, Tag::BROADCAST);
            keys.push(String::from_utf8(put.key.into()).unwrap());
        }
        assert!(buffer.is_empty());
        keys
    }

    #[test]
    fn any_range_of_transactions_is_their_frames() {
        let check = Operation::Check { key: "c".into(), version: Version::new(1) };
        let stretch = stretch(&[(5, vec![put("a")]), (6, vec![check, put("b"), put("c")]), (9, vec![put("d")])]);
        assert_eq!(stretch.last(), Some(Revision::new(9)));
        for (range, expected) in
            [(0..3, "abcd"), (0..1, "a"), (1..2, "bc"), (1..3, "bcd"), (2..3, "d"), (3..3, ""), (0..0, "")]
        {
            assert_eq!(keys(&stretch.frames(range.clone())).concat(), expected, "{range:?}");
        }
    }

    #[test]
    fn a_deletion_is_a_put_of_nothing_to_base_connections() {
        let stretch = stretch(&[(1, vec![Operation::Delete { key: "k".into(), version: Version::new(7) }])]);
        let mut buffer = BytesMut::from(stretch.frames(0..1).as_ref());
        let expected = Message::put(Tag::BROADCAST, "k", "", Version::new(7));
        assert_eq!(decode(&mut buffer), Ok(Decoded::Frame(expected)));
    }

    #[test]
    fn what_a_put_cannot_carry_is_left_out() {
        for (length, expected) in [(65_524, "akb"), (65_525, "ab"), (65_535, "ab"), (65_536, "ab")] {
            let large = Operation::Put { key: "k".into(), value: vec![0; length].into(), version: Version::new(1) };
            let stretch = stretch(&[(1, vec![put("a")]), (2, vec![large]), (3, vec![put("b")])]);
            assert_eq!(keys(&stretch.frames(0..3)).concat(), expected, "{length}");
            assert_eq!(keys(&stretch.frames(1..2)).concat(), expected.replace(['a', 'b'], ""), "{length}");
        }
    }
}
