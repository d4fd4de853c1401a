//! How keys and prefixes are written on the command line, and printed.

use crate::failure::Failure;
use crate::shown::{in_hex, shown, shown_key, shown_whole};
use std::ffi::OsString;

/// The flag for keys that are not readable text.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct KeyNotation {
    /// Keys and prefixes are in hexadecimal, with or without 0x in front: as arguments, in the lines of txn, and in the
    /// lines that are printed
    #[arg(long)]
    pub(crate) hex: bool,
}

impl KeyNotation {
    /// Returns the key or prefix that an argument names.
    ///
    /// # Errors
    /// [`Failure::Usage`] if the argument should be in hexadecimal and is not.
    pub(crate) fn read(self, argument: OsString) -> Result<Vec<u8>, Failure> {
        self.read_bytes(argument.into_encoded_bytes()).map_err(Failure::Usage)
    }

    /// Returns the key that a word names.
    ///
    /// # Errors
    /// A message with what was expected and what was found.
    pub(crate) fn read_bytes(self, word: Vec<u8>) -> Result<Vec<u8>, String> {
        if !self.hex {
            return Ok(word);
        }
        let digits = word.strip_prefix(b"0x").unwrap_or(&word);
        from_hex(digits).ok_or_else(|| {
            format!("expected a key as pairs of hexadecimal digits, as in 0x6b6579, found {}", shown(&word))
        })
    }

    /// Returns a whole key for a line of its own.
    pub(crate) fn show_whole(self, key: &[u8]) -> String {
        if self.hex { in_hex(key) } else { shown_whole(key) }
    }

    /// Returns a key for the beginning of a line.
    pub(crate) fn show(self, key: &[u8]) -> String {
        if self.hex { in_hex(key) } else { shown_key(key) }
    }
}

/// Returns the bytes that pairs of hexadecimal digits stand for.
pub(crate) fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: KeyNotation = KeyNotation { hex: true };

    #[test]
    fn a_key_in_hexadecimal_can_be_typed_as_it_is_printed() {
        for key in [&b""[..], &[0; 20], b"name", b"\xff\n"] {
            assert_eq!(HEX.read(HEX.show(key).into()).unwrap(), key);
        }
        assert_eq!(HEX.read("6E616d65".into()).unwrap(), b"name");
    }

    #[test]
    fn other_text_is_refused_as_hexadecimal() {
        for text in ["name", "0x0", "0x0g", "0X00", "00 00", "é"] {
            assert!(HEX.read(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn without_the_flag_a_key_is_what_was_typed() {
        let text = KeyNotation { hex: false };
        assert_eq!(text.read("0x00".into()).unwrap(), b"0x00");
        assert_eq!(text.show(b"a\nb"), "a\\nb");
    }
}
