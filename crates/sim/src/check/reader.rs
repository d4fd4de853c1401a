//! What the reader of a connection knows, frame by frame: what is told, and of what a MARK promises that it is all.
//!
//! # The rules
//! - A change is a frame with tag 0, or the answer to an own write that was accepted. The answers to writes that were asked
//!   before a WATCH are no part of what that tells.
//! - What is told under the prefix of a WATCH that is not answered may come from its pages: states that are older than what
//!   is told around them.
//! - A WATCH is answered by its MARK. Of revision 0, and where it asked for what came after a later one, the first of
//!   them says to forget.
//! - A MARK promises nothing of keys under a WATCH that resumes, or was told to forget, until that one's own has come. The
//!   MARK of a TXN or LIST says something of that TXN or LIST and no more.
//! - Before HELLO is answered, everything is told; a deletion as an empty value.

use super::truth::{Held, KeyId, Truth};
use crate::history::{Direction, Frame, Key, Moment, Stamp, State, Transcript, Write};
use std::collections::BTreeMap;

/// What a frame means to the reader of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen<'a> {
    /// A request was sent.
    Sent(&'a Frame),
    /// HELLO was answered: from here on, only what is asked for is told.
    Greeted,
    /// A key has changed.
    Told {
        key: KeyId,
        state: State,
        /// Whether the connection has asked for it itself.
        is_own: bool,
    },
    /// A GET is answered; `None`: the key is not there.
    Got {
        key: KeyId,
        state: Option<State>,
    },
    /// A key is listed by the LIST of this tag.
    Listed {
        tag: u16,
        key: KeyId,
        state: State,
    },
    /// A write is refused.
    Stale {
        asked: Request<'a>,
    },
    /// All under this prefix is to be forgotten.
    Forget {
        prefix: &'a Key,
    },
    Mark {
        revision: u64,
        of: Mark<'a>,
    },
    /// Nothing that was asked is answered by it.
    Unasked(&'a Frame),
    /// Nothing that the checkers want to know.
    Other,
}

/// What a MARK belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark<'a> {
    /// The changes before it.
    Changes,
    /// A barrier that was asked then.
    Barrier {
        asked_at: Moment,
    },
    /// A WATCH: all that it asked for was told.
    Watch {
        prefix: &'a Key,
        /// After which revision; 0 where it was told everything.
        since: u64,
        is_reset: bool,
    },
    Txn,
    List,
}

impl Mark<'_> {
    /// Whether it says that the reader holds what the store held.
    pub(super) const fn promises(self) -> bool {
        matches!(self, Self::Changes | Self::Barrier { .. } | Self::Watch { .. })
    }
}

/// A request that is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub(super) frame: &'a Frame,
    pub(super) asked_at: Moment,
    /// Counts the requests of the connection.
    pub(super) sequence: u64,
}

/// A WATCH.
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
    /// Whether its pages may still come.
    pub(super) const fn is_pending(&self) -> bool {
        !self.is_answered
    }
}

