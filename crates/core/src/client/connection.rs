//! The client's side of one connection, as a state machine.
#![allow(clippy::result_large_err, reason = "a request that can't be sent is handed back as it came, which is rare")]

use super::Replicas;
use super::request::{Request, Response, classify, refusal, state};
use super::scope::Scope;
use crate::{Operation, Output, StoreId};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use syncline_wire::{
    DecodeError, Decoded, EncodeError, Kind, LimitExceeded, Mark, Message, MonotoneTags, Redacted, Revision,
    ServerHello, Tag, TruncatedHello, Version, decode,
};
use thiserror::Error;

/// What [`ClientConnection::handle_input`] found.
#[derive(derive_more::Debug, PartialEq, Eq)]
pub enum Event<T> {
    /// The answer to a request.
    Response {
        /// What came with the request.
        token: T,
        /// What the server says.
        answer: Response,
    },
    /// Somebody else's write was accepted.
    Change {
        /// Which key.
        key: Bytes,
        /// What it holds; empty where it was deleted.
        #[debug("{:?}", Redacted(value))]
        value: Bytes,
        /// The version of that.
        version: Version,
    },
    /// The replicas are what the store held at this revision. Readers must see that before they see what comes next.
    Marked {
        /// The revision.
        revision: Revision,
    },
    /// The server says something of the connection itself; usually that it is about to close it.
    Notice {
        /// What it says.
        text: String,
    },
    /// Nothing whole: more must come.
    Incomplete {
        /// The bytes that the next frame has at the least.
        expected: usize,
    },
}

/// The connection is of no more use: the server does not keep to the protocol, or can't go on with what it has begun.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The bytes are no frame.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// An answer to HELLO that does not say all.
    #[error(transparent)]
    ServerHello(#[from] TruncatedHello),
    /// A frame that answers nothing that was asked.
    #[error("expected an answer to a request in flight, found {found}")]
    Unasked {
        /// The frame, as logs show it.
        found: String,
    },
    /// A frame that is no answer to the request of its tag.
    #[error("expected an answer to {asked}, found {found}")]
    NoAnswer {
        /// The request, as logs show it.
        asked: String,
        /// The frame, as logs show it.
        found: String,
    },
    /// A replica that was whole can't be told what it has missed. Another connection may be.
    #[error("a replica can't be told what it has missed: {text}")]
    NotResumed {
        /// Why, in the server's words.
        text: String,
    },
}

impl ProtocolError {
    /// A frame that is larger than any answer.
    pub(super) fn too_large(kind: Kind, tag: Tag, excess: LimitExceeded) -> Self {
        Self::Unasked { found: format!("kind={kind} tag={tag} of {excess}") }
    }
}

/// A request that was not sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused<T> {
    /// The request.
    pub request: Request,
    /// What came with it.
    pub token: T,
    /// Why it was not sent.
    pub because: RefusedBecause,
}

/// Why a request was not sent.
///
/// It is exhaustive: a driver must handle each reason, because the request's caller still waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RefusedBecause {
    /// It can't be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// All 65,535 tags are in flight: wait for an answer.
    #[error("expected a free tag, found all 65535 in flight")]
    TagsExhausted,
    /// The server does not know the extension.
    #[error("expected a server that speaks the extension, found one that speaks only the base protocol")]
    BaseOnly,
}

/// What is left when a connection is lost.
#[derive(Debug)]
pub struct Lost<T> {
    /// What was not answered, in the order of the requests. What became of the writes among them is not known, even of
    /// one that was never written to the socket in full.
    pub unanswered: Vec<(Request, T)>,
    /// Writes that were accepted, but that no replica shows yet: for the next connection, which answers them when one
    /// does.
    pub held: Vec<(T, Response)>,
    /// What is shown.
    pub replicas: Replicas,
}

/// A request in flight.
#[derive(Debug)]
struct InFlight<T> {
    /// Counts the requests of the connection.
    sequence: u64,
    request: Request,
    /// None for a WATCH: whoever waits for it waits among the watchers.
    token: Option<T>,
    /// What has come of an answer that has several frames.
    entries: Vec<(Bytes, super::Versioned)>,
    /// How many operations of a transaction were told, checks among them, which nothing tells of.
    told: usize,
    /// What a WATCH is told.
    scope: Scope,
}

/// Somebody who waits for a replica to be whole.
#[derive(Debug)]
struct Watcher<T> {
    sequence: u64,
    prefix: Bytes,
    token: T,
}

