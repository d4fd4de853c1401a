//! The requests of one connection that are not answered yet, in the order in which they came, and so their answers.
//!
//! ```text
//!   front                                                   back
//!   │ answered │ given out, not answered │ not given out yet │
//!              ▲ decided                 ▲ started
//! ```
//!
//! Writes are pipelined: one is given out while earlier ones are undecided. A read waits for the writes before it, and
//! a write for the reads before it, so that each read sees exactly the writes before it. What is [`AtFront`] waits until
//! everything before it is answered and sent, and what comes after waits for it. (What is refused at once is an answer as
//! soon as it comes, wherever it stands.)

use super::Limits;
use super::session::Granted;
use super::write::{Write, copied};
use crate::Operation;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use syncline_wire::{Auth, Get, List, Message, Password, Put, Revision, Tag, Watch};

/// What is sent for a request, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) reply: Reply,
    /// The answer is true at this revision: it is sent once the connection was sent everything up to there.
    pub(super) at: Revision,
}

/// What is sent for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Frame(Message),
    /// The connection's own write, of which it gets no broadcast: it was accepted.
    Own(Write),
}

impl Reply {
    fn bytes(&self) -> usize {
        match self {
            Self::Frame(message) => message.encoded_length(),
            Self::Own(write) => write.bytes(),
        }
    }
}

impl Answer {
    /// An answer that is true at any time.
    pub(super) const fn now(message: Message) -> Self {
        Self::at(message, Revision::ZERO)
    }

    pub(super) const fn at(message: Message, at: Revision) -> Self {
        Self { reply: Reply::Frame(message), at }
    }

    pub(super) const fn is_own_write(&self) -> bool {
        matches!(self.reply, Reply::Own(_))
    }
}

#[derive(Debug)]
pub(super) enum Request {
    Write(Write),
    Read(Read),
    Auth(Auth),
    AtFront(AtFront),
    Answered(Answer),
}

/// What is answered by what the store or the server says at the time.
#[derive(Debug)]
pub(super) enum Read {
    Get(Get),
    Status(Tag),
}

/// What is done when everything before it is answered and sent, and before anything after it is begun.
#[derive(Debug)]
pub(super) enum AtFront {
    Hello(Tag),
    /// A MARK, and the head when it came to the front.
    Barrier(Tag, Option<Revision>),
    Watch(Watch),
    List(List),
}

impl Request {
    /// A WATCH that shares no memory with what it was read from.
    pub(super) fn watch(Watch { tag, prefix, since }: Watch) -> Self {
        Self::AtFront(AtFront::Watch(Watch { tag, prefix: copied(&prefix), since }))
    }

    /// A LIST that shares no memory with what it was read from.
    pub(super) fn list(List { tag, prefix, after, limit }: List) -> Self {
        Self::AtFront(AtFront::List(List { tag, prefix: copied(&prefix), after: copied(&after), limit }))
    }

    /// Shares no memory with what it was read from, from now on. Others than GETs never do.
    fn own_keys(&mut self) {
        if let Self::Read(Read::Get(get)) = self {
            get.key = copied(&get.key);
        }
    }

    /// What it counts as until it is answered.
    fn bytes(&self) -> usize {
        match self {
            Self::Write(write) => write.bytes(),
            Self::Read(Read::Get(get)) => get.key.len(),
            Self::Auth(auth) => auth.password.expose().len(),
            Self::AtFront(AtFront::Watch(watch)) => watch.prefix.len(),
            Self::AtFront(AtFront::List(list)) => list.prefix.len() + list.after.len(),
            Self::Read(Read::Status(_)) | Self::AtFront(AtFront::Hello(_) | AtFront::Barrier(..)) => 0,
            Self::Answered(answer) => answer.reply.bytes(),
        }
    }
}

/// What is given out to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start {
    Write(Arc<[Operation]>),
    Get(Bytes),
    Status,
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
    /// How many, from the front, share no memory with what they were read from.
    owned: usize,
    /// Writes given out and undecided.
    writing: usize,
    /// Reads given out and not answered.
    reading: usize,
    /// The bytes of all.
    bytes: usize,
    /// Those of answers.
    answer_bytes: usize,
}

impl Requests {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many wait for their turn to watch.
    pub(super) fn watches(&self) -> usize {
        self.queue.iter().filter(|request| matches!(request, Request::AtFront(AtFront::Watch(_)))).count()
    }

    /// The bytes of what was asked, and of answers that wait.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether something was given out that is not answered.
    pub(super) const fn is_busy(&self) -> bool {
        self.writing + self.reading > 0
    }

    /// Whether a read was given out that is not answered.
    pub(super) const fn is_reading(&self) -> bool {
        self.reading > 0
    }

    /// A request has come, of one who may make it.
    pub(super) fn push_granted(&mut self, request: Granted<Request>) {
        self.push(request.take());
    }

    /// A password has come. Nothing else may come before its verdict.
    pub(super) fn push_auth(&mut self, auth: Auth) {
        self.push(Request::Auth(auth));
    }

    /// A request has come that is answered at once.
    pub(super) fn push_answer(&mut self, answer: Answer) {
        self.answer_bytes += answer.reply.bytes();
        self.push(Request::Answered(answer));
    }

    fn push(&mut self, request: Request) {
        self.bytes += request.bytes();
        if self.queue.capacity() == 0 {
            self.queue.reserve(FIRST_CAPACITY);
        }
        self.queue.push_back(request);
    }

