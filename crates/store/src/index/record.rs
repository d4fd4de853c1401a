//! The state of a key at some revision: one allocation, shared by whoever holds it, and never changed.

use bytes::Bytes;
use std::iter;
use syncline_core::{Entry, Operation};
use syncline_wire::{Revision, Version};
use triomphe::ThinArc;

/// What a [`Record`] holds beside its key and value.
#[derive(Debug)]
struct Head {
    revision: Revision,
    version: Version,
    key_length: u32,
    deleted: bool,
}

/// The state of a key at some revision. Cheap to share, and never changed.
#[derive(Clone, derive_more::Debug)]
#[debug("{:?}", _0.header.header)]
pub(crate) struct Record(ThinArc<Head, u8>);

impl Record {
    /// A key that has a value.
    pub(crate) fn value_at(revision: Revision, version: Version, key: &[u8], value: &[u8]) -> Self {
        Self::new(Head { revision, version, key_length: length(key), deleted: false }, key, value)
    }

    /// A key that was deleted, and when: milliseconds since 1970.
    pub(crate) fn tombstone(revision: Revision, version: Version, key: &[u8], time: u64) -> Self {
        Self::new(Head { revision, version, key_length: length(key), deleted: true }, key, &time.to_le_bytes())
    }

    fn new(head: Head, key: &[u8], rest: &[u8]) -> Self {
        // The allocation is made of one slice; of short ones, without another allocation.
        let mut short = [0; SHORT];
        Self(match short.get_mut(..key.len() + rest.len()) {
            Some(both) => {
                let (of_key, of_rest) = both.split_at_mut(key.len());
                of_key.copy_from_slice(key);
                of_rest.copy_from_slice(rest);
                ThinArc::from_header_and_slice(head, both)
            }
            None => ThinArc::from_header_and_slice(head, &[key, rest].concat()),
        })
    }

    /// The state after an operation of a transaction that was accepted at `time`; none after one that writes nothing.
    pub(crate) fn after(revision: Revision, operation: &Operation, time: u64) -> Option<Self> {
        match operation {
            Operation::Check { .. } => None,
            Operation::Put { key, value, version } => Some(Self::value_at(revision, *version, key, value)),
            Operation::Delete { key, version } => Some(Self::tombstone(revision, *version, key, time)),
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.0.header.header.revision
    }

    pub(crate) fn version(&self) -> Version {
        self.0.header.header.version
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.0.slice.get(..self.key_length()).unwrap_or_default()
    }

    /// What the key holds; none where it was deleted.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        if self.0.header.header.deleted { None } else { self.0.slice.get(self.key_length()..) }
    }

    /// When the key was deleted; none where it has a value.
    pub(crate) fn deleted_at(&self) -> Option<u64> {
        if !self.0.header.header.deleted {
            return None;
        }
        self.0.slice.get(self.key_length()..)?.first_chunk().map(|time| u64::from_le_bytes(*time))
    }

    /// The bytes of key and value.
    pub(crate) fn bytes(&self) -> usize {
        self.0.slice.len()
    }

    pub(crate) fn entry(&self) -> Entry {
        self.entry_of(&mut Self::all_bytes(iter::once(self)))
    }

    /// The entries of records, in their order. Keys and values are parts of one allocation.
    pub(crate) fn entries(records: &[&Self]) -> Vec<Entry> {
        let mut rest = Self::all_bytes(records.iter().copied());
        records.iter().map(|record| record.entry_of(&mut rest)).collect()
    }

    /// The same, where some are not there.
    pub(crate) fn entries_of(records: &[Option<Self>]) -> Vec<Option<Entry>> {
        let mut rest = Self::all_bytes(records.iter().flatten());
        records.iter().map(|record| Some(record.as_ref()?.entry_of(&mut rest))).collect()
    }

    /// Keys and values, one after the other.
    fn all_bytes<'a>(records: impl Iterator<Item = &'a Self> + Clone) -> Bytes {
        let length = records.clone().map(Self::entry_bytes).sum();
        let mut bytes = Vec::with_capacity(length);
        for record in records {
            bytes.extend_from_slice(record.key());
            bytes.extend_from_slice(record.value().unwrap_or_default());
        }
        bytes.into()
    }

    /// The entry, of the key and the value that come first in [`Record::all_bytes`].
    fn entry_of(&self, rest: &mut Bytes) -> Entry {
        let key = rest.split_to(self.key().len());
        let value = rest.split_to(self.value_length());
        let value = self.value().is_some().then_some(value);
        Entry { key, value, version: self.version(), revision: self.revision() }
    }

    /// The bytes of key and value of its entry: of a tombstone, the key's alone.
    pub(crate) fn entry_bytes(&self) -> usize {
        self.key().len() + self.value_length()
    }

    fn value_length(&self) -> usize {
        self.value().unwrap_or_default().len()
    }

    fn key_length(&self) -> usize {
        self.0.header.header.key_length as usize
    }
}

fn length(key: &[u8]) -> u32 {
    // Cannot be more: no frame holds a longer key.
    u32::try_from(key.len()).unwrap_or(u32::MAX)
}

/// Keys and values of up to this length together need no allocation beside the record's own.
const SHORT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_hold_what_they_are_given() {
        for (key, value) in
            [(&b""[..], &b""[..]), (b"key", b""), (b"", b"value"), (b"k", &[7; SHORT]), (b"k", &[7; SHORT - 1])]
        {
            let record = Record::value_at(Revision::new(7), Version::new(3), key, value);
            assert_eq!((record.key(), record.value(), record.bytes()), (key, Some(value), key.len() + value.len()));
            assert_eq!((record.revision().get(), record.version().get()), (7, 3));
            let tombstone = Record::tombstone(Revision::new(8), Version::new(4), key, 1234);
            assert_eq!((tombstone.key(), tombstone.value()), (key, None));
            assert_eq!((record.deleted_at(), tombstone.deleted_at()), (None, Some(1234)));
        }
    }
}
