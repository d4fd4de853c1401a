//! The client's side of one connection, as a state machine.
//!
//! It matches responses to requests, keeps the replicas up to date, and holds back the response to a write until the
//! replicas show the write. It never touches a socket or a clock; its driver does.
#![allow(clippy::result_large_err, reason = "a request that cannot be sent is returned to the caller, which is rare")]

use super::Replicas;
use super::error::{ProtocolError, SendError, SendErrorKind};
use super::event::{Event, LostConnection};
use super::in_flight::{InFlight, InFlightTable};
use super::request::{Request, writes};
use super::response::{Response, acknowledged_by, classify, refusal, state, to_text};
use super::scope::Scope;
use crate::{Operation, Output, StoreId};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::time::Duration;
use syncline_wire::{Decoded, Mark, Message, Revision, ServerHello, Tag, decode};

/// A caller that waits until a replica is complete.
#[derive(Debug)]
struct PendingWatch<T> {
    sequence: u64,
    prefix: Bytes,
    token: T,
}

/// The parameters from the response to HELLO.
#[derive(Debug)]
struct HelloParameters {
    head: Revision,
    patience: Duration,
}

/// The client's side of one connection. The driver passes a token with each request, and receives it with the response.
///
/// The driver
/// 1. passes requests to [`request`](Self::request) and writes the [`output`](Self::output) to the socket;
/// 2. passes received bytes to [`handle_input`](Self::handle_input) and calls it until it returns [`Event::Incomplete`]. It
///    does so after step 1 too, because some requests complete without a response from the server;
/// 3. shows readers the [replicas](Self::replicas) after [`Event::Marked`]. It does so before it acts on the next event,
///    unless that is also [`Event::Marked`];
/// 4. closes the connection if nothing was received for as long as [`patience`](Self::patience);
/// 5. passes what [`into_lost`](Self::into_lost) returns to the next connection when this one is lost.
///
/// # Own writes
/// If a replica shows the key of a write, the response to the write is deferred until the MARK that covers it. So a caller
/// that has the response finds the write in the replica.
#[derive(Debug)]
pub struct ClientConnection<T> {
    /// `None` if the server speaks only the base protocol.
    parameters: Option<HelloParameters>,
    in_flight: InFlightTable<T>,
    output: Output,
    replicas: Replicas,
    pending_watches: Vec<PendingWatch<T>>,
    /// Responses that wait for a MARK.
    deferred: Vec<(T, Response)>,
    events: VecDeque<Event<T>>,
    /// Whether [`Request::Follow`] was made.
    follows: bool,
}

impl<T> Default for ClientConnection<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> ClientConnection<T> {
    /// Creates a connection to a server that speaks only the base protocol.
    pub fn new() -> Self {
        Self::base(Replicas::new(), Vec::new())
    }

    /// Creates a connection to a server that speaks only the base protocol, after another connection was lost. The replicas
    /// stay as they are, and the deferred responses are returned at once.
    pub fn base(replicas: Replicas, deferred: Vec<(T, Response)>) -> Self {
        let responses = deferred.into_iter().map(|(token, response)| Event::Response { token, response });
        Self {
            parameters: None,
            in_flight: InFlightTable::new(),
            output: Output::new(),
            replicas,
            pending_watches: Vec::new(),
            deferred: Vec::new(),
            events: responses.collect(),
            follows: false,
        }
    }

    /// Creates a connection to a server that responded to HELLO. It resumes the replicas of an earlier connection.
    pub fn extended(hello: &ServerHello, mut replicas: Replicas, deferred: Vec<(T, Response)>) -> Self {
        let watches = replicas.connected(StoreId::new(hello.store_id));
        let parameters = Some(HelloParameters { head: hello.head, patience: hello.patience() });
        let mut connection = Self { parameters, deferred, ..Self::base(replicas, Vec::new()) };
        for (prefix, since) in watches {
            let sent = connection.send(Request::Watch { prefix }, since).is_ok();
            debug_assert!(sent, "each prefix was encoded before, and there are fewer prefixes than tags");
        }
        connection.release();
        connection
    }