    /// The next request to be done, if one may start now. `room`: the bytes that the answers may have.
    pub(super) fn start(&mut self, room: usize) -> Option<Start> {
        loop {
            let held = self.answer_bytes + self.reading * MAX_ANSWER;
            // The answers that are there already may all wait for the request at the front.
            let may_read = held < room || (self.started == 0 && room > 0);
            let start = match self.queue.get(self.started)? {
                Request::Answered(_) => None,
                Request::Write(write) if self.reading == 0 => {
                    self.writing += 1;
                    Some(Start::Write(write.operations.clone()))
                }
                Request::Read(read) if self.writing == 0 && may_read => {
                    self.reading += 1;
                    Some(match read {
                        Read::Get(get) => Start::Get(get.key.clone()),
                        Read::Status(_) => Start::Status,
                    })
                }
                Request::Auth(auth) => Some(Start::Verify(auth.password.clone())),
                Request::Write(_) | Request::Read(_) | Request::AtFront(_) => return None,
            };
            self.started += 1;
            if start.is_some() {
                return start;
            }
        }
    }

    /// The key of the next request, if that is a GET that may start now.
    pub(super) fn start_get(&mut self, room: usize) -> Option<Bytes> {
        while matches!(self.queue.get(self.started), Some(Request::Answered(_))) {
            self.started += 1;
        }
        match self.queue.get(self.started)? {
            Request::Read(Read::Get(_)) => match self.start(room)? {
                Start::Get(key) => Some(key),
                Start::Write(_) | Start::Status | Start::Verify(_) => None,
            },
            _ => None,
        }
    }

    /// What is there shares no memory with what it was read from, from now on.
    pub(super) fn own_keys(&mut self) {
        self.queue.iter_mut().skip(self.owned).for_each(Request::own_keys);
        self.owned = self.queue.len();
    }

    /// What was given out and is not answered is to be given out again: it was not done. Only reads are given out.
    pub(super) fn take_back(&mut self) {
        debug_assert!(self.writing == 0, "writes can't be taken back");
        self.started = self.decided;
        self.reading = 0;
    }

    /// Answers the earliest request that was given out; `answer` hands it back where it is no answer to such a one. An answer
    /// that nothing stands before, and that `is_due` says to be, is not kept, but returned, to be sent.
    pub(super) fn answer(
        &mut self,
        is_due: impl FnOnce(&Answer) -> bool,
        answer: impl FnOnce(Request) -> Result<Answer, Request>,
    ) -> Option<Answer> {
        while self.decided < self.started && matches!(self.queue.get(self.decided), Some(Request::Answered(_))) {
            self.decided += 1;
        }
        let Some(place) = self.queue.get_mut(self.decided).filter(|_| self.decided < self.started) else {
            debug_assert!(false, "an answer to what was not asked");
            return None;
        };
        let asked = place.bytes();
        let (writes, reads) = match place {
            Request::Write(_) => (1, 0),
            Request::Read(_) => (0, 1),
            Request::Auth(_) | Request::AtFront(_) | Request::Answered(_) => (0, 0),
        };
        let nothing = Request::Read(Read::Status(Tag::BROADCAST));
        match answer(std::mem::replace(place, nothing)) {
            Ok(answer) => {
                self.bytes -= asked;
                self.writing -= writes;
                self.reading -= reads;
                if self.decided == 0 && is_due(&answer) {
                    self.pop();
                    return Some(answer);
                }
                let bytes = answer.reply.bytes();
                *place = Request::Answered(answer);
                self.bytes += bytes;
                self.answer_bytes += bytes;
                self.decided += 1;
            }
            Err(request) => {
                *place = request;
                debug_assert!(false, "the answer of a read to a write, or the other way round");
            }
        }
        None
    }

    /// The answer at the front, if the request there has one.
    pub(super) fn front_answer(&self) -> Option<&Answer> {
        match self.queue.front() {
            Some(Request::Answered(answer)) => Some(answer),
            _ => None,
        }
    }

    /// Takes the answer at the front, if the request there has one, and `ready` says so.
    pub(super) fn pop_answer_if(&mut self, ready: impl FnOnce(&Answer) -> bool) -> Option<Answer> {
        if !self.front_answer().is_some_and(ready) {
            return None;
        }
        let Some(Request::Answered(answer)) = self.pop() else { return None };
        self.answer_bytes -= answer.reply.bytes();
        Some(answer)
    }

    /// What waits for its turn, where that has come.
    pub(super) fn front_waiting(&mut self) -> Option<&mut AtFront> {
        match self.queue.front_mut() {
            Some(Request::AtFront(request)) => Some(request),
            _ => None,
        }
    }

    /// Takes what [`Requests::front_waiting`] shows.
    pub(super) fn pop_waiting(&mut self) -> Option<AtFront> {
        self.front_waiting()?;
        match self.pop() {
            Some(Request::AtFront(request)) => Some(request),
            _ => None,
        }
    }

    fn pop(&mut self) -> Option<Request> {
        let request = self.queue.pop_front()?;
        self.bytes -= request.bytes();
        self.started = self.started.saturating_sub(1);
        self.decided = self.decided.saturating_sub(1);
        self.owned = self.owned.saturating_sub(1);
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        Some(request)
    }
}

/// The bytes of the largest answer to a read: what one counts as until its answer is there.
const MAX_ANSWER: usize = Put::OVERHEAD + Limits::MAX_PUT;

/// The room for requests that a connection begins with which has some; one that is idle has none. They take less than 1 KiB:
/// glibc keeps no larger piece of memory at hand, and what it does instead takes hundreds of instructions.
const FIRST_CAPACITY: usize = 8;

const _: () = assert!(size_of::<Request>() * FIRST_CAPACITY <= 1024);
