//! The parser of the JSON lines that `export`, `list --json` and `watch --json` print.

use crate::keys::from_hex;
use serde_json::{Map, Value};
use syncline_client::Version;

/// The state of a key in a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) key: Vec<u8>,
    /// The value, or `None` if the key was deleted.
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) version: Version,
}

impl Line {
    /// Parses a line. Returns `None` for a line without a key: an empty line, or one about a revision.
    ///
    /// # Errors
    /// A message with what was expected and what was found.
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
        let version = version.map(Version::new).ok_or("expected a version (a number), found none")?;
        let is_deleted = object.get("deleted").is_some_and(|deleted| *deleted == Value::Bool(true));
        let value = match bytes(&mut object, "value")? {
            Some(value) if !is_deleted => Some(value),
            None if is_deleted => None,
            Some(_) => return Err("expected either a value or deleted, found both".into()),
            None => return Err("expected either a value or deleted, found neither".into()),
        };
        Ok(Some(Self { key, value, version }))
    }
}

/// Removes the bytes under a name, or in hexadecimal under the name with `_hex`, and returns them.
fn bytes(object: &mut Map<String, Value>, name: &str) -> Result<Option<Vec<u8>>, String> {
    let in_hex = format!("{name}_hex");
    match (object.remove(name), object.remove(&in_hex)) {
        (None, None) => Ok(None),
        (Some(Value::String(text)), None) => Ok(Some(text.into_bytes())),
        (None, Some(Value::String(hex))) => from_hex(hex.as_bytes())
            .map(Some)
            .ok_or_else(|| format!("expected pairs of hexadecimal digits as {in_hex}, found other text")),
        (Some(_), Some(_)) => Err(format!("expected {name} or {in_hex}, found both")),
        (Some(_), None) => Err(format!("expected a string as {name}")),
        (None, Some(_)) => Err(format!("expected a string as {in_hex}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Json;
    use syncline_client::Revision;

    #[test]
    fn every_printed_line_can_be_parsed() {
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
    fn a_line_without_a_key_is_skipped() {
        for line in ["", "  \r", r#"{"revision":7,"store":"ab"}"#, r#"{"reset":true,"revision":7,"store":"ab"}"#] {
            assert_eq!(Line::parse(line.as_bytes()), Ok(None), "{line}");
        }
    }

    #[test]
    fn an_invalid_line_is_refused_with_the_reason() {
        for (line, expected) in [
            ("k = v", "expected a JSON object: "),
            ("[]", "expected a JSON object: "),
            ("{}", "expected a key, found none"),
            (r#"{"key":"k","value":"v"}"#, "expected a version (a number), found none"),
            (r#"{"key":"k","value":"v","version":-1}"#, "expected a version (a number), found none"),
            (r#"{"key":7,"value":"v","version":1}"#, "expected a string as key"),
            (r#"{"key":"k","version":1}"#, "expected either a value or deleted, found neither"),
            (r#"{"key":"k","value":"","deleted":true,"version":1}"#, "expected either a value or deleted, found both"),
            (r#"{"key":"k","key_hex":"00","value":"v","version":1}"#, "expected key or key_hex, found both"),
            (
                r#"{"key":"k","value_hex":"0","version":1}"#,
                "expected pairs of hexadecimal digits as value_hex, found other text",
            ),
            (
                r#"{"key":"k","value_hex":"0x","version":1}"#,
                "expected pairs of hexadecimal digits as value_hex, found other text",
            ),
            (
                r#"{"key":"k","value_hex":"é","version":1}"#,
                "expected pairs of hexadecimal digits as value_hex, found other text",
            ),
        ] {
            let found = Line::parse(line.as_bytes()).unwrap_err();
            assert!(found.starts_with(expected), "{line}: {found}");
        }
    }
}
