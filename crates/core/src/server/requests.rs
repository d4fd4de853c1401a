//! The requests of one connection that are not answered yet, in the order in which they came, and so their answers.
//!
//! ```text
//!   front                                                   back
//!   │ answered │ given out, not answered │ not given out yet │
//!              ▲ decided                 ▲ started
//! ```
//!
//! Writes are pipelined: one is given out while earlier ones are undecided. A read waits for the writes before it, and
//! a write for the reads before it, so that each read sees exactly the writes before it. (What is refused at once is
//! an answer as soon as it comes, wherever it stands.)

use super::Limits;
use super::session::Authorized;
use bytes::Bytes;
use std::collections::VecDeque;
use syncline_wire::{Auth, Get, Message, Password, Put, Revision, Tag};

/// What is sent for a request, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The frame.
    pub(super) message: Message,
    /// The answer is true at this revision: it is sent once the connection was sent everything up to there.
    pub(super) at: Revision,
    /// Whether it is the connection's own write of that revision, of which it gets no broadcast.
    pub(super) own_write: bool,
}

impl Answer {
    /// An answer that is true at any time.
    pub(super) const fn now(message: Message) -> Self {
        Self { message, at: Revision::ZERO, own_write: false }
    }
}

#[derive(Debug)]
enum Request {
    Put(Put),
    Get(Get),
    Auth(Auth),
    Answered(Answer),
}

/// What is given out to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start {
    Write(Put),
    Read(Bytes),
    Verify(Password),
}

/// The requests that are not answered yet, in order.
#[derive(Debug, Default)]
pub(super) struct Requests {
    queue: VecDeque<Request>,
    /// How many, from the front, were given out.
    started: usize,
    /// How many, from the front, are known to be answered.
    decided: usize,
    /// Writes given out and undecided.
    writing: usize,
    /// Reads given out and not answered.
    reading: usize,
    /// The bytes of requests without an answer.
    asked_bytes: usize,
    /// The bytes of answers.
    answer_bytes: usize,
}

impl Requests {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The bytes of requests without an answer.
    pub(super) const fn asked_bytes(&self) -> usize {
        self.asked_bytes
    }

    /// The bytes of answers that wait.
    pub(super) const fn answer_bytes(&self) -> usize {
        self.answer_bytes
    }

    /// Whether something was given out that is not answered.
    pub(super) const fn is_busy(&self) -> bool {
        self.writing + self.reading > 0
    }

    /// Whether a read was given out that is not answered.
    pub(super) const fn is_reading(&self) -> bool {
        self.reading > 0
    }

    /// A write has come, of one who may write.
    pub(super) fn push_put(&mut self, _: Authorized, mut put: Put) {
        self.asked_bytes += put.encoded_length();
        put.key = copied(&put.key);
        put.value = copied(&put.value);
        self.queue.push_back(Request::Put(put));
    }

    /// A read has come, of one who may read.
    pub(super) fn push_get(&mut self, _: Authorized, mut get: Get) {
        self.asked_bytes += get.key.len();
        get.key = copied(&get.key);
        self.queue.push_back(Request::Get(get));
    }

    /// A password has come. Nothing else may come before its verdict.
    pub(super) fn push_auth(&mut self, auth: Auth) {
        self.asked_bytes += auth.password.expose().len();
        self.queue.push_back(Request::Auth(auth));
    }

    /// A request has come that is answered at once.
    pub(super) fn push_answer(&mut self, answer: Answer) {
        self.answer_bytes += answer.message.encoded_length();
        self.queue.push_back(Request::Answered(answer));
    }

