//! Interprets the frames of a connection one by one: what the reader of the connection holds, and for which keys a
//! MARK asserts that this is the state of the store.
//!
//! # Rules
//! - A change is a frame with tag 0, or the response to an accepted own write. The response to a write that was sent
//!   before a WATCH is not part of what the WATCH delivers.
//! - A change under the prefix of an unanswered WATCH may come from the pages of that WATCH, and may then be older
//!   than the changes around it.
//! - The last page of a WATCH is followed by its MARK. If the WATCH asks for the changes since a revision above 0, a
//!   first MARK of revision 0 is a reset.
//! - While a WATCH that resumes or was reset is unanswered, MARKs assert nothing about the keys under its prefix. The
//!   MARK that answers a TXN or LIST asserts something about that request only.
//! - Before HELLO is answered, a connection receives all changes, and a deletion arrives as an empty value.

use super::truth::{Held, KeyId, Truth};
use crate::history::{Direction, Frame, Key, Moment, Stamp, State, Transcript, Write};
use std::collections::BTreeMap;

/// The meaning of a frame for the reader of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FrameEvent<'a> {
    /// The client sent a request.
    Sent(&'a Frame),
    /// HELLO was answered: from here on, the connection receives only what it asks for.
    HelloAnswered,
    /// A key has changed.
    Change {
        key: KeyId,
        state: State,
        /// Whether this is the response to an own write.
        is_own: bool,
    },
    /// The response to a GET; `None` if the key does not exist.
    GetResult {
        key: KeyId,
        state: Option<State>,
    },
    /// A key in the response to the LIST of this tag.
    Listed {
        tag: u16,
        key: KeyId,
        state: State,
    },
    /// A write was refused as stale.
    Stale {
        asked: PendingRequest<'a>,
    },
    /// The reader must discard its state under this prefix.
    Reset {
        prefix: &'a Key,
    },
    Mark {
        revision: u64,
        of: MarkKind<'a>,
    },
    /// A frame with a tag that answers no request.
    Unsolicited(&'a Frame),
    /// A frame that the checkers do not need.
    Other,
}

/// What a MARK belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MarkKind<'a> {
    /// The preceding changes.
    Changes,
    /// A barrier that was sent at this moment.
    Barrier {
        asked_at: Moment,
    },
    /// A WATCH: all its pages have arrived.
    Watch {
        prefix: &'a Key,
        /// The revision that the pages start after; 0 if they contain everything.
        since: u64,
        is_reset: bool,
    },
    Txn,
    List,
}

impl MarkKind<'_> {
    /// Returns whether the MARK asserts that the reader holds the state of the store.
    pub(super) const fn covers_state(self) -> bool {
        matches!(self, Self::Changes | Self::Barrier { .. } | Self::Watch { .. })
    }
}

/// An unanswered request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PendingRequest<'a> {
    pub(super) frame: &'a Frame,
    pub(super) asked_at: Moment,
    /// The number of the request on its connection.
    pub(super) sequence: u64,
}

/// A WATCH of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch<'a> {
    pub(super) prefix: &'a Key,
    pub(super) since: u64,
    pub(super) sequence: u64,
    pub(super) is_reset: bool,
    pub(super) is_answered: bool,
    tag: u16,
}

impl Watch<'_> {
    /// Returns whether pages of it may still arrive.
    pub(super) const fn is_pending(&self) -> bool {
        !self.is_answered
    }
}

/// Reads the transcript of one connection.
#[derive(Debug)]
pub(super) struct TranscriptReader<'a> {
    pub(super) transcript: &'a Transcript,
    truth: &'a Truth,
    index: usize,
    sequence: u64,
    pub(super) is_extended: bool,
    pub(super) requests: BTreeMap<u16, PendingRequest<'a>>,
    pub(super) watches: Vec<Watch<'a>>,
    /// By key: the last state that the connection has received.
    last_states: Vec<Option<State>>,
    /// The request that the last frame has answered.
    answered: Option<PendingRequest<'a>>,
}

impl<'a> TranscriptReader<'a> {
    pub(super) fn new(transcript: &'a Transcript, truth: &'a Truth) -> Self {
        Self {
            transcript,
            truth,
            index: 0,
            sequence: 0,
            is_extended: false,
            requests: BTreeMap::new(),
            watches: Vec::new(),
            last_states: vec![None; truth.keys().len()],
            answered: None,
        }
    }

    /// Returns the next frame and its meaning. The reader's state already includes the frame.
    pub(super) fn next(&mut self) -> Option<(Moment, FrameEvent<'a>)> {
        let (at, direction, frame) = self.transcript.frames.get(self.index)?;
        self.index += 1;
        Some((
            *at,
            match direction {
                Direction::Sent => self.sent(*at, frame),
                Direction::Received => self.received(frame),
            },
        ))
    }

