//! A client: its successive connections, and what its readers see. It is driven as the production driver drives one.

mod requests;

use super::agenda::{Event, SECOND, Time};
use super::context::Context;
use super::net::Net;
use super::wrong::Wrong;
use crate::frame;
use crate::history::{Direction, Key, Outcome, Sight};
use bytes::{Buf, Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};
use syncline_core::StoreId;
use syncline_core::client::{
    ClientConnection, Cursor, CursorEvent, Event as ConnectionEvent, Handshake, HandshakeResult, LostConnection,
    Position, ProtocolError, Replicas, Request, Response,
};
use syncline_wire::ServerHello;

/// The maximum duration of a request, including the time without a connection.
const REQUEST_TIMEOUT: Time = 10 * SECOND;

/// The maximum duration of a connection attempt.
const CONNECT_TIMEOUT: Time = 5 * SECOND;

/// The maximum pause before the next connection attempt.
const MAX_PAUSE: Time = 5 * SECOND;

/// The maximum number of open requests of a client.
const MAX_OPEN: usize = 12;

/// The maximum number of bytes that a client reads at once.
const READ_SIZE: usize = 16 * 1024;

/// The kind of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It uses the extended protocol, and keeps replicas.
    Replica,
    /// It uses the base protocol.
    Base,
    /// It follows a prefix with a cursor, and sends no other requests.
    Cursor,
}

/// What a client knows about a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum KnownVersion {
    /// The key is at this version.
    At(u64),
    /// The key does not exist, and the server remembers no version of it.
    Absent,
}

/// Why a request is sent.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// For its outcome. Contains the index of the operation in the history.
    Operation(usize),
    /// To read a whole replica behind a barrier. Contains the indices of the barrier and of the read.
    BarrierThenRead { place: usize, read: usize, prefix: Key },
    /// To fill a replica.
    Watch,
}

/// An open request.
struct Open {
    purpose: Purpose,
    request: Request,
    deadline: Time,
    /// The connection on which the request was sent last.
    sent_on: Option<u64>,
}

/// The state of a client's connection.
///
/// ```text
///   Disconnected ──▶ Handshaking ──▶ Connected, or FollowingCursor
///        ▲                │              │
///        └────────────────┴──────────────┘
/// ```
enum Link {
    Disconnected { until: Time },
    Handshaking { socket: u64, handshake: Handshake, input: BytesMut, since: Time },
    Connected { socket: u64, connection: Box<ClientConnection<u64>>, input: BytesMut, last_received: Time },
    FollowingCursor { socket: u64, input: BytesMut, last_received: Time },
}

/// A client.
pub(super) struct Client {
    place: usize,
    pub(super) kind: Kind,
    link: Link,
    /// The part of the state that outlives a connection.
    replicas: Replicas,
    deferred: Vec<(u64, Response)>,
    cursor: Cursor,
    /// By prefix: the contents that readers saw last.
    shown: BTreeMap<Key, Sight>,
    /// For [`Wrong::ShownAgain`]: the first contents of each prefix.
    shown_first: BTreeMap<Key, Sight>,
    pub(super) watched: Vec<Key>,
    open: BTreeMap<u64, Open>,
    tokens: u64,
    /// The requests to send, in order. After a lost connection, this includes its unanswered reads.
    queue: VecDeque<u64>,
    pub(super) known: BTreeMap<Key, KnownVersion>,
    endpoint: usize,
    next_thought: Time,
    stalled_until: Time,
    run_at: Option<Time>,
    /// The replicas have changed since readers last saw them.
    is_stale: bool,
    /// The client sends no new requests.
    is_quiet: bool,
}

impl Client {
    pub(super) fn new(place: usize, kind: Kind, prefix: &Key) -> Self {
        Self {
            place,
            kind,
            link: Link::Disconnected { until: 0 },
            replicas: Replicas::new(),
            deferred: Vec::new(),
            cursor: Cursor::new(Bytes::copy_from_slice(prefix.as_bytes()), None),
            shown: BTreeMap::new(),
            shown_first: BTreeMap::new(),
            watched: Vec::new(),
            open: BTreeMap::new(),
            tokens: 0,
            queue: VecDeque::new(),
            known: BTreeMap::new(),
            endpoint: place,
            next_thought: 0,
            stalled_until: 0,
            run_at: None,
            is_stale: false,
            is_quiet: false,
        }
    }

