//! `syncline txn`: reads operations from stdin and commits them as one transaction.

use crate::args::Txn;
use crate::delete::existing;
use crate::failure::Failure;
use crate::keys::KeyNotation;
use crate::output::{note, print_committed};
use crate::shown::shown;
use crate::stale::Found;
use serde_json::json;
use std::collections::HashMap;
use std::io::{self, IsTerminal, Read};
use syncline_client::{Client, TxnError, Version};

/// The largest input, in bytes: several times as large as the largest transaction.
const MAX_INPUT: u64 = 256 << 20;

/// The version of a put without a version: the key must be new.
const NEW: Version = Version::new(1);

pub(crate) async fn run(args: Txn) -> Result<(), Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        note("enter operations, one per line; Ctrl-D commits them");
    }
    let mut input = Vec::new();
    let read = stdin.lock().take(MAX_INPUT).read_to_end(&mut input);
    read.map_err(|error| Failure::Usage(format!("can't read the operations from stdin: {error}")))?;
    let operations = parse(&input, args.notation).map_err(Failure::Usage)?;
    let client = args.servers.connect().await?;
    let mut txn = client.txn();
    for Operation { line, what, key, version } in &operations {
        let key = key.clone();
        txn = match (what, version) {
            (What::Check, version) => txn.check(key, version.unwrap_or(Version::ABSENT)),
            (What::Put(value), version) => txn.put(key, value.clone(), version.unwrap_or(NEW)),
            (What::Delete, Some(version)) => txn.delete(key, *version),
            (What::Delete, None) => {
                let next = existing(&client, &key).await.map_err(|failure| failure.in_line(*line))?.next_version();
                txn.delete(key, next)
            }
        };
    }
    let revision = match txn.commit().await {
        Ok(revision) => revision,
        Err(TxnError::StaleKey { key }) => return Err(stale(&client, &operations, &key).await),
        Err(error) => return Err(error.into()),
    };
    print_committed(&if args.json {
        json!({ "revision": revision.get() }).to_string()
    } else {
        format!("committed  (revision {revision})")
    })
}

/// Returns the failure for a stale transaction: the operation at fault, and the state of its key.
async fn stale(client: &Client, operations: &[Operation], key: &str) -> Failure {
    for operation in operations {
        // The server names the first key at fault, but shortens a long key, so this asks for every key again.
        let Ok(found) = Found::of(client, &operation.key).await else { break };
        if !operation.applies_to(&found) {
            let Operation { line, key, .. } = operation;
            let (key, expected) = (shown(key), operation.expected());
            let message = format!("stale: {key} is {found}, expected {expected}; nothing was written");
            return Failure::Stale(message).in_line(*line);
        }
    }
    // The key has changed again since.
    Failure::Stale(format!("stale: {key} was at another version; nothing was written"))
}

/// An operation, with the number of its line.
#[derive(Debug, PartialEq, Eq)]
struct Operation {
    line: u64,
    what: What,
    key: Vec<u8>,
    version: Option<Version>,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    Check,
    Put(Vec<u8>),
    Delete,
}

impl Operation {
    fn applies_to(&self, found: &Found) -> bool {
        match (&self.what, self.version) {
            (What::Check, version) => {
                let current = if let Found::At(found) = found { found.version } else { Version::ABSENT };
                version == Some(found.version()) || version == Some(current)
            }
            (What::Delete, None) => matches!(found, Found::At(_)),
            // A key that the server does not know accepts any version.
            (What::Put(_), version) => {
                found.version() == Version::ABSENT || version.unwrap_or(NEW) == found.next_version()
            }
            (What::Delete, version) => version == Some(found.next_version()),
        }
    }

    /// Returns the state of the key that the operation requires.
    fn expected(&self) -> String {
        match (&self.what, self.version) {
            (What::Check, Some(Version::ABSENT)) => "an absent key".into(),
            (What::Check, version) => format!("version {}", version.unwrap_or(Version::ABSENT)),
            (What::Put(_), None) => "a new key".into(),
            (What::Delete, None) => "an existing key".into(),
            (_, Some(version)) => format!("version {}", version.get().saturating_sub(1)),
        }
    }
}

