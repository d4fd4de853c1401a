//! The server's side of one connection, as a state machine.

use super::requests::{Answer, AtFront, Read, Reply, Request, Requests, Start};
use super::scan::{Scan, Scans, Wanted};
use super::session::{Access, MAX_GUESSES, Session};
use super::timeline::{Behind, OUTPUT_ROOM, Timeline};
use super::write::{Write, check_key};
use super::{Limits, ServerParameters};
use crate::commit_batch::{Dialect, is_large};
use crate::{ConnId, Entry, KeyPage, Outcome, Output, Page, PageError, RecentLog, Rights, Transaction, text};
use bytes::{Bytes, BytesMut};
use std::num::NonZeroUsize;
use std::sync::Arc;
use syncline_wire::{
    Auth, DecodeError, Decoded, FrameSkipper, Get, Kind, List, Message, Password, Revision, Tag, decode_bounded,
    decode_within,
};

/// The longest frame that is taken of somebody who has not shown who they are: an AUTH whose name and password have 1 KiB
/// together. All else is passed over as it comes.
const MAX_AUTH_FRAME: usize = 5 + 1024;

/// The bytes of answers that may wait for somebody who has not shown who they are.
const MAX_UNSENT_UNAUTHENTICATED: usize = 2048;

/// What a [`ServerConnection`] wants done. Each is answered with the `handle_…` that it names, in the order in which they were
/// asked for; reads are also done in that order, so that a later one is never older.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Check a password; answer with [`ServerConnection::handle_verdict`].
    Verify {
        /// What the client has shown.
        password: Password,
    },
    /// Give a transaction to the committer; answer with [`ServerConnection::handle_outcome`]. Others may be asked for before.
    Commit {
        /// What is to be written.
        transaction: Transaction,
    },
    /// Read a key; answer with [`ServerConnection::handle_entry`].
    Read {
        /// Which key.
        key: Bytes,
    },
    /// Tell how the server is; answer with [`ServerConnection::handle_status`].
    Status,
    /// Ask the store what changed since a revision; answer with [`ServerConnection::handle_changes`].
    Changes {
        /// The keys that are to be told of.
        prefix: Bytes,
        /// What changed up to here is known.
        since: Revision,
        /// How many bytes of PUT frames the page should make; the last transaction may pass it.
        max_bytes: usize,
    },
    /// Ask the store which keys there are; answer with [`ServerConnection::handle_keys`].
    Keys {
        /// The keys that are to be told of.
        prefix: Bytes,
        /// The keys up to here are known; `None` at the start.
        after: Option<Bytes>,
        /// How many keys the page may have.
        max_entries: NonZeroUsize,
        /// How many bytes of PUT frames the page should make; the last entry may pass it.
        max_bytes: usize,
    },
}

/// What [`ServerConnection::handle_input`] says of the bytes that it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// They are the beginning of a frame, or none.
    Wanted {
        /// The bytes that the frame has at the least.
        expected: usize,
    },
    /// They wait until some of what is in flight is answered and sent: read no more meanwhile.
    Paused,
    /// They are of no more use, and nor is what follows.
    Closed,
}

