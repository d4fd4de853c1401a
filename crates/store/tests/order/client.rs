//! One client of the random schedule: its connection, its requests with the responses that they must get, and all frames
//! that it was sent.

use crate::support::{Coverage, DrivenClient, EffectResult, Link};
use crate::world::VersionSkew;
use bytes::{Buf, Bytes, BytesMut};
use std::io::IoSlice;
use syncline_core::server::{Access, Effect, Limits, PageResult};
use syncline_core::{ConnId, Entry, Outcome, Page, RecentLog, Rights};
use syncline_wire::{Decoded, Message, Put, Revision, Tag, Version, decode};

/// The unsent bytes from which on a connection adds no more to its output.
const MAX_UNSENT_OUTPUT: usize = 128 * 1024;
/// The largest frame that a connection is sent.
const MAX_FRAME: usize = Put::OVERHEAD + Limits::MAX_PUT;

/// What a client requests.
#[derive(Clone, Debug)]
pub(crate) enum RandomRequest {
    Get {
        key: usize,
    },
    Put {
        key: usize,
        skew: VersionSkew,
        size: usize,
    },
    /// A PUT that the connection refuses on arrival.
    RefusedPut,
}

/// A request that was sent, and its response.
pub(crate) struct SentRequest {
    pub(crate) message: Message,
    /// The response that it must get, once that is known.
    pub(crate) response: Option<Message>,
    /// The revision of an accepted write, or the revision at which a write was stale.
    pub(crate) at: Option<Revision>,
    /// The version that a GET has read.
    pub(crate) read: Option<Version>,
}

impl SentRequest {
    fn new(message: Message) -> Self {
        Self { message, response: None, at: None, read: None }
    }

    fn is_put(&self) -> bool {
        matches!(self.message, Message::Put(_))
    }

    /// Returns the bytes that the connection holds for it.
    fn held_bytes(&self) -> usize {
        match (&self.response, &self.message) {
            (Some(response), _) => response.encoded_length(),
            (None, Message::Get(get)) => get.key.len(),
            (None, message) => message.encoded_length(),
        }
    }

    /// Returns whether it is a PUT that was accepted.
    pub(crate) fn is_accepted(&self) -> bool {
        self.is_put() && self.response.as_ref() == Some(&self.message)
    }

    /// Returns whether it is a PUT that was refused because of its version.
    pub(crate) fn is_stale(&self) -> bool {
        self.is_put() && self.at.is_some() && !self.is_accepted()
    }
}

/// A client.
pub(crate) struct Client {
    link: Link,
    limits: Limits,
    /// All requests that it has ever sent.
    pub(crate) requests: Vec<SentRequest>,
    /// How many of them the connection has decoded.
    decoded: usize,
    /// All frames that the connection has ever added to its output.
    pub(crate) frames: Vec<Message>,
    /// Bytes of the output that are not in `frames` yet.
    partial: BytesMut,
    /// The bytes at the front of the output that are in `frames` already.
    inspected: usize,
    /// How many requests have their response in `frames`.
    responses: usize,
    /// The head of the log when the connection began to follow it.
    pub(crate) joined: Option<Revision>,
    is_authenticated: bool,
    /// The head of the log that the connection was shown last.
    shown: Revision,
    /// Whether the connection was ever behind the recent log.
    pub(crate) has_caught_up: bool,
    pub(crate) coverage: Coverage,
}

impl Client {
    pub(crate) fn new(id: u64, access: Access, limits: Limits) -> Self {
        let is_authenticated = access != Access::Password;
        let mut client = Self {
            link: Link::new(id, access, limits),
            limits,
            requests: Vec::new(),
            decoded: 0,
            frames: Vec::new(),
            partial: BytesMut::new(),
            inspected: 0,
            responses: 0,
            joined: None,
            is_authenticated,
            shown: Revision::ZERO,
            has_caught_up: false,
            coverage: Coverage::default(),
        };
        if !is_authenticated {
            client.send(|tag| Message::auth(tag, "secret"));
        }
        client
    }

