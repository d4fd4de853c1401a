//! The files of users and of hashes.
//!
//! Checked: a file is refused with a line that it has, on one line of words that stay short; or it has users, each with a
//! name of its own. No error and no `Debug` shows a hash, and a hash that is taken is shown as it was read.
//!
//! These are two files of the server, which stand alone: the rest of it need not be built for them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;

#[allow(dead_code, unreachable_pub, reason = "the server uses the rest")]
#[path = "../../crates/server/src/access/hash.rs"]
mod hash;
#[allow(dead_code, unreachable_pub, reason = "the server uses the rest")]
#[path = "../../crates/server/src/access/users.rs"]
mod users;

use hash::Hash;
use users::Users;

/// More than an error ever says.
const MOST_SAID: usize = 1000;

/// What is secret of the hashes in the corpus.
const SECRETS: [&str; 2] = ["3kMqwgzWQDMdfAN3FRIXRlT8mWkkrW07XEja2N+NmIs", "PaWxn96p36WQoeG6Lruj3vjPGga31lW"];

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let said = match Users::parse(text) {
        Err(error) => {
            let said = error.to_string();
            let number = said.strip_prefix("line ").and_then(|rest| rest.split([':', ',']).next());
            let line = number.and_then(|number| number.parse().ok());
            assert!(line.is_none_or(|line: usize| (1..=lines).contains(&line)), "{said}");
            assert!(!said.contains('\n') && said.len() < MOST_SAID, "{} bytes are said: {said:?}", said.len());
            said
        }
        Ok(users) => {
            let names: BTreeSet<_> = users.names().collect();
            assert!(!names.is_empty() && names.len() == users.names().count(), "{names:?}");
            assert!(names.iter().all(|name| !name.is_empty() && !name.contains(':')), "{names:?}");
            format!("{users:?}")
        }
    };
    hides(&said, text);
    let hash = text.trim().parse::<Hash>();
    let said = hash.as_ref().map_or_else(ToString::to_string, |hash| format!("{hash:?}"));
    assert!(said.len() < MOST_SAID, "{said}");
    hides(&said, text);
    if let Ok(hash) = hash {
        assert_eq!(hash.expose().parse::<Hash>().as_ref(), Ok(&hash), "what is shown can be read");
    }
});

/// Unless it also stands where it is none, as in a name.
fn hides(said: &str, text: &str) {
    let is_hash = |line: &&str| line.starts_with("hash = \"$") || line.starts_with('$');
    let elsewhere = |secret| text.lines().filter(|line| !is_hash(line)).any(|line| line.contains(secret));
    assert!(SECRETS.iter().all(|secret| !said.contains(secret) || elsewhere(secret)), "{said}");
}
