//! The parser of the configuration file: TOML whose keys are the names of flags, with one value each.
//!
//! The result depends on the text and on the names that the caller passes, and on nothing else. No input can make the
//! parser panic; the fuzz target `config` checks this.

use std::ops::Range;
use thiserror::Error;
use toml::de::{DeTable, DeValue};

/// The largest configuration file, in bytes.
pub const MAX_FILE: usize = 1024 * 1024;

/// The number of characters of a key that an error shows. Longer keys get no suggestion of a similar name.
const MAX_SHOWN: usize = 40;

/// The Jaro-Winkler similarity, of at most 1, from which on an unknown key counts as a misspelt name.
const SIMILAR: f64 = 0.8;

/// The names that a file may and may not contain.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The valid keys.
    pub keys: &'a [&'a str],
    /// Flags that are valid on the command line only.
    pub not_in_a_file: &'a [&'a str],
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// One of [`Names::keys`].
    pub key: String,
    /// The value as the file states it, not yet interpreted.
    pub value: Value,
    /// The line of the key, counted from 1.
    pub line: usize,
}

/// The value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A string, or an integer in decimal digits: the text that would follow the flag on a command line.
    Text(String),
    /// A boolean.
    Switch(bool),
}

/// The reason why a text is not a valid configuration. Each message names the line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is not TOML.
    #[error("line {line}: not TOML: {reason}")]
    Syntax {
        /// The line, counted from 1.
        line: usize,
        /// The TOML parser's message, on one line.
        reason: String,
    },
    /// A value is neither a string, nor an integer, nor a boolean.
    #[error("line {line}: {key}: expected a string, an integer, true or false, found {found}")]
    Type {
        /// The line, counted from 1.
        line: usize,
        /// The key, shortened and escaped.
        key: String,
        /// The type of the value.
        found: &'static str,
    },
    /// A key is not a valid name.
    #[error("line {line}: unknown key {key}{}", nearest.as_ref().map(|name| format!("; did you mean {name}?")).unwrap_or_default())]
    Unknown {
        /// The line, counted from 1.
        line: usize,
        /// The key, shortened and escaped.
        key: String,
        /// The valid name that is most similar, if any is similar enough.
        nearest: Option<String>,
    },
    /// A key is the name of a flag that is valid on the command line only.
    #[error("line {line}: {key} cannot be set in a file, only on the command line")]
    NotInAFile {
        /// The line, counted from 1.
        line: usize,
        /// The key.
        key: String,
    },
}

/// Parses a configuration and returns its assignments in the order of their lines.
///
/// # Errors
/// The first error, in the order of lines.
pub fn parse(text: &str, names: &Names<'_>) -> Result<Vec<Assignment>, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        line: line_of(text, &error.span().unwrap_or_default()),
        reason: error.message().replace('\n', "; "),
    })?;
    let mut found: Vec<_> = table.into_inner().into_iter().collect();
    // The table is sorted by key.
    found.sort_by_key(|(key, _)| key.span().start);
    found
        .into_iter()
        .map(|(key, value)| assignment(key.as_ref(), line_of(text, &key.span()), value.as_ref(), names))
        .collect()
}

fn assignment(key: &str, line: usize, value: &DeValue<'_>, names: &Names<'_>) -> Result<Assignment, ConfigError> {
    let wrong_type = |found| ConfigError::Type { line, key: shown(key), found };
    let value = match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(digits) => match i128::from_str_radix(digits.as_str(), digits.radix()) {
            Ok(number) => Value::Text(number.to_string()),
            Err(_) => return Err(wrong_type("an integer that is too large")),
        },
        DeValue::Boolean(is_on) => Value::Switch(*is_on),
        DeValue::Float(_) => return Err(wrong_type("a float")),
        DeValue::Datetime(_) => return Err(wrong_type("a date or time")),
        DeValue::Array(_) => return Err(wrong_type("an array")),
        DeValue::Table(_) => return Err(wrong_type("a table; all keys belong to the top level")),
    };
    if names.keys.contains(&key) {
        Ok(Assignment { key: key.to_owned(), value, line })
    } else if names.not_in_a_file.contains(&key) {
        Err(ConfigError::NotInAFile { line, key: shown(key) })
    } else {
        Err(ConfigError::Unknown { line, key: shown(key), nearest: nearest(key, names.keys) })
    }
}

