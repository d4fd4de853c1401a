//! What a configuration file says: TOML with the names of flags as keys, each key with one value.
//!
//! A function of its text and of the names that there are. It opens nothing, and knows nothing of the command line, so that
//! it can be fed anything.

use std::ops::Range;
use thiserror::Error;
use toml::de::{DeTable, DeValue};

/// The most bytes of a file that are read.
pub(crate) const MAX_FILE: usize = 1024 * 1024;

/// The most characters of a key that an error shows, and for which a similar name is searched.
const MAX_SHOWN: usize = 40;

/// How alike, of 1, a key and a name must be for the one to be taken for a slip of the other.
const SIMILAR: f64 = 0.8;

/// The names that a file may and may not have.
pub(crate) struct Names<'a> {
    /// The keys of the file.
    pub(crate) keys: &'a [&'a str],
    /// Flags that say something only on the command line.
    pub(crate) not_in_a_file: &'a [&'a str],
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: Value,
    /// Where it stands, counted from 1.
    pub(crate) line: usize,
}

/// What stands behind a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A string as it is, or an integer in digits: what would stand behind the flag.
    Text(String),
    /// Whether something is on.
    Switch(bool),
}

/// Why a text is no configuration. Each tells where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum ConfigError {
    #[error("line {line}: not TOML: {reason}")]
    Syntax { line: usize, reason: String },
    #[error("line {line}: {key}: expected a string, an integer, true or false, found {found}")]
    Type { line: usize, key: String, found: &'static str },
    #[error("line {line}: unknown key {key}{}", nearest.as_ref().map(|name| format!("; did you mean {name}?")).unwrap_or_default())]
    Unknown { line: usize, key: String, nearest: Option<String> },
    #[error("line {line}: {key} can't stand in a file, only on the command line")]
    NotInAFile { line: usize, key: String },
}

/// Reads a configuration: its entries, in their order.
///
/// # Errors
/// [`ConfigError`]: the first that is wrong.
pub(crate) fn parse(text: &str, names: &Names<'_>) -> Result<Vec<Entry>, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        line: line(text, &error.span().unwrap_or_default()),
        reason: error.message().replace('\n', "; "),
    })?;
    let mut found: Vec<_> = table.into_inner().into_iter().collect();
    // A table has the order of its keys; people read lines.
    found.sort_by_key(|(key, _)| key.span().start);
    found.into_iter().map(|(key, value)| entry(key.as_ref(), line(text, &key.span()), value.as_ref(), names)).collect()
}

fn entry(key: &str, line: usize, value: &DeValue<'_>, names: &Names<'_>) -> Result<Entry, ConfigError> {
    let wrong = |found| ConfigError::Type { line, key: shown(key), found };
    let value = match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(digits) => match i128::from_str_radix(digits.as_str(), digits.radix()) {
            Ok(number) => Value::Text(number.to_string()),
            Err(_) => return Err(wrong("an integer that is too large")),
        },
        DeValue::Boolean(is_on) => Value::Switch(*is_on),
        DeValue::Float(_) => return Err(wrong("a float")),
        DeValue::Datetime(_) => return Err(wrong("a date or time")),
        DeValue::Array(_) => return Err(wrong("an array")),
        DeValue::Table(_) => return Err(wrong("a table; all keys stand at the top")),
    };
    if names.keys.contains(&key) {
        Ok(Entry { key: key.to_owned(), value, line })
    } else if names.not_in_a_file.contains(&key) {
        Err(ConfigError::NotInAFile { line, key: shown(key) })
    } else {
        Err(ConfigError::Unknown { line, key: shown(key), nearest: nearest(key, names.keys) })
    }
}

/// The line that something begins on, counted from 1.
fn line(text: &str, span: &Range<usize>) -> usize {
    1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()
}

/// A key as an error shows it: its beginning, on one line.
fn shown(key: &str) -> String {
    let clipped: String = key.chars().take(MAX_SHOWN).collect();
    let dots = if clipped.len() < key.len() { "…" } else { "" };
    format!("{}{dots}", clipped.escape_debug())
}

