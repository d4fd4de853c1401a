//! The texts of ERROR frames. Old clients match `stale put`, `not found` and `go away…`: these never change.

use bytes::Bytes;
use std::fmt::{self, Write};
use syncline_wire::{Kind, LimitExceeded, Put, Version};

/// The version of a PUT is not the current one plus 1.
pub(crate) const STALE_PUT: &str = "stale put";
/// The end of the text for a GET that found nothing.
pub(crate) const NOT_FOUND: &str = "not found";
/// The password is wrong.
pub(crate) const BAD_PASSWORD: &str = "go away, bad password";
/// The first request was not AUTH, on a server that requires it.
pub(crate) const BAD_MESSAGE_TYPE: &str = "go away, bad message type";
/// A PUT of the last version, which is reserved so that every key can be deleted.
pub(crate) const VERSION_EXHAUSTED: &str = "version exhausted";
/// A kind that the server does not know.
pub(crate) const UNKNOWN_KIND: &str = "unknown message kind";
/// The start of the text if a configured limit is exceeded.
pub(crate) const TOO_LARGE: &str = "too large: ";
/// The start of the text if the store or the server cannot serve the request for now.
pub(crate) const UNAVAILABLE: &str = "unavailable: ";
/// The start of the text if a right is missing.
pub(crate) const NOT_PERMITTED: &str = "not permitted: ";
/// The reason for [`unavailable`] if a client does not speak TLS to a server that requires it.
pub const TLS_ONLY: &str = "this server speaks TLS only, expected a TLS handshake";
/// What precedes the version in the text for a GET that found a tombstone.
const DELETED_AT: &str = "deleted at version ";

/// The most characters of a key in an error text.
const KEY_SHOWN: usize = 40;

/// The most characters of a reason in an error text.
const REASON_SHOWN: usize = 1000;

/// Returns the text for a GET of an unknown key.
pub(crate) fn not_found(key: &[u8]) -> Bytes {
    format!("{}: {NOT_FOUND}", Quoted(key)).into()
}

/// Returns the text for a GET of a deleted key. It ends as [`not_found`] does.
pub(crate) fn deleted(key: &[u8], version: Version) -> Bytes {
    format!("{}: {DELETED_AT}{version}, {NOT_FOUND}", Quoted(key)).into()
}

/// Returns the version in a text of [`deleted`].
pub(crate) fn deleted_version(text: &[u8]) -> Option<Version> {
    let text = str::from_utf8(text).ok()?.strip_suffix(NOT_FOUND)?.strip_suffix(", ")?;
    let (_, number) = text.rsplit_once(DELETED_AT)?;
    number.parse().ok().map(Version::new)
}

/// Returns the text for a kind that only servers send, or that makes no sense in this state.
pub(crate) fn cannot_be_applied(kind: Kind) -> Bytes {
    format!("messages of kind {kind} cannot be applied").into()
}

/// Returns the text for a kind of the extension before HELLO.
pub(crate) fn before_hello(kind: Kind) -> Bytes {
    format!("messages of kind {kind} cannot be applied before HELLO").into()
}

/// Returns the text for a transaction that is stale at this key.
pub(crate) fn stale_key(key: &[u8]) -> Bytes {
    format!("{STALE_PUT}: {}", Quoted(key)).into()
}

/// Returns the text for a key that exceeds the limit.
pub(crate) fn key_too_large(found: usize, max: usize) -> Bytes {
    format!("{TOO_LARGE}key of {found} bytes, expected at most {max}").into()
}

/// Returns the text for a key and value that exceed the limit together.
pub(crate) fn entry_too_large(found: usize, max: usize) -> Bytes {
    format!("{TOO_LARGE}key and value of {found} bytes together, expected at most {max}").into()
}

/// Returns the text for a frame that is skipped because of the length that it claims.
pub(crate) fn frame_too_large(kind: Kind, excess: LimitExceeded) -> Bytes {
    format!("{TOO_LARGE}{kind} of {excess}").into()
}

/// Returns the text for a PUTL that should have been a PUT.
pub(crate) fn belongs_in_a_put(found: usize) -> Bytes {
    format!("key and value of {found} bytes together: expected a PUT, and PUTL only above {} bytes", Put::MAX_ENTRY)
        .into()
}

