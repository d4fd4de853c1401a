//! The server's side of one connection, as a state machine.

use super::Limits;
use super::requests::{Answer, Requests, Start};
use super::session::{Access, Authorized, Session};
use crate::{ConnId, Entry, Operation, Outcome, Output, Page, RecentLog, Transaction, text};
use bytes::{Buf, Bytes, BytesMut};
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;
use syncline_wire::{Auth, Decoded, Get, Kind, Malformed, Message, Password, Put, Revision, Tag, Version, decode};

/// How much unsent output makes a connection wait with more. A single answer or transaction may stand above it.
const OUTPUT_ROOM: usize = 128 * 1024;

/// What a [`Connection`] wants done. Each is answered with the `handle_…` that it names, in the order in which they were
/// asked for; reads are also done in that order, so that a later one is never older.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Check a password; answer with [`Connection::handle_verdict`].
    Verify {
        /// What the client has shown.
        password: Password,
    },
    /// Give a transaction to the committer; answer with [`Connection::handle_outcome`]. Others may be asked for before.
    Commit {
        /// What is to be written.
        transaction: Transaction,
    },
    /// Read a key; answer with [`Connection::handle_entry`].
    Read {
        /// Which key.
        key: Bytes,
    },
    /// Ask the store what changed since a revision; answer with [`Connection::handle_page`].
    CatchUp {
        /// The revision up to which everything was sent.
        since: Revision,
        /// How many bytes of PUT frames the page should make; the last transaction may pass it.
        max_bytes: usize,
    },
}

/// What [`Connection::handle_input`] says of the bytes that it leaves.
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
/// 4. writes its [`output`](Self::output), and goes on with 1 to 3 when there is room again;
/// 5. closes the socket when it [`is_finished`](Self::is_finished).
///
/// # The order
/// All that a connection is sent is one timeline. Its position is a revision: everything up to there was sent. A
/// broadcast moves it on. An answer is true at some revision, and is sent when the position has got there: the answer
/// of an accepted PUT takes the place of its broadcast; `stale put` comes after the write that was faster; the answer
/// of a GET comes after the broadcast of the value that it tells. Answers keep the order of their requests.
///
/// # Behind
/// What lies between the position and the head is read from the recent log. A connection that has fallen behind what
/// the log holds asks the store instead ([`Effect::CatchUp`]), and is sent each key that changed once. Its own answers
/// are merged in by their revisions. Since a page of the store does not say whose writes it holds, it is asked for only
/// while none of the connection's own are undecided.
#[derive(Debug)]
pub struct Connection {
    id: ConnId,
    limits: Limits,
    session: Session,
    requests: Requests,
    output: Output,
    /// All that follows was sent up to here; `None`: it follows nothing yet.
    position: Option<Revision>,
    catch_up: CatchUp,
    /// No more requests are taken: what is there is answered, and then it is finished.
    closing: bool,
}

/// Where the next broadcast comes from.
///
/// ```text
///            the log holds no longer what comes next
///  NotNeeded ───────────────────────────────────────▶ Needed ◀─────┐
///      ▲                                                │ asked    │ the log still does not
///      │      the log holds what comes next             ▼          │
///      └───────────────────────────────────────────── Asked ───────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CatchUp {
    /// From the log.
    NotNeeded,
    /// From the store, which was not asked yet.
    Needed,
    /// From the store, whose answer is not there yet.
    Asked,
}

impl Connection {
    /// A connection has come in. The limits are [`validated`](Limits::validated).
    pub fn new(id: ConnId, access: Access, limits: Limits) -> Self {
        Self {
            id,
            limits,
            session: Session::new(access),
            requests: Requests::default(),
            output: Output::new(),
            position: None,
            catch_up: CatchUp::NotNeeded,
            closing: false,
        }
    }

    /// What names it.
    pub const fn id(&self) -> ConnId {
        self.id
    }

