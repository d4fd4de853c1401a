//! The server's side of one connection, with the bytes and the results that are on their way to it.

use bytes::BytesMut;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use syncline_core::server::{Access, Effect, Input, Limits, PageResult, ServerConnection, ServerParameters};
use syncline_core::{ConnId, Entry, Outcome, Rights, StoreId};
use syncline_wire::Message;

/// The result of an effect, which the connection was not handed yet.
pub(crate) enum EffectResult {
    /// The password is right, and gives all rights.
    Verdict,
    Outcome(Outcome),
    Entry(Option<Entry>),
    Page(PageResult),
    /// A read that is executed when its result is handed over.
    Deferred(Effect),
}

/// A connection of the server, and what is on its way to it.
pub(crate) struct Link {
    pub(crate) connection: ServerConnection,
    /// Bytes that the client has sent and the server has not received.
    outgoing: BytesMut,
    /// Bytes that the server has received and the connection has not decoded.
    input: BytesMut,
    /// The connection decodes nothing more before some of what is in flight is completed and sent.
    is_paused: bool,
    /// Results that the connection was not handed yet, in the order in which it is handed them.
    pub(crate) results: VecDeque<EffectResult>,
}

impl Link {
    /// Returns a new connection with the id `id`.
    pub(crate) fn new(id: u64, access: Access, limits: Limits) -> Self {
        let parameters = ServerParameters {
            limits: limits.validated().unwrap(),
            store: StoreId::new([7; 16]),
            heartbeat: Duration::from_secs(2),
        };
        Self {
            connection: ServerConnection::new(ConnId::new(id), parameters, access),
            outgoing: BytesMut::new(),
            input: BytesMut::new(),
            is_paused: false,
            results: VecDeque::new(),
        }
    }

    /// Sends a message from the client.
    pub(crate) fn send(&mut self, message: &Message) {
        message.encode(&mut self.outgoing).unwrap();
    }

    /// Delivers up to `bytes` of what the client has sent. Returns how many bytes the connection has decoded.
    pub(crate) fn deliver(&mut self, bytes: usize) -> usize {
        let arrived = self.outgoing.split_to(bytes.min(self.outgoing.len()));
        self.input.extend_from_slice(&arrived);
        let before = self.input.len();
        self.is_paused = self.connection.handle_input(&mut self.input) == Input::Paused;
        before - self.input.len()
    }

    /// Returns whether the connection has left input undecoded because too much is in flight.
    pub(crate) fn has_paused_input(&self) -> bool {
        self.is_paused && !self.input.is_empty()
    }

    /// Returns whether the connection can continue after reads were completed or some of its output was written.
    pub(crate) fn has_work(&self) -> bool {
        self.is_paused || self.connection.has_work()
    }

    /// Returns whether a read waits that was not executed yet.
    pub(crate) fn has_deferred(&self) -> bool {
        self.results.iter().any(|result| matches!(result, EffectResult::Deferred(_)))
    }

    /// Hands the connection the result of an effect.
    pub(crate) fn complete(&mut self, result: EffectResult) {
        match result {
            EffectResult::Verdict => self.connection.handle_verdict(Some(Arc::new(Rights::all()))),
            EffectResult::Outcome(outcome) => self.connection.handle_outcome(outcome),
            EffectResult::Entry(entry) => self.connection.handle_entry(Ok(entry)),
            EffectResult::Page(page) => self.connection.handle_page(page),
            EffectResult::Deferred(effect) => panic!("not executed: {effect:?}"),
        }
    }

    /// Returns whether nothing is on its way to the connection.
    pub(crate) fn is_drained(&self) -> bool {
        self.outgoing.is_empty() && self.input.is_empty() && self.results.is_empty()
    }
}
