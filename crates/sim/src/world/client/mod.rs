//! A client: one connection after the other, driven as the production driver does, and what its readers see.

mod asking;

use asking::end;

use super::agenda::{Event, SECOND, Time};
use super::net::Net;
use super::socket::Context;
use super::workload::{Known, think};
use super::wrong::Wrong;
use crate::frame;
use crate::history::{Direction, Key, Outcome, Sight};
use bytes::{Buf, Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};
use syncline_core::StoreId;
use syncline_core::client::{
    ClientConnection, Cursor, CursorEvent, Event as Said, Handshake, HandshakeResult, LostConnection, Position,
    ProtocolError, Replicas, Request, Response,
};
use syncline_wire::ServerHello;

/// How long a request may take, waiting for a lost connection included.
const REQUEST_TIMEOUT: Time = 10 * SECOND;

/// How long an attempt to connect may take.
const CONNECT_TIMEOUT: Time = 5 * SECOND;

/// The longest pause between attempts to connect again.
const MAX_PAUSE: Time = 5 * SECOND;

/// How many requests of a client are open at once.
const MAX_OPEN: usize = 12;

/// How much is read at once, at the most.
const READ_SIZE: usize = 16 * 1024;

/// What a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It speaks the extension, and keeps replicas.
    Replica,
    /// It speaks the base protocol.
    Base,
    /// It follows with a cursor, and asks nothing.
    Cursor,
}

/// Why a request is made.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// To know what becomes of it; its place in the history.
    Operation(usize),
    /// To read all keys of a replica behind it; its own place, and that of the reading.
    BarrierThenRead { place: usize, read: usize, prefix: Key },
    /// To have a replica.
    Watch,
}

/// A request that is not answered yet.
struct Open {
    purpose: Purpose,
    request: Request,
    deadline: Time,
    /// The connection on which it was sent last.
    sent_on: Option<u64>,
}

/// ```text
///   Away ──▶ ServerHello ──▶ Talking, or Following: a cursor
///     ▲         │            │
///     └─────────┴────────────┘
/// ```
enum Link {
    Away { until: Time },
    ServerHello { socket: u64, handshake: Handshake, input: BytesMut, since: Time },
    Talking { socket: u64, connection: Box<ClientConnection<u64>>, input: BytesMut, heard: Time },
    Following { socket: u64, input: BytesMut, heard: Time },
}

/// A client.
pub(super) struct Client {
    place: usize,
    pub(super) kind: Kind,
    link: Link,
    /// What outlives its connections.
    replicas: Replicas,
    held: Vec<(u64, Response)>,
    cursor: Cursor,
    /// What readers see of each prefix: what was shown last.
    shown: BTreeMap<Key, Sight>,
    /// Of the wrong variant that shows again what it has shown: the first sight of each prefix.
    shown_first: BTreeMap<Key, Sight>,
    pub(super) watched: Vec<Key>,
    open: BTreeMap<u64, Open>,
    tokens: u64,
    /// What is to be asked, or asked again.
    queue: VecDeque<u64>,
    pub(super) known: BTreeMap<Key, Known>,
    endpoint: usize,
    next_thought: Time,
    stalled_until: Time,
    run_at: Option<Time>,
    /// Replicas have gone on, and readers were not shown yet.
    is_stale: bool,
    /// It has no thoughts any more.
    is_quiet: bool,
}

