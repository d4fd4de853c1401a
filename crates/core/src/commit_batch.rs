//! A batch of the history: transactions that were committed together, encoded once for all connections.
//!
//! Engines feed [`Committed`] transactions. The server encodes them here as the frames that its connections are sent,
//! and appends the result to its [`RecentLog`](crate::RecentLog).

use crate::id::ConnId;
use crate::transaction::Committed;
use bytes::{Buf, Bytes, BytesMut};
use std::ops::Range;
use std::sync::Arc;
use syncline_wire::{Delete, EncodeError, Operation, Put, PutLarge, Redacted, Revision, Tag, Version};

/// The kinds of frames that describe writes to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// PUT only: a deletion is a PUT with an empty value, and a write that is too large for a PUT is omitted.
    Base,
    /// PUT, DELETE and PUTL, for connections that have sent HELLO.
    Extended,
}

impl Dialect {
    /// Appends one write to `out`: a deletion if `value` is `None`.
    ///
    /// # Errors
    /// Returns an error if the write cannot be encoded; `out` is unchanged then. Every write that a store accepts can
    /// be encoded.
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

/// Returns whether this key and value are too large for a PUT.
pub(crate) const fn is_large(key: &[u8], value: &[u8]) -> bool {
    key.len() + value.len() > Put::MAX_ENTRY
}

/// One transaction of a [`CommitBatch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodedCommit {
    /// Its position in the history.
    pub revision: Revision,
    /// The connection that requested it, or `None` if another process did.
    pub origin: Option<ConnId>,
    /// The number of writes from the start of the batch to the end of this transaction.
    pub(crate) end: usize,
}

/// The frames of consecutive writes.
#[derive(derive_more::Debug, Default)]
pub(crate) struct EncodedWrites {
    #[debug("{:?}", Redacted(bytes))]
    bytes: Bytes,
    /// The end of each write's frame in `bytes`. A write without a frame ends where the previous one ends.
    ends: Vec<usize>,
    /// The longest common prefix of all keys.
    common_prefix: Bytes,
}

impl EncodedWrites {
    /// Returns the frames of a range of writes, without copying them.
    pub(crate) fn slice(&self, writes: Range<usize>) -> Bytes {
        // Cannot panic: the ends are ascending, and none exceeds the length.
        self.bytes.slice(self.byte_range(writes))
    }

    /// Returns the length of [`EncodedWrites::slice`].
    pub(crate) fn length(&self, writes: Range<usize>) -> usize {
        self.byte_range(writes).len()
    }

    /// Returns the key of a write that has a frame. All kinds of frames that describe a write have it at the same
    /// offset.
    pub(crate) fn key(&self, write: usize) -> &[u8] {
        let mut rest = self.bytes.get(self.byte_range(write..write + 1)).unwrap_or_default();
        if rest.len() < KEY_OFFSET {
            return &[];
        }
        rest.advance(KEY_OFFSET - 2);
        let length = usize::from(rest.get_u16_le());
        rest.get(..length).unwrap_or_default()
    }

    /// Returns the longest common prefix of all keys. A watcher of this prefix needs every write, so their keys need
    /// not be compared one by one.
    pub(crate) const fn common_prefix(&self) -> &Bytes {
        &self.common_prefix
    }

    fn byte_range(&self, writes: Range<usize>) -> Range<usize> {
        let end_of = |count: usize| match count.checked_sub(1) {
            None => 0,
            Some(last) => self.ends.get(last).map_or(self.bytes.len(), |end| *end),
        };
        let start = end_of(writes.start);
        start..end_of(writes.end).max(start)
    }

    fn memory(&self) -> usize {
        self.bytes.len() + self.ends.capacity() * size_of::<usize>() + self.common_prefix.len()
    }
}

/// The offset of the key in a frame: after kind, tag, and the length of the key.
const KEY_OFFSET: usize = 1 + 2 + 2;