    /// Returns the last frame.
    pub(super) fn last(&self) -> Option<&'a (Moment, Direction, Frame)> {
        self.transcript.frames.get(self.index.checked_sub(1)?)
    }

    /// Returns the request that the last frame has answered.
    pub(super) const fn answered(&self) -> Option<PendingRequest<'a>> {
        self.answered
    }

    fn sent(&mut self, asked_at: Moment, frame: &'a Frame) -> FrameEvent<'a> {
        self.answered = None;
        self.sequence += 1;
        let sequence = self.sequence;
        if let Frame::Watch { tag, prefix, since } = frame {
            let (tag, since) = (*tag, *since);
            self.watches.push(Watch { prefix, since, sequence, tag, is_reset: false, is_answered: false });
        }
        self.requests.insert(tag_of(frame), PendingRequest { frame, asked_at, sequence });
        FrameEvent::Sent(frame)
    }

    fn received(&mut self, frame: &'a Frame) -> FrameEvent<'a> {
        self.answered = None;
        let tag = tag_of(frame);
        if tag == 0 {
            return match frame {
                Frame::Write { write, .. } => self.changed(write, false, u64::MAX),
                Frame::Mark { revision, .. } => FrameEvent::Mark { revision: *revision, of: MarkKind::Changes },
                _ => FrameEvent::Other,
            };
        }
        let Some(request) = self.requests.get(&tag).copied() else { return FrameEvent::Unsolicited(frame) };
        let (event, is_over) = self.answer(request, frame);
        if is_over {
            self.requests.remove(&tag);
            self.answered = Some(request);
        }
        event
    }

    /// Returns the meaning of a response, and whether it is the last one to its request.
    fn answer(&mut self, request: PendingRequest<'a>, frame: &'a Frame) -> (FrameEvent<'a>, bool) {
        match (request.frame, frame) {
            (Frame::Hello { .. }, Frame::Hello { .. }) => {
                self.is_extended = true;
                self.last_states.fill(None);
                (FrameEvent::HelloAnswered, true)
            }
            (Frame::Get { key, .. }, Frame::Write { write, .. }) if *key == write.key => {
                (self.named(key, |key| FrameEvent::GetResult { key, state: Some(write.state) }), true)
            }
            (Frame::Get { key, .. }, Frame::Error { text, .. }) if text.ends_with("not found") => {
                (self.named(key, |key| FrameEvent::GetResult { key, state: None }), true)
            }
            (Frame::Write { .. } | Frame::Txn { .. }, Frame::Error { text, .. }) if text.starts_with("stale put") => {
                (FrameEvent::Stale { asked: request }, true)
            }
            (Frame::Watch { tag, .. }, Frame::Error { .. }) => {
                self.watches.retain(|watch| watch.tag != *tag || !watch.is_pending());
                // The state of a key that no WATCH covers any more is unknown.
                for id in 0..self.last_states.len() {
                    if self.watches_of(id).next().is_none()
                        && let Some(last) = self.last_states.get_mut(id)
                    {
                        *last = None;
                    }
                }
                (FrameEvent::Other, true)
            }
            (_, Frame::Error { .. }) => (FrameEvent::Other, true),
            (Frame::Write { write: asked, .. }, Frame::Write { write, .. }) if asked == write => {
                (self.changed(write, true, request.sequence), true)
            }
            (Frame::Txn { writes, .. }, Frame::Write { write, .. }) if writes.contains(write) => {
                (self.changed(write, true, request.sequence), false)
            }
            (Frame::Txn { .. }, Frame::Mark { revision, .. }) => {
                (FrameEvent::Mark { revision: *revision, of: MarkKind::Txn }, true)
            }
            (Frame::List { tag, .. }, Frame::Write { write, .. }) => {
                let listed = |key| FrameEvent::Listed { tag: *tag, key, state: write.state };
                (self.named(&write.key, listed), false)
            }
            (Frame::List { .. }, Frame::Mark { revision, .. }) => {
                (FrameEvent::Mark { revision: *revision, of: MarkKind::List }, true)
            }
            (Frame::Mark { .. }, Frame::Mark { revision, .. }) => {
                (FrameEvent::Mark { revision: *revision, of: MarkKind::Barrier { asked_at: request.asked_at } }, true)
            }
            (Frame::Watch { tag, prefix, .. }, Frame::Mark { revision, .. }) => self.watched(*tag, prefix, *revision),
            (Frame::Other { .. }, Frame::Other { .. }) => (FrameEvent::Other, true),
            _ => (FrameEvent::Unsolicited(frame), true),
        }
    }

    fn watched(&mut self, tag: u16, prefix: &'a Key, revision: u64) -> (FrameEvent<'a>, bool) {
        let pending = self.watches.iter_mut().find(|watch| watch.tag == tag && watch.is_pending());
        let Some(watch) = pending else { return (FrameEvent::Other, true) };
        if revision == 0 && watch.since > 0 && !watch.is_reset {
            watch.is_reset = true;
            for key in self.truth.under(prefix) {
                if let Some(last) = self.last_states.get_mut(*key) {
                    *last = None;
                }
            }
            return (FrameEvent::Reset { prefix }, false);
        }
        watch.is_answered = true;
        let (since, is_reset) = (if watch.is_reset { 0 } else { watch.since }, watch.is_reset);
        // If a prefix is watched twice, the newer WATCH delivers everything under it.
        let newest = watch.sequence;
        self.watches.retain(|watch| watch.prefix != prefix || !watch.is_answered || watch.sequence >= newest);
        (FrameEvent::Mark { revision, of: MarkKind::Watch { prefix, since, is_reset } }, true)
    }

    fn named(&self, key: &Key, event: impl FnOnce(KeyId) -> FrameEvent<'a>) -> FrameEvent<'a> {
        // Every key of a history has an id, so `Other` never occurs here.
        self.truth.id(key).map_or(FrameEvent::Other, event)
    }

    fn changed(&mut self, Write { key, state }: &Write, is_own: bool, asked: u64) -> FrameEvent<'a> {
        let Some(id) = self.truth.id(key) else { return FrameEvent::Other };
        let is_deletion = !self.is_extended && !is_own && state.value == Some(Stamp::TORN);
        let state = State { value: state.value.filter(|_| !is_deletion), ..*state };
        let is_told = |watch: &Watch<'_>| watch.sequence < asked && key.starts_with(&**watch.prefix);
        if (!self.is_extended || self.watches.iter().any(is_told))
            && let Some(last) = self.last_states.get_mut(id)
        {
            *last = Some(state);
        }
        FrameEvent::Change { key: id, state, is_own }
    }

    fn watches_of(&self, key: KeyId) -> impl Iterator<Item = &Watch<'a>> + Clone {
        let key = self.truth.key(key);
        self.watches.iter().filter(move |watch| key.starts_with(&**watch.prefix))
    }

    /// Returns whether the connection asked for the changes of a key, answered or not.
    pub(super) fn is_subscribed_to(&self, key: KeyId) -> bool {
        !self.is_extended || self.watches_of(key).next().is_some()
    }

    /// Returns whether a change of a key may come from the pages of a WATCH.
    pub(super) fn may_be_paged(&self, key: KeyId) -> bool {
        self.watches_of(key).any(Watch::is_pending)
    }

    /// Returns whether the connection receives every change of a key from some revision on.
    pub(super) fn follows(&self, key: KeyId) -> bool {
        !self.is_extended || self.watches_of(key).any(|watch| !watch.is_pending())
    }

    /// Returns whether a MARK asserts that the held state of a key is that of the store.
    pub(super) fn is_covered_by_mark(&self, key: KeyId) -> bool {
        self.watches_of(key).any(|watch| watch.is_answered)
            && self.watches_of(key).all(|watch| !watch.is_pending() || !(watch.is_reset || watch.since > 0))
    }

    /// Returns the last received state of a key.
    pub(super) fn last_state(&self, key: KeyId) -> Option<State> {
        self.last_states.get(key).copied().flatten()
    }

    /// Returns what the reader holds of a key that MARKs cover.
    pub(super) fn held(&self, key: KeyId) -> Held {
        if let Some(state) = self.last_state(key) {
            return Held::State(state);
        }
        let mut answered = self.watches_of(key).filter(|watch| watch.is_answered);
        let resumed = |watch: &Watch<'_>| if watch.is_reset || watch.since == 0 { None } else { Some(watch.since) };
        match answered.clone().all(|watch| resumed(watch).is_some()) {
            true => answered.find_map(resumed).map_or(Held::Absent, Held::AsOf),
            false => Held::Absent,
        }
    }

    /// Returns the keys under the prefixes whose WATCH is answered, each once.
    pub(super) fn watched_keys(&self) -> impl Iterator<Item = KeyId> + '_ {
        let answered = self.watches.iter().filter(|watch| watch.is_answered).enumerate();
        answered.flat_map(move |(index, watch)| {
            let earlier = move || self.watches.iter().filter(|watch| watch.is_answered).take(index);
            let is_first = move |key: &&KeyId| {
                let key = self.truth.key(**key);
                !earlier().any(|watch| key.starts_with(&**watch.prefix))
            };
            self.truth.under(watch.prefix).iter().filter(is_first).copied()
        })
    }

    /// Returns a name of the connection for messages.
    pub(super) fn label(&self) -> String {
        format!("connection {} of client {}", self.transcript.connection, self.transcript.client)
    }
}

const fn tag_of(frame: &Frame) -> u16 {
    match frame {
        Frame::Get { tag, .. }
        | Frame::Write { tag, .. }
        | Frame::Error { tag, .. }
        | Frame::Hello { tag, .. }
        | Frame::Watch { tag, .. }
        | Frame::Mark { tag, .. }
        | Frame::List { tag, .. }
        | Frame::Txn { tag, .. }
        | Frame::Other { tag, .. } => *tag,
    }
}