    pub(super) const fn id(&self) -> u64 {
        self.place as u64
    }

    /// Returns the client's connection, if any.
    pub(super) const fn socket(&self) -> Option<u64> {
        match &self.link {
            Link::Disconnected { .. } => None,
            Link::Handshaking { socket, .. }
            | Link::Connected { socket, .. }
            | Link::FollowingCursor { socket, .. } => Some(*socket),
        }
    }

    /// Schedules the client's task soon.
    pub(super) fn wake(&mut self, context: &mut Context) {
        self.wake_at(context.now() + 1, context);
    }

    fn wake_at(&mut self, at: Time, context: &mut Context) {
        if self.run_at.is_none_or(|run_at| at < run_at) {
            self.run_at = Some(at);
            context.agenda.at(at, Event::Client { client: self.place });
        }
    }

    /// Reads nothing until a time.
    pub(super) const fn stall(&mut self, until: Time) {
        self.stalled_until = until;
    }

    /// Sends no new requests from now on.
    pub(super) const fn stop_asking(&mut self) {
        self.is_quiet = true;
        self.stalled_until = 0;
    }

    /// Returns whether the client waits for nothing, and shows the state at this revision.
    pub(super) fn is_settled(&self, head: u64) -> bool {
        let is_current = |sight: &Sight| sight.is_current && sight.revision == head;
        let is_connected = matches!(self.link, Link::Connected { .. } | Link::FollowingCursor { .. });
        if self.kind == Kind::Cursor {
            return is_connected && self.cursor.position().is_some_and(|at| at.revision.get() == head);
        }
        is_connected
            && self.open.is_empty()
            && self.watched.iter().all(|prefix| self.shown.get(prefix).is_some_and(is_current))
    }

    /// Measures the silence on a connection that must receive heartbeats.
    pub(super) fn measure_silence(&self, context: &mut Context) {
        match &self.link {
            Link::Connected { connection, last_received, .. } if connection.patience().is_some() => {
                context.measure_silence(*last_received);
            }
            Link::FollowingCursor { last_received, .. } => context.measure_silence(*last_received),
            _ => {}
        }
    }

    /// Returns a description of the client's state for a note.
    pub(super) fn describe(&self) -> String {
        let link = match &self.link {
            Link::Disconnected { .. } => "away",
            Link::Handshaking { .. } => "in a handshake",
            Link::Connected { .. } | Link::FollowingCursor { .. } => "connected",
        };
        let open: Vec<_> = self.open.values().map(|open| &open.request).collect();
        let shown: Vec<_> = self.shown.values().map(|s| (&s.prefix, s.store, s.revision, s.is_current)).collect();
        let (place, watched) = (self.place, &self.watched);
        format!("client {place} is {link}, asks {open:?}, watches {watched:?}, and shows {shown:?}")
    }

    /// Runs the client's task, if it is due. `think` makes the client's next request.
    pub(super) fn run(&mut self, net: &mut Net, think: fn(&mut Self, &mut Context), context: &mut Context) {
        let now = context.now();
        if self.run_at.take_if(|at| *at == now).is_none() {
            return;
        }
        self.expire(context);
        if let Link::Disconnected { until } = self.link
            && until <= now
        {
            self.connect(net, context);
        }
        if !self.is_quiet && self.next_thought <= now && self.kind != Kind::Cursor {
            let (min, max) = context.plan.think_time;
            self.next_thought = now + context.random.between(min, max);
            if self.has_room() {
                think(self, context);
            }
        }
        // The loop ends, because each round receives bytes that have arrived or sends bytes that fit into the window.
        while self.exchange(net, context) {}
        let mut next: Vec<_> = self.open.values().map(|open| open.deadline).collect();
        next.extend((!self.is_quiet && self.kind != Kind::Cursor).then_some(self.next_thought));
        next.extend(match &self.link {
            Link::Disconnected { until } => Some(*until),
            Link::Handshaking { since, .. } => Some(since + CONNECT_TIMEOUT),
            Link::Connected { connection, last_received, .. } => {
                connection.patience().map(|patience| last_received + micros(patience))
            }
            Link::FollowingCursor { last_received, .. } => {
                self.cursor.patience().map(|patience| last_received + micros(patience))
            }
        });
        next.extend((self.stalled_until > now).then_some(self.stalled_until));
        if let Some(next) = next.into_iter().min() {
            self.wake_at(next.max(now + 1), context);
        }
    }

