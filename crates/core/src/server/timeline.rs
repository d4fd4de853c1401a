//! What a connection is sent of the history, up to where, and what may be said of that.
//!
//! # When a MARK may be sent
//! A MARK promises that the client holds just what the store held at its revision. Whoever follows the log is sent all
//! changes in their order, so the promise holds at every revision. Whoever catches up from the store is sent each key at
//! its latest, so in between holds what never was together: the promise holds again from the head on at which the last
//! page was read, the *horizon*.

use super::prefixes::Prefixes;
use super::session::Authorized;
use super::write::Write;
use crate::commit_batch::{Dialect, EncodedWrites};
use crate::{ConnId, Entry, Output, RecentLog};
use bytes::{Buf, Bytes};
use std::ops::ControlFlow::{self, Break, Continue};
use std::ops::Range;
use syncline_wire::{EncodeError, Message, Put, Revision, Tag};

/// How much unsent output makes a connection wait with more. A single answer or transaction may stand above it.
pub(super) const OUTPUT_ROOM: usize = 128 * 1024;

/// How much may be unsent when a page of the store is read: it is not to lie here while the peer takes what is before it.
const UNSENT_BEFORE_PAGE: usize = 16 * 1024;

/// What a connection is sent of the history.
#[derive(Debug)]
pub(super) struct Timeline {
    id: ConnId,
    output: Output,
    /// All that it follows was sent up to here; `None`: it follows nothing yet.
    position: Option<Revision>,
    /// As which kind of client it is spoken to: extended since its HELLO.
    dialect: Dialect,
    /// Which writes of others it is sent: before its HELLO, whatever it may read; then, what it watches.
    follows: Prefixes,
    /// The head at which the last page was read that it has caught up with.
    horizon: Revision,
    /// Something was sent that no MARK stands behind yet.
    unmarked: bool,
    /// MARKs that answer requests, and wait for the horizon.
    owed: Vec<Tag>,
    heartbeat: Heartbeat,
}

/// Whether a MARK is due though nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heartbeat {
    /// One was sent since the last beat.
    Sent,
    /// None was sent since the last beat.
    Silent,
    /// None was sent between two beats.
    Due,
}

impl Timeline {
    pub(super) fn new(id: ConnId) -> Self {
        Self {
            id,
            output: Output::new(),
            position: None,
            dialect: Dialect::Base,
            follows: Prefixes::default(),
            horizon: Revision::ZERO,
            unmarked: false,
            owed: Vec::new(),
            heartbeat: Heartbeat::Silent,
        }
    }

    pub(super) const fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    pub(super) fn unsent(&self) -> usize {
        self.output.remaining()
    }

    /// Whether a page of the store may come behind what is unsent.
    pub(super) fn has_room_for_page(&self) -> bool {
        self.unsent() <= UNSENT_BEFORE_PAGE
    }

    pub(super) fn has_room(&self) -> bool {
        self.unsent() < OUTPUT_ROOM
    }

    /// Follows from here on what they may read, where it does not yet.
    pub(super) fn begin(&mut self, authorized: &Authorized, head: Revision) {
        if self.position.is_none() {
            authorized.rights().readable().for_each(|prefix| self.follows.insert(prefix.clone()));
            self.position = Some(head);
        }
    }

    pub(super) const fn has_begun(&self) -> bool {
        self.position.is_some()
    }

    pub(super) fn position(&self) -> Revision {
        self.position.unwrap_or(Revision::ZERO)
    }

    /// The connection has said HELLO: from here on it is sent only what it asks for.
    pub(super) fn greet(&mut self, head: Revision) {
        (self.dialect, self.follows) = (Dialect::Extended, Prefixes::default());
        self.position = Some(self.position().max(head));
    }

    /// Where it follows nothing, nothing that it is sent has a place in the history: it stands wherever that is.
    pub(super) fn skip_to(&mut self, head: Revision) {
        if !self.follows_anything() {
            self.position = Some(self.position().max(head));
        }
    }

    /// From the position on, it is also sent what changes under this prefix.
    pub(super) fn watch(&mut self, prefix: Bytes) {
        debug_assert!(self.dialect == Dialect::Extended, "WATCH comes after HELLO");
        self.follows.insert(prefix);
    }

    /// A WATCH of this prefix is refused after all.
    pub(super) fn unwatch(&mut self, prefix: &[u8]) {
        self.follows.remove(prefix);
    }

    /// How many prefixes it watches.
    pub(super) fn watched(&self) -> usize {
        match self.dialect {
            Dialect::Base => 0,
            Dialect::Extended => self.follows.len(),
        }
    }

    pub(super) fn is_watching(&self) -> bool {
        self.watched() > 0
    }

    pub(super) fn follows_anything(&self) -> bool {
        !self.follows.is_empty()
    }

    pub(super) const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// A prefix of all that it follows.
    pub(super) fn common_prefix(&self) -> Bytes {
        self.follows.common()
    }

    /// Adds a frame that tells of no change.
    pub(super) fn push(&mut self, message: &Message) {
        Self::check(self.output.push(message));
    }

    /// Adds the answer to an own write, in its place.
    pub(super) fn push_own(&mut self, write: &Write, revision: Revision) {
        Self::check(self.output.push_with(|out| write.encode_accepted(out, revision)));
        self.unmarked = true;
    }

    /// Makes room for the states of keys at once.
    pub(super) fn reserve(&mut self, entries: &[Entry]) {
        self.output.reserve(entries.iter().map(|entry| Put::OVERHEAD + entry.bytes()).sum());
    }

    /// Adds the state of a key.
    pub(super) fn push_entry(&mut self, tag: Tag, entry: &Entry) {
        let dialect = self.dialect();
        Self::check(
            self.output.push_with(|out| dialect.encode(out, tag, &entry.key, entry.value.as_deref(), entry.version)),
        );
    }

