//! The client's side of a connection, and a cursor. The fuzzer input acts as the driver and as the server, which sends
//! valid responses most of the time.

use crate::choose::{KEYS, below, byte, count, key, length, number, one_of, raw};
use arbitrary::Unstructured;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::BTreeSet;
use syncline_core::client::{
    ClientConnection, Cursor, CursorEvent, Event, Handshake, HandshakeResult, LostConnection, Position, ProtocolError,
    Replicas, Request, SendError,
};
use syncline_core::{Operation, Output, StoreId};
use syncline_wire::{
    Decoded, Kind, MAX_LARGE_FRAME_LENGTH, Message, Password, Revision, ServerHello, Tag, Txn, Version, decode,
};

/// The maximum number of steps of one input.
const STEPS: usize = 400;

/// The maximum number of events that one frame causes, in addition to the responses to pending requests.
const EVENTS: usize = 8;

/// A server that sends its bytes in pieces.
#[derive(Debug, Default)]
struct Server {
    /// The bytes that the client sent.
    received: BytesMut,
    /// The requests without a response.
    requests: Vec<Message>,
    /// The bytes on the way to the client.
    outgoing: BytesMut,
    revision: u64,
}

impl Server {
    /// Receives the output of the client, which must consist of frames that clients may send.
    fn receive(&mut self, output: &mut Output, is_base: bool) -> Vec<Message> {
        self.received.extend_from_slice(&output.copy_to_bytes(output.remaining()));
        let mut frames = Vec::new();
        while let Decoded::Frame(frame) = decode(&mut self.received).expect("a client sends frames") {
            let may_be_sent = match frame.kind() {
                Kind::Get | Kind::Put => true,
                Kind::Error => false,
                Kind::Auth | Kind::Hello => true,
                _ => !is_base,
            };
            assert!(may_be_sent, "{frame} to a server that does not know it");
            assert_ne!(frame.tag(), Tag::BROADCAST, "{frame} without a tag");
            self.requests.push(frame.clone());
            frames.push(frame);
        }
        assert!(self.received.is_empty(), "an incomplete frame");
        frames
    }

    /// Sends frames, which are a response most of the time.
    fn send(&mut self, input: &mut Unstructured<'_>) {
        let frames = match byte(input) % 8 {
            0..=3 if !self.requests.is_empty() => self.respond(input),
            4 => {
                let bytes = raw(input);
                return self.outgoing.extend_from_slice(&bytes);
            }
            5 => vec![self.mark(Tag::BROADCAST, input)],
            _ => vec![self.any(input)],
        };
        frames.iter().for_each(|frame| frame.encode(&mut self.outgoing).expect("the frame is small enough"));
    }

    fn mark(&mut self, tag: Tag, input: &mut Unstructured<'_>) -> Message {
        self.revision = match byte(input) {
            0..200 => self.revision.wrapping_add(1),
            _ => number(input),
        };
        Message::mark(tag, Revision::new(self.revision))
    }

    /// Returns the response to a pending request, which is valid most of the time.
    fn respond(&mut self, input: &mut Unstructured<'_>) -> Vec<Message> {
        let index = match byte(input) {
            0..200 => 0,
            _ => below(input, self.requests.len()),
        };
        // Sometimes the request stays, and gets a second response.
        let request = if byte(input) < 240 { self.requests.remove(index) } else { self.requests[index].clone() };
        let tag = request.tag();
        if byte(input) >= 220 {
            return vec![error(tag, input)];
        }
        match request {
            Message::Get(get) => vec![state(tag, get.key, input)],
            Message::Watch(watch) => {
                let mut frames = some_under(Tag::BROADCAST, &watch.prefix, input);
                if byte(input) >= 200 {
                    frames.insert(0, Message::mark(tag, Revision::ZERO));
                }
                frames.push(self.mark(tag, input));
                frames
            }
            Message::List(list) => {
                let mut frames = some_under(tag, &list.prefix, input);
                frames.push(self.mark(tag, input));
                frames
            }
            Message::Txn(Txn { operations, .. }) => {
                let mut frames: Vec<_> = operations.into_iter().filter_map(|operation| echo(tag, operation)).collect();
                frames.push(self.mark(tag, input));
                frames
            }
            Message::Mark(_) => vec![self.mark(tag, input)],
            Message::Hello(_) => vec![Message::hello(tag, hello(input).encode())],
            Message::Auth(_) => vec![Message::auth(tag, "")],
            Message::Status(_) => vec![Message::status(tag, raw(input))],
            same => vec![same],
        }
    }

