//! What is printed: for people on a terminal, as it is into a pipe, as JSON where that was asked for.

use crate::failure::Failure;
use serde_json::{Map, Value};
use std::io::{self, Write};
use syncline_wire::{Printable, Version};

/// How much of a value a line for people shows.
const SHOWN: usize = 200;

/// Prints bytes, and sees to it that they are out.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| Failure::printing(&error))
}

/// Prints a line.
pub(crate) fn print_line(line: &str) -> Result<(), Failure> {
    print(format!("{line}\n").as_bytes())
}

/// Tells people something that is no result.
pub(crate) fn note(text: &str) {
    // Where even this can't be said, nobody listens.
    let _ = writeln!(io::stderr(), "{text}");
}

/// A key or value, as a line for people shows it.
pub(crate) fn shown(bytes: &[u8]) -> Printable<'_> {
    Printable::new(bytes, SHOWN)
}

/// A JSON object of a key, perhaps its value, and its version. Bytes that are not UTF-8 stand in hex, under a name that
/// says so.
pub(crate) fn json(key: &[u8], value: Option<&[u8]>, version: Version) -> String {
    let mut object = Map::new();
    for (name, bytes) in [("key", Some(key)), ("value", value)] {
        let Some(bytes) = bytes else { continue };
        match str::from_utf8(bytes) {
            Ok(text) => object.insert(name.into(), text.into()),
            Err(_) => {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                object.insert(format!("{name}_hex"), hex.into())
            }
        };
    }
    object.insert("version".into(), version.get().into());
    Value::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_holds_any_bytes() {
        let version = Version::new(u64::MAX);
        assert_eq!(json(b"k\"", None, version), r#"{"key":"k\"","version":18446744073709551615}"#);
        let object = json(b"\xff\x00", Some("clé".as_bytes()), Version::new(1));
        assert_eq!(object, r#"{"key_hex":"ff00","value":"clé","version":1}"#);
        let object = json(b"", Some(b"\x80"), Version::new(1));
        assert_eq!(object, r#"{"key":"","value_hex":"80","version":1}"#);
    }
}
