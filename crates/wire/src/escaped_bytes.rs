//! Bytes as people can read them.

use std::fmt::{self, Write};

/// Shows bytes to people: as text where every character of them is printable, else in hex with `0x` before it; cut
/// after a number of characters (not bytes), and a cut is shown as `…`.
///
/// ```
/// use syncline_wire::EscapedBytes;
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
    /// Shows at most `shown` characters of `bytes`.
    pub const fn new(bytes: &'a [u8], shown: usize) -> Self {
        Self { bytes, shown }
    }
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

/// Whether a character shows as itself: not a control, not an invisible or direction-changing one, not unassigned.
fn is_printable(c: char) -> bool {
    // `escape_debug` knows the tables; quotes and backslashes it escapes for another reason.
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
    fn hex_where_something_is_not_printable() {
        for (text, hex) in [("\n", "0x0a"), ("a\u{202e}b", "0x61e280ae62"), ("\u{7f}", "0x7f"), ("a\0b", "0x610062")] {
            assert_eq!(shown(text), hex);
        }
        assert_eq!(EscapedBytes::new(b"\xff", 10).to_string(), "0xff");
    }

    #[test]
    fn text_stays_text() {
        for text in ["a b", "it's", "\"q\"", "back\\s", "clé", ""] {
            assert_eq!(shown(text), text);
        }
    }
}
