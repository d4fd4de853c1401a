//! Implements wrong variants that change the output of a server frame by frame.

use super::context::Context;
use super::wrong::Wrong;
use crate::frame;
use crate::history::Write;
use bytes::{Bytes, BytesMut};
use syncline_wire::{Decoded, Message, Revision, Tag, decode};

/// Changes the output of one connection.
pub(super) struct Mangler {
    wrong: Wrong,
    input: BytesMut,
    output: BytesMut,
}

impl Mangler {
    /// Returns a mangler if the variant needs one.
    pub(super) fn new(wrong: Wrong) -> Option<Self> {
        matches!(wrong, Wrong::MarkTooEarly | Wrong::OwnWriteOutOfOrder | Wrong::HalfATransaction).then(|| Self {
            wrong,
            input: BytesMut::new(),
            output: BytesMut::new(),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.output.is_empty()
    }

    /// Takes output of the server, and changes it.
    pub(super) fn take(&mut self, bytes: &[u8], context: &mut Context) {
        self.input.extend_from_slice(bytes);
        let mut frames = Vec::new();
        while let Ok(Decoded::Frame(message)) = decode(&mut self.input) {
            frames.push(message);
        }
        for place in 1..frames.len() {
            let [before, after] = frames.get(place - 1..=place).unwrap_or_default() else { continue };
            let is_told = |message: &Message| matches!(message, Message::Put(_) | Message::Delete(_));
            let is_told_of_another = |message: &Message| is_told(message) && message.tag() == Tag::BROADCAST;
            let is_swapped = match self.wrong {
                Wrong::MarkTooEarly => {
                    is_told_of_another(before)
                        && matches!(after, Message::Mark(mark) if mark.tag == Tag::BROADCAST)
                        && context.random.chance(10)
                }
                Wrong::OwnWriteOutOfOrder => {
                    is_told(before) && before.tag() != Tag::BROADCAST && is_told_of_another(after)
                }
                _ => false,
            };
            if is_swapped {
                frames.swap(place - 1, place);
            }
        }
        for (place, message) in frames.iter().enumerate() {
            let encoded = message.encode(&mut self.output);
            debug_assert!(encoded.is_ok(), "a decoded frame can be encoded");
            if let (Wrong::HalfATransaction, Some(next)) = (self.wrong, frames.get(place + 1))
                && let Some(revision) = together(message, next, context)
            {
                let encoded = Message::mark(Tag::BROADCAST, revision).encode(&mut self.output);
                debug_assert!(encoded.is_ok(), "a MARK can be encoded");
            }
        }
    }

    /// Returns at most `most` bytes of the changed output.
    pub(super) fn give(&mut self, most: usize) -> Bytes {
        self.output.split_to(most.min(self.output.len())).freeze()
    }
}

/// Returns the revision of the transaction that contains the writes of both broadcasts.
fn together(one: &Message, other: &Message, context: &Context) -> Option<Revision> {
    let write = |message: &Message| -> Option<Write> {
        let is_broadcast = message.tag() == Tag::BROADCAST;
        let (key, version) = (message.key().filter(|_| is_broadcast)?, message.version()?);
        Some(frame::write(key, message.value(), version))
    };
    let (one, other) = (write(one)?, write(other)?);
    let commits = &context.record.history.commits;
    let commit = commits.iter().rfind(|commit| commit.writes.contains(&one) && commit.writes.contains(&other))?;
    Some(Revision::new(commit.revision))
}
