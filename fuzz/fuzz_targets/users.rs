//! Fuzz target: the users file and the hash file.
//!
//! Checked properties:
//! - If the parser refuses a file, its message is short, fits on one line, and names a line that exists.
//! - If it accepts a file, there is at least one user, and each has a name of its own.
//! - No error and no `Debug` output shows a hash.
//! - A hash that is accepted is written as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use syncline_server::{Hash, Users};

/// The bound on the length of an error message, in bytes.
const MAX_MESSAGE: usize = 1000;

/// The secret parts of the hashes in the corpus.
const SECRETS: [&str; 2] = ["3kMqwgzWQDMdfAN3FRIXRlT8mWkkrW07XEja2N+NmIs", "PaWxn96p36WQoeG6Lruj3vjPGga31lW"];

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let shown = match Users::parse(text) {
        Err(error) => {
            let message = error.to_string();
            let number = message.strip_prefix("line ").and_then(|rest| rest.split([':', ',']).next());
            let line = number.and_then(|number| number.parse().ok());
            assert!(line.is_none_or(|line: usize| (1..=lines).contains(&line)), "{message}");
            assert!(!message.contains('\n'), "several lines: {message:?}");
            assert!(message.len() < MAX_MESSAGE, "{} bytes: {message:?}", message.len());
            message
        }
        Ok(users) => {
            let names: BTreeSet<_> = users.names().collect();
            assert!(!names.is_empty() && names.len() == users.names().count(), "{names:?}");
            assert!(names.iter().all(|name| !name.is_empty() && !name.contains(':')), "{names:?}");
            format!("{users:?}")
        }
    };
    assert_no_secret(&shown, text);
    let hash = text.trim().parse::<Hash>();
    let shown = hash.as_ref().map_or_else(ToString::to_string, |hash| format!("{hash:?}"));
    assert!(shown.len() < MAX_MESSAGE, "{shown}");
    assert_no_secret(&shown, text);
    if let Ok(hash) = hash {
        assert_eq!(hash.expose().parse::<Hash>().as_ref(), Ok(&hash), "a written hash must be valid");
    }
});

/// Checks that an output shows no secret, except one that the text holds outside of a hash, for example as a name.
fn assert_no_secret(shown: &str, text: &str) {
    let is_hash = |line: &&str| line.starts_with("hash = \"$") || line.starts_with('$');
    let elsewhere = |secret| text.lines().filter(|line| !is_hash(line)).any(|line| line.contains(secret));
    assert!(SECRETS.iter().all(|secret| !shown.contains(secret) || elsewhere(secret)), "{shown}");
}
