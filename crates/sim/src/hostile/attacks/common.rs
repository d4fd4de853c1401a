//! What several attacks share: the sizes that their bounds are made of, and checks of responses.

use crate::hostile::connection::{Connection, encode_all};
use crate::hostile::error::AttackError;
use syncline_wire::{Message, Operation, Tag, Version};

// What bounds are made of. Where the server's own constant is not public, it is named.

/// What a connection that was connect_many may hold while it does nothing: its task, its mailbox, its state machine, the room
/// for input that it keeps (`KEPT_CAPACITY` of `server/src/connection.rs`), and what TLS keeps.
pub(super) const IDLE: usize = 48 * 1024;

/// What is written to a connection at once (`OUTPUT_ROOM` of `core/src/server/timeline.rs`).
pub(super) const OUTPUT_ROOM: usize = 128 * 1024;

/// A page of the store that waits to be sent (`PAGE` of `core/src/server/scan.rs`).
pub(super) const PAGE: usize = 64 * 1024;

/// A value that is nearly as large as one can be.
pub(super) const LARGE: usize = 60_000;

/// A connection's answers, sent and unsent, by default (`--max-unsent`), with one that may stand above it.
pub(super) const UNSENT: usize = 1024 * 1024 + OUTPUT_ROOM + PAGE;

/// A tag; 0 is never one.
pub(super) fn tag(number: usize) -> Tag {
    Tag::new(u16::try_from(number % 65_535 + 1).unwrap_or(1))
}

/// Expects an ERROR whose text begins so, for this tag.
pub(super) fn expect_error(answer: &Message, of: Tag, text: &str) -> Result<(), AttackError> {
    match answer {
        Message::Error(error) if error.tag == of && error.text.starts_with(text.as_bytes()) => Ok(()),
        other => Err(AttackError::unexpected(format_args!("ERROR {text:?} for tag {of}"), other.redacted())),
    }
}

/// Expects exactly this.
pub(super) fn expect(answer: &Message, expected: &Message) -> Result<(), AttackError> {
    if answer == expected { Ok(()) } else { Err(AttackError::unexpected(expected.redacted(), answer.redacted())) }
}

/// Writes keys that are not there yet, in transactions.
pub(super) async fn fill(
    connection: &mut Connection,
    keys: usize,
    key: impl Fn(usize) -> String,
    value: &[u8],
) -> Result<(), AttackError> {
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
        connection.send(&encode_all([request]), 1).await?;
        loop {
            match connection.response().await? {
                Message::Mark(_) => break,
                Message::Put(_) => {}
                other => return Err(AttackError::unexpected("a transaction to be accepted", other.redacted())),
            }
        }
        first = last;
    }
    Ok(())
}
