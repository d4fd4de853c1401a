//! Fuzz target: the configuration file, `syncline.toml`.
//!
//! Checked properties:
//! - If the parser refuses a text, its message is short, fits on one line, and names a line that exists.
//! - If it accepts a text, each key is a valid name, occurs once, and the assignments are in the order of their lines.
//! - Assignments that are written as a file and parsed again are unchanged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncline_config::{Assignment, Names, Value, parse};

const NAMES: Names<'_> = Names {
    keys: &["listen", "data", "max-key", "max-connections", "tls-cert", "users"],
    not_in_a_file: &["config", "help", "check-config"],
};

/// The bound on the length of an error message, in bytes.
const MAX_MESSAGE: usize = 1000;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
    match parse(text, &NAMES) {
        Err(error) => {
            let message = error.to_string();
            let number = message.strip_prefix("line ").and_then(|rest| rest.split(':').next());
            let line = number.and_then(|number| number.parse().ok());
            assert!(line.is_some_and(|line: usize| (1..=lines).contains(&line)), "{message}");
            assert!(!message.contains('\n'), "several lines: {message:?}");
            assert!(message.len() < MAX_MESSAGE, "{} bytes: {message:?}", message.len());
        }
        Ok(found) => {
            assert!(found.iter().all(|one| NAMES.keys.contains(&one.key.as_str())));
            assert!(found.is_sorted_by(|a, b| a.line < b.line || (a.line == b.line && a.key != b.key)));
            assert!(found.iter().all(|one| (1..=lines).contains(&one.line)));
            let again = parse(&file_of(&found), &NAMES).expect("a written file must be valid");
            let same = |(a, b): (&Assignment, &Assignment)| (&a.key, &a.value) == (&b.key, &b.value);
            assert!(again.len() == found.len() && again.iter().zip(&found).all(same), "{again:?}, not {found:?}");
        }
    }
});

/// Writes a configuration file with these assignments.
fn file_of(assignments: &[Assignment]) -> String {
    let line = |assignment: &Assignment| match &assignment.value {
        Value::Switch(is_on) => format!("{} = {is_on}\n", assignment.key),
        Value::Text(text) => {
            let escaped: String = text.chars().map(|c| format!("\\U{:08x}", u32::from(c))).collect();
            format!("{} = \"{escaped}\"\n", assignment.key)
        }
    };
    assignments.iter().map(line).collect()
}