    fn connect(&mut self, net: &mut Net, context: &mut Context) {
        let place = self.id();
        match net.connect(self.place, self.endpoint, context) {
            None => {
                self.endpoint += 1;
                let until = context.now() + context.random.spread(50_000, MAX_PAUSE);
                self.link = Link::Disconnected { until };
            }
            Some((socket, front)) => {
                self.endpoint = front;
                context.record.count("connections", 1);
                context.record.open(socket, place, context.record.served());
                self.link = if self.kind == Kind::Base {
                    let connection =
                        ClientConnection::base(std::mem::take(&mut self.replicas), std::mem::take(&mut self.deferred));
                    self.known.clear();
                    Link::Connected {
                        socket,
                        connection: Box::new(connection),
                        input: BytesMut::new(),
                        last_received: context.now(),
                    }
                } else {
                    let (input, since) = (BytesMut::new(), context.now());
                    let Ok(handshake) = Handshake::new(None) else {
                        return report_violation("a HELLO that cannot be encoded", context);
                    };
                    Link::Handshaking { socket, handshake, input, since }
                };
            }
        }
    }

    /// Sends and receives. Returns whether there was anything.
    fn exchange(&mut self, net: &mut Net, context: &mut Context) -> bool {
        let Some(id) = self.socket() else { return false };
        let Some(socket) = net.sockets.get_mut(&id) else {
            self.disconnect("it is gone", net, context);
            return false;
        };
        self.send_queued(context);
        let sent = match &mut self.link {
            Link::Disconnected { .. } => Bytes::new(),
            Link::Handshaking { handshake, .. } => socket.send(handshake.output(), context),
            Link::Connected { connection, .. } => socket.send(connection.output(), context),
            Link::FollowingCursor { .. } => socket.send(self.cursor.output(), context),
        };
        context.record.bytes(id, Direction::Sent, &sent);
        let is_reading = self.stalled_until <= context.now();
        let bytes = if is_reading { socket.receive(READ_SIZE, context) } else { BytesMut::new() };
        context.record.bytes(id, Direction::Received, &bytes);
        let is_lost = if socket.is_reset {
            Some("it was reset")
        } else if is_reading && socket.to_client.is_over() {
            Some("the server has closed it")
        } else {
            None
        };
        if self.handle_input(&bytes, context).is_err() {
            self.disconnect("the server violates the protocol", net, context);
            return false;
        }
        if let Some(reason) = is_lost {
            self.disconnect(reason, net, context);
            return false;
        }
        if bytes.is_empty() && self.is_silent(context.now()) {
            context.record.count("silent connections given up", 1);
            self.disconnect("the server was silent", net, context);
            return false;
        }
        !sent.is_empty() || !bytes.is_empty()
    }

    fn is_silent(&self, now: Time) -> bool {
        let (patience, last_received) = match &self.link {
            Link::Disconnected { .. } => return false,
            Link::Handshaking { since, .. } => (Some(CONNECT_TIMEOUT), *since),
            Link::Connected { connection, last_received, .. } => (connection.patience().map(micros), *last_received),
            Link::FollowingCursor { last_received, .. } => (self.cursor.patience().map(micros), *last_received),
        };
        patience.is_some_and(|patience| last_received + patience <= now)
    }

    fn send_queued(&mut self, context: &mut Context) {
        let Link::Connected { connection, socket, .. } = &mut self.link else { return };
        while let Some(token) = self.queue.pop_front() {
            let Some(open) = self.open.get_mut(&token) else { continue };
            open.sent_on = Some(*socket);
            if connection.request(open.request.clone(), token).is_err()
                && let Some(open) = self.open.remove(&token)
            {
                open.purpose.finish(None, Outcome::Refused, context);
            }
        }
    }