/// What the server of an extended connection has said of itself.
#[derive(Debug)]
struct HelloParameters {
    head: Revision,
    patience: Duration,
}

/// The client's side of one connection. Each request carries a token of the driver's choice, which its answer returns.
///
/// Its driver
/// 1. hands it requests ([`request`](Self::request)) and writes its [`output`](Self::output);
/// 2. hands it what came from the socket ([`handle_input`](Self::handle_input)), again and again until
///    [`Event::Incomplete`]; also after 1, for some requests are answered at once;
/// 3. shows readers [what the replicas are](Self::replicas) after [`Event::Marked`], before it does anything with what comes
///    next but another such event;
/// 4. gives it up where nothing came for as long as [`patience`](Self::patience);
/// 5. when it is lost, asks what is left ([`into_lost`](Self::into_lost)), and gives that to the next one.
///
/// # Own writes
/// The answer to a write whose key a replica shows is held back until the MARK that covers it: who has been answered
/// finds the write in the replica.
#[derive(Debug)]
pub struct ClientConnection<T> {
    /// None: the server speaks only the base protocol.
    parameters: Option<HelloParameters>,
    tags: MonotoneTags,
    in_flight: BTreeMap<Tag, InFlight<T>>,
    requested: u64,
    output: Output,
    replicas: Replicas,
    watchers: Vec<Watcher<T>>,
    /// Answers that wait for a MARK.
    held: Vec<(T, Response)>,
    ready: VecDeque<Event<T>>,
    /// It was asked to follow what others write.
    follows: bool,
}

impl<T> Default for ClientConnection<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> ClientConnection<T> {
    /// A connection was made to a server that speaks only the base protocol.
    pub fn new() -> Self {
        Self::base(Replicas::new(), Vec::new())
    }

    /// A connection was made to a server that speaks only the base protocol. What an earlier one has left is kept as it is.
    pub fn base(replicas: Replicas, held: Vec<(T, Response)>) -> Self {
        let answered = held.into_iter().map(|(token, answer)| Event::Response { token, answer });
        Self {
            parameters: None,
            tags: MonotoneTags::new(),
            in_flight: BTreeMap::new(),
            requested: 0,
            output: Output::new(),
            replicas,
            watchers: Vec::new(),
            held: Vec::new(),
            ready: answered.collect(),
            follows: false,
        }
    }

    /// A server has answered HELLO. What an earlier connection has left goes on: replicas are told what they have missed.
    pub fn extended(greeting: &ServerHello, mut replicas: Replicas, held: Vec<(T, Response)>) -> Self {
        let watched = replicas.connected(StoreId::new(greeting.store_id));
        let parameters = Some(HelloParameters { head: greeting.head, patience: greeting.patience() });
        let mut connection = Self { parameters, held, ..Self::base(replicas, Vec::new()) };
        for (prefix, since) in watched {
            let sent = connection.send(Request::Watch { prefix }, since).is_ok();
            debug_assert!(sent, "it was sent before, and there are fewer prefixes than tags");
        }
        connection.release();
        connection
    }