    /// Returns the bytes to write to the socket.
    pub const fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Returns how many requests are in flight or wait for a MARK.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len() + self.deferred.len()
    }

    /// Returns the replicas. Readers may see their views.
    pub const fn replicas(&self) -> &Replicas {
        &self.replicas
    }

    /// Returns how long the client waits without receiving anything before it treats the connection as dead. Returns `None`
    /// if the server sends no heartbeats on this connection.
    pub fn patience(&self) -> Option<Duration> {
        let parameters = self.parameters.as_ref().filter(|_| self.follows || !self.replicas.is_empty())?;
        Some(parameters.patience)
    }

    /// Appends a request to the output.
    ///
    /// # Errors
    /// [`SendError`] returns the request and the token if the request cannot be sent.
    pub fn request(&mut self, request: Request, token: T) -> Result<(), SendError<T>> {
        match (&request, &self.parameters) {
            (Request::Follow, None) => {
                // A server of the base protocol sends every write without a request.
                self.events.push_back(Event::Response { token, response: Response::Watched });
                Ok(())
            }
            (request, None) if !request.is_base() => {
                Err(SendError { request: request.clone(), token, kind: SendErrorKind::BaseOnly })
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

    fn send_with(&mut self, request: Request, token: T, since: Revision) -> Result<(), SendError<T>> {
        match self.send(request, since) {
            Ok(in_flight) => {
                in_flight.token = Some(token);
                Ok(())
            }
            Err((request, kind)) => Err(SendError { request, token, kind }),
        }
    }

    fn watch(&mut self, prefix: Bytes, token: T) -> Result<(), SendError<T>> {
        if !self.replicas.covers(&prefix) {
            let request = Request::Watch { prefix: prefix.clone() };
            match self.send(request, Revision::ZERO).map(|in_flight| in_flight.sequence) {
                Ok(sequence) => {
                    self.replicas.add(prefix.clone(), sequence);
                    self.start_watches();
                }
                Err((request, kind)) => return Err(SendError { request, token, kind }),
            }
        }
        let sequence = self.in_flight.next_sequence();
        self.pending_watches.push(PendingWatch { sequence, prefix, token });
        self.complete_watches();
        Ok(())
    }

    /// Appends the frame of a request to the output. `since` is the revision from which a WATCH resumes.
    fn send(&mut self, request: Request, since: Revision) -> Result<&mut InFlight<T>, (Request, SendErrorKind)> {
        let Some(tag) = self.in_flight.reserve_tag() else {
            return Err((request, SendErrorKind::TagsExhausted));
        };
        if let Err(error) = self.output.push(&request.message(tag, since, self.parameters.is_none())) {
            self.in_flight.free_tag(tag);
            return Err((request, error.into()));
        }
        Ok(self.in_flight.insert(tag, request, Scope::since(since)))
    }

    /// Consumes frames from the front of `buffer` until they produce an event.
    ///
    /// # Errors
    /// [`ProtocolError`] if the connection cannot be used any longer.
    pub fn handle_input(&mut self, buffer: &mut BytesMut) -> Result<Event<T>, ProtocolError> {
        loop {
            if let Some(event) = self.events.pop_front() {
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
                self.handle_response(&message)?;
            }
        }
    }

    fn handle_broadcast(&mut self, message: &Message) -> Result<(), ProtocolError> {
        if let Some((key, now, version)) = state(message) {
            self.replicas.change(key, now.as_ref());
            if self.follows || self.parameters.is_none() {
                let value = now.map_or_else(Bytes::new, |now| now.value);
                self.events.push_back(Event::Change { key: key.clone(), value, version });
            }
            return Ok(());
        }
        match message {
            Message::Mark(Mark { revision, .. }) => self.mark(*revision),
            Message::Error(error) => self.events.push_back(Event::Notice { text: to_text(&error.text) }),
            other => return Err(ProtocolError::UnexpectedFrame { found: other.redacted().to_string() }),
        }
        Ok(())
    }

    fn handle_response(&mut self, message: &Message) -> Result<(), ProtocolError> {
        let tag = message.tag();
        let Some(mut in_flight) = self.in_flight.remove(tag) else {
            return Err(ProtocolError::UnexpectedFrame { found: message.redacted().to_string() });
        };
        match self.apply_to_request(&mut in_flight, message) {
            Ok(Some(response)) => {
                self.in_flight.free_tag(tag);
                if response == Response::Written
                    && let Some((key, now, _)) = state(message)
                {
                    self.replicas.change(key, now.as_ref());
                }
                self.start_watches();
                self.complete(in_flight, response);
                Ok(())
            }
            Ok(None) => {
                self.in_flight.put_back(tag, in_flight);
                Ok(())
            }
            Err(error) => {
                self.in_flight.put_back(tag, in_flight);
                Err(error)
            }
        }
    }

    /// Applies a frame to the request with its tag. Returns the response if the frame completes it.
    fn apply_to_request(
        &mut self,
        in_flight: &mut InFlight<T>,
        message: &Message,
    ) -> Result<Option<Response>, ProtocolError> {
        if let Message::Mark(mark) = message
            && in_flight.scope.is_reset_by(mark.revision)
        {
            in_flight.scope = Scope::Everything;
            if let Request::Watch { prefix } = &in_flight.request {
                self.replicas.reset(prefix);
            }
            return Ok(None);
        }
        match &in_flight.request {
            Request::Watch { prefix } => self.apply_to_watch(in_flight, prefix, message),
            Request::List { .. } => self.apply_to_list(in_flight, message),
            Request::Txn { .. } => self.apply_to_txn(in_flight, message),
            request => {
                let response = classify(request, message).ok_or_else(|| self.wrong_response(in_flight, message))?;
                if let Message::Mark(mark) = message {
                    self.mark(mark.revision);
                }
                Ok(Some(response))
            }
        }
    }

    fn apply_to_watch(
        &mut self,
        in_flight: &InFlight<T>,
        prefix: &Bytes,
        message: &Message,
    ) -> Result<Option<Response>, ProtocolError> {
        match message {
            Message::Mark(mark) if self.replicas.has_started(prefix) => {
                self.replicas.caught_up(prefix);
                self.mark(mark.revision);
                Ok(Some(Response::Watched))
            }
            Message::Error(error) if self.replicas.is_shown(prefix) => Err(match refusal(&in_flight.request, error) {
                Response::NotPermitted { missing } => ProtocolError::ResumeNotPermitted { missing },
                _ => ProtocolError::ResumeRefused { text: to_text(&error.text) },
            }),
            Message::Error(error) => {
                let response = refusal(&in_flight.request, error);
                self.replicas.remove(prefix);
                self.refuse_watches(&response);
                Ok(Some(response))
            }
            _ => Err(self.wrong_response(in_flight, message)),
        }
    }

    fn apply_to_list(
        &mut self,
        in_flight: &mut InFlight<T>,
        message: &Message,
    ) -> Result<Option<Response>, ProtocolError> {
        match message {
            Message::Put(_) | Message::PutLarge(_) => {
                if let Some((key, Some(now), _)) = state(message) {
                    in_flight.entries.push((key.clone(), now));
                }
                Ok(None)
            }
            Message::Mark(mark) => {
                self.mark(mark.revision);
                Ok(Some(Response::Listed { entries: std::mem::take(&mut in_flight.entries) }))
            }
            Message::Error(error) => Ok(Some(refusal(&in_flight.request, error))),
            _ => Err(self.wrong_response(in_flight, message)),
        }
    }

    fn apply_to_txn(
        &mut self,
        in_flight: &mut InFlight<T>,
        message: &Message,
    ) -> Result<Option<Response>, ProtocolError> {
        let operations: &[Operation] = match &in_flight.request {
            Request::Txn { operations } => operations,
            _ => &[],
        };
        if let Some(acknowledged) = acknowledged_by(operations, in_flight.acknowledged, message) {
            in_flight.acknowledged = acknowledged;
            if let Some((key, now, _)) = state(message) {
                self.replicas.change(key, now.as_ref());
            }
            return Ok(None);
        }
        match message {
            // This MARK is no watermark for the replicas: broadcasts around the response may be part of another
            // transaction that is not complete yet. The next broadcast MARK covers both.
            Message::Mark(mark) if writes(operations, in_flight.acknowledged).next().is_none() => {
                Ok(Some(Response::Committed { revision: mark.revision }))
            }
            Message::Error(error) if in_flight.acknowledged == 0 => Ok(Some(refusal(&in_flight.request, error))),
            _ => Err(self.wrong_response(in_flight, message)),
        }
    }

    /// Returns the response to the caller, or defers it until the next MARK.
    fn complete(&mut self, in_flight: InFlight<T>, response: Response) {
        let Some(token) = in_flight.token else { return };
        let must_wait = match &response {
            Response::Passed { .. } => !self.replicas.all_shown_are_current(),
            Response::Written | Response::Committed { .. } => {
                in_flight.request.written_keys().any(|key| self.replicas.shows_key(key))
            }
            _ => false,
        };
        if must_wait {
            self.deferred.push((token, response));
        } else {
            self.events.push_back(Event::Response { token, response });
        }
    }

    /// Starts the WATCHes that the server has started. The server starts a WATCH after it has responded to all earlier
    /// requests, except those with concurrent responses.
    fn start_watches(&mut self) {
        if self.replicas.has_requested() {
            let oldest = self.in_flight.oldest_sequential();
            self.replicas.start_before(oldest.unwrap_or(u64::MAX));
        }
    }

    fn wrong_response(&self, in_flight: &InFlight<T>, found: &Message) -> ProtocolError {
        let request = in_flight.request.message(found.tag(), Revision::ZERO, self.parameters.is_none());
        ProtocolError::WrongResponse { request: request.redacted().to_string(), found: found.redacted().to_string() }
    }

    /// Handles a watermark: readers may see everything that was received before it.
    fn mark(&mut self, revision: Revision) {
        self.replicas.mark(revision);
        self.events.push_back(Event::Marked { revision });
        self.release();
    }

    /// Returns the responses that were deferred until the replicas are current.
    fn release(&mut self) {
        if self.replicas.all_shown_are_current() {
            let responses = self.deferred.drain(..);
            self.events.extend(responses.map(|(token, response)| Event::Response { token, response }));
        }
        self.complete_watches();
    }

    /// Completes the pending watches that have a current replica.
    fn complete_watches(&mut self) {
        let (current, pending): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending_watches)
            .into_iter()
            .partition(|watch| self.replicas.is_current(&watch.prefix));
        self.pending_watches = pending;
        let completed = |watch: PendingWatch<T>| Event::Response { token: watch.token, response: Response::Watched };
        self.events.extend(current.into_iter().map(completed));
    }

    /// Completes the pending watches that no replica covers any longer with a refusal.
    fn refuse_watches(&mut self, refusal: &Response) {
        let (pending, refused): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending_watches)
            .into_iter()
            .partition(|watch| self.replicas.covers(&watch.prefix));
        self.pending_watches = pending;
        let completed = |watch: PendingWatch<T>| Event::Response { token: watch.token, response: refusal.clone() };
        self.events.extend(refused.into_iter().map(completed));
    }

    /// Ends the connection. Returns what the next connection needs.
    pub fn into_lost(self) -> LostConnection<T> {
        let Self { in_flight, pending_watches, deferred, events, mut replicas, .. } = self;
        replicas.disconnected();
        let watches = pending_watches
            .into_iter()
            .map(|PendingWatch { sequence, prefix, token }| (sequence, Request::Watch { prefix }, token));
        let mut unanswered: Vec<_> = in_flight.into_requests().chain(watches).collect();
        unanswered.sort_by_key(|(sequence, ..)| *sequence);
        let responses = events.into_iter().filter_map(|event| match event {
            Event::Response { token, response } => Some((token, response)),
            _ => None,
        });
        // A barrier that was passed on this connection proves nothing about the store of the next one. So it is repeated
        // there.
        let (passed, deferred): (Vec<_>, Vec<_>) =
            responses.chain(deferred).partition(|(_, response)| matches!(response, Response::Passed { .. }));
        let passed = passed.into_iter().map(|(token, _)| (Request::Barrier, token));
        let unanswered = passed.chain(unanswered.into_iter().map(|(_, request, token)| (request, token))).collect();
        LostConnection { unanswered, deferred, replicas }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Versioned;
    use bytes::Buf;
    use syncline_wire::Version;

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

    #[test]
    fn requests_are_sent_in_order_with_tags_from_1() {
        let mut connection = ClientConnection::new();
        connection.request(get("a"), "first").unwrap();
        connection.request(put(7), "second").unwrap();
        let expected = input(&[Message::get(Tag::new(1), "a"), Message::put(Tag::new(2), "k", "v", Version::new(7))]);
        let output = connection.output();
        assert_eq!(output.copy_to_bytes(output.remaining()), expected);
    }

    #[test]
    fn responses_match_requests_and_broadcasts_may_come_between() {
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
        assert_eq!(next(), Event::Response { token: "first", response: value });
        assert_eq!(next(), Event::Notice { text: "unavailable: shutting down".into() });
        assert_eq!(next(), Event::Response { token: "second", response: Response::Written });
        assert_eq!(next(), Event::Incomplete { expected: 3 });
        assert_eq!(connection.in_flight(), 0);
    }

    #[test]
    fn a_frame_that_is_no_valid_response_is_an_error() {
        let mut connection = ClientConnection::new();
        connection.request(put(7), ()).unwrap();
        let found = connection.handle_input(&mut input(&[Message::error(Tag::new(2), "stale put")]));
        assert_eq!(found, Err(ProtocolError::UnexpectedFrame { found: "kind=ERROR tag=2 text=stale put".into() }));
        for wrong in [
            Message::put(Tag::new(1), "k", "v", Version::new(8)),
            Message::put(Tag::new(1), "k", "w", Version::new(7)),
            Message::put(Tag::new(1), "l", "v", Version::new(7)),
            Message::auth(Tag::new(1), ""),
            Message::get(Tag::new(1), "k"),
        ] {
            let error = connection.handle_input(&mut input(std::slice::from_ref(&wrong))).unwrap_err();
            let expected = format!(
                "expected a response to kind=PUT tag=1 key=k value=(1 bytes) version=7, found {}",
                wrong.redacted()
            );
            assert_eq!(error.to_string(), expected);
        }
        assert_eq!(connection.into_lost().unanswered, [(put(7), ())], "the request stays unanswered");
    }

    #[test]
    fn lost_requests_are_returned_in_order_when_tags_wrap() {
        let mut connection = ClientConnection::new();
        for tag in 1..=65_535 {
            connection.request(get("k"), tag).unwrap();
        }
        let refused = connection.request(put(1), 0).unwrap_err();
        assert_eq!((refused.request, refused.kind), (put(1), SendErrorKind::TagsExhausted));
        // The first request completes, and the last one reuses its tag.
        let mut buffer = input(&[Message::error(Tag::new(1), "\"k\": not found")]);
        connection.handle_input(&mut buffer).unwrap();
        connection.request(put(1), 65_536).unwrap();
        let tokens: Vec<_> = connection.into_lost().unanswered.into_iter().map(|(_, token)| token).collect();
        assert_eq!(tokens, (2..=65_536).collect::<Vec<_>>());
    }

    #[test]
    fn a_request_that_cannot_be_encoded_is_returned() {
        let mut connection = ClientConnection::new();
        let long = Request::Get { key: vec![0; 65_536].into() };
        let refused = connection.request(long.clone(), "token").unwrap_err();
        assert_eq!((refused.request, refused.token), (long, "token"));
        assert_eq!(refused.kind.to_string(), "bad message: expected a key of at most 65535 bytes, found 65536");
        assert!(connection.output().is_empty());
        connection.request(get("a"), "next").unwrap();
        assert_eq!(connection.in_flight(), 1);
    }
}