/// The server's side of one connection.
///
/// Holds what was decided, does no I/O. Its driver
/// 1. hands it what came from the socket ([`handle_input`](Self::handle_input)), and at the end of that
///    [`handle_end`](Self::handle_end);
/// 2. does what it asks for, until it asks for no more ([`poll_effect`](Self::poll_effect)), and hands it the answers;
/// 3. shows it the recent log ([`handle_log`](Self::handle_log)) after 1 and 2, and whenever the log has grown: that may
///    make it ask for more (2);
/// 4. writes its [`output`](Self::output), and goes on with 1 to 3 when some of that was written, if the connection
///    [goes on](Self::has_work) then;
/// 5. where it waits for anything, has it [let go of its input](Self::own_keys) before;
/// 6. tells it twice in each heartbeat that time has passed ([`handle_beat`](Self::handle_beat)), and goes on with 3;
/// 7. closes the socket when it [`is_finished`](Self::is_finished).
///
/// # The order
/// All that a connection is sent is one timeline. Its position is a revision: everything up to there was sent. A
/// change moves it on. An answer is true at some revision, and is sent when the position has got there: the answer
/// of an accepted PUT takes the place of its broadcast; `stale put` comes after the write that was faster; the answer
/// of a GET comes after the broadcast of the value that it tells; a page of a WATCH or LIST after all that was there when
/// it was read. Answers keep the order of their requests, but for those pages.
///
/// # What it is sent
/// Before a HELLO, every change, as a PUT. After it, what is under the prefixes that it watches, each group of changes
/// with a MARK behind it (`timeline.rs`).
///
/// # Behind
/// What lies between the position and the head is read from the recent log. A connection that has fallen behind what
/// the log holds asks the store instead ([`Effect::Changes`]), and is sent each key that changed once. Its own answers
/// are merged in by their revisions. Since a page of the store does not say whose writes it holds, it is asked for only
/// while none of the connection's own are undecided.
#[derive(Debug)]
pub struct ServerConnection {
    id: ConnId,
    parameters: ServerParameters,
    session: Session,
    /// Whether a HELLO has come, and with it the right to the rest of the extension.
    hello: bool,
    /// What is left of a frame that is passed over.
    skip: Option<FrameSkipper>,
    requests: Requests,
    scans: Scans,
    timeline: Timeline,
    /// Whether the log holds no longer what comes next.
    behind: bool,
    /// Whose page was asked of the store, whose answer is not there yet.
    asked: Option<Asked>,
    /// No more requests are taken: what is there is answered, and then it is finished.
    closing: bool,
}

/// For whom a page of the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// The connection, which has fallen behind the log.
    CatchUp,
    /// The scan whose turn it is.
    Scan,
}

impl ServerConnection {
    /// A connection has come in.
    pub fn new(id: ConnId, parameters: ServerParameters, access: Access) -> Self {
        Self {
            id,
            parameters,
            session: Session::new(access),
            hello: false,
            skip: None,
            requests: Requests::default(),
            scans: Scans::default(),
            timeline: Timeline::new(id),
            behind: false,
            asked: None,
            closing: false,
        }
    }

    /// What names it.
    pub const fn id(&self) -> ConnId {
        self.id
    }

    /// What is to be written. Whatever is taken from it makes room for more.
    pub const fn output(&mut self) -> &mut Output {
        self.timeline.output()
    }

    /// What it was asked for shares no memory any more with the input that it came in.
    pub fn own_keys(&mut self) {
        self.requests.own_keys();
    }

    /// Up to where it was sent what it follows, as far as its output was written; `None` where it follows nothing.
    pub fn cursor(&self) -> Option<Revision> {
        self.timeline.follows_anything().then(|| self.timeline.position())
    }

    /// Whether it watches something, and so is to be told when [time has passed](Self::handle_beat).
    pub fn is_watching(&self) -> bool {
        self.timeline.is_watching()
    }

    /// What it may do; `None`: it has not shown yet who it is.
    pub fn rights(&self) -> Option<&Arc<Rights>> {
        match &self.session {
            Session::Open(authorized) => Some(authorized.rights()),
            Session::Unauthenticated { .. } | Session::Verifying { .. } => None,
        }
    }

    /// Whether it waits for the log to grow: if not, it need not be shown it before something else has happened.
    pub fn waits_for_log(&mut self) -> bool {
        self.timeline.follows_anything()
            || self.requests.front_answer().is_some()
            || self.requests.front_waiting().is_some()
            || !self.scans.is_empty()
            || self.timeline.owes() > 0
    }

    /// Whether it goes on when reads were answered or some of its output was written: if not, it need be neither shown the log
    /// nor asked what it wants before something else has happened.
    pub fn has_work(&self) -> bool {
        self.closing
            || self.behind
            || !self.owes_nothing()
            || !self.timeline.has_room()
            || !self.takes_requests()
            || self.timeline.owes_beat()
    }