impl Client {
    pub(super) fn new(place: usize, kind: Kind, prefix: &Key) -> Self {
        Self {
            place,
            kind,
            link: Link::Away { until: 0 },
            replicas: Replicas::new(),
            held: Vec::new(),
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

    /// The connection that it has, if it has one.
    pub(super) const fn socket(&self) -> Option<u64> {
        match &self.link {
            Link::Away { .. } => None,
            Link::ServerHello { socket, .. } | Link::Talking { socket, .. } | Link::Following { socket, .. } => {
                Some(*socket)
            }
        }
    }

    /// Has it run soon.
    pub(super) fn wake(&mut self, context: &mut Context) {
        self.wake_at(context.now() + 1, context);
    }

    fn wake_at(&mut self, at: Time, context: &mut Context) {
        if self.run_at.is_none_or(|run_at| at < run_at) {
            self.run_at = Some(at);
            context.agenda.at(at, Event::Client { client: self.place });
        }
    }

    /// It reads nothing until then.
    pub(super) const fn stall(&mut self, until: Time) {
        self.stalled_until = until;
    }

    /// From now on it asks nothing by itself.
    pub(super) const fn be_quiet(&mut self) {
        self.is_quiet = true;
        self.stalled_until = 0;
    }

    /// Whether it waits for nothing, and what it shows is what there is at this revision.
    pub(super) fn is_settled(&self, head: u64) -> bool {
        let is_current = |sight: &Sight| sight.is_current && sight.revision == head;
        let is_connected = matches!(self.link, Link::Talking { .. } | Link::Following { .. });
        if self.kind == Kind::Cursor {
            return is_connected && self.cursor.position().is_some_and(|at| at.revision.get() == head);
        }
        is_connected
            && self.open.is_empty()
            && self.watched.iter().all(|prefix| self.shown.get(prefix).is_some_and(is_current))
    }

    /// How long it has heard nothing, where it should hear something.
    pub(super) fn measure_silence(&self, context: &mut Context) {
        match &self.link {
            Link::Talking { connection, heard, .. } if connection.patience().is_some() => {
                context.measure_silence(*heard);
            }
            Link::Following { heard, .. } => context.measure_silence(*heard),
            _ => {}
        }
    }

    /// What it is at, for people.
    pub(super) fn describe(&self) -> String {
        let link = match &self.link {
            Link::Away { .. } => "away",
            Link::ServerHello { .. } => "greeting",
            Link::Talking { .. } | Link::Following { .. } => "connected",
        };
        let open: Vec<_> = self.open.values().map(|open| &open.request).collect();
        let shown: Vec<_> = self.shown.values().map(|s| (&s.prefix, s.store, s.revision, s.is_current)).collect();
        let (place, watched) = (self.place, &self.watched);
        format!("client {place} is {link}, asks {open:?}, watches {watched:?}, and shows {shown:?}")
    }

    /// Its task runs, if it is its turn.
    pub(super) fn run(&mut self, net: &mut Net, context: &mut Context) {
        let now = context.now();
        if self.run_at.take_if(|at| *at == now).is_none() {
            return;
        }
        self.expire(context);
        if let Link::Away { until } = self.link
            && until <= now
        {
            self.connect(net, context);
        }
        if !self.is_quiet && self.next_thought <= now && self.kind != Kind::Cursor {
            let (least, most) = context.plan.thinks;
            self.next_thought = now + context.random.between(least, most);
            if self.has_room() {
                think(self, context);
            }
        }
        // Ends: each round takes something that has arrived, or sends something that there is room for.
        while self.exchange(net, context) {}
        let mut next: Vec<_> = self.open.values().map(|open| open.deadline).collect();
        next.extend((!self.is_quiet && self.kind != Kind::Cursor).then_some(self.next_thought));
        next.extend(match &self.link {
            Link::Away { until } => Some(*until),
            Link::ServerHello { since, .. } => Some(since + CONNECT_TIMEOUT),
            Link::Talking { connection, heard, .. } => connection.patience().map(|patience| heard + micros(patience)),
            Link::Following { heard, .. } => self.cursor.patience().map(|patience| heard + micros(patience)),
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
                self.link = Link::Away { until };
            }
            Some((socket, front)) => {
                self.endpoint = front;
                context.record.count("connections", 1);
                context.record.open(socket, place, context.record.served());
                self.link = if self.kind == Kind::Base {
                    let connection =
                        ClientConnection::base(std::mem::take(&mut self.replicas), std::mem::take(&mut self.held));
                    self.known.clear();
                    Link::Talking {
                        socket,
                        connection: Box::new(connection),
                        input: BytesMut::new(),
                        heard: context.now(),
                    }
                } else {
                    let (input, since) = (BytesMut::new(), context.now());
                    let Ok(handshake) = Handshake::new(None) else {
                        return complain("a HELLO that can't be encoded", context);
                    };
                    Link::ServerHello { socket, handshake, input, since }
                };
            }
        }
    }

    /// Answers whether it has sent or received anything.
    fn exchange(&mut self, net: &mut Net, context: &mut Context) -> bool {
        let Some(id) = self.socket() else { return false };
        let Some(socket) = net.sockets.get_mut(&id) else {
            self.lose("it is gone", net, context);
            return false;
        };
        self.send_queued(context);
        let sent = match &mut self.link {
            Link::Away { .. } => Bytes::new(),
            Link::ServerHello { handshake, .. } => socket.send(handshake.output(), context),
            Link::Talking { connection, .. } => socket.send(connection.output(), context),
            Link::Following { .. } => socket.send(self.cursor.output(), context),
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
        if self.take_in(&bytes, context).is_err() {
            self.lose("the server does not keep to the protocol", net, context);
            return false;
        }
        if let Some(reason) = is_lost {
            self.lose(reason, net, context);
            return false;
        }
        if bytes.is_empty() && self.is_silent(context.now()) {
            context.record.count("silent connections given up", 1);
            self.lose("the server was silent", net, context);
            return false;
        }
        !sent.is_empty() || !bytes.is_empty()
    }

    fn is_silent(&self, now: Time) -> bool {
        let (patience, heard) = match &self.link {
            Link::Away { .. } => return false,
            Link::ServerHello { since, .. } => (Some(CONNECT_TIMEOUT), *since),
            Link::Talking { connection, heard, .. } => (connection.patience().map(micros), *heard),
            Link::Following { heard, .. } => (self.cursor.patience().map(micros), *heard),
        };
        patience.is_some_and(|patience| heard + patience <= now)
    }

    fn send_queued(&mut self, context: &mut Context) {
        let Link::Talking { connection, socket, .. } = &mut self.link else { return };
        while let Some(token) = self.queue.pop_front() {
            let Some(open) = self.open.get_mut(&token) else { continue };
            open.sent_on = Some(*socket);
            if connection.request(open.request.clone(), token).is_err()
                && let Some(open) = self.open.remove(&token)
            {
                end(&open.purpose, None, Outcome::Refused, context);
            }
        }
    }

    /// Hands on what was received; `Err`: the connection is of no more use.
    fn take_in(&mut self, bytes: &[u8], context: &mut Context) -> Result<(), ()> {
        let now = context.now();
        if !bytes.is_empty() {
            self.measure_silence(context);
        }
        match &mut self.link {
            Link::Away { .. } => return Ok(()),
            Link::ServerHello { socket, handshake, input, .. } => {
                let socket = *socket;
                input.extend_from_slice(bytes);
                match handshake.handle_input(input) {
                    Ok(None) => return Ok(()),
                    Ok(Some(HandshakeResult::Extended(greeting))) => {
                        let input = std::mem::take(input);
                        self.greeted(socket, greeting, input, context);
                    }
                    Ok(Some(HandshakeResult::Refused { .. })) => return Err(()),
                    other => {
                        complain(&format!("an answer to HELLO: {other:?}"), context);
                        return Err(());
                    }
                }
            }
            Link::Talking { input, heard, .. } | Link::Following { input, heard, .. } => {
                input.extend_from_slice(bytes);
                if !bytes.is_empty() {
                    *heard = now;
                }
            }
        }
        loop {
            let is_over = match &mut self.link {
                Link::Talking { connection, input, .. } => {
                    let said = connection.handle_input(input);
                    self.hear(said, context)?
                }
                Link::Following { input, .. } => match self.cursor.handle_input(input) {
                    Ok(CursorEvent::Incomplete { .. }) => true,
                    Ok(CursorEvent::Notice { text }) => {
                        noticed(&text, context);
                        false
                    }
                    Ok(CursorEvent::Refused { .. }) => return Err(()),
                    Ok(CursorEvent::Step(step)) => {
                        self.stepped(&step, context);
                        false
                    }
                    Err(error) => {
                        complain(&error.to_string(), context);
                        return Err(());
                    }
                },
                Link::Away { .. } | Link::ServerHello { .. } => true,
            };
            if is_over {
                return Ok(());
            }
        }
    }

    fn greeted(&mut self, socket: u64, greeting: ServerHello, input: BytesMut, context: &mut Context) {
        let store = StoreId::new(greeting.store_id);
        if self.kind == Kind::Cursor {
            if context.is_wrong(Wrong::ResumedFromTheHead)
                && let Some(at) = self.cursor.position()
                && let Some(prefix) = self.watched.first()
            {
                let at = Position { revision: greeting.head.max(at.revision), ..at };
                self.cursor = Cursor::new(Bytes::copy_from_slice(prefix.as_bytes()), Some(at));
            }
            let connected = self.cursor.connected(&greeting);
            debug_assert!(connected.is_ok(), "the prefix is short");
            self.link = Link::Following { socket, input, heard: context.now() };
            return;
        }
        let served = context.record.store_of(store);
        let mut greeting = greeting;
        if let Some(sight) = self.shown.values().next()
            && sight.store != served
        {
            self.known.clear();
            if context.is_wrong(Wrong::AppliedOverOldState)
                && let Some(id) = context.record.id_of(sight.store)
            {
                greeting.store_id = id;
            }
        }
        let connection =
            ClientConnection::extended(&greeting, std::mem::take(&mut self.replicas), std::mem::take(&mut self.held));
        self.link = Link::Talking { socket, connection: Box::new(connection), input, heard: context.now() };
        if context.is_wrong(Wrong::ShownAgain) {
            for sight in self.shown_first.values() {
                if self.shown.get(&sight.prefix).is_some_and(|shown| shown.store == sight.store) {
                    let again = context.record.sight_again(sight);
                    self.shown.insert(again.prefix.clone(), again);
                }
            }
        }
    }

    /// What the connection says; answers whether that was all.
    fn hear(&mut self, said: Result<Said<u64>, ProtocolError>, context: &mut Context) -> Result<bool, ()> {
        match said {
            Ok(Said::Incomplete { .. }) => {
                self.show(context);
                return Ok(true);
            }
            Ok(Said::Marked { .. }) => {
                context.record.count("MARKs shown", 1);
                self.is_stale = true;
            }
            Ok(Said::Change { key, version, .. }) => {
                self.known.insert(frame::key(&key), Known::At(version.get()));
            }
            Ok(Said::Notice { text }) => noticed(&text, context),
            Ok(Said::Response { token, response: answer }) => {
                if context.is_wrong(Wrong::AnsweredBeforeShown) {
                    self.tell(token, answer, context);
                    self.show(context);
                } else {
                    self.show(context);
                    self.tell(token, answer, context);
                }
            }
            // Reads fail, and the server says so.
            Err(ProtocolError::ResumeRefused { .. }) => return Err(()),
            Err(error) => {
                complain(&error.to_string(), context);
                return Err(());
            }
        }
        Ok(false)
    }

    /// The connection is lost: reads are asked again, writes have an unknown fate.
    fn lose(&mut self, reason: &str, net: &mut Net, context: &mut Context) {
        if let Some(socket) = self.socket() {
            let moment = format!("client {} loses connection {socket}: {reason}", self.place);
            context.record.note(moment);
            if let Some(socket) = net.sockets.get_mut(&socket) {
                socket.abandon(context);
            }
        }
        context.record.count("connections lost", 1);
        let until = context.now() + context.random.spread(1000, MAX_PAUSE);
        match std::mem::replace(&mut self.link, Link::Away { until }) {
            Link::Away { .. } | Link::ServerHello { .. } => {}
            Link::Following { .. } => self.cursor.lost(),
            Link::Talking { connection, .. } => {
                let LostConnection { unanswered, deferred: held, replicas } = connection.into_lost();
                for (request, token) in unanswered.into_iter().rev() {
                    let Some(open) = self.open.get(&token) else { continue };
                    if request.is_read() || context.is_wrong(Wrong::WriteSentAgain) {
                        self.queue.push_front(token);
                    } else if let Purpose::Operation(place) = open.purpose {
                        let store = open.sent_on.and_then(|socket| context.record.store_of_connection(socket));
                        context.record.count("writes of unknown fate", 1);
                        context.record.end(place, store, Outcome::Unknown);
                        self.open.remove(&token);
                        self.forget(&request);
                    }
                }
                (self.replicas, self.held) = (replicas, held);
                let shown = self.replicas.views();
                let views = self.watched.iter().filter_map(|prefix| shown.view(prefix.as_bytes()));
                let current = views.filter(|view| view.is_current()).count();
                context.record.gauge("replicas that say that they are current, without a connection", current, 0);
                self.look(&shown, context);
                self.is_stale = false;
            }
        }
    }

    /// Whether it has something to send.
    pub(super) fn has_output(&mut self) -> bool {
        match &mut self.link {
            Link::Away { .. } => false,
            Link::ServerHello { handshake, .. } => handshake.output().has_remaining(),
            Link::Talking { connection, .. } => connection.output().has_remaining(),
            Link::Following { .. } => self.cursor.output().has_remaining(),
        }
    }
}

/// The server says something of the connection. Whatever else there may be to be said: the store loses track of nothing.
fn noticed(text: &str, context: &mut Context) {
    if text.contains("lost track") {
        complain(text, context);
    }
}

/// The server has said something that it must not.
fn complain(text: &str, context: &mut Context) {
    context.record.note(format!("the server does not keep to the protocol: {text}"));
    context.record.gauge("answers against the protocol", 1, 0);
}

fn micros(duration: std::time::Duration) -> Time {
    Time::try_from(duration.as_micros()).unwrap_or(Time::MAX)
}
