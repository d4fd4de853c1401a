//! What a connection is sent of the history, up to which revision, and when it may be sent a MARK.
//!
//! # When a MARK may be sent
//! A MARK is a watermark: it promises that the client holds exactly what the store held at its revision. A connection that
//! follows the log is sent all changes in their order, so the promise holds at every revision. A connection that catches up
//! from the store is sent each key once, at its latest state, so in between it holds states of different revisions. The
//! promise holds again from the head on at which the last page was read, the *horizon*.

use super::prefixes::Prefixes;
use super::session::Authorized;
use super::write::Write;
use crate::commit_batch::{Dialect, EncodedWrites};
use crate::{ConnId, Entry, Output, RecentLog};
use bytes::{Buf, Bytes};
use std::ops::ControlFlow::{self, Break, Continue};
use std::ops::Range;
use syncline_wire::{EncodeError, Message, Put, Revision, Tag};

/// The bytes of unsent output at which nothing more is added. A single response or transaction may exceed them.
pub(super) const MAX_UNSENT_OUTPUT: usize = 128 * 1024;

/// The most bytes of unsent output when a page of the store is read, so that no page waits in memory for a slow peer.
const MAX_UNSENT_BEFORE_PAGE: usize = 16 * 1024;

/// The part of the history that a connection is sent.
#[derive(Debug)]
pub(super) struct Timeline {
    id: ConnId,
    output: Output,
    /// Everything that the connection follows was sent up to this revision; `None`: it has not begun.
    position: Option<Revision>,
    /// The dialect of the frames that it is sent: extended from HELLO on.
    dialect: Dialect,
    /// The prefixes that it follows: before HELLO, everything that it may read; after HELLO, what it watches.
    follows: Prefixes,
    /// The head at which the last page of its catch-up was read.
    horizon: Revision,
    /// Something was sent that no MARK has followed yet.
    unmarked: bool,
    /// The tags of requests that a MARK completes as soon as the horizon is reached.
    owed_marks: Vec<Tag>,
    heartbeat: Heartbeat,
}