    /// Whether all is answered and written, and nothing more will come: the socket can be closed.
    pub fn is_finished(&self) -> bool {
        self.closing && self.owes_nothing() && self.timeline.unsent() == 0
    }

    fn owes_nothing(&self) -> bool {
        self.requests.is_empty() && self.scans.is_empty() && self.timeline.owes() == 0
    }

    /// Takes the frames off the front of `buffer`, as many as may be in flight.
    pub fn handle_input(&mut self, buffer: &mut BytesMut) -> Input {
        loop {
            if self.closing {
                buffer.clear();
                return Input::Closed;
            }
            if !self.takes_requests() {
                return Input::Paused;
            }
            if let Some(skip) = &mut self.skip {
                match skip.skip(buffer) {
                    Ok(true) => self.skip = None,
                    Ok(false) => return Input::Wanted { expected: buffer.len() + 1 },
                    Err(malformed) => self.handle_decode_error(malformed),
                }
                continue;
            }
            let decoded = match self.session {
                Session::Open(_) => decode_within(buffer, self.parameters.limits.max_frame()),
                Session::Unauthenticated { .. } | Session::Verifying { .. } => decode_bounded(buffer, MAX_AUTH_FRAME),
            };
            match decoded {
                Ok(Decoded::Frame(message)) => self.handle_message(message),
                Ok(Decoded::Incomplete { expected }) => return Input::Wanted { expected },
                Ok(Decoded::TooLarge { kind, tag, excess, skip }) => {
                    self.skip = Some(skip);
                    let text = match self.session {
                        Session::Open(_) if self.hello => text::frame_too_large(kind, excess),
                        Session::Open(_) => text::before_hello(kind),
                        _ if kind == Kind::Auth => text::frame_too_large(kind, excess),
                        Session::Unauthenticated { .. } | Session::Verifying { .. } => text::BAD_MESSAGE_TYPE.into(),
                    };
                    self.answer_now(Message::error(tag, text));
                }
                Err(malformed) => self.handle_decode_error(malformed),
            }
        }
    }

    fn handle_decode_error(&mut self, malformed: DecodeError) {
        let (tag, text) = match malformed {
            DecodeError::UnknownKind { tag, .. } => (tag, text::UNKNOWN_KIND.into()),
            DecodeError::UnknownOperation { tag, .. } => (tag, malformed.to_string()),
        };
        self.answer_now(Message::error(tag, text));
        self.closing = true;
    }

    /// No more input comes. What was asked is still answered.
    pub const fn handle_end(&mut self) {
        self.closing = true;
    }

    /// Half a heartbeat has passed.
    pub fn handle_beat(&mut self) {
        self.timeline.beat();
    }

    /// Ends the connection from this side, and tells it why, after the answers to what it has asked. Only what it lists or
    /// begins to watch is not told to the end.
    pub fn close(&mut self, reason: &str) {
        if !self.closing {
            self.scans.clear();
            self.answer_now(Message::error(Tag::BROADCAST, text::unavailable(reason)));
            self.closing = true;
        }
    }

    /// Ends the connection at once, where it can't be sent what it is owed: what is not answered yet never is. It is told
    /// why, so that no gap is passed over in silence. From here on it is only written.
    pub fn abandon(&mut self, reason: &str) {
        while let Some(answer) = self.requests.pop_answer_if(|_| true) {
            self.send(&answer);
        }
        self.requests = Requests::default();
        self.scans.clear();
        (self.behind, self.asked) = (false, None);
        self.timeline.abandon();
        self.timeline.push(&Message::error(Tag::BROADCAST, text::unavailable(reason)));
        self.closing = true;
    }