    pub(crate) const fn id(&self) -> ConnId {
        self.link.connection.id()
    }

    pub(crate) fn rights(&self) -> &Rights {
        self.link.connection.rights().unwrap()
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, message: impl FnOnce(Tag) -> Message) {
        let message = message(Tag::new(u16::try_from(self.requests.len() + 1).unwrap()));
        self.link.send(&message);
        let mut request = SentRequest::new(message);
        if request.message.version() == Some(Version::MAX) {
            request.response = Some(Message::error(request.message.tag(), "version exhausted"));
        } else if let Some(right) = self.missing_right(&request.message) {
            let text = format!("not permitted: expected the right to {right}");
            request.response = Some(Message::error(request.message.tag(), text));
        }
        self.requests.push(request);
    }

    /// Returns the right that the client lacks for a request.
    fn missing_right(&self, message: &Message) -> Option<String> {
        // A client that is not authenticated yet gets all rights with the verdict.
        let rights = self.link.connection.rights()?;
        let quoted = |key: &Bytes| format!("\"{}\"", String::from_utf8_lossy(key));
        match message {
            Message::Get(get) if !rights.may_read(&get.key) => Some(format!("read {}", quoted(&get.key))),
            Message::Put(put) if !rights.may_write(&put.key) => Some(format!("write {}", quoted(&put.key))),
            _ => None,
        }
    }

    /// Returns the earliest request in flight.
    fn first_in_flight(&mut self) -> &mut SentRequest {
        self.requests[..self.decoded].iter_mut().find(|request| request.response.is_none()).unwrap()
    }

    /// Records what the result of an effect means for its request.
    fn record(&mut self, result: &EffectResult) {
        match result {
            EffectResult::Verdict => {
                let request = self.first_in_flight();
                request.response = Some(Message::auth(request.message.tag(), ""));
                self.is_authenticated = true;
            }
            EffectResult::Outcome(outcome) => self.record_outcome(outcome),
            EffectResult::Entry(entry) => self.record_entry(entry.as_ref()),
            EffectResult::Page(PageResult::Changes(Ok(page))) => self.record_page(page),
            EffectResult::Page(_) | EffectResult::Deferred(_) => panic!("expected a page of changes"),
        }
    }

    fn record_outcome(&mut self, outcome: &Outcome) {
        let is_ahead = matches!(outcome, Outcome::Accepted { revision } if *revision > self.shown);
        self.coverage.count_if("outcomes before the log was shown", is_ahead);
        let request = self.first_in_flight();
        let (at, response) = match outcome {
            Outcome::Accepted { revision } => (*revision, request.message.clone()),
            Outcome::Stale { at, .. } => (*at, Message::error(request.message.tag(), "stale put")),
            Outcome::Unavailable { reason } | Outcome::Unknown { reason } => panic!("unavailable: {reason}"),
        };
        (request.at, request.response) = (Some(at), Some(response));
    }

    fn record_entry(&mut self, entry: Option<&Entry>) {
        let request = self.first_in_flight();
        let (tag, key) = (request.message.tag(), request.message.key().unwrap().clone());
        let name = str::from_utf8(&key).unwrap();
        request.read = Some(entry.map_or(Version::ABSENT, |entry| entry.version));
        request.response = Some(match entry {
            None => Message::error(tag, format!("\"{name}\": not found")),
            Some(Entry { value: None, version, .. }) => {
                Message::error(tag, format!("\"{name}\": deleted at version {version}, not found"))
            }
            Some(Entry { value: Some(value), version, .. }) => Message::put(tag, key, value.clone(), *version),
        });
    }

    fn record_page(&mut self, page: &Page) {
        let unsent = self.requests[self.responses..].iter();
        let merged = unsent.filter(|request| request.is_accepted() && request.at <= Some(page.through)).count();
        self.coverage.count("own responses merged into pages", merged);
        self.coverage.count("pages", 1);
        self.has_caught_up = true;
    }