/// Transactions that were committed together, in the order of their revisions, as the frames that connections are sent.
#[derive(Clone, Debug, Default)]
pub struct CommitBatch {
    commits: Vec<EncodedCommit>,
    base: Arc<EncodedWrites>,
    /// The same as `base` if the dialects encode all writes alike.
    extended: Arc<EncodedWrites>,
    bytes: usize,
}

impl CommitBatch {
    /// Encodes transactions, which must be in the order of their revisions.
    pub fn encode(committed: &[Committed]) -> Self {
        let operations = committed.iter().map(|transaction| transaction.operations.len()).sum();
        let bytes = committed.iter().map(Committed::bytes).sum::<usize>() + operations * Put::OVERHEAD;
        let mut commits = Vec::with_capacity(committed.len());
        let mut extended = WritesEncoder::with_capacity(operations, bytes);
        // Made for the first write that the dialects encode differently.
        let mut base: Option<WritesEncoder> = None;
        for transaction in committed {
            let (revision, origin) = (transaction.revision, transaction.origin);
            debug_assert!(commits.last().is_none_or(|last: &EncodedCommit| last.revision < revision), "ascending");
            for operation in &*transaction.operations {
                let (key, value, version) = match operation {
                    Operation::Check { .. } => continue,
                    Operation::Put { key, value, version } => (key, Some(value.as_ref()), *version),
                    Operation::Delete { key, version } => (key, None, *version),
                };
                if base.is_none() && value.is_none_or(|value| is_large(key, value)) {
                    base = Some(extended.clone());
                }
                if let Some(base) = &mut base {
                    base.push(Dialect::Base, key, value, version);
                }
                extended.push(Dialect::Extended, key, value, version);
            }
            commits.push(EncodedCommit { revision, origin, end: extended.ends.len() });
        }
        let extended = extended.finish();
        let base = base.map(WritesEncoder::finish);
        let bytes = size_of_val(&*commits) + extended.memory() + base.as_ref().map_or(0, EncodedWrites::memory);
        let extended = Arc::new(extended);
        Self { commits, base: base.map_or_else(|| extended.clone(), Arc::new), extended, bytes }
    }

    /// Returns the transactions, in the order of their revisions.
    pub fn commits(&self) -> &[EncodedCommit] {
        &self.commits
    }

    /// Returns the revision of the last transaction, or `None` if the batch is empty.
    pub fn last(&self) -> Option<Revision> {
        self.commits.last().map(|commit| commit.revision)
    }

    /// Returns how many bytes of memory the batch takes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the frames of all writes.
    pub(crate) fn frames(&self, dialect: Dialect) -> &EncodedWrites {
        match dialect {
            Dialect::Base => &self.base,
            Dialect::Extended => &self.extended,
        }
    }

    /// Returns the writes of a transaction, as positions in the frames.
    pub(crate) fn writes(&self, commit: usize) -> Range<usize> {
        let end_of = |commit: usize| self.commits.get(commit).map_or(0, |commit| commit.end);
        commit.checked_sub(1).map_or(0, end_of)..end_of(commit)
    }
}

/// Appends the frames of one write after the other.
#[derive(Clone)]
struct WritesEncoder<'a> {
    bytes: BytesMut,
    ends: Vec<usize>,
    /// The longest common prefix of all keys so far; `None` before the first key.
    common_prefix: Option<&'a [u8]>,
}

impl<'a> WritesEncoder<'a> {
    fn with_capacity(writes: usize, bytes: usize) -> Self {
        Self { bytes: BytesMut::with_capacity(bytes), ends: Vec::with_capacity(writes), common_prefix: None }
    }

    fn push(&mut self, dialect: Dialect, key: &'a [u8], value: Option<&[u8]>, version: Version) {
        let encoded = dialect.encode(&mut self.bytes, Tag::BROADCAST, key, value, version);
        debug_assert!(encoded.is_ok(), "a store accepts no write that cannot be encoded");
        self.ends.push(self.bytes.len());
        match self.common_prefix {
            None => self.common_prefix = Some(key),
            // The usual case: the common prefix no longer shrinks after the first few keys.
            Some(prefix) if key.starts_with(prefix) => {}
            Some(prefix) => {
                let length = prefix.iter().zip(key).take_while(|(a, b)| a == b).count();
                self.common_prefix = prefix.get(..length);
            }
        }
    }