/// Whether a MARK is due although nothing has changed.
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
            owed_marks: Vec::new(),
            heartbeat: Heartbeat::Silent,
        }
    }

    pub(super) const fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    pub(super) fn unsent(&self) -> usize {
        self.output.remaining()
    }

    /// Returns whether a page of the store may be read.
    pub(super) fn has_room_for_page(&self) -> bool {
        self.unsent() <= MAX_UNSENT_BEFORE_PAGE
    }

    /// Returns whether more output may be added.
    pub(super) fn has_room(&self) -> bool {
        self.unsent() < MAX_UNSENT_OUTPUT
    }

    /// Begins, unless it has begun: from `head` on the connection follows everything that it may read.
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

    /// Switches to the extension after HELLO: from here on the connection is sent only what it watches.
    pub(super) fn extend(&mut self, head: Revision) {
        (self.dialect, self.follows) = (Dialect::Extended, Prefixes::default());
        self.position = Some(self.position().max(head));
    }

    /// Moves the position to `head` if the connection follows nothing: then nothing lies in between.
    pub(super) fn skip_to(&mut self, head: Revision) {
        if !self.follows_anything() {
            self.position = Some(self.position().max(head));
        }
    }

    /// Follows what changes under this prefix from the position on.
    pub(super) fn watch(&mut self, prefix: Bytes) {
        debug_assert!(self.dialect == Dialect::Extended, "WATCH comes after HELLO");
        self.follows.insert(prefix);
    }

    /// Takes back one [`watch`](Self::watch), whose WATCH failed.
    pub(super) fn unwatch(&mut self, prefix: &[u8]) {
        self.follows.remove(prefix);
    }

    /// Returns how many prefixes the connection watches.
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

    /// Returns a prefix of everything that the connection follows.
    pub(super) fn common_prefix(&self) -> Bytes {
        self.follows.common()
    }

    /// Adds a frame that is no change of a key.
    pub(super) fn push(&mut self, message: &Message) {
        Self::check(self.output.push(message));
    }

    /// Adds the response to an accepted write of the connection, in the place of its broadcast.
    pub(super) fn push_accepted(&mut self, write: &Write, revision: Revision) {
        Self::check(self.output.push_with(|out| write.encode_accepted(out, revision)));
        self.unmarked = true;
    }

    /// Reserves memory for the frames of all `entries` in one go.
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
        debug_assert!(pushed.is_ok(), "everything that is sent fits a frame");
    }

    /// Sends what the log holds after the position, up to the revisions of the next `response` and the next `page` that are
    /// to be sent. Writes of the connection itself are left out: their responses take their places. Breaks if it cannot
    /// continue before something else has happened.
    ///
    /// # Errors
    /// [`Behind`] if the log no longer holds what comes next.
    pub(super) fn follow(
        &mut self,
        log: &RecentLog,
        response: Option<Revision>,
        page: Option<Revision>,
    ) -> Result<ControlFlow<()>, Behind> {
        let until = [response, page].into_iter().flatten().min();
        let start = self.position();
        let dialect = self.dialect();
        let Self { id, output, position, follows, unmarked, .. } = self;
        for part in log.after(start).ok_or(Behind)? {
            let mut run = Run { frames: part.all_frames(dialect), writes: 0..0 };
            let filter = Some(&*follows).filter(|follows| !follows.covers(run.frames.common_prefix()));
            for (commit, committed) in part.commits().iter().enumerate() {
                if until.is_some_and(|until| committed.revision > until) {
                    *unmarked |= run.send(output);
                    *position = until;
                    return Ok(Continue(()));
                }
                let is_own = committed.origin == Some(*id);
                if is_own && response.is_none() {
                    // The outcome of this write is on its way; its response takes this place.
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
                if output.remaining() + run.length() >= MAX_UNSENT_OUTPUT {
                    *unmarked |= run.send(output);
                    return Ok(Continue(()));
                }
            }
            *unmarked |= run.send(output);
        }
        Ok(Continue(()))
    }

    /// Sends the state of a key that is newer than the position, if the connection follows it. Everything in between was
    /// sent or is overtaken.
    pub(super) fn catch_up_with(&mut self, entry: &Entry, is_own: bool) {
        if self.follows.covers(&entry.key) && !is_own {
            self.push_entry(Tag::BROADCAST, entry);
            self.unmarked = true;
        }
        self.position = Some(entry.revision);
    }

    /// Moves the horizon to the head at which the next page was read.
    pub(super) fn extend_horizon(&mut self, head: Revision) {
        self.horizon = self.horizon.max(head);
    }

    /// Moves the position to the end of a page that was sent.
    pub(super) const fn caught_up(&mut self, through: Revision) {
        self.position = Some(through);
    }

    /// Returns whether the client holds exactly what the store held at the position.
    pub(super) fn is_settled(&self) -> bool {
        self.horizon <= self.position()
    }

    /// Sends a MARK with this tag as soon as a MARK may be sent.
    pub(super) fn owe_mark(&mut self, tag: Tag) {
        self.owed_marks.push(tag);
    }

    /// Makes a MARK due if none was sent since the call before the last one.
    pub(super) fn beat(&mut self) {
        self.heartbeat = match self.heartbeat {
            Heartbeat::Sent => Heartbeat::Silent,
            Heartbeat::Silent | Heartbeat::Due => Heartbeat::Due,
        };
    }

    /// Returns whether a MARK is sent as soon as all output is written.
    pub(super) fn is_beat_due(&self) -> bool {
        self.heartbeat == Heartbeat::Due
    }

    /// Sends the MARKs that are owed, and one behind the changes, if a MARK may be sent now.
    pub(super) fn mark(&mut self) {
        if !self.is_settled() {
            return;
        }
        for tag in std::mem::take(&mut self.owed_marks) {
            self.push_mark(tag);
        }
        // A heartbeat behind a backlog would say nothing.
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

    /// Stops following, and drops the MARKs that are owed.
    pub(super) fn abandon(&mut self) {
        self.owed_marks.clear();
        self.follows = Prefixes::default();
    }

    /// Returns how many MARKs are owed.
    pub(super) fn owed_marks(&self) -> usize {
        self.owed_marks.len()
    }
}

/// Adjacent writes of a batch, sent as one slice.
struct Run<'a> {
    frames: &'a EncodedWrites,
    writes: Range<usize>,
}

impl Run<'_> {
    /// Adds the next writes. Returns whether it sent the previous ones, since these are not adjacent to them.
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

    /// Sends the writes, and returns whether there were any.
    fn send(&mut self, output: &mut Output) -> bool {
        let length = self.length();
        if length > 0 {
            output.push_shared(self.frames.slice(self.writes.clone()));
        }
        self.writes = self.writes.end..self.writes.end;
        length > 0
    }
}

/// The log no longer holds what comes next.
pub(super) struct Behind;