/// The reader of one connection.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) transcript: &'a Transcript,
    truth: &'a Truth,
    place: usize,
    sequence: u64,
    pub(super) is_greeted: bool,
    pub(super) requests: BTreeMap<u16, Request<'a>>,
    pub(super) watches: Vec<Watch<'a>>,
    /// What it was told, by the numbers of the keys.
    told: Vec<Option<State>>,
    /// The request that was answered last.
    answered: Option<Request<'a>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(transcript: &'a Transcript, truth: &'a Truth) -> Self {
        Self {
            transcript,
            truth,
            place: 0,
            sequence: 0,
            is_greeted: false,
            requests: BTreeMap::new(),
            watches: Vec::new(),
            told: vec![None; truth.keys().len()],
            answered: None,
        }
    }

    /// The next frame, and what it means. What it changes is known to the reader by then.
    pub(super) fn next(&mut self) -> Option<(Moment, Seen<'a>)> {
        let (at, direction, frame) = self.transcript.frames.get(self.place)?;
        self.place += 1;
        Some((
            *at,
            match direction {
                Direction::Sent => self.sent(*at, frame),
                Direction::Received => self.received(frame),
            },
        ))
    }

    /// The last frame.
    pub(super) fn last(&self) -> Option<&'a (Moment, Direction, Frame)> {
        self.transcript.frames.get(self.place.checked_sub(1)?)
    }

    /// The request that the last frame has answered.
    pub(super) const fn answered(&self) -> Option<Request<'a>> {
        self.answered
    }

    fn sent(&mut self, asked_at: Moment, frame: &'a Frame) -> Seen<'a> {
        self.answered = None;
        self.sequence += 1;
        let sequence = self.sequence;
        if let Frame::Watch { tag, prefix, since } = frame {
            let (tag, since) = (*tag, *since);
            self.watches.push(Watch { prefix, since, sequence, tag, is_reset: false, is_answered: false });
        }
        self.requests.insert(tag_of(frame), Request { frame, asked_at, sequence });
        Seen::Sent(frame)
    }

    fn received(&mut self, frame: &'a Frame) -> Seen<'a> {
        self.answered = None;
        let tag = tag_of(frame);
        if tag == 0 {
            return match frame {
                Frame::Write { write, .. } => self.changed(write, false, u64::MAX),
                Frame::Mark { revision, .. } => Seen::Mark { revision: *revision, of: Mark::Changes },
                _ => Seen::Other,
            };
        }
        let Some(request) = self.requests.get(&tag).copied() else { return Seen::Unasked(frame) };
        let (seen, is_over) = self.answer(request, frame);
        if is_over {
            self.requests.remove(&tag);
            self.answered = Some(request);
        }
        seen
    }

    /// What an answer means, and whether it is the last one to its request.
    fn answer(&mut self, request: Request<'a>, frame: &'a Frame) -> (Seen<'a>, bool) {
        match (request.frame, frame) {
            (Frame::Hello { .. }, Frame::Hello { .. }) => {
                self.is_greeted = true;
                self.told.fill(None);
                (Seen::Greeted, true)
            }
            (Frame::Get { key, .. }, Frame::Write { write, .. }) if *key == write.key => {
                (self.named(key, |key| Seen::Got { key, state: Some(write.state) }), true)
            }
            (Frame::Get { key, .. }, Frame::Error { text, .. }) if text.ends_with("not found") => {
                (self.named(key, |key| Seen::Got { key, state: None }), true)
            }
            (Frame::Write { .. } | Frame::Txn { .. }, Frame::Error { text, .. }) if text.starts_with("stale put") => {
                (Seen::Stale { asked: request }, true)
            }
            (Frame::Watch { tag, .. }, Frame::Error { .. }) => {
                self.watches.retain(|watch| watch.tag != *tag || !watch.is_pending());
                // What nobody tells of any more is not known any more.
                for id in 0..self.told.len() {
                    if self.above(id).next().is_none()
                        && let Some(told) = self.told.get_mut(id)
                    {
                        *told = None;
                    }
                }
                (Seen::Other, true)
            }
            (_, Frame::Error { .. }) => (Seen::Other, true),
            (Frame::Write { write: asked, .. }, Frame::Write { write, .. }) if asked == write => {
                (self.changed(write, true, request.sequence), true)
            }
            (Frame::Txn { writes, .. }, Frame::Write { write, .. }) if writes.contains(write) => {
                (self.changed(write, true, request.sequence), false)
            }
            (Frame::Txn { .. }, Frame::Mark { revision, .. }) => {
                (Seen::Mark { revision: *revision, of: Mark::Txn }, true)
            }
            (Frame::List { tag, .. }, Frame::Write { write, .. }) => {
                let listed = |key| Seen::Listed { tag: *tag, key, state: write.state };
                (self.named(&write.key, listed), false)
            }
            (Frame::List { .. }, Frame::Mark { revision, .. }) => {
                (Seen::Mark { revision: *revision, of: Mark::List }, true)
            }
            (Frame::Mark { .. }, Frame::Mark { revision, .. }) => {
                (Seen::Mark { revision: *revision, of: Mark::Barrier { asked_at: request.asked_at } }, true)
            }
            (Frame::Watch { tag, prefix, .. }, Frame::Mark { revision, .. }) => self.watched(*tag, prefix, *revision),
            (Frame::Other { .. }, Frame::Other { .. }) => (Seen::Other, true),
            _ => (Seen::Unasked(frame), true),
        }
    }

    fn watched(&mut self, tag: u16, prefix: &'a Key, revision: u64) -> (Seen<'a>, bool) {
        let pending = self.watches.iter_mut().find(|watch| watch.tag == tag && watch.is_pending());
        let Some(watch) = pending else { return (Seen::Other, true) };
        if revision == 0 && watch.since > 0 && !watch.is_reset {
            watch.is_reset = true;
            for key in self.truth.under(prefix) {
                if let Some(told) = self.told.get_mut(*key) {
                    *told = None;
                }
            }
            return (Seen::Forget { prefix }, false);
        }
        watch.is_answered = true;
        let (since, is_reset) = (if watch.is_reset { 0 } else { watch.since }, watch.is_reset);
        // What the newer of two of the same prefix tells is all of it.
        let newest = watch.sequence;
        self.watches.retain(|watch| watch.prefix != prefix || !watch.is_answered || watch.sequence >= newest);
        (Seen::Mark { revision, of: Mark::Watch { prefix, since, is_reset } }, true)
    }

    fn named(&self, key: &Key, seen: impl FnOnce(KeyId) -> Seen<'a>) -> Seen<'a> {
        // Every key of a history has a number.
        self.truth.id(key).map_or(Seen::Other, seen)
    }

    fn changed(&mut self, Write { key, state }: &Write, is_own: bool, asked: u64) -> Seen<'a> {
        let Some(id) = self.truth.id(key) else { return Seen::Other };
        let is_deletion = !self.is_greeted && !is_own && state.value == Some(Stamp::TORN);
        let state = State { value: state.value.filter(|_| !is_deletion), ..*state };
        let is_told = |watch: &Watch<'_>| watch.sequence < asked && key.starts_with(&**watch.prefix);
        if (!self.is_greeted || self.watches.iter().any(is_told))
            && let Some(told) = self.told.get_mut(id)
        {
            *told = Some(state);
        }
        Seen::Told { key: id, state, is_own }
    }

    fn above(&self, key: KeyId) -> impl Iterator<Item = &Watch<'a>> + Clone {
        let key = self.truth.key(key);
        self.watches.iter().filter(move |watch| key.starts_with(&**watch.prefix))
    }

    /// Whether it has asked to be told of a key, in any way.
    pub(super) fn has_asked_for(&self, key: KeyId) -> bool {
        !self.is_greeted || self.above(key).next().is_some()
    }

    /// Whether what is told of a key may come from the pages of a WATCH.
    pub(super) fn is_paged(&self, key: KeyId) -> bool {
        self.above(key).any(Watch::is_pending)
    }

    /// Whether it follows a key: it is told every change from somewhere on.
    pub(super) fn follows(&self, key: KeyId) -> bool {
        !self.is_greeted || self.above(key).any(|watch| !watch.is_pending())
    }

    /// Whether a MARK says that what it holds of a key is what the store held.
    pub(super) fn is_promised(&self, key: KeyId) -> bool {
        self.above(key).any(|watch| watch.is_answered)
            && self.above(key).all(|watch| !watch.is_pending() || !(watch.is_reset || watch.since > 0))
    }

    /// What it was told of a key, if anything.
    pub(super) fn told(&self, key: KeyId) -> Option<State> {
        self.told.get(key).copied().flatten()
    }

    /// What it holds of a key that a MARK promises something of.
    pub(super) fn held(&self, key: KeyId) -> Held {
        if let Some(state) = self.told(key) {
            return Held::Told(state);
        }
        let mut answered = self.above(key).filter(|watch| watch.is_answered);
        let resumed = |watch: &Watch<'_>| if watch.is_reset || watch.since == 0 { None } else { Some(watch.since) };
        match answered.clone().all(|watch| resumed(watch).is_some()) {
            true => answered.find_map(resumed).map_or(Held::Nothing, Held::AsOf),
            false => Held::Nothing,
        }
    }

    /// The keys under the prefixes whose WATCH is answered, each once.
    pub(super) fn watched_keys(&self) -> impl Iterator<Item = KeyId> + '_ {
        let answered = self.watches.iter().filter(|watch| watch.is_answered).enumerate();
        answered.flat_map(move |(place, watch)| {
            let earlier = move || self.watches.iter().filter(|watch| watch.is_answered).take(place);
            let is_first = move |key: &&KeyId| {
                let key = self.truth.key(**key);
                !earlier().any(|watch| key.starts_with(&**watch.prefix))
            };
            self.truth.under(watch.prefix).iter().filter(is_first).copied()
        })
    }

    /// Who it is, for people.
    pub(super) fn who(&self) -> String {
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