/// The name that somebody may have meant.
fn nearest(key: &str, names: &[&str]) -> Option<String> {
    if key.chars().nth(MAX_SHOWN).is_some() {
        return None;
    }
    let alike = names.iter().map(|name| (strsim::jaro_winkler(key, name), *name));
    let (how, name) = alike.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (how >= SIMILAR).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names<'_> =
        Names { keys: &["listen", "max-key", "max-connections"], not_in_a_file: &["config", "help"] };

    fn entries(text: &str) -> Vec<Entry> {
        parse(text, &NAMES).unwrap()
    }

    #[track_caller]
    fn refused(text: &str) -> String {
        parse(text, &NAMES).unwrap_err().to_string()
    }

    fn text(key: &str, value: &str, line: usize) -> Entry {
        Entry { key: key.into(), value: Value::Text(value.into()), line }
    }

    #[test]
    fn entries_come_in_the_order_of_their_lines_with_their_numbers() {
        let found = entries("# where\n\nmax-key = 12\r\nlisten = 'a:1' # here\n\"max-connections\" = 0x1_0\n");
        assert_eq!(found, [text("max-key", "12", 3), text("listen", "a:1", 4), text("max-connections", "16", 5)]);
        assert_eq!(entries(""), []);
        assert_eq!(entries("max-key = -1"), [text("max-key", "-1", 1)], "what it means is not decided here");
        assert_eq!(entries("listen = true"), [Entry { key: "listen".into(), value: Value::Switch(true), line: 1 }]);
        let found = entries("listen = \"\"\"\na\nb\"\"\"\nmax-key = 1");
        assert_eq!(found, [text("listen", "a\nb", 1), text("max-key", "1", 4)]);
    }

    #[test]
    fn an_unknown_key_is_told_with_the_nearest_name() {
        assert_eq!(
            refused("\nmax_conections = 5"),
            "line 2: unknown key max_conections; did you mean max-connections?"
        );
        assert_eq!(refused("maxkey = 5"), "line 1: unknown key maxkey; did you mean max-key?");
        assert_eq!(refused("Listen = 'a'"), "line 1: unknown key Listen; did you mean listen?");
        assert_eq!(refused("colour = 'red'"), "line 1: unknown key colour");
        assert_eq!(refused("\"\" = 1"), "line 1: unknown key ");
        assert_eq!(refused("\"a\\nb\" = 1"), "line 1: unknown key a\\nb");
        let long = refused(&format!("{} = 1", "k".repeat(1000)));
        assert_eq!(long, format!("line 1: unknown key {}…", "k".repeat(40)));
    }

    #[test]
    fn a_flag_of_the_command_line_alone_is_refused_by_name() {
        assert_eq!(refused("config = 'x'"), "line 1: config can't stand in a file, only on the command line");
    }

    #[test]
    fn other_types_are_told_with_what_was_expected() {
        for (value, found) in [
            ("1.5", "a float"),
            ("2026-01-01", "a date or time"),
            ("['a']", "an array"),
            ("{ a = 1 }", "a table; all keys stand at the top"),
            ("170141183460469231731687303715884105728", "an integer that is too large"),
        ] {
            let expected = format!("line 1: max-key: expected a string, an integer, true or false, found {found}");
            assert_eq!(refused(&format!("max-key = {value}")), expected);
        }
        assert!(refused("[limits]\nmax-key = 1").starts_with("line 1: limits: expected a string"));
        assert!(refused("\nmax.key = 1").starts_with("line 2: max: expected a string"));
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_line() {
        for (text, line) in
            [("listen", 1), ("listen = ", 1), ("max-key = 1\nlisten = 'a", 2), ("\n\nmax-key == 1", 3), ("=", 1)]
        {
            assert!(refused(text).starts_with(&format!("line {line}: not TOML: ")), "{}", refused(text));
        }
        assert_eq!(refused("max-key = 1\nmax-key = 2"), "line 2: not TOML: duplicate key");
        assert!(refused(&format!("listen = {}", "[".repeat(100_000))).contains("not TOML"), "deep, and no overflow");
    }
}
