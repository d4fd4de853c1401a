//! A batch of transactions, as the log holds it.
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
//! Integers are little-endian. `length` counts everything from itself on; the next record starts at the next multiple of
//! 8. Checksums are CRC-32C. The header's covers the seed of the store and all of the header before it, so a record of
//! another store is no record here, and bytes that are none are known as such without reading on. `previous` is the
//! checksum of the header of the record before, so that what a crash has left of other writes can never be taken for what
//! follows. Transactions have consecutive revisions.

use bytes::{Buf, BufMut};
use syncline_core::{Operation, Transaction};
use syncline_wire::{Redacted, Revision, Version};

/// The bytes before the transactions.
pub(crate) const HEADER: usize = 52;

/// The bytes of the header that its checksum covers.
const CHECKED: usize = HEADER - 4;

/// Where records start.
pub(crate) const ALIGNMENT: usize = 8;

/// The operations, as the wire protocol numbers them.
const PUT: u8 = 1;
const DELETE: u8 = 5;
const PUT_LARGE: u8 = 10;

/// What only the store itself knows, with which its checksums begin: nobody can write a value that looks like a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChecksumSeed(pub(crate) u32);

/// What a record says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The bytes of the record.
    pub(crate) length: usize,
    /// The segment that it was written to.
    pub(crate) segment: u64,
    /// The revision of its first transaction.
    pub(crate) first: Revision,
    /// Everything up to here was synced when it was written.
    pub(crate) synced: Revision,
    /// When it was written: milliseconds since 1970, as far as the clock knew.
    pub(crate) time: u64,
    /// How many transactions it holds.
    pub(crate) count: u32,
    /// The checksum of the record before it; 0 where there was none.
    pub(crate) previous: u32,
    /// Its own.
    pub(crate) checksum: u32,
}

impl Header {
    /// The revision of its last transaction; the one before the first where it holds none.
    pub(crate) const fn last(&self) -> Revision {
        Revision::new((self.first.get() + self.count as u64).saturating_sub(1))
    }

    /// Where the next record starts, if this one starts at 0.
    pub(crate) const fn padded(&self) -> usize {
        self.length.next_multiple_of(ALIGNMENT)
    }
}

/// Gathers accepted transactions, and makes a record of them. Its buffer is used again.
#[derive(derive_more::Debug, Default)]
pub(crate) struct Encoder {
    #[debug("{:?}", Redacted(bytes))]
    bytes: Vec<u8>,
    count: u32,
}

impl Encoder {
    /// Starts a record.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(HEADER, 0);
        self.count = 0;
    }

    /// The bytes of the record so far.
    pub(crate) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Adds an accepted transaction.
    pub(crate) fn push(&mut self, transaction: &Transaction) {
        let place = self.bytes.len();
        self.bytes.put_u16_le(0);
        // Cannot be more: `fits` was asked.
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

    /// The record, whole, and its checksum. `length`, `count` and `checksum` of the header are its own.
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
    // Cannot be longer: `fits` was asked.
    out.put_u16_le(u16::try_from(string.len()).unwrap_or(u16::MAX));
    out.put_slice(string);
}

/// Whether a record can hold a transaction: lengths of keys have 16 bits, those of values 32, and so has the record's own.
pub(crate) fn fits(transaction: &Transaction) -> bool {
    u16::try_from(transaction.operations.len()).is_ok()
        && transaction.operations.iter().all(|operation| u16::try_from(operation.key().len()).is_ok())
        && u32::try_from(HEADER + length(transaction)).is_ok()
}

/// How long a transaction is in a record, at most.
pub(crate) fn length(transaction: &Transaction) -> usize {
    // The number of operations; of each operation its kind, two lengths, a version.
    2 + transaction.bytes() + transaction.operations.len() * (1 + 2 + 4 + 8)
}

fn header_checksum(seed: ChecksumSeed, record: &[u8]) -> u32 {
    crc32c::crc32c_append(seed.0, record.get(..CHECKED).unwrap_or_default())
}

/// The header at the front of `bytes`, if there is one, and the checksum of what it is the header of.
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

/// How long the record is whose header is at the front of `bytes`, if there is one.
pub(crate) fn expected_length(seed: ChecksumSeed, bytes: &[u8]) -> Option<usize> {
    find_header(seed, bytes).map(|(header, _)| header.length)
}

/// The record that starts at the front of `bytes`, if one does: its header, and its transactions.
pub(crate) fn find(seed: ChecksumSeed, bytes: &[u8]) -> Option<(Header, &[u8])> {
    let (header, body_checksum) = find_header(seed, bytes)?;
    let body = bytes.get(HEADER..header.length)?;
    (crc32c::crc32c(body) == body_checksum).then_some((header, body))
}

/// All records that start in `bytes` at or after `from`, wherever they are: with the offset, and the header.
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

/// One write of a transaction, as a record holds it: a put, or a deletion where there is no value.
#[derive(Clone, Copy, derive_more::Debug, PartialEq, Eq)]
pub(crate) struct Write<'a> {
    pub(crate) key: &'a [u8],
    #[debug("{:?}", value.map(Redacted))]
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) version: Version,
}

/// Hands every write of a record's transactions to `take`, with its revision. Answers whether the bytes hold just the
/// transactions that the header says: where the checksum is right, only a fault of the program could make them not.
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
    /// Appends it, as the operation of a TXN frame.
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
                // Cannot be longer: `fits` was asked.
                out.put_u32_le(u32::try_from(value.len()).unwrap_or(u32::MAX));
                out.put_slice(value);
            }
        }
        out.put_u64_le(self.version.get());
    }

    /// Takes one off the front of `bytes`.
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
    fn what_is_written_is_found() {
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
    fn a_value_of_any_length_is_found() {
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
    fn every_flipped_bit_and_every_cut_is_found_out() {
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
    fn a_record_of_another_store_is_none() {
        assert_eq!(find(ChecksumSeed(8), &record()), None);
    }

    #[test]
    fn zeros_are_no_record() {
        assert_eq!(find(SEED, &[0; 1000]), None);
    }
}
