//! Bytes in a form that people can read.

use std::fmt::{self, Write};

/// How many characters of a key, a prefix or a value a [`Message`](crate::Message) shows.
pub(crate) const SHOWN: usize = 10;

/// How many characters of a text a [`Message`](crate::Message) shows.
pub(crate) const TEXT_SHOWN: usize = 200;

/// Displays bytes in a form that people can read: as text if every character is printable, otherwise in hexadecimal
/// after `0x`. Only the first characters are shown, and `…` stands for the rest.
///
/// ```
/// use syncline_wire::EscapedBytes;
///
/// assert_eq!(EscapedBytes::new(b"name", 10).to_string(), "name");
/// assert_eq!(EscapedBytes::new("élève-à-l'école".as_bytes(), 10).to_string(), "élève-à-l'…");
/// assert_eq!(EscapedBytes::new(b"\x00\x01\xfe", 10).to_string(), "0x0001fe");
/// assert_eq!(EscapedBytes::new(&[7; 20], 10).to_string(), "0x0707070707…");
/// ```
#[derive(Clone, Copy)]
pub struct EscapedBytes<'a> {
    bytes: &'a [u8],
    shown: usize,
}

impl<'a> EscapedBytes<'a> {
    /// Shows at most `shown` characters (not bytes) of `bytes`.
    pub const fn new(bytes: &'a [u8], shown: usize) -> Self {
        Self { bytes, shown }
    }
}

/// Shows a key, a prefix or a value as messages do.
pub(crate) const fn clipped(bytes: &[u8]) -> EscapedBytes<'_> {
    EscapedBytes::new(bytes, SHOWN)
}

/// Shows a text as messages do.
pub(crate) const fn text(bytes: &[u8]) -> EscapedBytes<'_> {
    EscapedBytes::new(bytes, TEXT_SHOWN)
}

impl fmt::Display for EscapedBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = match str::from_utf8(self.bytes) {
            Ok(text) if text.chars().all(is_printable) => {
                text.chars().take(self.shown).try_for_each(|c| f.write_char(c))?;
                text.chars().nth(self.shown).is_some()
            }
            _ => {
                f.write_str("0x")?;
                self.bytes.iter().take(self.shown / 2).try_for_each(|byte| write!(f, "{byte:02x}"))?;
                self.bytes.len() > self.shown / 2
            }
        };
        if cut { f.write_char('…') } else { Ok(()) }
    }
}

impl fmt::Debug for EscapedBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns whether a character is shown as itself: it is assigned, visible, no control character, and does not change
/// the direction of text.
fn is_printable(c: char) -> bool {
    // `escape_debug` has the tables. It also escapes quotes and backslashes, which are printable.
    matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        EscapedBytes::new(text.as_bytes(), 10).to_string()
    }

    #[test]
    fn clipped_by_characters_not_bytes() {
        assert_eq!(shown("日本語日本語日本語日"), "日本語日本語日本語日");
        assert_eq!(shown("日本語日本語日本語日本"), "日本語日本語日本語日…");
    }

    #[test]
    fn hexadecimal_if_a_character_is_not_printable() {
        for (text, hex) in [("\n", "0x0a"), ("a\u{202e}b", "0x61e280ae62"), ("\u{7f}", "0x7f"), ("a\0b", "0x610062")] {
            assert_eq!(shown(text), hex);
        }
        assert_eq!(EscapedBytes::new(b"\xff", 10).to_string(), "0xff");
    }

    #[test]
    fn printable_text_stays_text() {
        for text in ["a b", "it's", "\"q\"", "back\\s", "clé", ""] {
            assert_eq!(shown(text), text);
        }
    }
}
