//! The requests of one connection that are not completed and sent yet, in the order in which they arrived. Their responses
//! leave in the same order.
//!
//! ```text
//!              start                 complete
//!   Pending ───────────▶ InFlight ─────────────▶ Complete ──▶ sent
//!      ▲                    │                       ▲
//!      └──── requeue_reads ─┘   refused on arrival ─┘
//!
//!   front                                                      back
//!   │ Complete … │ InFlight or Complete … │ Pending or Complete … │
//!                ▲ first_in_flight        ▲ first_pending
//! ```
//!
//! # Which request starts when
//! - Writes are pipelined: a write starts while earlier writes are in flight.
//! - A read waits for the writes before it, and a write for the reads before it, so that each read sees exactly the writes
//!   before it.
//! - An [`Ordered`] request waits until everything before it is completed and sent, and everything behind it waits for it.

use super::effect::Effect;
use super::limits::Limits;
use super::request::{Ordered, Read, ServerRequest};
use super::response::ServerResponse;
use super::session::Granted;
use bytes::Bytes;
use std::collections::VecDeque;
use syncline_wire::{Auth, Put};

/// A request, or the response that waits to be sent.
#[derive(Debug)]
enum Slot {
    Open(Stage, ServerRequest),
    Complete(ServerResponse),
}

/// How far an open request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Pending,
    InFlight,
}

/// How many requests are in flight. Reads and writes never are at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum InFlight {
    #[default]
    Nothing,
    Writes(usize),
    Reads(usize),
}

impl InFlight {
    /// Returns what is in flight when one more write starts; `None` if it may not start.
    const fn with_write(self) -> Option<Self> {
        match self {
            Self::Nothing => Some(Self::Writes(1)),
            Self::Writes(count) => Some(Self::Writes(count + 1)),
            Self::Reads(_) => None,
        }
    }

    /// Returns what is in flight when one more read starts; `None` if it may not start.
    const fn with_read(self) -> Option<Self> {
        match self {
            Self::Nothing => Some(Self::Reads(1)),
            Self::Reads(count) => Some(Self::Reads(count + 1)),
            Self::Writes(_) => None,
        }
    }

    /// Returns whether a read may start at the slot `index`: its response takes at most [`MAX_RESPONSE`] of
    /// `max_response_bytes`, of which `response_bytes` are taken.
    const fn has_room(self, response_bytes: usize, max_response_bytes: usize, index: usize) -> bool {
        let reading = match self {
            Self::Reads(count) => count,
            Self::Nothing | Self::Writes(_) => 0,
        };
        // Every response may wait for the request at the front, so that one must start.
        response_bytes + reading * MAX_RESPONSE < max_response_bytes || (index == 0 && max_response_bytes > 0)
    }

    /// Returns what is in flight when one of them is complete.
    const fn without_one(self) -> Self {
        match self {
            Self::Nothing | Self::Writes(1) | Self::Reads(1) => Self::Nothing,
            Self::Writes(count) => Self::Writes(count - 1),
            Self::Reads(count) => Self::Reads(count - 1),
        }
    }
}

/// The queue of requests.
#[derive(Debug, Default)]
pub(super) struct RequestQueue {
    slots: VecDeque<Slot>,
    /// No slot before this index is pending.
    first_pending: usize,
    /// All slots before this index are complete.
    first_in_flight: usize,
    /// No slot before this index shares memory with the input.
    first_shared: usize,
    in_flight: InFlight,
    /// The bytes of all requests and responses.
    bytes: usize,
    /// The bytes of the responses.
    response_bytes: usize,
}

impl RequestQueue {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns how many WATCHes have not started yet.
    pub(super) fn pending_watches(&self) -> usize {
        let is_watch = |slot: &&Slot| matches!(slot, Slot::Open(_, ServerRequest::Ordered(Ordered::Watch(_))));
        self.slots.iter().filter(is_watch).count()
    }

    /// Returns the bytes of the requests, and of the responses that wait to be sent.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether a read or a write is in flight.
    pub(super) const fn is_busy(&self) -> bool {
        !matches!(self.in_flight, InFlight::Nothing)
    }

