//! The part of protobuf that etcd's messages use.

use bytes::{BufMut, BytesMut};
use syncline_load::Error;

const VARINT: u64 = 0;
const LENGTH_DELIMITED: u64 = 2;

fn varint(output: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        output.put_u8((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    output.put_u8((number & 0x7f) as u8);
}

/// Appends a number field.
pub(super) fn number_field(output: &mut BytesMut, field: u64, number: u64) {
    varint(output, field << 3 | VARINT);
    varint(output, number);
}

/// Appends a field of bytes, which may be a message.
pub(super) fn bytes_field(output: &mut BytesMut, field: u64, bytes: &[u8]) {
    varint(output, field << 3 | LENGTH_DELIMITED);
    varint(output, bytes.len() as u64);
    output.put_slice(bytes);
}

/// A field of a message: a number, or bytes.
pub(super) struct Field<'a> {
    pub(super) number: u64,
    pub(super) value: u64,
    pub(super) bytes: &'a [u8],
}

/// The remaining fields of a message.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// Returns the next field, or `None` at the end of the message.
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, Error> {
        if self.0.is_empty() {
            return Ok(None);
        }
        self.field().map(Some).ok_or_else(|| Error::Protocol("a malformed protobuf message".into()))
    }

    fn field(&mut self) -> Option<Field<'a>> {
        let key = self.varint()?;
        let number = key >> 3;
        match key & 7 {
            VARINT => Some(Field { number, value: self.varint()?, bytes: &[] }),
            LENGTH_DELIMITED => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Some(Field { number, value: 0, bytes })
            }
            _ => None,
        }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for place in 0..10 {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}