/// Returns the line at which a span begins, counted from 1.
fn line_of(text: &str, span: &Range<usize>) -> usize {
    1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()
}

/// Returns the key as an error shows it: shortened, and escaped so that it stays on one line.
fn shown(key: &str) -> String {
    let clipped: String = key.chars().take(MAX_SHOWN).collect();
    let dots = if clipped.len() < key.len() { "…" } else { "" };
    format!("{}{dots}", clipped.escape_debug())
}

/// Returns the name that is most similar to a key, if it is similar enough.
fn nearest(key: &str, names: &[&str]) -> Option<String> {
    if key.chars().nth(MAX_SHOWN).is_some() {
        return None;
    }
    let scored = names.iter().map(|name| (strsim::jaro_winkler(key, name), *name));
    let (similarity, name) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (similarity >= SIMILAR).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names<'_> =
        Names { keys: &["listen", "max-key", "max-connections"], not_in_a_file: &["config", "help"] };

    fn assignments(text: &str) -> Vec<Assignment> {
        parse(text, &NAMES).unwrap()
    }

    #[track_caller]
    fn refused(text: &str) -> String {
        parse(text, &NAMES).unwrap_err().to_string()
    }

    fn text(key: &str, value: &str, line: usize) -> Assignment {
        Assignment { key: key.into(), value: Value::Text(value.into()), line }
    }

    #[test]
    fn assignments_are_in_the_order_of_their_lines() {
        let found = assignments("# where\n\nmax-key = 12\r\nlisten = 'a:1' # here\n\"max-connections\" = 0x1_0\n");
        assert_eq!(found, [text("max-key", "12", 3), text("listen", "a:1", 4), text("max-connections", "16", 5)]);
        assert_eq!(assignments(""), []);
        assert_eq!(assignments("max-key = -1"), [text("max-key", "-1", 1)], "the caller interprets the value");
        assert_eq!(
            assignments("listen = true"),
            [Assignment { key: "listen".into(), value: Value::Switch(true), line: 1 }]
        );
        let found = assignments("listen = \"\"\"\na\nb\"\"\"\nmax-key = 1");
        assert_eq!(found, [text("listen", "a\nb", 1), text("max-key", "1", 4)]);
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_most_similar_name() {
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
    fn a_flag_for_the_command_line_only_is_refused_by_name() {
        assert_eq!(refused("config = 'x'"), "line 1: config cannot be set in a file, only on the command line");
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        for (value, found) in [
            ("1.5", "a float"),
            ("2026-01-01", "a date or time"),
            ("['a']", "an array"),
            ("{ a = 1 }", "a table; all keys belong to the top level"),
            ("170141183460469231731687303715884105728", "an integer that is too large"),
        ] {
            let expected = format!("line 1: max-key: expected a string, an integer, true or false, found {found}");
            assert_eq!(refused(&format!("max-key = {value}")), expected);
        }
        assert!(refused("[limits]\nmax-key = 1").starts_with("line 1: limits: expected a string"));
        assert!(refused("\nmax.key = 1").starts_with("line 2: max: expected a string"));
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        for (text, line) in
            [("listen", 1), ("listen = ", 1), ("max-key = 1\nlisten = 'a", 2), ("\n\nmax-key == 1", 3), ("=", 1)]
        {
            assert!(refused(text).starts_with(&format!("line {line}: not TOML: ")), "{}", refused(text));
        }
        assert_eq!(refused("max-key = 1\nmax-key = 2"), "line 2: not TOML: duplicate key");
        assert!(
            refused(&format!("listen = {}", "[".repeat(100_000))).contains("not TOML"),
            "deep nesting does not overflow the stack"
        );
    }
}