    /// Returns whether a read is in flight.
    pub(super) const fn is_reading(&self) -> bool {
        matches!(self.in_flight, InFlight::Reads(_))
    }

    /// Appends a request that the rights of its sender allow.
    pub(super) fn push(&mut self, request: Granted<ServerRequest>) {
        self.push_open(request.into_inner());
    }

    /// Appends a password, for which no right is needed. The caller reads nothing more before its verdict.
    pub(super) fn push_auth(&mut self, auth: Auth) {
        self.push_open(ServerRequest::Auth(auth));
    }

    fn push_open(&mut self, request: ServerRequest) {
        self.bytes += request.bytes();
        self.push_slot(Slot::Open(Stage::Pending, request));
    }

    /// Appends the response to a request that is completed on arrival: usually a refusal.
    pub(super) fn push_response(&mut self, response: ServerResponse) {
        let bytes = response.bytes();
        self.bytes += bytes;
        self.response_bytes += bytes;
        self.push_slot(Slot::Complete(response));
    }

    fn push_slot(&mut self, slot: Slot) {
        if self.slots.capacity() == 0 {
            self.slots.reserve(FIRST_CAPACITY);
        }
        self.slots.push_back(slot);
    }

    /// Starts the next request, if it may start now, and returns its effect. Of the responses, `max_response_bytes` may
    /// wait to be sent: no read starts whose response may exceed that.
    pub(super) fn start(&mut self, max_response_bytes: usize) -> Option<Effect> {
        let (stage, request) = loop {
            match self.slots.get_mut(self.first_pending)? {
                Slot::Complete(_) => self.first_pending += 1,
                Slot::Open(stage, request) => break (stage, request),
            }
        };
        let effect = match request {
            ServerRequest::Write(write) => {
                self.in_flight = self.in_flight.with_write()?;
                Effect::Commit { transaction: write.transaction.clone() }
            }
            ServerRequest::Read(read) => {
                if !self.in_flight.has_room(self.response_bytes, max_response_bytes, self.first_pending) {
                    return None;
                }
                self.in_flight = self.in_flight.with_read()?;
                match read {
                    Read::Get(get) => Effect::Get { key: get.key.clone() },
                    Read::Status(_, scope) => Effect::Status(*scope),
                }
            }
            ServerRequest::Auth(auth) => Effect::Verify { password: auth.password.clone() },
            ServerRequest::Ordered(_) => return None,
        };
        *stage = Stage::InFlight;
        self.first_pending += 1;
        Some(effect)
    }

    /// Starts the next request, if it is a GET and may start now, and returns its key.
    pub(super) fn start_get(&mut self, max_response_bytes: usize) -> Option<Bytes> {
        while matches!(self.slots.get(self.first_pending), Some(Slot::Complete(_))) {
            self.first_pending += 1;
        }
        let next = self.slots.get(self.first_pending)?;
        if !matches!(next, Slot::Open(_, ServerRequest::Read(Read::Get(_)))) {
            return None;
        }
        match self.start(max_response_bytes)? {
            Effect::Get { key } => Some(key),
            Effect::Verify { .. } | Effect::Commit { .. } | Effect::Status(_) | Effect::Page(_) => None,
        }
    }

    /// Stops sharing memory with the input that the requests were decoded from.
    pub(super) fn own_keys(&mut self) {
        for slot in self.slots.iter_mut().skip(self.first_shared) {
            if let Slot::Open(_, request) = slot {
                request.own_key();
            }
        }
        self.first_shared = self.slots.len();
    }

    /// Makes all requests in flight pending again: none of them was executed. Only reads may be in flight.
    pub(super) fn requeue_reads(&mut self) {
        debug_assert!(!matches!(self.in_flight, InFlight::Writes(_)), "a write cannot be taken back");
        for slot in self.slots.range_mut(self.first_in_flight..self.first_pending) {
            if let Slot::Open(stage, _) = slot {
                *stage = Stage::Pending;
            }
        }
        (self.first_pending, self.in_flight) = (self.first_in_flight, InFlight::Nothing);
    }