    /// What is to be written.
    pub const fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// How many requests are in flight, or wait for a MARK.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len() + self.held.len()
    }

    /// What readers may see.
    pub const fn replicas(&self) -> &Replicas {
        &self.replicas
    }

    /// How long a silence means that the connection is dead; `None` where the server may be silent.
    pub fn patience(&self) -> Option<Duration> {
        let parameters = self.parameters.as_ref().filter(|_| self.follows || !self.replicas.is_empty())?;
        Some(parameters.patience)
    }

    /// Adds a request to the output.
    ///
    /// # Errors
    /// [`Refused`] hands it back where it can't be sent.
    pub fn request(&mut self, request: Request, token: T) -> Result<(), Refused<T>> {
        match (&request, &self.parameters) {
            (Request::Follow, None) => {
                // It does so without being asked.
                self.ready.push_back(Event::Response { token, answer: Response::Watched });
                Ok(())
            }
            (request, None) if !request.is_base() => {
                Err(Refused { request: request.clone(), token, because: RefusedBecause::BaseOnly })
            }
            (Request::Watch { prefix }, _) => {
                let prefix = prefix.clone();
                self.watch(prefix, token)
            }
            (Request::Follow, Some(parameters)) => {
                let head = parameters.head;
                self.follows = true;
                self.send_with(request, token, head)
            }
            _ => self.send_with(request, token, Revision::ZERO),
        }
    }

    fn send_with(&mut self, request: Request, token: T, since: Revision) -> Result<(), Refused<T>> {
        match self.send(request, since) {
            Ok(in_flight) => {
                in_flight.token = Some(token);
                Ok(())
            }
            Err((request, because)) => Err(Refused { request, token, because }),
        }
    }

    fn watch(&mut self, prefix: Bytes, token: T) -> Result<(), Refused<T>> {
        if !self.replicas.covers(&prefix) {
            let request = Request::Watch { prefix: prefix.clone() };
            match self.send(request, Revision::ZERO).map(drop) {
                Ok(()) => {
                    self.replicas.add(prefix.clone(), self.requested - 1);
                    self.begin_watches();
                }
                Err((request, because)) => return Err(Refused { request, token, because }),
            }
        }
        self.watchers.push(Watcher { sequence: self.requested, prefix, token });
        self.requested += 1;
        self.answer_watchers();
        Ok(())
    }

    /// Sends a request that asks for what comes after `since`, if it is one that does.
    fn send(&mut self, request: Request, since: Revision) -> Result<&mut InFlight<T>, (Request, RefusedBecause)> {
        let Some(tag) = self.tags.take() else {
            return Err((request, RefusedBecause::TagsExhausted));
        };
        if let Err(bad) = self.output.push(&request.message(tag, since, self.parameters.is_none())) {
            self.tags.give_back(tag);
            return Err((request, bad.into()));
        }
        let sequence = self.requested;
        self.requested += 1;
        let scope = Scope::since(since);
        let in_flight = InFlight { sequence, request, token: None, entries: Vec::new(), told: 0, scope };
        Ok(self.in_flight.entry(tag).insert_entry(in_flight).into_mut())
    }

    /// Takes frames off the front of `buffer` until one says something.
    ///
    /// # Errors
    /// [`ProtocolError`] where the connection is of no more use.
    pub fn handle_input(&mut self, buffer: &mut BytesMut) -> Result<Event<T>, ProtocolError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            let message = match decode(buffer)? {
                Decoded::Frame(message) => message,
                Decoded::Incomplete { expected } => return Ok(Event::Incomplete { expected }),
                Decoded::TooLarge { kind, tag, excess, .. } => return Err(ProtocolError::too_large(kind, tag, excess)),
            };
            if message.tag() == Tag::BROADCAST {
                self.handle_broadcast(&message)?;
            } else {
                self.handle_answer(&message)?;
            }
        }
    }

    fn handle_broadcast(&mut self, message: &Message) -> Result<(), ProtocolError> {
        if let Some((key, now, version)) = state(message) {
            self.replicas.change(key, now.as_ref());
            if self.follows || self.parameters.is_none() {
                let value = now.map_or_else(Bytes::new, |now| now.value);
                self.ready.push_back(Event::Change { key: key.clone(), value, version });
            }
            return Ok(());
        }
        match message {
            Message::Mark(Mark { revision, .. }) => self.mark(*revision),
            Message::Error(error) => self.ready.push_back(Event::Notice { text: readable(&error.text) }),
            other => return Err(ProtocolError::Unasked { found: other.redacted().to_string() }),
        }
        Ok(())
    }

    fn handle_answer(&mut self, message: &Message) -> Result<(), ProtocolError> {
        let tag = message.tag();
        let Some(mut in_flight) = self.in_flight.remove(&tag) else {
            return Err(ProtocolError::Unasked { found: message.redacted().to_string() });
        };
        let answer = match (&in_flight.request, message) {
            (request, Message::Mark(mark)) if in_flight.scope.is_forgotten_at(mark.revision) => {
                in_flight.scope = Scope::All;
                if let Request::Watch { prefix } = request {
                    self.replicas.forget(prefix);
                }
                None
            }
            (Request::Watch { prefix }, Message::Mark(mark)) if self.replicas.has_begun(prefix) => {
                self.replicas.told(prefix);
                self.mark(mark.revision);
                Some(Response::Watched)
            }
            (Request::Watch { prefix }, Message::Error(error)) if !self.replicas.was_whole(prefix) => {
                let answer = refusal(&in_flight.request, error);
                self.replicas.remove(prefix);
                // Some of those who wait may be told by another one.
                let (waiting, refused): (Vec<_>, Vec<_>) = std::mem::take(&mut self.watchers)
                    .into_iter()
                    .partition(|watcher| self.replicas.covers(&watcher.prefix));
                self.watchers = waiting;
                let answer_to = |watcher: Watcher<T>| Event::Response { token: watcher.token, answer: answer.clone() };
                self.ready.extend(refused.into_iter().map(answer_to));
                Some(answer)
            }
            (Request::Watch { .. }, Message::Error(error)) => {
                let text = readable(&error.text);
                self.in_flight.insert(tag, in_flight);
                return Err(ProtocolError::NotResumed { text });
            }
            (Request::List { .. }, Message::Put(_) | Message::PutLarge(_)) => {
                if let Some((key, Some(now), _)) = state(message) {
                    in_flight.entries.push((key.clone(), now));
                }
                None
            }
            (Request::List { .. }, Message::Mark(mark)) => {
                self.mark(mark.revision);
                Some(Response::Listed { entries: std::mem::take(&mut in_flight.entries) })
            }
            (Request::Txn { operations }, told) if let Some(next) = told_by(operations, in_flight.told, told) => {
                in_flight.told = next;
                if let Some((key, now, _)) = state(told) {
                    self.replicas.change(key, now.as_ref());
                }
                None
            }
            // What is shown at this MARK would be half of what is told around it: the next one says that it is whole.
            (Request::Txn { operations }, Message::Mark(mark))
                if writes(operations, in_flight.told).next().is_none() =>
            {
                Some(Response::Committed { revision: mark.revision })
            }
            (Request::Txn { .. }, Message::Error(error)) if in_flight.told == 0 => {
                Some(refusal(&in_flight.request, error))
            }
            (request @ Request::List { .. }, Message::Error(error)) => Some(refusal(request, error)),
            (Request::Watch { .. } | Request::List { .. } | Request::Txn { .. }, _) => {
                return Err(self.no_answer(tag, in_flight, message));
            }
            (request, message) => match classify(request, message) {
                Some(answer) => {
                    if let (Request::Barrier | Request::Follow, Message::Mark(mark)) = (request, message) {
                        self.mark(mark.revision);
                    }
                    Some(answer)
                }
                None => return Err(self.no_answer(tag, in_flight, message)),
            },
        };
        let Some(answer) = answer else {
            self.in_flight.insert(tag, in_flight);
            return Ok(());
        };
        self.tags.give_back(tag);
        if answer == Response::Written
            && let Some((key, now, _)) = state(message)
        {
            self.replicas.change(key, now.as_ref());
        }
        self.begin_watches();
        let Some(token) = in_flight.token else { return Ok(()) };
        let waits = match &answer {
            Response::Passed { .. } => !self.replicas.is_settled(),
            Response::Written | Response::Committed { .. } => {
                written(&in_flight.request).any(|key| self.replicas.shows(key))
            }
            _ => false,
        };
        if waits {
            self.held.push((token, answer));
        } else {
            self.ready.push_back(Event::Response { token, answer });
        }
        Ok(())
    }

    /// A WATCH begins when everything before it is answered, but for what runs beside: those that have are told from here on.
    fn begin_watches(&mut self) {
        if self.replicas.awaits_begin() {
            let before = self.in_flight.values().filter(|in_flight| !in_flight.request.runs_beside());
            let oldest = before.map(|in_flight| in_flight.sequence).min();
            self.replicas.begin(oldest.unwrap_or(u64::MAX));
        }
    }

    fn no_answer(&mut self, tag: Tag, in_flight: InFlight<T>, found: &Message) -> ProtocolError {
        let asked = in_flight.request.message(tag, Revision::ZERO, self.parameters.is_none()).redacted().to_string();
        self.in_flight.insert(tag, in_flight);
        ProtocolError::NoAnswer { asked, found: found.redacted().to_string() }
    }

    /// All replicas may show what they were told.
    fn mark(&mut self, revision: Revision) {
        self.replicas.mark(revision);
        self.ready.push_back(Event::Marked { revision });
        self.release();
    }

    /// Answers what waits for what is shown.
    fn release(&mut self) {
        if self.replicas.is_settled() {
            self.ready.extend(self.held.drain(..).map(|(token, answer)| Event::Response { token, answer }));
        }
        self.answer_watchers();
    }

    /// Answers those whose replicas are whole.
    fn answer_watchers(&mut self) {
        let (whole, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.watchers)
            .into_iter()
            .partition(|watcher| self.replicas.is_current(&watcher.prefix));
        self.watchers = waiting;
        let answer = |watcher: Watcher<T>| Event::Response { token: watcher.token, answer: Response::Watched };
        self.ready.extend(whole.into_iter().map(answer));
    }

    /// The connection was lost: what is left of it.
    pub fn into_lost(self) -> Lost<T> {
        let Self { in_flight, watchers, held, ready, mut replicas, .. } = self;
        replicas.lost();
        let asked = in_flight
            .into_values()
            .filter_map(|InFlight { sequence, request, token, .. }| token.map(|token| (sequence, request, token)));
        let watched = watchers
            .into_iter()
            .map(|Watcher { sequence, prefix, token }| (sequence, Request::Watch { prefix }, token));
        let mut unanswered: Vec<_> = asked.chain(watched).collect();
        unanswered.sort_by_key(|(sequence, ..)| *sequence);
        let answered = ready.into_iter().filter_map(|event| match event {
            Event::Response { token, answer } => Some((token, answer)),
            _ => None,
        });
        // What a barrier has passed here says nothing of what the next connection leads to: it is asked again, there.
        let (passed, held): (Vec<_>, Vec<_>) =
            answered.chain(held).partition(|(_, answer)| matches!(answer, Response::Passed { .. }));
        let passed = passed.into_iter().map(|(token, _)| (Request::Barrier, token));
        let unanswered = passed.chain(unanswered.into_iter().map(|(_, request, token)| (request, token))).collect();
        Lost { unanswered, held, replicas }
    }
}

