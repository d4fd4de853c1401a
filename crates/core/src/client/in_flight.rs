//! The requests in flight on one connection, by tag.
//!
//! The table assigns tags and sequence numbers: a tag belongs to at most one request at a time, and sequence numbers keep
//! the order in which the requests were made. It never interprets a response; `connection.rs` does.

use super::Versioned;
use super::request::Request;
use super::scope::Scope;
use bytes::Bytes;
use std::collections::BTreeMap;
use syncline_wire::{MonotoneTags, Tag};

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlight<T> {
    /// The position of the request among all requests of the connection.
    pub(super) sequence: u64,
    pub(super) request: Request,
    /// `None` for a WATCH. Its callers wait in the connection's list of pending watches.
    pub(super) token: Option<T>,
    /// The entries of a LIST received so far.
    pub(super) entries: Vec<(Bytes, Versioned)>,
    /// How many operations of a transaction are acknowledged. The server echoes each write; a check counts as
    /// acknowledged with the write behind it.
    pub(super) acknowledged: usize,
    /// What the server sends before it responds to a WATCH.
    pub(super) scope: Scope,
}

/// The requests in flight on one connection, by tag.
#[derive(Debug)]
pub(super) struct InFlightTable<T> {
    tags: MonotoneTags,
    requests: BTreeMap<Tag, InFlight<T>>,
    next_sequence: u64,
}

impl<T> InFlightTable<T> {
    pub(super) fn new() -> Self {
        Self { tags: MonotoneTags::new(), requests: BTreeMap::new(), next_sequence: 0 }
    }

    /// Returns how many requests are in flight.
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Reserves a sequence number.
    pub(super) const fn next_sequence(&mut self) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        sequence
    }

    /// Reserves a tag. Returns `None` if all tags are in flight.
    pub(super) fn reserve_tag(&mut self) -> Option<Tag> {
        self.tags.take()
    }

    /// Frees the tag of a request that was completed or never sent.
    pub(super) fn free_tag(&mut self, tag: Tag) {
        self.tags.give_back(tag);
    }

    /// Adds a request that was sent with a reserved tag.
    pub(super) fn insert(&mut self, tag: Tag, request: Request, scope: Scope) -> &mut InFlight<T> {
        let sequence = self.next_sequence();
        let in_flight = InFlight { sequence, request, token: None, entries: Vec::new(), acknowledged: 0, scope };
        self.requests.entry(tag).insert_entry(in_flight).into_mut()
    }

    /// Removes the request with this tag. Its tag stays reserved.
    pub(super) fn remove(&mut self, tag: Tag) -> Option<InFlight<T>> {
        self.requests.remove(&tag)
    }

    /// Puts back a request that has no complete response yet.
    pub(super) fn put_back(&mut self, tag: Tag, in_flight: InFlight<T>) {
        self.requests.insert(tag, in_flight);
    }

    /// Returns the sequence number of the oldest request that delays the start of every later WATCH.
    pub(super) fn oldest_sequential(&self) -> Option<u64> {
        let sequential = self.requests.values().filter(|in_flight| !in_flight.request.is_concurrent());
        sequential.map(|in_flight| in_flight.sequence).min()
    }

    /// Returns the requests that have a token, with their sequence numbers, in no particular order.
    pub(super) fn into_requests(self) -> impl Iterator<Item = (u64, Request, T)> {
        self.requests.into_values().filter_map(|InFlight { sequence, request, token, .. }| {
            let token = token?;
            Some((sequence, request, token))
        })
    }
}