    /// Handles received bytes. `Err`: the connection must be closed.
    fn handle_input(&mut self, bytes: &[u8], context: &mut Context) -> Result<(), ()> {
        let now = context.now();
        if !bytes.is_empty() {
            self.measure_silence(context);
        }
        match &mut self.link {
            Link::Disconnected { .. } => return Ok(()),
            Link::Handshaking { socket, handshake, input, .. } => {
                let socket = *socket;
                input.extend_from_slice(bytes);
                match handshake.handle_input(input) {
                    Ok(None) => return Ok(()),
                    Ok(Some(HandshakeResult::Extended(hello))) => {
                        let input = std::mem::take(input);
                        self.start_session(socket, hello, input, context);
                    }
                    Ok(Some(HandshakeResult::Refused { .. })) => return Err(()),
                    other => {
                        report_violation(&format!("a response to HELLO: {other:?}"), context);
                        return Err(());
                    }
                }
            }
            Link::Connected { input, last_received, .. } | Link::FollowingCursor { input, last_received, .. } => {
                input.extend_from_slice(bytes);
                if !bytes.is_empty() {
                    *last_received = now;
                }
            }
        }
        loop {
            let is_over = match &mut self.link {
                Link::Connected { connection, input, .. } => {
                    let event = connection.handle_input(input);
                    self.handle_event(event, context)?
                }
                Link::FollowingCursor { input, .. } => match self.cursor.handle_input(input) {
                    Ok(CursorEvent::Incomplete { .. }) => true,
                    Ok(CursorEvent::Notice { text }) => {
                        handle_notice(&text, context);
                        false
                    }
                    Ok(CursorEvent::Refused { .. }) => return Err(()),
                    Ok(CursorEvent::Step(step)) => {
                        self.record_step(&step, context);
                        false
                    }
                    Err(error) => {
                        report_violation(&error.to_string(), context);
                        return Err(());
                    }
                },
                Link::Disconnected { .. } | Link::Handshaking { .. } => true,
            };
            if is_over {
                return Ok(());
            }
        }
    }

    fn start_session(&mut self, socket: u64, hello: ServerHello, input: BytesMut, context: &mut Context) {
        let store = StoreId::new(hello.store_id);
        if self.kind == Kind::Cursor {
            if context.is_wrong(Wrong::ResumedFromTheHead)
                && let Some(at) = self.cursor.position()
                && let Some(prefix) = self.watched.first()
            {
                let at = Position { revision: hello.head.max(at.revision), ..at };
                self.cursor = Cursor::new(Bytes::copy_from_slice(prefix.as_bytes()), Some(at));
            }
            let connected = self.cursor.connected(&hello);
            debug_assert!(connected.is_ok(), "a short prefix fits into a WATCH");
            self.link = Link::FollowingCursor { socket, input, last_received: context.now() };
            return;
        }
        let served = context.record.store_of(store);
        let mut hello = hello;
        if let Some(sight) = self.shown.values().next()
            && sight.store != served
        {
            self.known.clear();
            if context.is_wrong(Wrong::AppliedOverOldState)
                && let Some(id) = context.record.id_of(sight.store)
            {
                hello.store_id = id;
            }
        }
        let connection =
            ClientConnection::extended(&hello, std::mem::take(&mut self.replicas), std::mem::take(&mut self.deferred));
        self.link = Link::Connected { socket, connection: Box::new(connection), input, last_received: context.now() };
        if context.is_wrong(Wrong::ShownAgain) {
            for sight in self.shown_first.values() {
                if self.shown.get(&sight.prefix).is_some_and(|shown| shown.store == sight.store) {
                    let again = context.record.sight_again(sight);
                    self.shown.insert(again.prefix.clone(), again);
                }
            }
        }
    }