    /// Returns any frame, with a tag that may be in flight.
    fn any(&mut self, input: &mut Unstructured<'_>) -> Message {
        let tag = match byte(input) {
            0..100 => Tag::BROADCAST,
            small => Tag::new(u16::from(small) - 99),
        };
        match byte(input) % 10 {
            0..=4 => state(tag, key(input), input),
            5 => error(tag, input),
            6 => Message::hello(tag, hello(input).encode()),
            7 => Message::watch(tag, key(input), Revision::ZERO),
            8 => Message::auth(tag, raw(input)),
            _ => Message::status(tag, raw(input)),
        }
    }

    /// Delivers at most this many bytes to the client. Returns how many were delivered.
    fn deliver(&mut self, bytes: usize, buffer: &mut BytesMut) -> usize {
        let arrived = self.outgoing.split_to(bytes.min(self.outgoing.len()));
        buffer.extend_from_slice(&arrived);
        arrived.len()
    }
}

fn echo(tag: Tag, operation: Operation) -> Option<Message> {
    match operation {
        Operation::Check { .. } => None,
        Operation::Put { key, value, version } => Some(Message::write(tag, key, value, version)),
        Operation::Delete { key, version } => Some(Message::delete(tag, key, version)),
    }
}

/// Returns a frame with the state of a key.
fn state(tag: Tag, key: Bytes, input: &mut Unstructured<'_>) -> Message {
    let version = Version::new(number(input));
    match byte(input) % 4 {
        0 => Message::delete(tag, key, version),
        _ => Message::write(tag, key, vec![byte(input); length(input) % 5000], version),
    }
}

fn some_under(tag: Tag, prefix: &[u8], input: &mut Unstructured<'_>) -> Vec<Message> {
    let under = |input: &mut Unstructured<'_>| -> Bytes {
        let mut key = [prefix, &key(input)].concat();
        key.truncate(60_000);
        key.into()
    };
    (0..below(input, 5)).map(|_| state(tag, under(input), input)).collect()
}

/// Returns an ERROR: with a text that the client interprets, or with another one.
fn error(tag: Tag, input: &mut Unstructured<'_>) -> Message {
    let text: Bytes = match byte(input) % 10 {
        0 => "stale put".into(),
        1 => "\"a\": not found".into(),
        2 => "\"a\": deleted at version 7, not found".into(),
        3 => "unavailable: disk full".into(),
        4 => "unknown message kind".into(),
        5 => "go away, bad password".into(),
        6 => "messages of kind AUTH cannot be applied".into(),
        7 => "stale put: \"a\"".into(),
        8 => "go away, bad message type".into(),
        _ => raw(input).into(),
    };
    Message::error(tag, text)
}

fn hello(input: &mut Unstructured<'_>) -> ServerHello {
    ServerHello {
        protocol: 1,
        features: 0,
        store_id: [byte(input) % 2; 16],
        head: Revision::new(number(input)),
        heartbeat_ms: u32::try_from(number(input)).unwrap_or(u32::MAX),
        max_key: 4096,
        max_entry: 65_525,
    }
}

/// Runs a handshake. It sends each request at most once, and no server makes it panic or send more.
pub fn handshake(input: &mut Unstructured<'_>) -> Option<HandshakeResult> {
    let mut server = Server::default();
    let mut buffer = BytesMut::new();
    let password = (byte(input) % 2 == 0).then(|| Password::new(vec![7; length(input)]));
    let is_base = byte(input) % 4 == 0;
    let started = if is_base { Handshake::base(password.as_ref()) } else { Handshake::new(password.as_ref()) };
    let Ok(mut handshake) = started else {
        assert!(password.is_some_and(|password| password.expose().len() > 65_535), "the password fits a frame");
        return None;
    };
    let mut sent = Vec::new();
    for _ in 0..STEPS {
        sent.extend(server.receive(handshake.output(), false).iter().map(Message::kind));
        let allowed = if password.is_some() { &[Kind::Auth, Kind::Hello][..] } else { &[Kind::Hello] };
        assert!(allowed.starts_with(&sent), "sent {sent:?}");
        match handshake.handle_input(&mut buffer) {
            Ok(None) => {}
            Ok(Some(result)) => return Some(result),
            Err(_) => return None,
        }
        if input.is_empty() {
            break;
        }
        server.send(input);
        server.deliver(count(input), &mut buffer);
    }
    None
}

/// The tokens of a client's requests.
#[derive(Default)]
struct Tokens {
    last: u32,
    /// The tokens of requests without a response.
    open: BTreeSet<u32>,
}

impl Tokens {
    fn next(&mut self) -> u32 {
        self.last += 1;
        self.open.insert(self.last);
        self.last
    }

    /// Closes a request that completed or was returned.
    fn close(&mut self, token: u32) {
        assert!(self.open.remove(&token), "request {token} completes twice");
    }
}