/// The writes among the operations of a transaction from the `first`-th on: all but its checks. Each with its number.
fn writes(operations: &[Operation], first: usize) -> impl Iterator<Item = (usize, &Operation)> {
    let operations = operations.iter().enumerate().skip(first);
    operations.filter(|(_, operation)| !matches!(operation, Operation::Check { .. }))
}

/// How many operations are told after this frame, where `already` were before; `None` where it does not tell the next
/// write.
fn told_by(operations: &[Operation], already: usize, told: &Message) -> Option<usize> {
    let (number, next) = writes(operations, already).next()?;
    let is_told = match (next, told) {
        (Operation::Put { key, value, version }, Message::Put(_) | Message::PutLarge(_)) => {
            (told.key(), told.value(), told.version()) == (Some(key), Some(value), Some(*version))
        }
        (Operation::Delete { key, version }, Message::Delete(told)) => told.key == key && told.version == *version,
        _ => false,
    };
    is_told.then_some(number + 1)
}

/// The keys that a request writes.
fn written(request: &Request) -> impl Iterator<Item = &Bytes> {
    let (key, operations) = match request {
        Request::Put { key, .. } | Request::Delete { key, .. } => (Some(key), &[][..]),
        Request::Txn { operations } => (None, &operations[..]),
        _ => (None, &[][..]),
    };
    key.into_iter().chain(writes(operations, 0).map(|(_, operation)| operation.key()))
}

