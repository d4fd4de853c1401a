//! One direction of a connection, with the semantics of TCP: bytes arrive in order or not at all, and a window limits
//! how many are in flight.

use super::agenda::Time;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Pipe {
    /// The chunks in flight, with their times of arrival. An empty chunk is the end of the stream.
    in_flight: VecDeque<(Time, Bytes)>,
    in_flight_bytes: usize,
    /// Bytes that have arrived but were not read.
    arrived: BytesMut,
    has_ended: bool,
    /// The maximum number of bytes in flight or unread.
    window: usize,
    /// Nothing arrives any more, and neither end is notified.
    is_dead: bool,
    /// The window was full when the writer asked, so the writer must be woken.
    writer_waits: bool,
}

impl Pipe {
    pub(super) fn new(window: usize) -> Self {
        Self {
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            arrived: BytesMut::new(),
            has_ended: false,
            window,
            is_dead: false,
            writer_waits: false,
        }
    }

    /// Returns how many bytes may be sent now. If it is 0, the next [`Pipe::read`] reports that the writer waits.
    pub(super) fn room(&mut self) -> usize {
        let room = self.window.saturating_sub(self.in_flight_bytes + self.arrived.len());
        self.writer_waits = room == 0;
        room
    }

    /// Sends bytes that fit into the window, or the end of the stream if there are none. Returns the time of arrival.
    pub(super) fn send(&mut self, bytes: Bytes, at: Time) -> Time {
        // Bytes never overtake earlier ones.
        let at = self.in_flight.back().map_or(at, |(last, _)| at.max(*last));
        self.in_flight_bytes += bytes.len();
        self.in_flight.push_back((at, bytes));
        at
    }

    /// Lets the pipe die. The bytes in flight occupy the window forever.
    pub(super) const fn die(&mut self) {
        self.is_dead = true;
    }

    pub(super) const fn is_dead(&self) -> bool {
        self.is_dead
    }

    /// Moves everything that is due to the reader's side. Returns whether there was anything.
    pub(super) fn arrive(&mut self, now: Time) -> bool {
        let mut has_arrived = false;
        while !self.is_dead
            && let Some((_, bytes)) = self.in_flight.pop_front_if(|(at, _)| *at <= now)
        {
            has_arrived = true;
            self.has_ended |= bytes.is_empty();
            self.in_flight_bytes -= bytes.len();
            self.arrived.extend_from_slice(&bytes);
        }
        has_arrived
    }

    /// Reads at most `most` bytes. Also returns whether the writer waits for room.
    pub(super) fn read(&mut self, most: usize) -> (BytesMut, bool) {
        let bytes = self.arrived.split_to(most.min(self.arrived.len()));
        let writer_waits = !bytes.is_empty() && std::mem::take(&mut self.writer_waits);
        (bytes, writer_waits)
    }

    /// Returns whether the stream has ended and all of it was read.
    pub(super) fn is_over(&self) -> bool {
        self.has_ended && self.arrived.is_empty()
    }

    /// Returns whether nothing is in flight or unread.
    pub(super) fn is_empty(&self) -> bool {
        self.in_flight.is_empty() && self.arrived.is_empty()
    }
}
