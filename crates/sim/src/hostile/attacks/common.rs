//! What several attacks share: the sizes that their bounds are made of, and checks of responses.

use crate::hostile::connection::{Connection, encode_all};
use crate::hostile::error::AttackError;
use syncline_wire::{Message, Operation, Tag, Version};

// The sizes that make up bounds. If a constant of the server is not public, its name is given here.

/// The memory of an idle extended connection: its task, its handle, its state machine, the input buffer that it keeps
/// (`KEPT_CAPACITY` of `server/src/connection.rs`), and its TLS state.
pub(super) const IDLE: usize = 48 * 1024;

/// The largest single write to a connection (`OUTPUT_ROOM` of `core/src/server/timeline.rs`).
pub(super) const OUTPUT_ROOM: usize = 128 * 1024;

/// A page of the store that is waiting to be sent (`PAGE` of `core/src/server/scan.rs`).
pub(super) const PAGE: usize = 64 * 1024;

/// A value size close to the maximum.
pub(super) const LARGE: usize = 60_000;

/// The unsent responses of a connection by default (`--max-unsent`), and one that may exceed the limit.
pub(super) const UNSENT: usize = 1024 * 1024 + OUTPUT_ROOM + PAGE;

/// Returns a tag for a number. It is never 0, the tag of broadcasts.
pub(super) fn tag(number: usize) -> Tag {
    Tag::new(u16::try_from(number % 65_535 + 1).unwrap_or(1))
}

/// Expects an ERROR with this tag and with a text that begins with `text`.
pub(super) fn expect_error(response: &Message, of: Tag, text: &str) -> Result<(), AttackError> {
    match response {
        Message::Error(error) if error.tag == of && error.text.starts_with(text.as_bytes()) => Ok(()),
        other => Err(AttackError::unexpected(format_args!("ERROR {text:?} for tag {of}"), other.redacted())),
    }
}

/// Expects exactly this message.
pub(super) fn expect(response: &Message, expected: &Message) -> Result<(), AttackError> {
    if response == expected { Ok(()) } else { Err(AttackError::unexpected(expected.redacted(), response.redacted())) }
}

/// Writes new keys in transactions.
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