    /// The next request to be done, if one may start now. `room`: the bytes that the answers may have.
    pub(super) fn start(&mut self, room: usize) -> Option<Start> {
        loop {
            let held = self.answer_bytes + self.reading * MAX_ANSWER;
            // The answers that are there already may all wait for the request at the front.
            let may_read = held < room || (self.started == 0 && room > 0);
            let start = match self.queue.get(self.started)? {
                Request::Answered(_) => None,
                Request::Put(put) if self.reading == 0 => {
                    self.writing += 1;
                    Some(Start::Write(put.clone()))
                }
                Request::Get(get) if self.writing == 0 && may_read => {
                    self.reading += 1;
                    Some(Start::Read(get.key.clone()))
                }
                Request::Auth(auth) => Some(Start::Verify(auth.password.clone())),
                Request::Put(_) | Request::Get(_) => return None,
            };
            self.started += 1;
            if start.is_some() {
                return start;
            }
        }
    }

    /// Answers the earliest write that was given out.
    pub(super) fn answer_write(&mut self, answer: impl FnOnce(Put) -> Answer) {
        self.answer(|request| match request {
            Request::Put(put) => Ok(answer(put)),
            other => Err(other),
        });
    }

    /// Answers the earliest read that was given out.
    pub(super) fn answer_read(&mut self, answer: impl FnOnce(Get) -> Answer) {
        self.answer(|request| match request {
            Request::Get(get) => Ok(answer(get)),
            other => Err(other),
        });
    }

    /// Answers the password that was given out.
    pub(super) fn answer_auth(&mut self, answer: impl FnOnce(Auth) -> Answer) {
        self.answer(|request| match request {
            Request::Auth(auth) => Ok(answer(auth)),
            other => Err(other),
        });
    }

    fn answer(&mut self, answer: impl FnOnce(Request) -> Result<Answer, Request>) {
        while self.decided < self.started && matches!(self.queue.get(self.decided), Some(Request::Answered(_))) {
            self.decided += 1;
        }
        let asked = match self.queue.get(self.decided) {
            Some(Request::Put(put)) if self.decided < self.started => put.encoded_length(),
            Some(Request::Get(get)) if self.decided < self.started => get.key.len(),
            Some(Request::Auth(auth)) if self.decided < self.started => auth.password.expose().len(),
            _ => return debug_assert!(false, "an answer to what was not asked"),
        };
        let Some(slot) = self.queue.get_mut(self.decided) else { return };
        let request =
            std::mem::replace(slot, Request::Answered(Answer::now(Message::error(Tag::BROADCAST, Bytes::new()))));
        let (writes, reads) = match request {
            Request::Put(_) => (1, 0),
            Request::Get(_) => (0, 1),
            Request::Auth(_) | Request::Answered(_) => (0, 0),
        };
        match answer(request) {
            Ok(answer) => {
                self.asked_bytes -= asked;
                self.answer_bytes += answer.message.encoded_length();
                *slot = Request::Answered(answer);
                self.decided += 1;
                self.writing -= writes;
                self.reading -= reads;
            }
            Err(request) => {
                *slot = request;
                debug_assert!(false, "the answer of a read to a write, or the other way round");
            }
        }
    }

    /// The answer at the front, if the request there has one.
    pub(super) fn front_answer(&self) -> Option<&Answer> {
        match self.queue.front() {
            Some(Request::Answered(answer)) => Some(answer),
            _ => None,
        }
    }

    /// Takes the answer at the front, if the request there has one, and `ready` says so.
    pub(super) fn pop_answer_if(&mut self, ready: impl FnOnce(&Answer) -> bool) -> Option<Message> {
        if !self.front_answer().is_some_and(ready) {
            return None;
        }
        let Some(Request::Answered(answer)) = self.queue.pop_front() else { return None };
        self.answer_bytes -= answer.message.encoded_length();
        self.started = self.started.saturating_sub(1);
        self.decided = self.decided.saturating_sub(1);
        if self.queue.is_empty() && self.queue.capacity() > KEPT_CAPACITY {
            self.queue = VecDeque::new();
        }
        Some(answer.message)
    }
}

/// The bytes of the largest answer to a read: what one counts as until its answer is there.
const MAX_ANSWER: usize = Put::OVERHEAD + Limits::MAX_PUT;

/// Bytes on their own. What came in shares the memory of all that was read with it, which may be a thousand times more
/// than what is counted here.
fn copied(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// The room for requests that an idle connection keeps.
const KEPT_CAPACITY: usize = 4;
