//! The JSON lines that `export`, `list --json` and `watch --json` print, read again.

use serde_json::{Map, Value};
use syncline_client::Version;

/// What a line says of a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) key: Vec<u8>,
    /// What it holds; `None`: it was deleted.
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) version: Version,
}

impl Line {
    /// Reads a line; `None` where it says nothing of a key: it is empty, or tells of a revision alone.
    ///
    /// # Errors
    /// What was expected and found.
    pub(crate) fn parse(line: &[u8]) -> Result<Option<Self>, String> {
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let mut object: Map<String, Value> =
            serde_json::from_slice(line).map_err(|error| format!("expected a JSON object: {error}"))?;
        let Some(key) = bytes(&mut object, "key")? else {
            return match object.contains_key("revision") {
                true => Ok(None),
                false => Err("expected a key, found none".into()),
            };
        };
        let version = object.get("version").and_then(Value::as_u64);
        let version = version.map(Version::new).ok_or("expected a version, a number, found none")?;
        let is_deleted = object.get("deleted").is_some_and(|deleted| *deleted == Value::Bool(true));
        let value = match bytes(&mut object, "value")? {
            Some(value) if !is_deleted => Some(value),
            None if is_deleted => None,
            Some(_) => return Err("expected a value or that it was deleted, found both".into()),
            None => return Err("expected a value or that it was deleted, found neither".into()),
        };
        Ok(Some(Self { key, value, version }))
    }
}

/// The bytes that stand under a name, or in hex under another.
fn bytes(object: &mut Map<String, Value>, name: &str) -> Result<Option<Vec<u8>>, String> {
    let in_hex = format!("{name}_hex");
    match (object.remove(name), object.remove(&in_hex)) {
        (None, None) => Ok(None),
        (Some(Value::String(text)), None) => Ok(Some(text.into_bytes())),
        (None, Some(Value::String(hex))) => {
            from_hex(&hex).map(Some).ok_or_else(|| format!("expected hexadecimal digits as {in_hex}, found others"))
        }
        (Some(_), Some(_)) => Err(format!("expected {name} or {in_hex}, found both")),
        (Some(_), None) => Err(format!("expected text as {name}")),
        (None, Some(_)) => Err(format!("expected text as {in_hex}")),
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Json;
    use syncline_client::Revision;

    #[test]
    fn what_is_printed_can_be_read() {
        for key in [&b""[..], b"k\n\"", b"\xff\x00\xa9"] {
            for value in [None, Some(&b""[..]), Some("clé\u{0}".as_bytes()), Some(b"\x80")] {
                let version = Version::new(u64::MAX);
                let json = Json::new(key, version).revision(Revision::new(7));
                let json = value.map_or_else(|| json.clone().deleted(), |value| json.clone().value(value));
                let expected = Line { key: key.to_vec(), value: value.map(<[u8]>::to_vec), version };
                assert_eq!(Line::parse(json.to_string().as_bytes()), Ok(Some(expected)));
            }
        }
    }

    #[test]
    fn what_says_nothing_of_a_key_is_passed_over() {
        for line in ["", "  \r", r#"{"revision":7,"store":"ab"}"#, r#"{"reset":true,"revision":7,"store":"ab"}"#] {
            assert_eq!(Line::parse(line.as_bytes()), Ok(None), "{line}");
        }
    }

    #[test]
    fn what_is_no_line_is_told() {
        for (line, expected) in [
            ("k = v", "expected a JSON object: "),
            ("[]", "expected a JSON object: "),
            ("{}", "expected a key, found none"),
            (r#"{"key":"k","value":"v"}"#, "expected a version, a number, found none"),
            (r#"{"key":"k","value":"v","version":-1}"#, "expected a version, a number, found none"),
            (r#"{"key":7,"value":"v","version":1}"#, "expected text as key"),
            (r#"{"key":"k","version":1}"#, "expected a value or that it was deleted, found neither"),
            (
                r#"{"key":"k","value":"","deleted":true,"version":1}"#,
                "expected a value or that it was deleted, found both",
            ),
            (r#"{"key":"k","key_hex":"00","value":"v","version":1}"#, "expected key or key_hex, found both"),
            (r#"{"key":"k","value_hex":"0","version":1}"#, "expected hexadecimal digits as value_hex, found others"),
            (r#"{"key":"k","value_hex":"0x","version":1}"#, "expected hexadecimal digits as value_hex, found others"),
            (r#"{"key":"k","value_hex":"é","version":1}"#, "expected hexadecimal digits as value_hex, found others"),
        ] {
            let found = Line::parse(line.as_bytes()).unwrap_err();
            assert!(found.starts_with(expected), "{line}: {found}");
        }
    }
}