/// Parses operations, one per line.
///
/// # Errors
/// A message with the line at fault.
fn parse(input: &[u8], notation: KeyNotation) -> Result<Vec<Operation>, String> {
    let mut operations = Vec::new();
    let mut lines = HashMap::new();
    for (number, line) in (1_u64..).zip(input.split(|byte| *byte == b'\n')) {
        let wrong = |what: &str| format!("line {number}: {what}");
        let words = shlex::bytes::split(line).ok_or_else(|| wrong("expected a closing quote, found none"))?;
        let Some((name, arguments)) = words.split_first() else { continue };
        let operation = operation(number, name, arguments, notation).map_err(|what| wrong(&what))?;
        if let Some(before) = lines.insert(operation.key.clone(), number) {
            let key = shown(&operation.key);
            return Err(wrong(&format!("expected each key once, found {key} in line {before} as well")));
        }
        operations.push(operation);
    }
    if operations.is_empty() {
        return Err("expected operations on stdin, found none".into());
    }
    Ok(operations)
}

fn operation(line: u64, name: &[u8], arguments: &[Vec<u8>], notation: KeyNotation) -> Result<Operation, String> {
    let wrong = |expected| Err(format!("expected {expected}, found {} words", arguments.len() + 1));
    let (what, key, version) = match (name, arguments) {
        (b"check", [key, version]) => (What::Check, key, Some(version)),
        (b"check", _) => return wrong("check KEY VERSION"),
        (b"put", [key, value]) => (What::Put(value.clone()), key, None),
        (b"put", [key, value, version]) => (What::Put(value.clone()), key, Some(version)),
        (b"put", _) => return wrong("put KEY VALUE [VERSION]"),
        (b"delete", [key]) => (What::Delete, key, None),
        (b"delete", [key, version]) => (What::Delete, key, Some(version)),
        (b"delete", _) => return wrong("delete KEY [VERSION]"),
        _ => return Err(format!("expected check, put or delete, found {}", shown(name))),
    };
    let number = |text: &Vec<u8>| {
        let number = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        number.map(Version::new).ok_or_else(|| format!("expected a version (a number), found {}", shown(text)))
    };
    Ok(Operation { line, what, key: notation.read_bytes(key.clone())?, version: version.map(number).transpose()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: u64, what: What, key: &[u8], version: Option<u64>) -> Operation {
        Operation { line, what, key: key.to_vec(), version: version.map(Version::new) }
    }

    #[test]
    fn words_are_quoted_as_in_a_shell() {
        let input =
            b"check a 3  # as it was\n\n# nothing here\nput 'b c' \"it's\" 2\n  delete d\\ e\nput \xff ''\ndelete f 9";
        let expected = [
            parsed(1, What::Check, b"a", Some(3)),
            parsed(4, What::Put(b"it's".to_vec()), b"b c", Some(2)),
            parsed(5, What::Delete, b"d e", None),
            parsed(6, What::Put(Vec::new()), b"\xff", None),
            parsed(7, What::Delete, b"f", Some(9)),
        ];
        assert_eq!(parse(input, KeyNotation { hex: false }).unwrap(), expected);
    }

    #[test]
    fn keys_may_be_in_hexadecimal() {
        let expected = [parsed(1, What::Put(b"0x00".to_vec()), &[0, 255], None)];
        assert_eq!(parse(b"put 0x00ff 0x00", KeyNotation { hex: true }).unwrap(), expected);
        assert!(
            parse(b"delete name", KeyNotation { hex: true })
                .unwrap_err()
                .starts_with("line 1: expected a key as pairs")
        );
    }

    #[test]
    fn an_invalid_operation_is_refused_with_its_line() {
        for (input, expected) in [
            ("", "expected operations on stdin, found none"),
            ("# nothing\n\n", "expected operations on stdin, found none"),
            ("check a", "line 1: expected check KEY VERSION, found 2 words"),
            ("put a b\nput c", "line 2: expected put KEY VALUE [VERSION], found 2 words"),
            ("delete", "line 1: expected delete KEY [VERSION], found 1 words"),
            ("put a b 1 2", "line 1: expected put KEY VALUE [VERSION], found 5 words"),
            ("\nget a", "line 2: expected check, put or delete, found get"),
            ("put a b -1", "line 1: expected a version (a number), found -1"),
            ("put a 'b", "line 1: expected a closing quote, found none"),
            ("put a b\n\ndelete a", "line 3: expected each key once, found a in line 1 as well"),
        ] {
            assert_eq!(parse(input.as_bytes(), KeyNotation { hex: false }), Err(expected.to_owned()), "{input}");
        }
    }
}