    fn finish(self) -> EncodedWrites {
        let common_prefix = Bytes::copy_from_slice(self.common_prefix.unwrap_or_default());
        EncodedWrites { bytes: self.bytes.freeze(), ends: self.ends, common_prefix }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_wire::{Decoded, Message, decode};

    /// Returns the frames of a range of transactions.
    fn frames(batch: &CommitBatch, dialect: Dialect, commits: Range<usize>) -> Bytes {
        let start = if commits.is_empty() { 0 } else { batch.writes(commits.start).start };
        let end = if commits.is_empty() { 0 } else { batch.writes(commits.end - 1).end };
        batch.frames(dialect).slice(start..end)
    }

    fn put(key: &'static str) -> Operation {
        Operation::Put { key: key.into(), value: "v".into(), version: Version::new(1) }
    }

    fn batch(transactions: &[(u64, Vec<Operation>)]) -> CommitBatch {
        let committed = |(revision, operations): &(u64, Vec<Operation>)| Committed {
            revision: Revision::new(*revision),
            origin: None,
            operations: operations.clone().into(),
        };
        CommitBatch::encode(&transactions.iter().map(committed).collect::<Vec<_>>())
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
    fn any_range_of_transactions_has_its_own_frames() {
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
    fn every_write_has_its_key() {
        let large = Operation::Put { key: "large".into(), value: vec![0; 65_525].into(), version: Version::new(1) };
        let delete = Operation::Delete { key: "gone".into(), version: Version::new(7) };
        let batch = batch(&[(1, vec![put(""), large]), (2, vec![delete, put("k")])]);
        let found: Vec<_> = (0..4).map(|write| batch.frames(Dialect::Extended).key(write)).collect();
        assert_eq!(found, [&b""[..], b"large", b"gone", b"k"]);
    }

    #[test]
    fn the_common_prefix_of_all_keys_is_known() {
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
    fn dialects_that_agree_share_one_encoding() {
        let agree = batch(&[(1, vec![put("a")]), (2, vec![put("b")])]);
        assert!(Arc::ptr_eq(&agree.base, &agree.extended));
    }

    #[test]
    fn a_deletion_is_an_empty_put_for_base_connections() {
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
    fn a_write_too_large_for_a_put_is_omitted_for_base_connections() {
        for (length, expected) in [(65_524, "akb"), (65_525, "ab"), (65_535, "ab"), (65_536, "ab")] {
            let large = Operation::Put { key: "k".into(), value: vec![0; length].into(), version: Version::new(1) };
            let batch = batch(&[(1, vec![put("a")]), (2, vec![large]), (3, vec![put("b")])]);
            assert_eq!(keys(&frames(&batch, Dialect::Base, 0..3)), expected, "{length}");
            assert_eq!(keys(&frames(&batch, Dialect::Base, 1..2)), expected.replace(['a', 'b'], ""), "{length}");
            assert_eq!(keys(&frames(&batch, Dialect::Extended, 0..3)), "akb", "{length}");
        }
    }

    #[test]
    fn a_deletion_with_too_long_a_key_is_omitted_for_base_connections() {
        for (length, expected) in [(65_525, 1), (65_526, 0), (65_535, 0)] {
            let delete = Operation::Delete { key: vec![b'k'; length].into(), version: Version::new(1) };
            let batch = batch(&[(1, vec![delete])]);
            assert_eq!(decoded(&frames(&batch, Dialect::Base, 0..1)).len(), expected, "{length}");
            assert_eq!(decoded(&frames(&batch, Dialect::Extended, 0..1)).len(), 1, "{length}");
        }
    }
}
