//! The configuration file, `syncline.toml`.
//!
//! Checked: it is refused with a line that it has, on one line of words that stay short; or its entries are
//! known names, each once, in the order of their lines, and are the same when they are written and read again.
//!
//! The parser is one of the binary's files, which stands alone so that it can be fed anything.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the tests in it use the rest")]
#[path = "../../crates/cli/src/config_file.rs"]
mod config_file;

use config_file::{Entry, Names, Value, parse};

const NAMES: Names<'_> = Names {
    keys: &["listen", "data", "max-key", "max-connections", "tls-cert", "users"],
    not_in_a_file: &["config", "help", "check-config"],
};

/// More than an error ever says.
const MOST_SAID: usize = 1000;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
    match parse(text, &NAMES) {
        Err(error) => {
            let said = error.to_string();
            let line =
                said.strip_prefix("line ").and_then(|rest| rest.split(':').next()).and_then(|line| line.parse().ok());
            assert!(line.is_some_and(|line: usize| (1..=lines).contains(&line)), "{said}");
            assert!(!said.contains('\n') && said.len() < MOST_SAID, "{} bytes are said: {said:?}", said.len());
        }
        Ok(entries) => {
            assert!(entries.iter().all(|entry| NAMES.keys.contains(&entry.key.as_str())));
            assert!(entries.is_sorted_by(|a, b| a.line < b.line || (a.line == b.line && a.key != b.key)));
            assert!(entries.iter().all(|entry| (1..=lines).contains(&entry.line)));
            let again = parse(&written(&entries), &NAMES).expect("what was read can be written");
            let same = |(a, b): (&Entry, &Entry)| (&a.key, &a.value) == (&b.key, &b.value);
            assert!(again.len() == entries.len() && again.iter().zip(&entries).all(same), "{again:?}, not {entries:?}");
        }
    }
});

/// A configuration of these entries.
fn written(entries: &[Entry]) -> String {
    let line = |entry: &Entry| match &entry.value {
        Value::Switch(is_on) => format!("{} = {is_on}\n", entry.key),
        Value::Text(text) => {
            let escaped: String = text.chars().map(|c| format!("\\U{:08x}", u32::from(c))).collect();
            format!("{} = \"{escaped}\"\n", entry.key)
        }
    };
    entries.iter().map(line).collect()
}
