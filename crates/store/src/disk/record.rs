//! A record of the log: a batch of transactions.
//!
//! ```text
//!  0        4        8         16               24               32        40      44         48           52
//!  ┌────────┬────────┬─────────┬────────────────┬────────────────┬─────────┬───────┬──────────┬────────────┬───────────
//!  │ length │ crc of │ segment │ first revision │ synced through │ time ms │ count │ previous │ crc of the │ trans-
//!  │        │  body  │         │                │                │         │       │          │   header   │ actions …
//!  └────────┴────────┴─────────┴────────────────┴────────────────┴─────────┴───────┴──────────┴────────────┴───────────
//!
//!  transaction: operations: u16, then each as in a TXN frame of the wire protocol:
//!    PUT     1: u8, key: string, value: string, version: u64
//!    DELETE  5: u8, key: string, version: u64
//!    PUTL   10: u8, key: string, value: u32 and that many bytes, version: u64; a value that is too long for a string
//! ```
//!
//! Integers are little-endian. `length` counts the whole record, including itself; the next record starts at the next
//! multiple of 8. Checksums are CRC-32C. The checksum of the header covers the checksum seed of the directory and the
//! header before it. So a record of another directory is not accepted, and other bytes are rejected without reading
//! on. `previous` is the header checksum of the previous record, so that the remains of other writes after a crash
//! can never be taken for a continuation. Transactions have consecutive revisions.

use bytes::{Buf, BufMut};
use syncline_core::{Operation, Transaction};
use syncline_wire::{Redacted, Revision, Version};

/// The length of the header.
pub(crate) const HEADER: usize = 52;

/// The part of the header that its checksum covers.
const CHECKED: usize = HEADER - 4;

/// Records start at multiples of this.
pub(crate) const ALIGNMENT: usize = 8;

/// The kinds of operations, numbered as in the wire protocol.
const PUT: u8 = 1;
const DELETE: u8 = 5;
const PUT_LARGE: u8 = 10;

/// A secret of the directory with which its checksums begin, so that a client cannot write a value that looks like a
/// record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChecksumSeed(pub(crate) u32);

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The length of the record in bytes.
    pub(crate) length: usize,
    /// The id of the segment that it was written to.
    pub(crate) segment: u64,
    /// The revision of its first transaction.
    pub(crate) first: Revision,
    /// Everything up to this revision was synced when the record was written.
    pub(crate) synced: Revision,
    /// When it was written, in milliseconds since 1970, by the clock of the machine.
    pub(crate) time: u64,
    /// The number of its transactions.
    pub(crate) count: u32,
    /// The header checksum of the previous record; 0 if there is none.
    pub(crate) previous: u32,
    /// The checksum of this header.
    pub(crate) checksum: u32,
}

impl Header {
    /// Returns the revision of its last transaction, or the one before `first` if it has no transactions.
    pub(crate) const fn last(&self) -> Revision {
        Revision::new((self.first.get() + self.count as u64).saturating_sub(1))
    }

    /// Returns the distance from the start of this record to the start of the next.
    pub(crate) const fn padded(&self) -> usize {
        self.length.next_multiple_of(ALIGNMENT)
    }
}

/// Encodes accepted transactions into a record. Its buffer is reused.
#[derive(derive_more::Debug, Default)]
pub(crate) struct Encoder {
    #[debug("{:?}", Redacted(bytes))]
    bytes: Vec<u8>,
    count: u32,
}

impl Encoder {
    /// Begins a new record.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(HEADER, 0);
        self.count = 0;
    }

    /// Returns the length of the record so far.
    pub(crate) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Appends an accepted transaction.
    pub(crate) fn push(&mut self, transaction: &Transaction) {
        let place = self.bytes.len();
        self.bytes.put_u16_le(0);
        // Cannot overflow: `fits` has checked the transaction.
        let mut writes = 0_u16;
        for operation in &*transaction.operations {
            let write = match operation {
                Operation::Check { .. } => continue,
                Operation::Put { key, value, version } => Write { key, value: Some(value), version: *version },
                Operation::Delete { key, version } => Write { key, value: None, version: *version },
            };
            write.encode(&mut self.bytes);
            writes = writes.saturating_add(1);
        }
        if let Some(mut count) = self.bytes.get_mut(place..place + 2) {
            count.put_u16_le(writes);
        }
        self.count += 1;
    }

    /// Completes the record, and returns it with its header checksum. `length`, `count` and `checksum` of
    /// `header` are ignored and computed here.
    pub(crate) fn finish(&mut self, seed: ChecksumSeed, header: Header) -> (&[u8], u32) {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let body = crc32c::crc32c(self.bytes.get(HEADER..).unwrap_or_default());
        if let Some(mut head) = self.bytes.get_mut(..CHECKED) {
            head.put_u32_le(length);
            head.put_u32_le(body);
            head.put_u64_le(header.segment);
            head.put_u64_le(header.first.get());
            head.put_u64_le(header.synced.get());
            head.put_u64_le(header.time);
            head.put_u32_le(self.count);
            head.put_u32_le(header.previous);
        }
        let checksum = header_checksum(seed, &self.bytes);
        if let Some(place) = self.bytes.get_mut(CHECKED..HEADER) {
            place.copy_from_slice(&checksum.to_le_bytes());
        }
        (&self.bytes, checksum)
    }
}

fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    // Cannot overflow: `fits` has checked the transaction.
    out.put_u16_le(u16::try_from(string.len()).unwrap_or(u16::MAX));
    out.put_slice(string);
}

/// Returns whether a record can hold a transaction. The length of a key has 16 bits; those of a value and of the
/// record have 32.
pub(crate) fn fits(transaction: &Transaction) -> bool {
    u16::try_from(transaction.operations.len()).is_ok()
        && transaction.operations.iter().all(|operation| u16::try_from(operation.key().len()).is_ok())
        && u32::try_from(HEADER + length(transaction)).is_ok()
}

/// Returns the maximum length of a transaction in a record.
pub(crate) fn length(transaction: &Transaction) -> usize {
    // The number of operations; for each operation its kind, two lengths and a version.
    2 + transaction.bytes() + transaction.operations.len() * (1 + 2 + 4 + 8)
}

fn header_checksum(seed: ChecksumSeed, record: &[u8]) -> u32 {
    crc32c::crc32c_append(seed.0, record.get(..CHECKED).unwrap_or_default())
}

/// Returns the header at the start of `bytes`, if there is one, and the checksum of its body.
fn find_header(seed: ChecksumSeed, bytes: &[u8]) -> Option<(Header, u32)> {
    let mut head = bytes.get(..HEADER)?;
    let length = head.get_u32_le() as usize;
    if length < HEADER {
        return None;
    }
    let body_checksum = head.get_u32_le();
    let header = Header {
        length,
        segment: head.get_u64_le(),
        first: Revision::new(head.get_u64_le()),
        synced: Revision::new(head.get_u64_le()),
        time: head.get_u64_le(),
        count: head.get_u32_le(),
        previous: head.get_u32_le(),
        checksum: head.get_u32_le(),
    };
    (header.checksum == header_checksum(seed, bytes)).then_some((header, body_checksum))
}

/// Returns the header at the start of `bytes`, if there is one. The body may be anything.
pub(crate) fn header_of(seed: ChecksumSeed, bytes: &[u8]) -> Option<Header> {
    find_header(seed, bytes).map(|(header, _)| header)
}

/// Returns the length of the record whose header is at the start of `bytes`, if there is one.
pub(crate) fn expected_length(seed: ChecksumSeed, bytes: &[u8]) -> Option<usize> {
    find_header(seed, bytes).map(|(header, _)| header.length)
}

/// Returns the record at the start of `bytes`, if there is one: its header and its transactions.
pub(crate) fn find(seed: ChecksumSeed, bytes: &[u8]) -> Option<(Header, &[u8])> {
    let (header, body_checksum) = find_header(seed, bytes)?;
    let body = bytes.get(HEADER..header.length)?;
    (crc32c::crc32c(body) == body_checksum).then_some((header, body))
}

/// Returns all records in `bytes` at or after `from`, at any aligned offset: the offset and the header of each.
pub(crate) fn find_all(seed: ChecksumSeed, bytes: &[u8], from: usize) -> impl Iterator<Item = (usize, Header)> {
    let mut offset = from;
    std::iter::from_fn(move || {
        while let Some(rest) = bytes.get(offset..)
            && rest.len() >= HEADER
        {
            if let Some((header, _)) = find(seed, rest) {
                let found = offset;
                offset += header.padded();
                return Some((found, header));
            }
            offset += ALIGNMENT;
        }
        None
    })
}

/// A write of a transaction in a record: a put, or a deletion if there is no value.
#[derive(Clone, Copy, derive_more::Debug, PartialEq, Eq)]
pub(crate) struct Write<'a> {
    pub(crate) key: &'a [u8],
    #[debug("{:?}", value.map(Redacted))]
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) version: Version,
}

