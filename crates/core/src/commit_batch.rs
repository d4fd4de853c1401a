//! A batch of the history: transactions that were committed together, encoded once for everybody.

use crate::server::Limits;
use crate::{ConnId, Operation, Transaction};
use bytes::{Buf, Bytes, BytesMut};
use std::ops::Range;
use std::sync::Arc;
use syncline_wire::{Delete, EncodeError, Put, PutLarge, Redacted, Revision, Tag, Version};

/// In which frames a connection is told what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// PUT alone: a deletion is a PUT of nothing, and what a PUT can't carry is left out.
    Base,
    /// PUT, DELETE and PUTL, to connections that have said HELLO.
    Extended,
}

impl Dialect {
    /// Appends one write to `out`: a deletion where there is no value.
    ///
    /// # Errors
    /// Where it can't be encoded; nothing was added then. Nothing that a store holds can't be.
    pub(crate) fn encode(
        self,
        out: &mut BytesMut,
        tag: Tag,
        key: &[u8],
        value: Option<&[u8]>,
        version: Version,
    ) -> Result<(), EncodeError> {
        match (self, value) {
            (Self::Extended, None) => Delete::encode_parts(out, tag, key, version),
            (Self::Extended, Some(value)) if is_large(key, value) => {
                PutLarge::encode_parts(out, tag, key, value, version)
            }
            // The key alone may be too long.
            (Self::Base, value) if is_large(key, value.unwrap_or_default()) => Ok(()),
            (Self::Base | Self::Extended, value) => {
                Put::encode_parts(out, tag, key, value.unwrap_or_default(), version)
            }
        }
    }
}

/// Whether a PUT can't carry this.
pub(crate) const fn is_large(key: &[u8], value: &[u8]) -> bool {
    key.len() + value.len() > Limits::MAX_PUT
}

/// Where a committed transaction stands in its [`CommitBatch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the history.
    pub revision: Revision,
    /// The connection that asked for it; `None` where another process did.
    pub origin: Option<ConnId>,
    /// Where its writes end: a number of writes from the start of the batch.
    pub(crate) end: usize,
}

/// The frames of writes, one after the other.
#[derive(Clone, derive_more::Debug, Default)]
pub(crate) struct EncodedWrites {
    #[debug("{:?}", Redacted(bytes))]
    bytes: Bytes,
    /// Where the frame of each write ends; a write that has none ends where the one before it does.
    ends: Arc<[usize]>,
    /// What all keys begin with.
    common_prefix: Bytes,
}

impl EncodedWrites {
    /// The frames of a range of writes, not copied.
    pub(crate) fn slice(&self, writes: Range<usize>) -> Bytes {
        // Cannot panic: the ends grow from write to write, up to the length.
        self.bytes.slice(self.place(writes))
    }

    /// The bytes of [`EncodedWrites::slice`].
    pub(crate) fn length(&self, writes: Range<usize>) -> usize {
        self.place(writes).len()
    }

    /// The key of a write that has a frame. It stands in the same place in every kind of frame that tells of one.
    pub(crate) fn key(&self, write: usize) -> &[u8] {
        let mut rest = self.bytes.get(self.place(write..write + 1)).unwrap_or_default();
        if rest.len() < KEY_START {
            return &[];
        }
        rest.advance(KEY_START - 2);
        let length = usize::from(rest.get_u16_le());
        rest.get(..length).unwrap_or_default()
    }

    /// What the keys of all writes begin with: who watches that need not look at each.
    pub(crate) const fn common_prefix(&self) -> &Bytes {
        &self.common_prefix
    }

    fn place(&self, writes: Range<usize>) -> Range<usize> {
        let end_of = |count: usize| match count.checked_sub(1) {
            None => 0,
            Some(last) => self.ends.get(last).map_or(self.bytes.len(), |end| *end),
        };
        let start = end_of(writes.start);
        start..end_of(writes.end).max(start)
    }

    fn memory(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.ends) + self.common_prefix.len()
    }
}

/// Behind kind, tag, and the length of the key.
const KEY_START: usize = 1 + 2 + 2;

/// Transactions that were committed together, in the order of their revisions, as the frames that others are sent.
#[derive(Clone, Debug, Default)]
pub struct CommitBatch {
    commits: Vec<Committed>,
    base: EncodedWrites,
    /// Mostly the same.
    extended: EncodedWrites,
    bytes: usize,
}

impl CommitBatch {
    /// The transactions, in the order of their revisions.
    pub fn commits(&self) -> &[Committed] {
        &self.commits
    }

    /// The revision of the last transaction; `None` of an empty batch.
    pub fn last(&self) -> Option<Revision> {
        self.commits.last().map(|committed| committed.revision)
    }

    /// The memory that it takes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The frames of all writes.
    pub(crate) const fn frames(&self, dialect: Dialect) -> &EncodedWrites {
        match dialect {
            Dialect::Base => &self.base,
            Dialect::Extended => &self.extended,
        }
    }