    /// Returns how many of its own writes of a key have no outcome yet.
    pub(crate) fn undecided_writes(&self, key: &Bytes) -> u64 {
        let is_undecided = |request: &&SentRequest| request.is_put() && request.response.is_none();
        self.requests.iter().filter(is_undecided).filter(|request| request.message.key() == Some(key)).count() as u64
    }

    /// Ends the input of the connection, which must then be finished.
    pub(crate) fn finish(&mut self) {
        self.link.connection.handle_end();
        assert!(self.link.connection.is_finished());
    }

    /// Decodes what is new in the output, and checks that the connection holds a bounded number of bytes.
    fn inspect_output(&mut self) {
        let output = self.link.connection.output();
        let unsent = output.remaining();
        let mut slices = [IoSlice::new(&[]); 1024];
        let chunks = output.chunks_vectored(&mut slices);
        let mut inspected = self.inspected;
        for chunk in &slices[..chunks] {
            let skip = inspected.min(chunk.len());
            inspected -= skip;
            self.partial.extend_from_slice(&chunk[skip..]);
        }
        self.inspected = unsent;
        loop {
            match decode(&mut self.partial) {
                Ok(Decoded::Frame(frame)) => {
                    self.responses += usize::from(frame.tag() != Tag::BROADCAST);
                    self.frames.push(frame);
                }
                Ok(Decoded::Incomplete { .. }) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(self.partial.is_empty(), "expected whole frames in the output");
        self.coverage.count_if("full outputs", unsent >= MAX_UNSENT_OUTPUT);
        self.check_bounds(unsent);
    }

    fn check_bounds(&self, unsent: usize) {
        let in_flight = &self.requests[self.responses..self.decoded];
        assert!(in_flight.len() <= self.limits.max_requests, "{} requests in flight", in_flight.len());
        let held: usize = in_flight.iter().map(SentRequest::held_bytes).sum();
        // Requests up to the limit and one more, responses up to the limit and one more, and what fills the output: a page
        // or broadcasts, and a transaction of two large values.
        let bound = 2 * (self.limits.max_unsent + MAX_FRAME) + MAX_UNSENT_OUTPUT + 2 * MAX_FRAME;
        assert!(held + unsent < bound, "{held} bytes held and {unsent} unsent, expected less than {bound}");
    }
}

impl DrivenClient for Client {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    fn deliver(&mut self, bytes: usize) -> bool {
        let decoded = self.link.deliver(bytes);
        self.coverage.count_if("paused", self.link.has_paused_input());
        let mut rest = decoded;
        while rest > 0 {
            let length = self.requests[self.decoded].message.encoded_length();
            assert!(length <= rest, "the connection has decoded a part of a frame");
            rest -= length;
            self.decoded += 1;
        }
        self.inspect_output();
        decoded > 0
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        let effect = self.link.connection.poll_effect();
        self.inspect_output();
        effect
    }

    fn complete(&mut self, result: EffectResult) {
        self.record(&result);
        self.link.complete(result);
        self.inspect_output();
    }

    fn show_log(&mut self, log: &RecentLog) {
        let is_in_log = |result: &EffectResult| matches!(result, EffectResult::Outcome(Outcome::Accepted { revision }) if *revision <= log.head());
        let has_early_write = self.link.results.iter().any(is_in_log);
        self.coverage.count_if("own writes in the log before their outcomes", has_early_write);
        if self.joined.is_none() && self.is_authenticated {
            self.joined = Some(log.head());
            self.coverage.count_if("clients that joined late", log.head() > Revision::ZERO);
        }
        self.shown = log.head();
        self.link.connection.handle_log(log);
        self.inspect_output();
    }

    fn read(&mut self, bytes: usize, _: &RecentLog) -> bool {
        let output = self.link.connection.output();
        let count = bytes.min(output.remaining());
        output.advance(count);
        self.inspected -= count;
        count > 0
    }

    fn assert_drained(&mut self) {
        assert!(self.link.is_drained(), "{}: something is still on its way", self.id());
        assert_eq!(self.responses, self.requests.len(), "{}: expected a response to each request", self.id());
    }
}