    /// Handles an event of the connection. Returns whether it was the last one for now.
    fn handle_event(
        &mut self,
        event: Result<ConnectionEvent<u64>, ProtocolError>,
        context: &mut Context,
    ) -> Result<bool, ()> {
        match event {
            Ok(ConnectionEvent::Incomplete { .. }) => {
                self.publish(context);
                return Ok(true);
            }
            Ok(ConnectionEvent::Marked { .. }) => {
                context.record.count("MARKs shown", 1);
                self.is_stale = true;
            }
            Ok(ConnectionEvent::Change { key, version, .. }) => {
                self.known.insert(frame::key(&key), KnownVersion::At(version.get()));
            }
            Ok(ConnectionEvent::Notice { text }) => handle_notice(&text, context),
            Ok(ConnectionEvent::Response { token, response }) => {
                if context.is_wrong(Wrong::AnsweredBeforeShown) {
                    self.complete(token, response, context);
                    self.publish(context);
                } else {
                    self.publish(context);
                    self.complete(token, response, context);
                }
            }
            // A failed read of the store makes the server refuse to resume.
            Err(ProtocolError::ResumeRefused { .. }) => return Err(()),
            Err(error) => {
                report_violation(&error.to_string(), context);
                return Err(());
            }
        }
        Ok(false)
    }

    /// Handles a lost connection: reads are sent again, and writes have an unknown outcome.
    fn disconnect(&mut self, reason: &str, net: &mut Net, context: &mut Context) {
        if let Some(socket) = self.socket() {
            let moment = format!("client {} loses connection {socket}: {reason}", self.place);
            context.record.note(moment);
            if let Some(socket) = net.sockets.get_mut(&socket) {
                socket.abandon(context);
            }
        }
        context.record.count("connections lost", 1);
        let until = context.now() + context.random.spread(1000, MAX_PAUSE);
        match std::mem::replace(&mut self.link, Link::Disconnected { until }) {
            Link::Disconnected { .. } | Link::Handshaking { .. } => {}
            Link::FollowingCursor { .. } => self.cursor.lost(),
            Link::Connected { connection, .. } => {
                let LostConnection { unanswered, deferred, replicas } = connection.into_lost();
                for (request, token) in unanswered.into_iter().rev() {
                    let Some(open) = self.open.get(&token) else { continue };
                    if request.is_read() || context.is_wrong(Wrong::WriteSentAgain) {
                        self.queue.push_front(token);
                    } else if let Purpose::Operation(place) = open.purpose {
                        let store = open.sent_on.and_then(|socket| context.record.store_of_connection(socket));
                        context.record.count("writes of unknown fate", 1);
                        context.record.end(place, store, Outcome::Unknown);
                        self.open.remove(&token);
                        self.forget_keys(&request);
                    }
                }
                (self.replicas, self.deferred) = (replicas, deferred);
                let shown = self.replicas.views();
                let views = self.watched.iter().filter_map(|prefix| shown.view(prefix.as_bytes()));
                let current = views.filter(|view| view.is_current()).count();
                context.record.gauge("replicas that say that they are current, without a connection", current, 0);
                self.record_views(&shown, context);
                self.is_stale = false;
            }
        }
    }

    /// Returns whether the client has output to send.
    pub(super) fn has_output(&mut self) -> bool {
        match &mut self.link {
            Link::Disconnected { .. } => false,
            Link::Handshaking { handshake, .. } => handshake.output().has_remaining(),
            Link::Connected { connection, .. } => connection.output().has_remaining(),
            Link::FollowingCursor { .. } => self.cursor.output().has_remaining(),
        }
    }
}

/// Handles a notice of the server. The simulated store never loses track of its changes, so a notice about that is a
/// violation.
fn handle_notice(text: &str, context: &mut Context) {
    if text.contains("lost track") {
        report_violation(text, context);
    }
}

/// Records that the server has violated the protocol.
fn report_violation(text: &str, context: &mut Context) {
    context.record.note(format!("the server violates the protocol: {text}"));
    context.record.gauge("answers against the protocol", 1, 0);
}

fn micros(duration: std::time::Duration) -> Time {
    Time::try_from(duration.as_micros()).unwrap_or(Time::MAX)
}