    /// The writes of a transaction.
    pub(crate) fn writes(&self, commit: usize) -> Range<usize> {
        let end_of = |commit: usize| self.commits.get(commit).map_or(0, |committed| committed.end);
        commit.checked_sub(1).map_or(0, end_of)..end_of(commit)
    }
}

/// Makes a [`CommitBatch`], as a store accepts one transaction after the other.
#[derive(Debug, Default)]
pub struct CommitBatchBuilder {
    commits: Vec<Committed>,
    extended: Gathered,
    /// Where it differs: from the first write on that the dialects tell in different frames.
    base: Option<Gathered>,
}

#[derive(Clone, derive_more::Debug, Default)]
struct Gathered {
    #[debug("{:?}", Redacted(bytes))]
    bytes: BytesMut,
    ends: Vec<usize>,
    /// What all keys so far begin with; `None` before the first.
    common_prefix: Option<Bytes>,
}

impl Gathered {
    fn push(&mut self, dialect: Dialect, key: &[u8], value: Option<&[u8]>, version: Version) {
        let encoded = dialect.encode(&mut self.bytes, Tag::BROADCAST, key, value, version);
        debug_assert!(encoded.is_ok(), "a store holds nothing that no frame carries");
        self.ends.push(self.bytes.len());
        match &mut self.common_prefix {
            None => self.common_prefix = Some(Bytes::copy_from_slice(key)),
            // Mostly: what they have in common is soon known.
            Some(prefix) if key.starts_with(prefix) => {}
            Some(prefix) => {
                let length = prefix.iter().zip(key).take_while(|(a, b)| a == b).count();
                prefix.truncate(length);
            }
        }
    }

    fn finish(self) -> EncodedWrites {
        let common_prefix = self.common_prefix.unwrap_or_default();
        EncodedWrites { bytes: self.bytes.freeze(), ends: self.ends.into(), common_prefix }
    }
}

impl CommitBatchBuilder {
    /// An empty batch, with room for what a batch may write.
    pub fn with_room_for(batch: &[Transaction]) -> Self {
        let operations = batch.iter().map(|transaction| transaction.operations.len()).sum();
        let bytes = batch.iter().map(Transaction::bytes).sum::<usize>() + operations * Put::OVERHEAD;
        let extended = Gathered {
            bytes: BytesMut::with_capacity(bytes),
            ends: Vec::with_capacity(operations),
            common_prefix: None,
        };
        Self { commits: Vec::with_capacity(batch.len()), extended, base: None }
    }

    /// Adds an accepted transaction. Revisions only grow.
    pub fn push(&mut self, revision: Revision, transaction: &Transaction) {
        debug_assert!(self.commits.last().is_none_or(|last| last.revision < revision), "revisions grow");
        for operation in &*transaction.operations {
            let (key, value, version) = match operation {
                Operation::Check { .. } => continue,
                Operation::Put { key, value, version } => (key, Some(value.as_ref()), *version),
                Operation::Delete { key, version } => (key, None, *version),
            };
            if self.base.is_none() && value.is_none_or(|value| is_large(key, value)) {
                self.base = Some(self.extended.clone());
            }
            if let Some(base) = &mut self.base {
                base.push(Dialect::Base, key, value, version);
            }
            self.extended.push(Dialect::Extended, key, value, version);
        }
        self.commits.push(Committed { revision, origin: transaction.origin, end: self.extended.ends.len() });
    }

