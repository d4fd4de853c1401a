//! A record: the state of a key at some revision. It is one allocation, shared by its readers, and never changes.
//!
//! ```text
//!           head                        slice
//!           ┌──────────┬───────────────┐┌──────┬─────────┬───────┬─────────
//!   narrow  │ revision │ length of key ││ form │ version │ key … │ value …
//!           │ 48 bits  │ 16 bits       ││ u8   │ 24 bits │       │
//!           └──────────┴───────────────┘└──────┴─────────┴───────┴─────────
//!           ┌──────────┬───────────────┐┌──────┬─────────┬──────────┬─────────┬───────────────┬───────┬─────────
//!   wide    │ 0        │ all bits set  ││ form │ 0       │ revision │ version │ length of key │ key … │ value …
//!           │          │               ││ u8   │         │ u64      │ u64     │ u32           │       │
//!           └──────────┴───────────────┘└──────┴─────────┴──────────┴─────────┴───────────────┴───────┴─────────
//! ```
//!
//! If a number is too large for the narrow form, all numbers are in the wide one. A tombstone has its time in place
//! of a value. There are as many records as keys, so every byte counts: the numbers take 12 bytes instead of the 24
//! of a `struct`.

use bytes::Bytes;
use std::fmt::{self, Debug, Formatter};
use syncline_core::{Entry, Operation};
use syncline_wire::{Revision, Version};
use triomphe::ThinArc;

/// The forms of a record.
const VALUE: u8 = 0;
const TOMBSTONE: u8 = 1;

/// The number of bits of narrow numbers, and the length of a key that marks the wide form.
const REVISION_BITS: u32 = 48;
const VERSION_BITS: u32 = 24;
const WIDE: u16 = u16::MAX;

/// The form comes before the version.
const FORM_BITS: u32 = 8;

/// The offsets of wide numbers in the slice.
const WIDE_REVISION: usize = 4;
const WIDE_VERSION: usize = 12;
const WIDE_LENGTH: usize = 20;

/// The offset of the key in the slice.
const NARROW_KEY: usize = 4;
const WIDE_KEY: usize = 24;

/// The state of a key at some revision. It is cheap to clone, and never changes.
#[derive(Clone)]
pub(crate) struct Record(ThinArc<u64, u8>);

impl Record {
    /// Creates the record of a key with a value.
    pub(crate) fn value_at(revision: Revision, version: Version, key: &[u8], value: &[u8]) -> Self {
        Self::new(VALUE, revision, version, key, value)
    }

    /// Creates the record of a key that was deleted at `time`, in milliseconds since 1970.
    pub(crate) fn tombstone(revision: Revision, version: Version, key: &[u8], time: u64) -> Self {
        Self::new(TOMBSTONE, revision, version, key, &time.to_le_bytes())
    }

    fn new(form: u8, revision: Revision, version: Version, key: &[u8], rest: &[u8]) -> Self {
        let (revision, version) = (revision.get(), version.get());
        let is_narrow = revision >> REVISION_BITS == 0 && version >> VERSION_BITS == 0;
        let length = u16::try_from(key.len()).unwrap_or(WIDE);
        if is_narrow && length != WIDE {
            let [v0, v1, v2, ..] = version.to_le_bytes();
            return Self::of(revision | u64::from(length) << REVISION_BITS, [form, v0, v1, v2], key, rest);
        }
        let mut start = [0; WIDE_KEY];
        // Cannot overflow: no frame holds a longer key.
        let length = u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes();
        let (revision, version) = (revision.to_le_bytes(), version.to_le_bytes());
        let bytes = [form, 0, 0, 0].into_iter().chain(revision).chain(version).chain(length);
        start.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Self::of(u64::from(WIDE) << REVISION_BITS, start, key, rest)
    }

    /// Creates the allocation from one slice. Short slices are assembled on the stack.
    fn of<const START: usize>(head: u64, start: [u8; START], key: &[u8], rest: &[u8]) -> Self {
        let mut short = [0; SHORT];
        Self(match short.get_mut(..START + key.len() + rest.len()) {
            Some(all) => {
                let (of_start, behind) = all.split_at_mut(START);
                let (of_key, of_rest) = behind.split_at_mut(key.len());
                of_start.copy_from_slice(&start);
                of_key.copy_from_slice(key);
                of_rest.copy_from_slice(rest);
                ThinArc::from_header_and_slice(head, all)
            }
            None => ThinArc::from_header_and_slice(head, &[&start, key, rest].concat()),
        })
    }

    /// Returns the state after an operation that was accepted at `time`, or `None` if the operation writes
    /// nothing.
    pub(crate) fn after(revision: Revision, operation: &Operation, time: u64) -> Option<Self> {
        match operation {
            Operation::Check { .. } => None,
            Operation::Put { key, value, version } => Some(Self::value_at(revision, *version, key, value)),
            Operation::Delete { key, version } => Some(Self::tombstone(revision, *version, key, time)),
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        Revision::new(match self.narrow_length() {
            Some(_) => self.0.header.header & ((1 << REVISION_BITS) - 1),
            None => self.number(WIDE_REVISION),
        })
    }

    pub(crate) fn version(&self) -> Version {
        Version::new(match self.narrow_length() {
            Some(_) => u64::from(self.short_number(0) >> FORM_BITS),
            None => self.number(WIDE_VERSION),
        })
    }

    pub(crate) fn key(&self) -> &[u8] {
        let (start, length) = self.place_of_key();
        self.0.slice.get(start..start + length).unwrap_or_default()
    }

    /// Returns whether the key was deleted.
    pub(crate) fn is_tombstone(&self) -> bool {
        self.0.slice.first() == Some(&TOMBSTONE)
    }

    /// Returns the value, or `None` if the key was deleted.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        if self.is_tombstone() { None } else { self.behind_key() }
    }