/// Drives one connection after the other, and checks all events and views.
pub fn connections(input: &mut Unstructured<'_>) {
    let (mut tokens, mut delivered) = (Tokens::default(), 0);
    let mut lost = LostConnection { unanswered: Vec::new(), deferred: Vec::new(), replicas: Replicas::new() };
    for _ in 0..4 {
        let LostConnection { unanswered, deferred, replicas } = lost;
        // The driver reports the failure, or repeats the request with a new token.
        for (_, token) in unanswered {
            tokens.close(token);
        }
        let is_base = byte(input) % 8 == 0;
        let connection = if is_base {
            ClientConnection::base(replicas, deferred)
        } else {
            ClientConnection::extended(&hello(input), replicas, deferred)
        };
        let (server, buffer) = (Server::default(), BytesMut::new());
        lost = Session { connection, delivered: &mut delivered, server, buffer, is_base }.run(input, &mut tokens);
        if input.is_empty() {
            return;
        }
    }
}

/// One connection.
struct Session<'a> {
    connection: ClientConnection<u32>,
    /// The number of bytes that all connections received.
    delivered: &'a mut usize,
    server: Server,
    buffer: BytesMut,
    is_base: bool,
}

/// What readers see of each prefix: store, revision, and the keys with their versions and value lengths.
type Snapshot = Vec<(StoreId, Revision, Vec<(Bytes, Version, usize)>)>;