pub(super) fn readable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Versioned;
    use bytes::Buf;

    fn get(key: &'static str) -> Request {
        Request::Get { key: key.into() }
    }

    fn put(version: u64) -> Request {
        Request::Put { key: "k".into(), value: "v".into(), version: Version::new(version) }
    }

    fn input(messages: &[Message]) -> BytesMut {
        let mut buffer = BytesMut::new();
        messages.iter().for_each(|message| message.encode(&mut buffer).unwrap());
        buffer
    }

    /// The answer that the client makes of one ERROR text.
    fn answer(request: Request, text: &'static str) -> Response {
        let mut connection = ClientConnection::new();
        connection.request(request, ()).unwrap();
        match connection.handle_input(&mut input(&[Message::error(Tag::new(1), text)])) {
            Ok(Event::Response { token: (), answer }) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_are_written_in_order_with_tags_from_1() {
        let mut connection = ClientConnection::new();
        connection.request(get("a"), "first").unwrap();
        connection.request(put(7), "second").unwrap();
        let expected = input(&[Message::get(Tag::new(1), "a"), Message::put(Tag::new(2), "k", "v", Version::new(7))]);
        let output = connection.output();
        assert_eq!(output.copy_to_bytes(output.remaining()), expected);
    }

    #[test]
    fn answers_find_their_requests_and_broadcasts_stand_between() {
        let mut connection = ClientConnection::new();
        connection.request(get("a"), "first").unwrap();
        connection.request(put(7), "second").unwrap();
        let mut buffer = input(&[
            Message::put(Tag::BROADCAST, "x", "y", Version::new(3)),
            Message::put(Tag::new(1), "a", "1", Version::new(5)),
            Message::error(Tag::BROADCAST, "unavailable: shutting down"),
            Message::put(Tag::new(2), "k", "v", Version::new(7)),
        ]);
        let mut next = || connection.handle_input(&mut buffer).unwrap();
        assert_eq!(next(), Event::Change { key: "x".into(), value: "y".into(), version: Version::new(3) });
        let value = Response::Value(Versioned { value: "1".into(), version: Version::new(5) });
        assert_eq!(next(), Event::Response { token: "first", answer: value });
        assert_eq!(next(), Event::Notice { text: "unavailable: shutting down".into() });
        assert_eq!(next(), Event::Response { token: "second", answer: Response::Written });
        assert_eq!(next(), Event::Incomplete { expected: 3 });
        assert_eq!(connection.in_flight(), 0);
    }

    #[test]
    fn error_texts_are_told_apart() {
        assert_eq!(answer(put(1), "stale put"), Response::Stale);
        assert_eq!(answer(get("a"), "\"a\": not found"), Response::NotFound { deleted_at: None });
        assert_eq!(
            answer(get("a"), "\"a\": deleted at version 7, not found"),
            Response::NotFound { deleted_at: Some(Version::new(7)) }
        );
        assert_eq!(answer(put(1), "unavailable: disk full"), Response::Unavailable { reason: "disk full".into() });
        let missing = "expected the right to read \"a\"".to_owned();
        assert_eq!(
            answer(get("a"), "not permitted: expected the right to read \"a\""),
            Response::NotPermitted { missing }
        );
        assert_eq!(answer(get("a"), "too large: key"), Response::TooLarge { text: "too large: key".into() });
        assert_eq!(answer(put(1), "version exhausted"), Response::Refused { text: "version exhausted".into() });
        assert_eq!(answer(get("a"), "stale put"), Response::Refused { text: "stale put".into() });
    }

    #[test]
    fn what_was_not_asked_is_an_error() {
        let mut connection = ClientConnection::new();
        connection.request(put(7), ()).unwrap();
        let found = connection.handle_input(&mut input(&[Message::error(Tag::new(2), "stale put")]));
        assert_eq!(found, Err(ProtocolError::Unasked { found: "kind=ERROR tag=2 text=stale put".into() }));
        for wrong in [
            Message::put(Tag::new(1), "k", "v", Version::new(8)),
            Message::put(Tag::new(1), "k", "w", Version::new(7)),
            Message::put(Tag::new(1), "l", "v", Version::new(7)),
            Message::auth(Tag::new(1), ""),
            Message::get(Tag::new(1), "k"),
        ] {
            let error = connection.handle_input(&mut input(std::slice::from_ref(&wrong))).unwrap_err();
            let expected = format!(
                "expected an answer to kind=PUT tag=1 key=k value=(1 bytes) version=7, found {}",
                wrong.redacted()
            );
            assert_eq!(error.to_string(), expected);
        }
        assert_eq!(connection.into_lost().unanswered, [(put(7), ())], "still unanswered");
    }

    #[test]
    fn what_is_in_flight_is_told_in_order() {
        let mut connection = ClientConnection::new();
        for tag in 1..=65_535 {
            connection.request(get("k"), tag).unwrap();
        }
        let refused = connection.request(put(1), 0).unwrap_err();
        assert_eq!((refused.request, refused.because), (put(1), RefusedBecause::TagsExhausted));
        // The first is answered, and its tag comes again for the last.
        let mut buffer = input(&[Message::error(Tag::new(1), "\"k\": not found")]);
        connection.handle_input(&mut buffer).unwrap();
        connection.request(put(1), 65_536).unwrap();
        let tokens: Vec<_> = connection.into_lost().unanswered.into_iter().map(|(_, token)| token).collect();
        assert_eq!(tokens, (2..=65_536).collect::<Vec<_>>());
    }

    #[test]
    fn what_cannot_be_encoded_is_handed_back() {
        let mut connection = ClientConnection::new();
        let long = Request::Get { key: vec![0; 65_536].into() };
        let refused = connection.request(long.clone(), "token").unwrap_err();
        assert_eq!((refused.request, refused.token), (long, "token"));
        assert_eq!(refused.because.to_string(), "bad message: expected a key of at most 65535 bytes, found 65536");
        assert!(connection.output().is_empty());
        connection.request(get("a"), "next").unwrap();
        assert_eq!(connection.in_flight(), 1);
    }
}
