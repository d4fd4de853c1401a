//! TXN: carries several operations that are accepted together or refused together.
//!
//! ```text
//!  0      1        3       5
//!  ┌──────┬────────┬───────┬─────────────────────┐
//!  │ 0x09 │  tag   │ count │ count × operation … │
//!  └──────┴────────┴───────┴─────────────────────┘
//! ```

use crate::frame::Frame;
use crate::layout::{self, Field, HEADER_LENGTH};
use crate::{EncodeError, Kind, Operation, Tag};
use bytes::{Buf, BufMut, BytesMut};
use std::fmt;

/// Several operations that are accepted together, under one revision, or refused together.
///
/// The response is the transaction's writes, then a MARK, all with the same tag; or an ERROR that names the first
/// operation at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// The tag of the request.
    pub tag: Tag,
    /// The operations. Each key may appear at most once.
    pub operations: Vec<Operation>,
}

impl Txn {
    /// The most operations that a transaction can have.
    pub const MAX_OPERATIONS: usize = 1024;
}

impl Frame for Txn {
    const LAYOUT: &'static [Field] = &[Field::Operations];

    /// Cannot panic: the scanner has found the whole frame in the buffer.
    fn decode(tag: Tag, buffer: &mut BytesMut) -> Result<Self, usize> {
        buffer.advance(HEADER_LENGTH);
        let count = buffer.get_u16_le();
        Ok(Self { tag, operations: (0..count).map_while(|_| Operation::decode(buffer)).collect() })
    }

    fn encode(&self, out: &mut impl BufMut) -> Result<(), EncodeError> {
        let (expected, found) = (Self::MAX_OPERATIONS, self.operations.len());
        let too_many = EncodeError { field: "transaction", unit: "operations", expected, found };
        let count = u16::try_from(found).ok().filter(|_| found <= expected).ok_or(too_many)?;
        // All are checked before the first is appended, so that a refused transaction leaves `out` unchanged.
        self.operations.iter().try_for_each(Operation::check)?;
        layout::put_header(out, Kind::Txn, self.tag);
        out.put_u16_le(count);
        self.operations.iter().try_for_each(|operation| operation.encode(out))
    }

    fn encoded_length(&self) -> usize {
        Self::MIN_LENGTH + self.operations.iter().map(Operation::encoded_length).sum::<usize>()
    }

    fn show_fields(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " operations={}", self.operations.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Put, Version};

    fn put(value: usize) -> Operation {
        Operation::Put { key: "k".into(), value: vec![7; value].into(), version: Version::new(1) }
    }

    fn encoded(operations: Vec<Operation>) -> BytesMut {
        let txn = Txn { tag: Tag::new(7), operations };
        let mut out = BytesMut::new();
        txn.encode(&mut out).unwrap();
        assert_eq!(out.len(), txn.encoded_length());
        out
    }

    #[test]
    fn on_the_wire() {
        let check = Operation::Check { key: "a".into(), version: Version::new(4) };
        let delete = Operation::Delete { key: "b".into(), version: Version::new(8) };
        let expected = b"\x09\x07\x00\x03\x00\
            \x00\x01\x00a\x04\0\0\0\0\0\0\0\
            \x01\x01\x00k\x02\x00\x07\x07\x01\0\0\0\0\0\0\0\
            \x05\x01\x00b\x08\0\0\0\0\0\0\0";
        assert_eq!(encoded(vec![check, put(2), delete]).as_ref(), expected);
    }

    #[test]
    fn the_size_of_a_value_decides_its_encoding() {
        assert_eq!(encoded(vec![put(Put::MAX_ENTRY - 1)])[5], 1);
        assert_eq!(encoded(vec![put(Put::MAX_ENTRY)])[5], 10);
    }

    #[test]
    fn a_refused_transaction_leaves_the_buffer_unchanged() {
        let long = Operation::Check { key: vec![0; 65_536].into(), version: Version::ABSENT };
        for (operations, shown) in [
            (vec![put(1), long], "bad message: expected a key of at most 65535 bytes, found 65536"),
            (vec![put(1); 1025], "bad message: expected a transaction of at most 1024 operations, found 1025"),
        ] {
            let mut out = BytesMut::new();
            let bad = Txn { tag: Tag::new(7), operations }.encode(&mut out).unwrap_err();
            assert_eq!(bad.to_string(), shown);
            assert!(out.is_empty());
        }
    }
}
