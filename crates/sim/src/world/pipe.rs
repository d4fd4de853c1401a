//! One direction of a connection, as TCP has it: bytes come in their order, or not at all, and only so many are on the way.

use super::agenda::Time;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Pipe {
    /// What is on the way, and when it arrives; nothing: the end.
    flying: VecDeque<(Time, Bytes)>,
    flying_bytes: usize,
    /// What has arrived and was not read.
    arrived: BytesMut,
    has_ended: bool,
    /// How many bytes may be on the way or unread.
    window: usize,
    /// Nothing arrives any more, and nobody is told.
    is_dead: bool,
    /// The writer has found no room, and wants to know when there is some.
    is_awaited: bool,
}

impl Pipe {
    pub(super) fn new(window: usize) -> Self {
        Self {
            flying: VecDeque::new(),
            flying_bytes: 0,
            arrived: BytesMut::new(),
            has_ended: false,
            window,
            is_dead: false,
            is_awaited: false,
        }
    }

    /// How many bytes may be sent now. Where there is no room, [`Pipe::read`] says when there is.
    pub(super) fn room(&mut self) -> usize {
        let room = self.window.saturating_sub(self.flying_bytes + self.arrived.len());
        self.is_awaited = room == 0;
        room
    }

    /// Sends what there is room for. Nothing: the end. Answers when that arrives.
    pub(super) fn send(&mut self, bytes: Bytes, at: Time) -> Time {
        // Nothing overtakes what was sent before.
        let at = self.flying.back().map_or(at, |(last, _)| at.max(*last));
        self.flying_bytes += bytes.len();
        self.flying.push_back((at, bytes));
        at
    }

    /// From now on nothing arrives. What is on the way fills the window for good.
    pub(super) const fn die(&mut self) {
        self.is_dead = true;
    }

    pub(super) const fn is_dead(&self) -> bool {
        self.is_dead
    }

    /// Lets arrive what is due; answers whether that was anything.
    pub(super) fn arrive(&mut self, now: Time) -> bool {
        let mut has_arrived = false;
        while !self.is_dead
            && let Some((_, bytes)) = self.flying.pop_front_if(|(at, _)| *at <= now)
        {
            has_arrived = true;
            self.has_ended |= bytes.is_empty();
            self.flying_bytes -= bytes.len();
            self.arrived.extend_from_slice(&bytes);
        }
        has_arrived
    }

    /// Takes at most so many bytes of what has arrived; answers also whether the writer waits for that.
    pub(super) fn read(&mut self, most: usize) -> (BytesMut, bool) {
        let bytes = self.arrived.split_to(most.min(self.arrived.len()));
        let is_awaited = !bytes.is_empty() && std::mem::take(&mut self.is_awaited);
        (bytes, is_awaited)
    }

    /// Whether the other side has ended, and all that it had sent was read.
    pub(super) fn is_over(&self) -> bool {
        self.has_ended && self.arrived.is_empty()
    }

    /// Whether nothing is on the way, and all was read.
    pub(super) fn is_empty(&self) -> bool {
        self.flying.is_empty() && self.arrived.is_empty()
    }
}
