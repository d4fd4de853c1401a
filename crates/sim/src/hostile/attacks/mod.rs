//! The attacks, one after the other. Each states the bound that holds it, and what the server may hold because of it.

mod connections;
mod frames;
mod handshakes;
mod hashes;
mod readers;
mod requests;
mod scans;
mod strangers;
mod writes;

use super::field::{Bound, Field, Scale};
use super::link::{Link, all_encoded};
use super::{Fault, Mode};
use std::pin::Pin;
use std::sync::Arc;
use syncline_wire::{Message, Operation, Tag, Version};

/// What is done, by whoever attacks.
type Play = fn(Arc<Field>) -> Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>>;

/// A way to attack a server.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// What it is called.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub does: &'static str,
    /// What the server must be for it.
    pub needs: Mode,
    /// What the server is started with.
    pub(super) flags: &'static [&'static str],
    /// What holds it.
    pub(super) bound: fn(Scale) -> Bound,
    /// What is there before anything is measured.
    pub(super) prepare: Play,
    /// Says that it is [enough](Field::enough) when all of it has been there once, and ends when it [is told](Field::end).
    pub(super) play: Play,
}

/// What most of them have in common: any server will do, as it is by default, and nothing has to be there before.
const PLAIN: Attack = Attack {
    name: "",
    does: "",
    needs: Mode::Plain,
    flags: &[],
    bound: |_| Bound::new("", "", 0, 0),
    prepare: |_| Box::pin(async { Ok(()) }),
    // So that one that has none of its own is found.
    play: |_| Box::pin(async { Err(Fault::wrong("an attack", "none")) }),
};

/// All of them.
pub const ATTACKS: [Attack; 29] = [
    frames::HALF_PUTS,
    frames::HALF_TRANSACTIONS,
    frames::MANY_HALVES,
    frames::CLAIMS,
    frames::GARBAGE,
    readers::NEVER_READING,
    readers::NEVER_READING_WRITES,
    readers::BYTE_A_SECOND,
    connections::TOO_MANY,
    connections::COME_AND_GO,
    connections::SEVENTY_THOUSAND,
    connections::MANY_IDLE,
    requests::TAGS,
    requests::SAME_TAG,
    requests::AUTHS,
    requests::HELLOS,
    requests::BARRIERS,
    requests::STATUSES,
    requests::ERRORS,
    scans::PREFIXES,
    scans::EVERYTHING,
    writes::TRANSACTIONS,
    writes::BAD_TRANSACTIONS,
    writes::COLLIDING,
    handshakes::NO_TLS,
    handshakes::HALF,
    handshakes::RENEGOTIATION,
    strangers::GUESSES,
    strangers::CROWD,
];

// What bounds are made of. Where the server's own constant is not public, it is named.

/// What a connection that was greeted may hold while it does nothing: its task, its mailbox, its state machine, the room
/// for input that it keeps (`KEPT_CAPACITY` of `server/src/connection.rs`), and what TLS keeps.
const IDLE: usize = 48 * 1024;

/// What is written to a connection at once (`OUTPUT_ROOM` of `core/src/server/timeline.rs`).
const OUTPUT_ROOM: usize = 128 * 1024;

/// A page of the store that waits to be sent (`PAGE` of `core/src/server/scan.rs`).
const PAGE: usize = 64 * 1024;

/// A value that is nearly as large as one can be.
const LARGE: usize = 60_000;

/// A connection's answers, sent and unsent, by default (`--max-unsent`), with one that may stand above it.
const UNSENT: usize = 1024 * 1024 + OUTPUT_ROOM + PAGE;

/// A tag; 0 is never one.
fn tag(number: usize) -> Tag {
    Tag::new(u16::try_from(number % 65_535 + 1).unwrap_or(1))
}

/// Expects an ERROR whose text begins so, for this tag.
fn expect_error(answer: &Message, of: Tag, text: &str) -> Result<(), Fault> {
    match answer {
        Message::Error(error) if error.tag == of && error.text.starts_with(text.as_bytes()) => Ok(()),
        other => Err(Fault::wrong(format_args!("ERROR {text:?} for tag {of}"), other.redacted())),
    }
}

/// Expects exactly this.
fn expect(answer: &Message, expected: &Message) -> Result<(), Fault> {
    if answer == expected { Ok(()) } else { Err(Fault::wrong(expected.redacted(), answer.redacted())) }
}

/// Writes keys that are not there yet, in transactions.
async fn fill(link: &mut Link, keys: usize, key: impl Fn(usize) -> String, value: &[u8]) -> Result<(), Fault> {
    let at_once = (1024 * 1024 / (value.len() + 64)).clamp(1, 1000);
    let mut first = 0;
    while first < keys {
        let last = (first + at_once).min(keys);
        let operations = (first..last).map(|number| Operation::Put {
            key: key(number).into(),
            value: value.to_vec().into(),
            version: Version::new(1),
        });
        let request = Message::txn(tag(0), operations.collect());
        link.send(&all_encoded([request]), 1).await?;
        loop {
            match link.answer().await? {
                Message::Mark(_) => break,
                Message::Put(_) => {}
                other => return Err(Fault::wrong("a transaction to be accepted", other.redacted())),
            }
        }
        first = last;
    }
    Ok(())
}