    /// The batch.
    pub fn finish(self) -> CommitBatch {
        let extended = self.extended.finish();
        let base = self.base.map(Gathered::finish);
        let bytes = self.commits.len() * size_of::<Committed>()
            + extended.memory()
            + base.as_ref().map_or(0, EncodedWrites::memory);
        CommitBatch { commits: self.commits, base: base.unwrap_or_else(|| extended.clone()), extended, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_wire::{Decoded, Message, decode};

    /// The frames of a range of transactions.
    fn frames(batch: &CommitBatch, dialect: Dialect, commits: Range<usize>) -> Bytes {
        let start = if commits.is_empty() { 0 } else { batch.writes(commits.start).start };
        let end = if commits.is_empty() { 0 } else { batch.writes(commits.end - 1).end };
        batch.frames(dialect).slice(start..end)
    }

    fn put(key: &'static str) -> Operation {
        Operation::Put { key: key.into(), value: "v".into(), version: Version::new(1) }
    }

    fn batch(transactions: &[(u64, Vec<Operation>)]) -> CommitBatch {
        let mut builder = CommitBatchBuilder::default();
        for (revision, operations) in transactions {
            let transaction = Transaction { origin: None, operations: operations.clone().into() };
            builder.push(Revision::new(*revision), &transaction);
        }
        builder.finish()
    }

    fn decoded(frames: &Bytes) -> Vec<Message> {
        let mut buffer = BytesMut::from(frames.as_ref());
        let mut messages = Vec::new();
        while let Ok(Decoded::Frame(message)) = decode(&mut buffer) {
            assert_eq!(message.tag(), Tag::BROADCAST);
            messages.push(message);
        }
        assert!(buffer.is_empty());
        messages
    }

    fn keys(frames: &Bytes) -> String {
        decoded(frames).iter().map(|message| String::from_utf8(message.key().unwrap().to_vec()).unwrap()).collect()
    }

    #[test]
    fn any_range_of_transactions_is_their_frames() {
        let check = Operation::Check { key: "c".into(), version: Version::new(1) };
        let batch = batch(&[(5, vec![put("a")]), (6, vec![check, put("b"), put("c")]), (9, vec![put("d")])]);
        assert_eq!(batch.last(), Some(Revision::new(9)));
        for (range, expected) in
            [(0..3, "abcd"), (0..1, "a"), (1..2, "bc"), (1..3, "bcd"), (2..3, "d"), (3..3, ""), (0..0, "")]
        {
            for dialect in [Dialect::Base, Dialect::Extended] {
                assert_eq!(keys(&frames(&batch, dialect, range.clone())), expected, "{range:?}");
            }
        }
    }

    #[test]
    fn the_key_of_every_write_is_found() {
        let large = Operation::Put { key: "large".into(), value: vec![0; 65_525].into(), version: Version::new(1) };
        let delete = Operation::Delete { key: "gone".into(), version: Version::new(7) };
        let batch = batch(&[(1, vec![put(""), large]), (2, vec![delete, put("k")])]);
        let found: Vec<_> = (0..4).map(|write| batch.frames(Dialect::Extended).key(write)).collect();
        assert_eq!(found, [&b""[..], b"large", b"gone", b"k"]);
    }

    #[test]
    fn what_all_keys_begin_with_is_known() {
        for (keys, expected) in [
            (vec!["a/b"], "a/b"),
            (vec!["a/b", "a/c"], "a/"),
            (vec!["a", "a/b", "a/c"], "a"),
            (vec!["a", "b", "a"], ""),
            (vec!["a", ""], ""),
            (vec![], ""),
        ] {
            let batch = batch(&[(1, keys.iter().map(|key| put(key)).collect())]);
            assert_eq!(batch.frames(Dialect::Extended).common_prefix(), expected, "{keys:?}");
        }
    }

    #[test]
    fn one_encoding_where_the_dialects_agree() {
        let agree = batch(&[(1, vec![put("a")]), (2, vec![put("b")])]);
        assert_eq!(agree.base.bytes.as_ptr(), agree.extended.bytes.as_ptr());
    }

    #[test]
    fn a_deletion_is_a_put_of_nothing_to_base_connections() {
        let delete = Operation::Delete { key: "k".into(), version: Version::new(7) };
        let batch = batch(&[(1, vec![put("a")]), (2, vec![delete]), (3, vec![put("b")])]);
        let base = frames(&batch, Dialect::Base, 1..2);
        assert_eq!(decoded(&base), [Message::put(Tag::BROADCAST, "k", "", Version::new(7))]);
        let extended = frames(&batch, Dialect::Extended, 1..2);
        assert_eq!(decoded(&extended), [Message::delete(Tag::BROADCAST, "k", Version::new(7))]);
        for dialect in [Dialect::Base, Dialect::Extended] {
            assert_eq!(keys(&frames(&batch, dialect, 0..3)), "akb");
        }
    }

    #[test]
    fn what_a_put_cannot_carry_is_left_out_for_base_connections() {
        for (length, expected) in [(65_524, "akb"), (65_525, "ab"), (65_535, "ab"), (65_536, "ab")] {
            let large = Operation::Put { key: "k".into(), value: vec![0; length].into(), version: Version::new(1) };
            let batch = batch(&[(1, vec![put("a")]), (2, vec![large]), (3, vec![put("b")])]);
            assert_eq!(keys(&frames(&batch, Dialect::Base, 0..3)), expected, "{length}");
            assert_eq!(keys(&frames(&batch, Dialect::Base, 1..2)), expected.replace(['a', 'b'], ""), "{length}");
            assert_eq!(keys(&frames(&batch, Dialect::Extended, 0..3)), "akb", "{length}");
        }
    }

    #[test]
    fn a_deletion_whose_key_alone_kills_old_decoders_is_left_out_for_base_connections() {
        for (length, expected) in [(65_525, 1), (65_526, 0), (65_535, 0)] {
            let delete = Operation::Delete { key: vec![b'k'; length].into(), version: Version::new(1) };
            let batch = batch(&[(1, vec![delete])]);
            assert_eq!(decoded(&frames(&batch, Dialect::Base, 0..1)).len(), expected, "{length}");
            assert_eq!(decoded(&frames(&batch, Dialect::Extended, 0..1)).len(), 1, "{length}");
        }
    }
}