    /// Returns when the key was deleted, or `None` if it has a value.
    pub(crate) fn deleted_at(&self) -> Option<u64> {
        if !self.is_tombstone() {
            return None;
        }
        self.behind_key()?.first_chunk().map(|time| u64::from_le_bytes(*time))
    }

    /// Returns the bytes of key and value; a tombstone counts its time as value.
    pub(crate) fn bytes(&self) -> usize {
        self.0.slice.len() - self.place_of_key().0
    }

    /// Returns the entry, which shares the memory of the record.
    pub(crate) fn entry(&self) -> Entry {
        self.entry_of(&mut Bytes::from_owner(KeyAndValue(self.clone())))
    }

    /// Returns the entries of records, in order. Keys and values share one allocation.
    pub(crate) fn entries(records: &[&Self]) -> Vec<Entry> {
        let mut rest = Self::all_bytes(records.iter().copied());
        records.iter().map(|record| record.entry_of(&mut rest)).collect()
    }

    /// Like [`Record::entries`], for records of which some are missing.
    pub(crate) fn entries_of(records: &[Option<Self>]) -> Vec<Option<Entry>> {
        let mut rest = Self::all_bytes(records.iter().flatten());
        records.iter().map(|record| Some(record.as_ref()?.entry_of(&mut rest))).collect()
    }

    /// Returns the keys and values, one after the other.
    fn all_bytes<'a>(records: impl Iterator<Item = &'a Self> + Clone) -> Bytes {
        let length = records.clone().map(Self::entry_bytes).sum();
        let mut bytes = Vec::with_capacity(length);
        for record in records {
            bytes.extend_from_slice(record.key_and_value());
        }
        bytes.into()
    }

    /// Returns the entry, and removes its key and value from the start of [`Record::all_bytes`].
    fn entry_of(&self, rest: &mut Bytes) -> Entry {
        let (length, key_length) = (self.entry_bytes(), self.place_of_key().1);
        let key = rest.split_to(key_length);
        let value = rest.split_to(length - key_length);
        let value = (!self.is_tombstone()).then_some(value);
        Entry { key, value, version: self.version(), revision: self.revision() }
    }

    /// Returns the bytes of key and value of its entry; of a tombstone, those of the key.
    pub(crate) fn entry_bytes(&self) -> usize {
        self.key_and_value().len()
    }

    /// Returns the key, followed by the value if there is one.
    fn key_and_value(&self) -> &[u8] {
        if self.is_tombstone() {
            return self.key();
        }
        self.0.slice.get(self.place_of_key().0..).unwrap_or_default()
    }

    /// Returns the offset and the length of the key.
    fn place_of_key(&self) -> (usize, usize) {
        match self.narrow_length() {
            Some(length) => (NARROW_KEY, length),
            None => (WIDE_KEY, self.short_number(WIDE_LENGTH) as usize),
        }
    }

    /// Returns the length of the key, or `None` in the wide form.
    fn narrow_length(&self) -> Option<usize> {
        let length = self.0.header.header >> REVISION_BITS;
        (length != u64::from(WIDE)).then_some(usize::try_from(length).unwrap_or_default())
    }

    fn behind_key(&self) -> Option<&[u8]> {
        let (start, length) = self.place_of_key();
        self.0.slice.get(start + length..)
    }

    fn number(&self, place: usize) -> u64 {
        let bytes = self.0.slice.get(place..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    fn short_number(&self, place: usize) -> u32 {
        let bytes = self.0.slice.get(place..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }
}

/// The owner of the bytes of an entry.
struct KeyAndValue(Record);

impl AsRef<[u8]> for KeyAndValue {
    fn as_ref(&self) -> &[u8] {
        self.0.key_and_value()
    }
}

impl Debug for Record {
    /// Shows neither key nor value.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Record");
        shown.field("revision", &self.revision()).field("version", &self.version());
        shown.field("deleted", &self.is_tombstone()).finish_non_exhaustive()
    }
}

/// Records up to this size need no temporary allocation.
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

    #[test]
    fn numbers_of_any_size_are_kept() {
        let long = vec![b'k'; usize::from(u16::MAX) + 1];
        let (revisions, versions) =
            ([0, (1 << 48) - 1, 1 << 48, u64::MAX], [0, (1 << 24) - 1, 1 << 24, 1 << 56, u64::MAX]);
        for key in [&b"key"[..], &long[2..], &long[1..], &long] {
            for (revision, version) in revisions.into_iter().flat_map(|r| versions.map(|v| (r, v))) {
                let (at, version) = (Revision::new(revision), Version::new(version));
                let record = Record::value_at(at, version, key, b"value");
                assert_eq!((record.revision(), record.version()), (at, version));
                assert_eq!((record.key(), record.value(), record.bytes()), (key, Some(&b"value"[..]), key.len() + 5));
                let tombstone = Record::tombstone(at, version, key, u64::MAX);
                assert_eq!((tombstone.revision(), tombstone.version()), (at, version));
                assert_eq!((tombstone.key(), tombstone.deleted_at()), (key, Some(u64::MAX)));
            }
        }
    }
}