    fn check(pushed: Result<(), EncodeError>) {
        debug_assert!(pushed.is_ok(), "what is sent is within the limits of a frame");
    }

    /// Sends what the log holds after the position, up to `page` and to `answer`: the revisions at which something else is
    /// to be sent. Own writes are left out: their answers take their places. Breaks where it can't go on before something
    /// else has happened.
    ///
    /// # Errors
    /// [`Behind`] where the log does not hold what comes next.
    pub(super) fn follow(
        &mut self,
        log: &RecentLog,
        answer: Option<Revision>,
        page: Option<Revision>,
    ) -> Result<ControlFlow<()>, Behind> {
        let until = [answer, page].into_iter().flatten().min();
        let stands = self.position();
        let dialect = self.dialect();
        let Self { id, output, position, follows, unmarked, .. } = self;
        for part in log.after(stands).ok_or(Behind)? {
            let mut run = Run { frames: part.all_frames(dialect), writes: 0..0 };
            let filter = Some(&*follows).filter(|follows| !follows.covers(run.frames.common_prefix()));
            for (commit, committed) in part.commits().iter().enumerate() {
                if until.is_some_and(|until| committed.revision > until) {
                    *unmarked |= run.send(output);
                    *position = until;
                    return Ok(Continue(()));
                }
                let is_own = committed.origin == Some(*id);
                if is_own && answer.is_none() {
                    // The answer that takes its place will be there in a moment.
                    *unmarked |= run.send(output);
                    return Ok(Break(()));
                }
                let writes = part.writes(commit);
                match filter {
                    _ if is_own => {}
                    None => *unmarked |= run.add(writes, output),
                    Some(prefixes) => {
                        for write in writes.filter(|write| prefixes.covers(run.frames.key(*write))) {
                            *unmarked |= run.add(write..write + 1, output);
                        }
                    }
                }
                *position = Some(committed.revision);
                if output.remaining() + run.length() >= OUTPUT_ROOM {
                    *unmarked |= run.send(output);
                    return Ok(Continue(()));
                }
            }
            *unmarked |= run.send(output);
        }
        Ok(Continue(()))
    }

    /// Sends the state of a key as of a later revision than the position, if it is one of those that are followed.
    /// Everything in between was sent, or is overtaken.
    pub(super) fn catch_up_with(&mut self, entry: &Entry, is_own: bool) {
        if self.follows.covers(&entry.key) && !is_own {
            self.push_entry(Tag::BROADCAST, entry);
            self.unmarked = true;
        }
        self.position = Some(entry.revision);
    }

    /// What comes next was read at this head: until there, the client holds what never was together.
    pub(super) fn catch_up_to(&mut self, head: Revision) {
        self.horizon = self.horizon.max(head);
    }

    /// All that had changed up to here was sent.
    pub(super) const fn caught_up(&mut self, through: Revision) {
        self.position = Some(through);
    }

    /// Whether the client holds just what the store held at the position.
    pub(super) fn is_settled(&self) -> bool {
        self.horizon <= self.position()
    }

    /// A MARK answers the request of this tag, as soon as one may be sent.
    pub(super) fn owe_mark(&mut self, tag: Tag) {
        self.owed.push(tag);
    }

    /// Has a MARK sent if none was since the last call but one.
    pub(super) fn beat(&mut self) {
        self.heartbeat = match self.heartbeat {
            Heartbeat::Sent => Heartbeat::Silent,
            Heartbeat::Silent | Heartbeat::Due => Heartbeat::Due,
        };
    }

    /// Whether a MARK is to be sent as soon as all is written.
    pub(super) fn owes_beat(&self) -> bool {
        self.heartbeat == Heartbeat::Due
    }

    /// Sends the MARKs that are owed, and one behind what has changed.
    pub(super) fn mark(&mut self) {
        if !self.is_settled() {
            return;
        }
        for tag in std::mem::take(&mut self.owed) {
            self.push_mark(tag);
        }
        // To somebody who does not take what there is, a sign of life says nothing.
        let is_due = self.heartbeat == Heartbeat::Due && self.output.is_empty();
        if self.is_watching() && (self.unmarked || is_due) {
            self.push_mark(Tag::BROADCAST);
        }
        self.unmarked = false;
    }

    fn push_mark(&mut self, tag: Tag) {
        let revision = self.position();
        self.push(&Message::mark(tag, revision));
        self.unmarked = false;
        self.heartbeat = Heartbeat::Sent;
    }

    /// Owes and follows nothing any more.
    pub(super) fn abandon(&mut self) {
        self.owed.clear();
        self.follows = Prefixes::default();
    }

    pub(super) fn owes(&self) -> usize {
        self.owed.len()
    }
}

/// Writes that stand side by side in the frames of a batch, to be sent in one piece.
struct Run<'a> {
    frames: &'a EncodedWrites,
    writes: Range<usize>,
}

impl Run<'_> {
    /// Adds what comes next. Answers whether something had to be sent for it.
    fn add(&mut self, writes: Range<usize>, output: &mut Output) -> bool {
        if self.writes.end == writes.start {
            self.writes.end = writes.end;
            return false;
        }
        let sent = self.send(output);
        self.writes = writes;
        sent
    }

    fn length(&self) -> usize {
        self.frames.length(self.writes.clone())
    }

    /// Sends what there is, and answers whether there was any.
    fn send(&mut self, output: &mut Output) -> bool {
        let length = self.length();
        if length > 0 {
            output.push_shared(self.frames.slice(self.writes.clone()));
        }
        self.writes = self.writes.end..self.writes.end;
        length > 0
    }
}

/// What comes next is in the log no longer.
pub(super) struct Behind;