    /// What is to be done next, if anything is.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        if self.wants_page()
            && self.timeline.has_room_for_page()
            && let Some(wanted) = self.scans.wanted()
        {
            self.asked = Some(Asked::Scan);
            return Some(match wanted {
                Wanted::Keys { prefix, after, max_entries, max_bytes } => {
                    Effect::Keys { prefix, after, max_entries, max_bytes }
                }
                Wanted::Changes { prefix, since, max_bytes } => Effect::Changes { prefix, since, max_bytes },
            });
        }
        if self.behind {
            // Until the connection is back in the log, no answer of a new request could be sent anyway.
            if self.asked.is_some() || self.requests.is_busy() || !self.timeline.has_room_for_page() {
                return None;
            }
            self.asked = Some(Asked::CatchUp);
            let max_bytes = OUTPUT_ROOM.saturating_sub(self.timeline.unsent());
            let (prefix, since) = (self.timeline.common_prefix(), self.timeline.position());
            return Some(Effect::Changes { prefix, since, max_bytes });
        }
        // What is told before the connection follows the log would not be kept up to date.
        if !self.timeline.has_begun() && matches!(self.session, Session::Open(_)) {
            return None;
        }
        let room = self.room_for_answers();
        Some(match self.requests.start(room)? {
            Start::Verify(password) => Effect::Verify { password },
            Start::Get(key) => Effect::Read { key },
            Start::Status => Effect::Status,
            Start::Write(operations) => {
                Effect::Commit { transaction: Transaction { origin: Some(self.id), operations } }
            }
        })
    }

    /// The bytes that answers may still have.
    fn room_for_answers(&self) -> usize {
        self.parameters.limits.max_unsent.saturating_sub(self.timeline.unsent())
    }

    /// Another key that can be read together with that of an [`Effect::Read`] which was just asked for: each is answered
    /// as that is.
    pub fn poll_read(&mut self) -> Option<Bytes> {
        let room = self.room_for_answers();
        if self.behind || self.wants_page() { None } else { self.requests.start_get(room) }
    }

    /// Reads that are not answered yet were not done, and are to be asked for again.
    pub fn take_back_reads(&mut self) {
        self.requests.take_back();
    }

    /// What the password of [`Effect::Verify`] gives the right to; `None`: it is wrong. After three wrong ones the
    /// connection ends.
    pub fn handle_verdict(&mut self, verdict: Option<Arc<Rights>>) {
        if self.was_abandoned() {
            return;
        }
        let Session::Verifying { guesses } = self.session else {
            return debug_assert!(false, "a verdict on what was not asked");
        };
        let right = verdict.is_some();
        self.session = Session::judged(guesses, verdict);
        self.answer(|request| match request {
            Request::Auth(Auth { tag, .. }) if right => Ok(Answer::now(Message::auth(tag, ""))),
            Request::Auth(Auth { tag, .. }) => Ok(Answer::now(Message::error(tag, text::BAD_PASSWORD))),
            other => Err(other),
        });
        if matches!(self.session, Session::Unauthenticated { guesses } if guesses >= MAX_GUESSES) {
            self.closing = true;
        }
    }

    /// What became of the earliest undecided [`Effect::Commit`]. Where that is not known, the connection is abandoned: no
    /// answer would be true.
    pub fn handle_outcome(&mut self, outcome: Outcome) {
        if self.was_abandoned() {
            return;
        }
        if let Outcome::Unknown { reason } = &outcome {
            return self.abandon(reason);
        }
        self.answer(|request| match (request, outcome) {
            (Request::Write(write), Outcome::Accepted { revision }) => {
                Ok(Answer { reply: Reply::Own(write), at: revision })
            }
            (Request::Write(write), Outcome::Stale { operation, at }) => Ok(Answer::at(write.stale(operation), at)),
            (Request::Write(write), Outcome::Unavailable { reason } | Outcome::Unknown { reason }) => {
                Ok(Answer::now(Message::error(write.tag, text::unavailable(&reason))))
            }
            (other, _) => Err(other),
        });
    }

    /// What the store says of the key of the earliest unanswered [`Effect::Read`]: its latest state, nothing where it
    /// is not there, or why it can't tell.
    pub fn handle_entry(&mut self, entry: Result<Option<Entry>, Arc<str>>) {
        if self.was_abandoned() {
            return;
        }
        let dialect = self.timeline.dialect();
        self.answer(|request| match request {
            Request::Read(Read::Get(Get { tag, key })) => Ok(match entry {
                Ok(Some(entry)) => {
                    let at = entry.revision;
                    Answer::at(told(dialect, tag, entry), at)
                }
                Ok(None) => Answer::now(Message::error(tag, text::not_found(&key))),
                Err(reason) => Answer::now(Message::error(tag, text::unavailable(&reason))),
            }),
            other => Err(other),
        });
    }

    /// Answers the earliest request that was given out, and sends the answer if it is its turn.
    fn answer(&mut self, answer: impl FnOnce(Request) -> Result<Answer, Request>) {
        let timeline = &self.timeline;
        let is_due = |answer: &Answer| timeline.has_room() && answer.at <= timeline.position();
        if let Some(answer) = self.requests.answer(is_due, answer) {
            self.send(&answer);
        }
    }

    /// How the server is: the answer to the earliest unanswered [`Effect::Status`].
    pub fn handle_status(&mut self, status: impl Into<Bytes>) {
        if self.was_abandoned() {
            return;
        }
        self.answer(|request| match request {
            Request::Read(Read::Status(tag)) => Ok(Answer::now(Message::status(tag, status))),
            other => Err(other),
        });
    }

    /// What changed since the revision of [`Effect::Changes`], or why the store can't tell.
    pub fn handle_changes(&mut self, page: Result<Page, PageError>) {
        match (self.asked.take(), page) {
            // It was asked for before the connection was abandoned.
            (None, _) => debug_assert!(self.was_abandoned(), "a page that was not asked for"),
            (Some(Asked::CatchUp), Ok(page)) => self.catch_up(page),
            (Some(Asked::CatchUp), Err(PageError::Untold(reason) | PageError::Unavailable(reason))) => {
                self.abandon(&reason);
            }
            (Some(Asked::Scan), Ok(page)) => self.scans.take_changes(page),
            (Some(Asked::Scan), Err(PageError::Untold(_))) => self.scans.start_over(self.timeline.position()),
            (Some(Asked::Scan), Err(PageError::Unavailable(reason))) => self.give_up_scan(&reason),
        }
    }

    /// Which keys there are, for [`Effect::Keys`], or why the store can't tell.
    pub fn handle_keys(&mut self, page: Result<KeyPage, Arc<str>>) {
        match (self.asked.take(), page) {
            (Some(Asked::Scan), Ok(page)) => self.scans.take_keys(page),
            (Some(Asked::Scan), Err(reason)) => self.give_up_scan(&reason),
            (None | Some(Asked::CatchUp), _) => debug_assert!(self.was_abandoned(), "a page that was not asked for"),
        }
    }

    fn give_up_scan(&mut self, reason: &str) {
        let Some((tag, watched)) = self.scans.give_up() else { return };
        self.timeline.push(&Message::error(tag, text::unavailable(reason)));
        if let Some(prefix) = watched {
            self.timeline.unwatch(&prefix);
        }
    }

    /// Sends what changed while the connection was behind the log, and what is to be sent in between.
    fn catch_up(&mut self, Page { entries, through, head }: Page) {
        if through <= self.timeline.position() {
            return self.abandon("the store has lost track of what changed");
        }
        self.behind = false;
        self.timeline.catch_up_to(head);
        self.timeline.reserve(&entries);
        for entry in entries {
            while self.send_due(|at| at < entry.revision) {}
            let own = self.requests.front_answer().is_some_and(|a| a.is_own_write() && a.at == entry.revision);
            self.timeline.catch_up_with(&entry, own);
        }
        self.timeline.caught_up(through);
        while self.send_due(|at| at <= through) {}
    }

    /// Sends what may be sent: changes that the log holds, and answers in their places. An authorized connection
    /// follows the log from the first call on; nothing that it asks is done before.
    pub fn handle_log(&mut self, log: &RecentLog) {
        if let Session::Open(authorized) = &self.session {
            self.timeline.begin(authorized, log.head());
            self.timeline.skip_to(log.head());
        }
        loop {
            let position = self.timeline.position();
            while self.timeline.has_room() && (self.send_due(|at| at <= position) || self.take_turn(log)) {}
            // What is being read may be older than what the log holds by now.
            let follows = self.timeline.follows_anything()
                && position < log.head()
                && !self.behind
                && self.asked.is_none()
                && !self.requests.is_reading()
                && !self.wants_page();
            // Of a connection that ends, only what its answers need.
            if !follows || !self.timeline.has_room() || (self.closing && self.owes_nothing()) {
                break;
            }
            let answer = self.requests.front_answer().map(|answer| answer.at);
            match self.timeline.follow(log, answer, self.scans.at()) {
                Err(Behind) => {
                    self.behind = true;
                    break;
                }
                Ok(step) if step.is_break() || self.timeline.position() == position => break,
                Ok(_) => {}
            }
        }
        self.timeline.mark();
    }

    /// Whether a page of a scan is to be read, before anything else is sent: or else who is sent much would never be sent
    /// what it has asked for.
    fn wants_page(&self) -> bool {
        self.asked.is_none() && self.timeline.has_room() && self.scans.wanted().is_some()
    }

    /// Sends the answer at the front, or the page of a scan, where it may be sent now; answers whether one was.
    fn send_due(&mut self, is_due: impl Fn(Revision) -> bool) -> bool {
        if let Some(answer) = self.requests.pop_answer_if(|answer| is_due(answer.at)) {
            self.send(&answer);
            return true;
        }
        if !self.scans.at().is_some_and(&is_due) {
            return false;
        }
        let Some(page) = self.scans.take_page() else { return false };
        if let Some(tag) = page.reset {
            self.timeline.push(&Message::mark(tag, Revision::ZERO));
        }
        self.timeline.reserve(&page.entries);
        for entry in &page.entries {
            self.timeline.push_entry(page.tag, entry);
        }
        if let Some(tag) = page.ends {
            self.timeline.owe_mark(tag);
            // As soon as it may be sent: what comes next on the log is no part of it.
            self.timeline.mark();
        }
        true
    }

    /// Does what waits for everything before it to be answered and sent, where it has; answers whether there was something.
    fn take_turn(&mut self, log: &RecentLog) -> bool {
        let (position, settled) = (self.timeline.position(), self.timeline.is_settled());
        match self.requests.front_waiting() {
            // What a page tells depends on what the connection followed when it was asked for.
            _ if self.asked.is_some() => return false,
            None => return false,
            Some(AtFront::Barrier(_, head)) => {
                // Whatever was acknowledged to anybody before it came is in the log.
                if *head.get_or_insert(log.head()) > position || !settled {
                    return false;
                }
            }
            Some(AtFront::Hello(_) | AtFront::Watch(_) | AtFront::List(_)) => {}
        }
        match self.requests.pop_waiting() {
            None => return false,
            Some(AtFront::Hello(tag)) => {
                self.behind = false;
                self.timeline.greet(log.head());
                let greeting = self.parameters.greeting(log.head());
                self.timeline.push(&Message::hello(tag, greeting.encode()));
            }
            Some(AtFront::Barrier(tag, _)) => {
                self.timeline.owe_mark(tag);
                self.timeline.mark();
            }
            Some(AtFront::Watch(watch)) => {
                self.timeline.watch(watch.prefix.clone());
                self.scans.begin(Scan::watch(watch, position));
            }
            Some(AtFront::List(List { tag, limit: 0, .. })) => self.timeline.owe_mark(tag),
            Some(AtFront::List(list)) => self.scans.begin(Scan::list(list)),
        }
        true
    }

    fn send(&mut self, answer: &Answer) {
        match &answer.reply {
            Reply::Frame(message) => self.timeline.push(message),
            Reply::Own(write) => self.timeline.push_own(write, answer.at),
        }
    }

    fn handle_message(&mut self, message: Message) {
        let tag = message.tag();
        match (&self.session, message) {
            (Session::Open(authorized), message) => {
                let is_hello = matches!(message, Message::Hello(_));
                match self.request(message).and_then(|request| authorized.grant(request)) {
                    Ok(granted) => {
                        self.hello |= is_hello;
                        self.requests.push_granted(granted);
                    }
                    Err(text) => self.answer_now(Message::error(tag, text)),
                }
            }
            (Session::Unauthenticated { guesses }, Message::Auth(auth)) => {
                self.session = Session::Verifying { guesses: *guesses };
                self.requests.push_auth(auth);
            }
            (Session::Unauthenticated { .. }, _) => self.answer_now(Message::error(tag, text::BAD_MESSAGE_TYPE)),
            (Session::Verifying { .. }, _) => debug_assert!(false, "nothing is read meanwhile"),
        }
    }

    /// What a message asks for, within the limits.
    ///
    /// # Errors
    /// The text that refuses what the protocol or the limits don't allow.
    fn request(&self, message: Message) -> Result<Request, Bytes> {
        let (tag, kind) = (message.tag(), message.kind());
        let limits = &self.parameters.limits;
        let is_base = matches!(kind, Kind::Get | Kind::Put | Kind::Error | Kind::Auth);
        Ok(match message {
            Message::Hello(_) if !self.hello => Request::AtFront(AtFront::Hello(tag)),
            _ if !is_base && !self.hello => return Err(text::before_hello(kind)),
            Message::Get(get) => {
                check_key(&get.key, limits)?;
                Request::Read(Read::Get(get))
            }
            Message::Put(put) => Request::Write(Write::put(put, limits)?),
            Message::PutLarge(put) => Request::Write(Write::put_large(put, limits)?),
            Message::Delete(delete) => Request::Write(Write::delete(delete, limits)?),
            Message::Txn(txn) => Request::Write(Write::txn(txn, limits)?),
            Message::Watch(watch) => {
                check_key(&watch.prefix, limits)?;
                if self.timeline.watched() + self.requests.watches() >= Limits::MAX_WATCHES {
                    return Err(text::too_many_watches());
                }
                Request::watch(watch)
            }
            Message::List(list) => {
                check_key(&list.prefix, limits)?;
                check_key(&list.after, limits)?;
                Request::list(list)
            }
            Message::Mark(_) => Request::AtFront(AtFront::Barrier(tag, None)),
            Message::Status(_) => Request::Read(Read::Status(tag)),
            Message::Hello(_) | Message::Error(_) | Message::Auth(_) => return Err(text::cannot_be_applied(kind)),
        })
    }

    fn answer_now(&mut self, message: Message) {
        self.requests.push_answer(Answer::now(message));
    }

    fn takes_requests(&self) -> bool {
        let limits = &self.parameters.limits;
        let max_unsent = match self.session {
            Session::Open(_) => limits.max_unsent,
            Session::Unauthenticated { .. } => limits.max_unsent.min(MAX_UNSENT_UNAUTHENTICATED),
            Session::Verifying { .. } => return false,
        };
        self.requests.len() + self.scans.len() < limits.max_requests
            && self.requests.bytes() + self.timeline.unsent() < max_unsent
    }

    /// Whether its requests were, so that nobody waits for what comes for them.
    fn was_abandoned(&self) -> bool {
        self.closing && self.owes_nothing()
    }
}

/// What a GET is told of a key that is there, or was.
fn told(dialect: Dialect, tag: Tag, entry: Entry) -> Message {
    let Entry { key, value, version, .. } = entry;
    match (dialect, value) {
        (Dialect::Base, None) => Message::error(tag, text::deleted(&key, version)),
        (Dialect::Base, Some(value)) if is_large(&key, &value) => {
            Message::error(tag, text::entry_too_large(key.len() + value.len(), Limits::MAX_PUT))
        }
        (Dialect::Extended, None) => Message::delete(tag, key, version),
        (Dialect::Base | Dialect::Extended, Some(value)) => Message::write(tag, key, value, version),
    }
}