impl Session<'_> {
    fn run(mut self, input: &mut Unstructured<'_>, tokens: &mut Tokens) -> LostConnection<u32> {
        for _ in 0..STEPS {
            if input.is_empty() || self.step(input, tokens).is_err() {
                break;
            }
        }
        let shown = self.shown();
        let in_flight = self.connection.in_flight();
        let lost = self.connection.into_lost();
        assert!(lost.deferred.len() <= in_flight + tokens.open.len());
        let mut returned: Vec<_> = lost.unanswered.iter().map(|(_, token)| *token).collect();
        returned.extend(lost.deferred.iter().map(|(token, _)| *token));
        returned.sort_unstable();
        assert_eq!(returned, tokens.open.iter().copied().collect::<Vec<_>>(), "all open requests are returned");
        assert_eq!(shown, snapshot(&lost.replicas), "readers see the same as before");
        lost
    }

    fn step(&mut self, input: &mut Unstructured<'_>, tokens: &mut Tokens) -> Result<(), ProtocolError> {
        match byte(input) % 8 {
            0..=2 => {
                let before = self.shown();
                let token = tokens.next();
                if let Err(SendError { token: returned, .. }) = self.connection.request(request(input), token) {
                    assert_eq!(returned, token);
                    tokens.close(token);
                }
                assert_eq!(before, self.shown(), "a request changes what readers see");
                self.events(tokens)
            }
            3 | 4 => {
                self.server.send(input);
                Ok(())
            }
            5 => {
                self.server.receive(self.connection.output(), self.is_base);
                Ok(())
            }
            _ => {
                self.server.receive(self.connection.output(), self.is_base);
                *self.delivered += self.server.deliver(count(input), &mut self.buffer);
                self.events(tokens)
            }
        }
    }

    /// Passes the received bytes to the connection until they are used up.
    fn events(&mut self, tokens: &mut Tokens) -> Result<(), ProtocolError> {
        // Each frame has at least three bytes, and may complete all requests that wait for it.
        let max = (self.buffer.len() + 1) * EVENTS + tokens.open.len();
        for count in 0.. {
            assert!(count <= max, "the events do not end");
            let before = self.shown();
            let event = self.connection.handle_input(&mut self.buffer)?;
            let marked = matches!(event, Event::Marked { .. });
            assert!(marked || before == self.shown(), "the views change without a MARK");
            match event {
                Event::Response { token, .. } => tokens.close(token),
                Event::Marked { revision } => self.check_shown(revision),
                Event::Change { .. } | Event::Notice { .. } => {}
                Event::Incomplete { expected } => {
                    assert!(self.buffer.len() < expected && expected <= MAX_LARGE_FRAME_LENGTH, "{expected} bytes");
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Checks that current views are at the revision of the MARK, and that readers see no more bytes than were received.
    fn check_shown(&self, revision: Revision) {
        let views = self.connection.replicas().views();
        for view in KEYS.iter().filter_map(|prefix| views.view(prefix)).filter(|view| view.is_current()) {
            assert_eq!(view.revision(), revision);
        }
        let bytes = |(.., keys): &(_, _, Vec<(Bytes, Version, usize)>)| -> usize {
            keys.iter().map(|(key, _, value)| key.len() + value).sum()
        };
        let largest = self.shown().iter().map(bytes).max().unwrap_or_default();
        assert!(largest <= *self.delivered, "{largest} bytes are shown, {} were received", self.delivered);
    }

    fn shown(&self) -> Snapshot {
        snapshot(self.connection.replicas())
    }
}

fn snapshot(replicas: &Replicas) -> Snapshot {
    let views = replicas.views();
    let shown = KEYS.iter().filter_map(|prefix| views.view(prefix).map(|view| (prefix, view)));
    let keys = shown.map(|(prefix, view)| {
        let keys = view.range(prefix, ..).map(|(key, now)| (key.clone(), now.version, now.value.len()));
        (view.store(), view.revision(), keys.collect())
    });
    keys.collect()
}

/// Returns a request. WATCHes use a few fixed prefixes.
fn request(input: &mut Unstructured<'_>) -> Request {
    let version = |input: &mut Unstructured<'_>| Version::new(number(input));
    let value = |input: &mut Unstructured<'_>| Bytes::from(vec![7; length(input)]);
    match byte(input) % 12 {
        0 => Request::Get { key: key(input) },
        1 | 2 => Request::Put { key: key(input), value: value(input), version: version(input) },
        3 => Request::Delete { key: key(input), version: version(input) },
        4..=6 => Request::Watch { prefix: Bytes::from_static(one_of(input, &KEYS)) },
        7 => Request::Follow,
        8 => Request::Barrier,
        9 => Request::List { prefix: key(input), after: key(input), limit: 7 },
        10 => {
            let operation = |input: &mut Unstructured<'_>| match byte(input) % 3 {
                0 => Operation::Check { key: key(input), version: version(input) },
                1 => Operation::Put { key: key(input), value: value(input), version: version(input) },
                _ => Operation::Delete { key: key(input), version: version(input) },
            };
            Request::Txn { operations: (0..below(input, 4)).map(|_| operation(input)).collect() }
        }
        _ => Request::Status,
    }
}

/// Drives a cursor over several connections, and checks that its position follows its steps.
pub fn cursor(input: &mut Unstructured<'_>) {
    let prefix = key(input);
    let since = (byte(input) % 2 == 0).then(|| Position {
        store: (byte(input) % 2 == 0).then_some(StoreId::new([byte(input) % 2; 16])),
        revision: Revision::new(number(input)),
    });
    let mut cursor = Cursor::new(prefix.clone(), since);
    let mut is_first = true;
    for _ in 0..4 {
        let Ok(()) = cursor.connected(&hello(input)) else {
            return assert!(prefix.len() > 65_535, "the prefix fits a frame");
        };
        let (mut server, mut buffer) = (Server::default(), BytesMut::new());
        let sent = server.receive(cursor.output(), false);
        assert!(matches!(sent[..], [Message::Watch(_)]), "sent {sent:?}");
        assert!(cursor.patience().is_some());
        for _ in 0..STEPS {
            server.send(input);
            server.deliver(count(input), &mut buffer);
            if !steps(&mut cursor, &mut buffer, &mut is_first) || input.is_empty() {
                break;
            }
            assert!(cursor.output().is_empty(), "the cursor sends one request");
        }
        let position = cursor.position();
        cursor.lost();
        assert_eq!((cursor.patience(), cursor.position()), (None, position), "the position is kept");
        if input.is_empty() {
            return;
        }
    }
}

/// Passes the received bytes to the cursor, and checks its steps. Returns whether it can continue.
fn steps(cursor: &mut Cursor, buffer: &mut BytesMut, is_first: &mut bool) -> bool {
    for _ in 0..=buffer.len() {
        match cursor.handle_input(buffer) {
            Ok(CursorEvent::Step(step)) => {
                assert_eq!(cursor.position(), Some(step.at), "the position is not the one of the step");
                // On a later connection the catch-up may be empty. Then it is not reported, and the next step is not sorted.
                if std::mem::take(is_first) || step.is_reset {
                    assert!(step.changes.is_sorted_by(|a, b| a.key < b.key), "keys are duplicated or out of order");
                }
            }
            Ok(CursorEvent::Notice { .. }) => {}
            Ok(CursorEvent::Refused { .. }) => return false,
            Ok(CursorEvent::Incomplete { expected }) => {
                assert!(buffer.len() < expected, "{expected} bytes are available");
                return true;
            }
            Err(_) => return false,
        }
    }
    panic!("the events do not end")
}

/// Parses a position, and checks that its text form parses to the same position.
pub fn position(text: &str) {
    if let Ok(position) = text.parse::<Position>() {
        assert_eq!(position.to_string().parse(), Ok(position));
    }
}