/// Calls `take` with every write of a record, and its revision. Returns whether the body holds exactly the
/// transactions that the header announces. With a right checksum, only a bug of this program can make it return
/// `false`.
pub(crate) fn writes<'a>(header: &Header, mut bytes: &'a [u8], mut take: impl FnMut(Revision, Write<'a>)) -> bool {
    let mut revision = header.first;
    for _ in 0..header.count {
        let Ok(operations) = bytes.try_get_u16_le() else { return false };
        for _ in 0..operations {
            match Write::decode(&mut bytes) {
                Some(write) => take(revision, write),
                None => return false,
            }
        }
        revision = Revision::new(revision.get().saturating_add(1));
    }
    bytes.is_empty()
}

impl<'a> Write<'a> {
    /// Appends the write, encoded like an operation of a TXN frame.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self.value {
            None => {
                out.put_u8(DELETE);
                put_string(out, self.key);
            }
            Some(value) if u16::try_from(value.len()).is_ok() => {
                out.put_u8(PUT);
                put_string(out, self.key);
                put_string(out, value);
            }
            Some(value) => {
                out.put_u8(PUT_LARGE);
                put_string(out, self.key);
                // Cannot overflow: `fits` has checked the transaction.
                out.put_u32_le(u32::try_from(value.len()).unwrap_or(u32::MAX));
                out.put_slice(value);
            }
        }
        out.put_u64_le(self.version.get());
    }

    /// Decodes and removes a write at the start of `bytes`.
    pub(crate) fn decode(bytes: &mut &'a [u8]) -> Option<Self> {
        let operation = bytes.try_get_u8().ok()?;
        let key = string(bytes)?;
        let value = match operation {
            PUT => Some(string(bytes)?),
            PUT_LARGE => {
                let length = usize::try_from(bytes.try_get_u32_le().ok()?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                *bytes = rest;
                Some(value)
            }
            DELETE => None,
            _ => return None,
        };
        let version = Version::new(bytes.try_get_u64_le().ok()?);
        Some(Self { key, value, version })
    }
}

fn string<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::from(bytes.try_get_u16_le().ok()?);
    let (string, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(string)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: ChecksumSeed = ChecksumSeed(7);

    fn record() -> Vec<u8> {
        let put = Operation::Put { key: "key".into(), value: "value".into(), version: Version::new(3) };
        let check = Operation::Check { key: "other".into(), version: Version::new(1) };
        let delete = Operation::Delete { key: "gone".into(), version: Version::new(9) };
        let mut encoder = Encoder::default();
        encoder.clear();
        encoder.push(&Transaction { origin: None, operations: [put, check].into() });
        encoder.push(&Transaction { origin: None, operations: [delete].into() });
        let (first, synced) = (Revision::new(100), Revision::new(90));
        let header = Header { length: 0, segment: 5, first, synced, time: 1234, count: 0, previous: 42, checksum: 0 };
        encoder.finish(SEED, header).0.to_vec()
    }

    #[test]
    fn a_written_record_is_found() {
        let mut bytes = record();
        let length = bytes.len();
        bytes.extend_from_slice(b"what follows");
        let (header, transactions) = find(SEED, &bytes).unwrap();
        let (first, synced) = (Revision::new(100), Revision::new(90));
        let checksum = header.checksum;
        assert_eq!(header, Header { length, segment: 5, first, synced, time: 1234, count: 2, previous: 42, checksum });
        assert_eq!(header.last(), Revision::new(101));
        let mut found = Vec::new();
        assert!(writes(&header, transactions, |revision, write| found.push((revision.get(), write))));
        let put = Write { key: b"key", value: Some(b"value"), version: Version::new(3) };
        let delete = Write { key: b"gone", value: None, version: Version::new(9) };
        assert_eq!(found, [(100, put), (101, delete)]);
    }

    #[test]
    fn a_value_of_any_length_is_read_back() {
        for length in [0, 65_535, 65_536, 1_000_000] {
            let value = vec![b'v'; length];
            let write = Write { key: b"key", value: Some(&value), version: Version::new(3) };
            let mut bytes = Vec::new();
            write.encode(&mut bytes);
            let put = Operation::Put { key: "key".into(), value: value.clone().into(), version: Version::new(3) };
            let transaction = Transaction { origin: None, operations: [put].into() };
            assert!(fits(&transaction) && bytes.len() + 2 <= super::length(&transaction));
            bytes.extend_from_slice(b"rest");
            let mut rest = &bytes[..];
            assert_eq!(Write::decode(&mut rest), Some(write));
            assert_eq!(rest, b"rest");
        }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_detected() {
        let bytes = record();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(find(SEED, &flipped), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(find(SEED, &bytes[..length]), None, "cut at {length}");
        }
    }

    #[test]
    fn a_record_of_another_store_is_not_accepted() {
        assert_eq!(find(ChecksumSeed(8), &record()), None);
    }

    #[test]
    fn zeros_are_not_a_record() {
        assert_eq!(find(SEED, &[0; 1000]), None);
    }
}