/// Returns the text for a transaction whose keys and values are too large together.
pub(crate) fn transaction_too_large(found: usize, max: usize) -> Bytes {
    format!("{TOO_LARGE}keys and values of {found} bytes in a transaction, expected at most {max}").into()
}

/// Returns the text for a transaction that contains a key twice.
pub(crate) fn twice_in_a_transaction(key: &[u8]) -> Bytes {
    format!("{}: expected once in a transaction, found twice", Quoted(key)).into()
}

/// Returns the text for a WATCH beyond the limit.
pub(crate) fn too_many_watches(max: usize) -> Bytes {
    format!("{TOO_LARGE}expected at most {max} prefixes watched on one connection").into()
}

/// Returns the text for a key that may not be read, whether it exists or not.
pub(crate) fn no_right_to_read(key: &[u8]) -> Bytes {
    format!("{NOT_PERMITTED}expected the right to read {}", Quoted(key)).into()
}

/// Returns the text for a prefix under which not every possible key may be read.
pub(crate) fn no_right_to_read_all(prefix: &[u8]) -> Bytes {
    format!("{NOT_PERMITTED}expected the right to read everything under {}", Quoted(prefix)).into()
}

/// Returns the text for a key that may not be written, whether it exists or not.
pub(crate) fn no_right_to_write(key: &[u8]) -> Bytes {
    format!("{NOT_PERMITTED}expected the right to write {}", Quoted(key)).into()
}

/// Returns the text of an ERROR if the store or the server cannot serve a connection or a request for now. A long reason
/// is clipped.
pub fn unavailable(reason: &str) -> Bytes {
    let clipped: String = reason.chars().take(REASON_SHOWN).collect();
    let cut = if clipped.len() < reason.len() { "…" } else { "" };
    format!("{UNAVAILABLE}{clipped}{cut}").into()
}

/// Displays a key in quotes, escaped, and clipped with `…`.
struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = KEY_SHOWN;
        f.write_char('"')?;
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if left == 0 {
                    return f.write_str("…\"");
                }
                left -= 1;
                // The text is in double quotes, so a single quote needs no escape.
                if c == '\'' { f.write_char(c)? } else { write!(f, "{}", c.escape_debug())? }
            }
            for byte in chunk.invalid() {
                if left == 0 {
                    return f.write_str("…\"");
                }
                left -= 1;
                write!(f, "\\x{byte:02x}")?;
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_clipped_and_escaped() {
        let text = |key: &[u8]| String::from_utf8(not_found(key).into()).unwrap();
        assert_eq!(text(b"surname"), "\"surname\": not found");
        assert_eq!(text(b""), "\"\": not found");
        assert_eq!(text("clé\n\"it's\"".as_bytes()), "\"clé\\n\\\"it's\\\"\": not found");
        assert_eq!(text(b"a\xffb\0"), "\"a\\xffb\\0\": not found");
        assert_eq!(text(&[b'k'; 40]), format!("\"{}\": not found", "k".repeat(40)));
        assert_eq!(text(&[b'k'; 41]), format!("\"{}…\": not found", "k".repeat(40)));
        assert_eq!(text(&[0xff; 41]), format!("\"{}…\": not found", "\\xff".repeat(40)));
        assert_eq!(text("é".repeat(50).as_bytes()), format!("\"{}…\": not found", "é".repeat(40)));
    }

    #[test]
    fn reasons_are_clipped() {
        assert_eq!(unavailable("disk full"), "unavailable: disk full");
        assert_eq!(unavailable(&"é".repeat(1000)), format!("unavailable: {}", "é".repeat(1000)));
        assert_eq!(unavailable(&"é".repeat(100_000)), format!("unavailable: {}…", "é".repeat(1000)));
    }

    #[test]
    fn the_version_of_a_deletion_is_parsed_back() {
        let text = deleted(b"k", Version::new(7));
        assert_eq!(text, "\"k\": deleted at version 7, not found");
        assert_eq!(deleted_version(&text), Some(Version::new(7)));
        assert_eq!(deleted_version(&deleted(b"", Version::MAX)), Some(Version::MAX));
        for other in [not_found(b"k"), not_found(b"deleted at version 7, "), Bytes::from_static(b"\xff not found")] {
            assert_eq!(deleted_version(&other), None);
        }
    }
}