    /// Completes the earliest request in flight with what `respond` returns; `None` if the response is not one to such a
    /// request. A response at the front that `is_due` is not kept, but returned to be sent.
    pub(super) fn complete(
        &mut self,
        is_due: impl FnOnce(&ServerResponse) -> bool,
        respond: impl FnOnce(&ServerRequest) -> Option<ServerResponse>,
    ) -> Option<ServerResponse> {
        while self.first_in_flight < self.first_pending
            && matches!(self.slots.get(self.first_in_flight), Some(Slot::Complete(_)))
        {
            self.first_in_flight += 1;
        }
        let Some(slot @ Slot::Open(Stage::InFlight, _)) = self.slots.get_mut(self.first_in_flight) else {
            debug_assert!(false, "the result of an effect that was not asked for");
            return None;
        };
        let Slot::Open(_, request) = &*slot else { return None };
        let Some(response) = respond(request) else {
            debug_assert!(false, "the result of a read for a write, or the other way round");
            return None;
        };
        self.bytes -= request.bytes();
        if !matches!(request, ServerRequest::Auth(_)) {
            self.in_flight = self.in_flight.without_one();
        }
        if self.first_in_flight == 0 && is_due(&response) {
            self.pop_slot();
            return Some(response);
        }
        let bytes = response.bytes();
        *slot = Slot::Complete(response);
        self.bytes += bytes;
        self.response_bytes += bytes;
        self.first_in_flight += 1;
        None
    }

    /// Returns the response at the front, if the request there is complete.
    pub(super) fn front_response(&self) -> Option<&ServerResponse> {
        match self.slots.front() {
            Some(Slot::Complete(response)) => Some(response),
            _ => None,
        }
    }

    /// Removes the response at the front, if the request there is complete and `is_due` returns true for it.
    pub(super) fn pop_response_if(&mut self, is_due: impl FnOnce(&ServerResponse) -> bool) -> Option<ServerResponse> {
        if !self.front_response().is_some_and(is_due) {
            return None;
        }
        let Some(Slot::Complete(response)) = self.pop_slot() else { return None };
        let bytes = response.bytes();
        self.bytes -= bytes;
        self.response_bytes -= bytes;
        Some(response)
    }

    /// Returns the [`Ordered`] request at the front, if there is one.
    pub(super) fn front_ordered(&mut self) -> Option<&mut Ordered> {
        match self.slots.front_mut() {
            Some(Slot::Open(_, ServerRequest::Ordered(request))) => Some(request),
            _ => None,
        }
    }

    /// Removes the [`Ordered`] request at the front, if there is one.
    pub(super) fn pop_ordered(&mut self) -> Option<Ordered> {
        self.front_ordered()?;
        let Some(Slot::Open(_, request)) = self.pop_slot() else { return None };
        self.bytes -= request.bytes();
        match request {
            ServerRequest::Ordered(request) => Some(request),
            ServerRequest::Write(_) | ServerRequest::Read(_) | ServerRequest::Auth(_) => None,
        }
    }

    // Inlined: a call would copy the slot, 30 instructions for each PUT.
    #[inline]
    fn pop_slot(&mut self) -> Option<Slot> {
        let slot = self.slots.pop_front()?;
        self.first_pending = self.first_pending.saturating_sub(1);
        self.first_in_flight = self.first_in_flight.saturating_sub(1);
        self.first_shared = self.first_shared.saturating_sub(1);
        if self.slots.is_empty() {
            // An idle connection keeps no memory for requests.
            self.slots = VecDeque::new();
        }
        Some(slot)
    }
}

/// The bytes of the largest response to a read: what a read counts as while it is in flight.
const MAX_RESPONSE: usize = Put::OVERHEAD + Limits::MAX_PUT;

/// The slots that the queue of a connection starts with. They take less than 1 KiB: glibc serves larger allocations from
/// a slower path that takes hundreds of instructions.
const FIRST_CAPACITY: usize = 8;

const _: () = assert!(size_of::<Slot>() * FIRST_CAPACITY <= 1024);
