//! Keys and values as people read them.
//!
//! There is one rule: text is shown as it is, except characters that a terminal would obey, that cannot be seen, or that
//! could be mistaken for others. Those are escaped as in Rust: `\n`, `\\`, `\u{1b}`. Bytes that are not UTF-8 are shown in
//! hexadecimal after `0x`, as `--hex` reads them.

use std::borrow::Cow;

/// The number of characters of a key or value in a line.
const MAX_SHOWN: usize = 200;

/// Returns a key or a value for a line.
pub(crate) fn shown(bytes: &[u8]) -> String {
    clipped(bytes, MAX_SHOWN, |_| false)
}

/// Returns a whole key for a line of its own.
pub(crate) fn shown_whole(bytes: &[u8]) -> String {
    clipped(bytes, usize::MAX, |_| false)
}

/// Returns a key for the beginning of a line. It never contains ` = `, which follows it there.
pub(crate) fn shown_key(bytes: &[u8]) -> String {
    shown(bytes).replace(" = ", " \\u{3d} ")
}

/// Returns a whole value for a terminal: its lines are shown as lines.
pub(crate) fn shown_value(bytes: &[u8]) -> String {
    clipped(bytes, usize::MAX, |c| matches!(c, '\n' | '\t'))
}

/// Returns bytes in hexadecimal after `0x`.
pub(crate) fn in_hex(bytes: &[u8]) -> String {
    format!("0x{}", to_hex(bytes))
}

/// Returns the hexadecimal digits of bytes.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |of: u8| DIGITS.get(usize::from(of)).copied().unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn clipped(bytes: &[u8], max: usize, is_safe: impl Fn(char) -> bool) -> String {
    let Ok(text) = str::from_utf8(bytes) else {
        let clipped = bytes.get(..max / 2).unwrap_or(bytes);
        return in_hex(clipped) + if clipped.len() < bytes.len() { "…" } else { "" };
    };
    let mut shown = String::new();
    let mut length = 0;
    let (mut before, mut rest) = (None, text.chars());
    while let Some(c) = rest.next() {
        let after = rest.clone().next();
        // A text that starts as hexadecimal bytes do is no such bytes.
        let looks_like_hex = before.is_none() && c == '0' && after == Some('x');
        let part: Cow<'_, str> = if looks_like_hex {
            "\\u{30}".into()
        } else if is_safe(c) || is_visible(before, c, after) {
            c.to_string().into()
        } else {
            c.escape_default().to_string().replace("\\u{0}", "\\0").into()
        };
        length += part.chars().count();
        if length > max {
            shown.push('…');
            break;
        }
        shown.push_str(&part);
        before = Some(c);
    }
    shown
}

/// Returns whether a character is seen, and seen as itself, between two others.
fn is_visible(before: Option<char>, c: char, after: Option<char>) -> bool {
    let is_foreign = |c: Option<char>| c.is_some_and(|c| !c.is_ascii());
    match c {
        '\\' => false,
        '\'' | '"' | '\u{3000}' => true,
        // Joiners change how the characters beside them are drawn, in Hindi, Persian and emoji.
        '\u{200c}' | '\u{200d}' => is_foreign(before) && is_foreign(after),
        // A variation selector belongs to the character before it. `1\u{fe0f}\u{20e3}` is a keycap.
        '\u{fe00}'..='\u{fe0f}' => is_foreign(before) || (before.is_some() && after == Some('\u{20e3}')),
        _ if is_ignorable(c) => false,
        // A combining mark is drawn on the character before it. `escape_debug` of a string escapes it only at the start.
        _ => {
            let start = if before.is_some() { "a" } else { "" };
            format!("{start}{c}").escape_debug().count() == start.len() + 1
        }
    }
}

/// Returns whether nothing is drawn for a character that `escape_debug` takes for printable. These are the letters and
/// marks among Unicode's Default_Ignorable_Code_Point, and the blank Braille pattern.
fn is_ignorable(c: char) -> bool {
    matches!(
        c,
        '\u{34f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{ffa0}'
            | '\u{e0100}'..='\u{e01ef}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readable_text_stays_as_it_is() {
        for text in [
            "",
            "a b",
            "it's",
            "\"q\"",
            "clé",
            "e\u{301}",
            "日本語 日\u{3000}本",
            "❤\u{fe0f}",
            "1\u{fe0f}\u{20e3}",
            "👩\u{200d}👩\u{200d}👧",
            "नमस्ते क्\u{200d}ष",
            "مَرْحَبًا",
            "می\u{200c}خواهم",
            "שָׁלוֹם",
            "x0x",
            "00x",
        ] {
            assert_eq!(shown(text.as_bytes()), text);
            assert_eq!(shown_value(text.as_bytes()), text);
        }
    }

    #[test]
    fn unsafe_and_ambiguous_characters_are_escaped() {
        for (text, expected) in [
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("\0\0", "\\0\\0"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("\u{7f}\u{85}\u{9b}", "\\u{7f}\\u{85}\\u{9b}"),
            ("back\\slash", "back\\\\slash"),
            ("a\u{202e}b\u{2066}c\u{200f}", "a\\u{202e}b\\u{2066}c\\u{200f}"),
            ("a\u{200b}b\u{2060}\u{feff}\u{ad}", "a\\u{200b}b\\u{2060}\\u{feff}\\u{ad}"),
            ("a\u{200d}b", "a\\u{200d}b"),
            ("a\u{fe0f}", "a\\u{fe0f}"),
            ("\u{301}e", "\\u{301}e"),
            ("a\u{a0}b\u{2028}", "a\\u{a0}b\\u{2028}"),
            ("\u{3164}\u{34f}\u{e0041}\u{e0100}\u{2800}", "\\u{3164}\\u{34f}\\u{e0041}\\u{e0100}\\u{2800}"),
            ("\u{e000}\u{378}", "\\u{e000}\\u{378}"),
        ] {
            assert_eq!(shown(text.as_bytes()), expected);
        }
    }

    #[test]
    fn hexadecimal_is_for_other_bytes_only() {
        assert_eq!(shown(b"\xff\x00"), "0xff00");
        assert_eq!(shown(b"0xff00"), "\\u{30}xff00");
        assert_eq!(shown_value(&[0xff; 300]), format!("0x{}", "ff".repeat(300)));
    }

    #[test]
    fn long_text_is_clipped_between_escapes() {
        assert_eq!(shown(&[b'a'; 200]), "a".repeat(200));
        assert_eq!(shown(&[b'a'; 201]), format!("{}…", "a".repeat(200)));
        assert_eq!(shown_whole(&[b'a'; 201]), "a".repeat(201));
        assert_eq!(shown("é".repeat(201).as_bytes()), format!("{}…", "é".repeat(200)));
        assert_eq!(shown("\u{1b}".repeat(34).as_bytes()), format!("{}…", "\\u{1b}".repeat(33)));
        assert_eq!(shown(&[0xff; 101]), format!("0x{}…", "ff".repeat(100)));
        assert_eq!(shown(&[0xff; 100]), format!("0x{}", "ff".repeat(100)));
    }

    #[test]
    fn a_key_cannot_be_mistaken_for_a_key_and_its_value() {
        assert_eq!(shown_key(b"a = b = c"), "a \\u{3d} b \\u{3d} c");
        assert_eq!(shown_key(b"a=b"), "a=b");
    }

    #[test]
    fn a_value_on_a_terminal_keeps_its_lines() {
        assert_eq!(shown_value(b"a: 1\n\tb: \x1b[2J\r\n"), "a: 1\n\tb: \\u{1b}[2J\\r\n");
    }
}