    /// What is to be written. Whatever is taken from it makes room for more.
    pub const fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Whether all is answered and written, and nothing more will come: the socket can be closed.
    pub fn is_finished(&self) -> bool {
        self.closing && self.requests.is_empty() && self.output.is_empty()
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
            match decode(buffer) {
                Ok(Decoded::Frame(message)) => self.handle_message(message),
                Ok(Decoded::Incomplete { expected }) => return Input::Wanted { expected },
                Ok(Decoded::TooLarge { tag, .. })
                | Err(Malformed::UnknownKind { tag, .. } | Malformed::UnknownOperation { tag, .. }) => {
                    self.answer_now(Message::error(tag, text::UNKNOWN_KIND));
                    self.closing = true;
                }
            }
        }
    }

    /// No more input comes. What was asked is still answered.
    pub const fn handle_end(&mut self) {
        self.closing = true;
    }

    /// Ends the connection from this side, and tells it why, after the answers to what it has asked.
    pub fn close(&mut self, reason: &str) {
        if !self.closing {
            self.answer_now(Message::error(Tag::BROADCAST, text::unavailable(reason)));
            self.closing = true;
        }
    }

    /// Ends the connection at once, where it can't be sent what it is owed: what is not answered yet never is. It is told
    /// why, so that no gap is passed over in silence. From here on it is only written.
    pub fn abandon(&mut self, reason: &str) {
        self.send_answers_while(|_| true);
        self.requests = Requests::default();
        self.send(&Message::error(Tag::BROADCAST, text::unavailable(reason)));
        self.closing = true;
    }

    /// What is to be done next, if anything is.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        match self.catch_up {
            CatchUp::Asked => None,
            // Until the connection is back in the log, no answer of a new request could be sent anyway.
            CatchUp::Needed => {
                if self.requests.is_busy() || !self.has_room() {
                    return None;
                }
                self.catch_up = CatchUp::Asked;
                let max_bytes = OUTPUT_ROOM.saturating_sub(self.output.remaining());
                Some(Effect::CatchUp { since: self.position(), max_bytes })
            }
            CatchUp::NotNeeded => {
                // What is told before the connection follows the log would not be kept up to date.
                if self.position.is_none() && matches!(self.session, Session::Open(_)) {
                    return None;
                }
                let room = self.limits.max_unsent.saturating_sub(self.output.remaining());
                Some(match self.requests.start(room)? {
                    Start::Verify(password) => Effect::Verify { password },
                    Start::Read(key) => Effect::Read { key },
                    Start::Write(Put { key, value, version, .. }) => {
                        let operations = vec![Operation::Put { key, value, version }];
                        Effect::Commit { transaction: Transaction { origin: Some(self.id), operations } }
                    }
                })
            }
        }
    }

    /// Whether the password of [`Effect::Verify`] is right.
    pub fn handle_verdict(&mut self, right: bool) {
        let Session::Verifying = self.session else {
            return debug_assert!(false, "a verdict on what was not asked");
        };
        self.session = if right { Session::verified() } else { Session::Stranger };
        self.requests.answer_auth(|Auth { tag, .. }| {
            Answer::now(if right { Message::auth(tag, "") } else { Message::error(tag, text::BAD_PASSWORD) })
        });
    }

    /// What became of the earliest undecided [`Effect::Commit`]. Where that is not known, the connection is abandoned: no
    /// answer would be true.
    pub fn handle_outcome(&mut self, outcome: Outcome) {
        if self.closing && self.requests.is_empty() {
            // It was abandoned, and so are its requests.
            return;
        }
        if let Outcome::Unknown { reason } = &outcome {
            return self.abandon(reason);
        }
        self.requests.answer_write(|put| {
            let tag = put.tag;
            match outcome {
                Outcome::Accepted { revision } => Answer { message: Message::Put(put), at: revision, own_write: true },
                Outcome::Stale { at, .. } => {
                    Answer { message: Message::error(tag, text::STALE_PUT), at, own_write: false }
                }
                Outcome::Unavailable { reason } | Outcome::Unknown { reason } => {
                    Answer::now(Message::error(tag, text::unavailable(&reason)))
                }
            }
        });
    }

    /// What the store says of the key of the earliest unanswered [`Effect::Read`]: its latest state, nothing where it
    /// is not there, or why it can't tell.
    pub fn handle_entry(&mut self, entry: Result<Option<Entry>, Arc<str>>) {
        self.requests.answer_read(|Get { tag, key }| match entry {
            Ok(None) => Answer::now(Message::error(tag, text::not_found(&key))),
            Ok(Some(entry)) => {
                let message = match entry.value {
                    None => Message::error(tag, text::deleted(&key, entry.version)),
                    Some(value) if key.len() + value.len() > Limits::MAX_PUT => {
                        let limits = Limits { max_entry: Limits::MAX_PUT, ..Limits::default() };
                        Message::error(tag, text::entry_too_large(key.len() + value.len(), &limits))
                    }
                    Some(value) => Message::put(tag, key, value, entry.version),
                };
                Answer { message, at: entry.revision, own_write: false }
            }
            Err(reason) => Answer::now(Message::error(tag, text::unavailable(&reason))),
        });
    }

    /// What changed since the revision of [`Effect::CatchUp`], or why the store can't tell.
    pub fn handle_page(&mut self, page: Result<Page, Arc<str>>) {
        debug_assert!(self.catch_up == CatchUp::Asked, "a page that was not asked for");
        self.catch_up = CatchUp::NotNeeded;
        let page = match page {
            Ok(page) if page.through > self.position() => page,
            Ok(_) => return self.abandon("the store has lost track of what changed"),
            Err(reason) => return self.abandon(&reason),
        };
        for entry in page.entries {
            self.send_answers_while(|answer| answer.at < entry.revision);
            let is_own = self.requests.front_answer().is_some_and(|a| a.own_write && a.at == entry.revision);
            if !is_own {
                let value = entry.value.unwrap_or_default();
                // What a PUT can't carry is not broadcast to base connections, which could not read it.
                if entry.key.len() + value.len() <= Limits::MAX_PUT {
                    let sent = self.output.push_broadcast(&entry.key, &value, entry.version);
                    debug_assert!(sent.is_ok(), "within the limits of a PUT");
                }
            }
            self.position = Some(entry.revision);
        }
        self.position = Some(page.through);
        self.send_answers_while(|answer| answer.at <= page.through);
    }

    /// Sends what may be sent: broadcasts of what the log holds, and answers in their places. An authorized connection
    /// follows the log from the first call on; nothing that it asks is done before.
    pub fn handle_log(&mut self, log: &RecentLog) {
        if self.position.is_none() && matches!(self.session, Session::Open(_)) {
            self.position = Some(log.head());
        }
        loop {
            let position = self.position();
            self.send_answers(position);
            // What is being read may be older than what the log holds by now.
            let follows = self.position.is_some() && self.catch_up == CatchUp::NotNeeded && !self.requests.is_reading();
            // Of a connection that ends, only what its answers need.
            if !follows || !self.has_room() || (self.closing && self.requests.is_empty()) {
                return;
            }
            if self.follow(log).is_break() || self.position() == position {
                return;
            }
        }
    }

    /// Sends what the log holds after the position, up to the place of the answer at the front, own writes left out.
    /// Breaks where it can't go on before something else has happened.
    fn follow(&mut self, log: &RecentLog) -> ControlFlow<()> {
        let Some(unread) = log.after(self.position()) else {
            self.catch_up = CatchUp::Needed;
            return Break(());
        };
        let until = self.requests.front_answer().map(|answer| answer.at);
        for part in unread {
            let mut sent = 0;
            for (index, committed) in part.commits().iter().enumerate() {
                if until.is_some_and(|until| committed.revision > until) {
                    self.output.push_shared(part.frames(sent..index));
                    self.position = until;
                    return Continue(());
                }
                if committed.origin == Some(self.id) {
                    self.output.push_shared(part.frames(sent..index));
                    sent = index + 1;
                    if until.is_none() {
                        // The answer that takes the place of the broadcast will be there in a moment.
                        return Break(());
                    }
                }
                self.position = Some(committed.revision);
                if self.output.remaining() + part.frames_length(sent..index + 1) >= OUTPUT_ROOM {
                    self.output.push_shared(part.frames(sent..index + 1));
                    return Continue(());
                }
            }
            self.output.push_shared(part.frames(sent..part.commits().len()));
        }
        Continue(())
    }

    fn send_answers(&mut self, through: Revision) {
        while self.has_room()
            && let Some(message) = self.requests.pop_answer_if(|answer| answer.at <= through)
        {
            self.send(&message);
        }
    }

    fn send_answers_while(&mut self, ready: impl Fn(&Answer) -> bool) {
        while let Some(message) = self.requests.pop_answer_if(&ready) {
            self.send(&message);
        }
    }

    fn send(&mut self, message: &Message) {
        let sent = self.output.push(message);
        debug_assert!(sent.is_ok(), "answers are within the limits of a frame");
    }

    fn handle_message(&mut self, message: Message) {
        match self.session {
            Session::Open(authorized) => self.handle_request(authorized, message),
            Session::Stranger => match message {
                Message::Auth(auth) => {
                    self.session = Session::Verifying;
                    self.requests.push_auth(auth);
                }
                other => self.answer_now(Message::error(other.tag(), text::BAD_MESSAGE_TYPE)),
            },
            Session::Verifying => debug_assert!(false, "nothing is read meanwhile"),
        }
    }

    fn handle_request(&mut self, authorized: Authorized, message: Message) {
        match message {
            Message::Get(get) => {
                if get.key.len() > self.limits.max_key {
                    self.answer_now(Message::error(get.tag, text::key_too_large(get.key.len(), &self.limits)));
                } else {
                    self.requests.push_get(authorized, get);
                }
            }
            Message::Put(put) => {
                let length = put.key.len() + put.value.len();
                if put.key.len() > self.limits.max_key {
                    self.answer_now(Message::error(put.tag, text::key_too_large(put.key.len(), &self.limits)));
                } else if length > self.limits.max_entry {
                    self.answer_now(Message::error(put.tag, text::entry_too_large(length, &self.limits)));
                } else if put.version == Version::MAX {
                    self.answer_now(Message::error(put.tag, text::VERSION_EXHAUSTED));
                } else {
                    self.requests.push_put(authorized, put);
                }
            }
            Message::Error(error) => self.answer_now(Message::error(error.tag, text::cannot_be_applied(Kind::Error))),
            Message::Auth(auth) => self.answer_now(Message::error(auth.tag, text::cannot_be_applied(Kind::Auth))),
            // The extension is not spoken yet.
            other => {
                self.answer_now(Message::error(other.tag(), text::UNKNOWN_KIND));
                self.closing = true;
            }
        }
    }

    fn answer_now(&mut self, message: Message) {
        self.requests.push_answer(Answer::now(message));
    }

    fn takes_requests(&self) -> bool {
        let held = self.requests.asked_bytes() + self.requests.answer_bytes() + self.output.remaining();
        self.requests.len() < self.limits.max_requests
            && held < self.limits.max_unsent
            && !matches!(self.session, Session::Verifying)
    }

    fn has_room(&self) -> bool {
        self.output.remaining() < OUTPUT_ROOM
    }

    fn position(&self) -> Revision {
        self.position.unwrap_or(Revision::ZERO)
    }
}
