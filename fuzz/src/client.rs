//! A client's connection, or cursor, whose driver is the input, and a server that makes sense only sometimes.

use crate::choose::{KEYS, below, byte, count, key, length, number, one_of, raw};
use arbitrary::Unstructured;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::BTreeSet;
use syncline_core::client::{
    ClientConnection, Cursor, CursorEvent, Event, Handshake, HandshakeResult, Lost, Position, ProtocolError, Refused,
    Replicas, Request,
};
use syncline_core::{Operation, Output, StoreId};
use syncline_wire::{
    Decoded, Kind, MAX_LARGE_FRAME_LENGTH, Message, Password, Revision, ServerHello, Tag, Txn, Version, decode,
};

/// The most steps of one input.
const STEPS: usize = 400;

/// The most events that one frame makes, beside those for whoever waits for it.
const EVENTS: usize = 8;

/// A server whose bytes come in pieces.
#[derive(Debug, Default)]
struct Server {
    /// What the client has sent.
    received: BytesMut,
    /// What it has asked, and was not answered.
    asked: Vec<Message>,
    /// What is on the way to the client.
    outgoing: BytesMut,
    revision: u64,
}

impl Server {
    /// Takes what the client sends: frames that clients send.
    fn take(&mut self, output: &mut Output, is_base: bool) -> Vec<Message> {
        self.received.extend_from_slice(&output.copy_to_bytes(output.remaining()));
        let mut frames = Vec::new();
        while let Decoded::Frame(frame) = decode(&mut self.received).expect("a client sends frames") {
            let may_be_sent = match frame.kind() {
                Kind::Get | Kind::Put => true,
                Kind::Error => false,
                Kind::Auth | Kind::Hello => true,
                _ => !is_base,
            };
            assert!(may_be_sent, "{frame} to a server that can't know it");
            assert_ne!(frame.tag(), Tag::BROADCAST, "{frame} without a tag");
            self.asked.push(frame.clone());
            frames.push(frame);
        }
        assert!(self.received.is_empty(), "half a frame");
        frames
    }

    /// Sends something: an answer mostly.
    fn send(&mut self, input: &mut Unstructured<'_>) {
        let frames = match byte(input) % 8 {
            0..=3 if !self.asked.is_empty() => self.answer(input),
            4 => {
                let bytes = raw(input);
                return self.outgoing.extend_from_slice(&bytes);
            }
            5 => vec![self.mark(Tag::BROADCAST, input)],
            _ => vec![self.any(input)],
        };
        frames.iter().for_each(|frame| frame.encode(&mut self.outgoing).expect("it was made to be encoded"));
    }

    fn mark(&mut self, tag: Tag, input: &mut Unstructured<'_>) -> Message {
        self.revision = match byte(input) {
            0..200 => self.revision.wrapping_add(1),
            _ => number(input),
        };
        Message::mark(tag, Revision::new(self.revision))
    }

    /// What answers a request, mostly.
    fn answer(&mut self, input: &mut Unstructured<'_>) -> Vec<Message> {
        let place = match byte(input) {
            0..200 => 0,
            _ => below(input, self.asked.len()),
        };
        // Now and then it is answered once more.
        let asked = if byte(input) < 240 { self.asked.remove(place) } else { self.asked[place].clone() };
        let tag = asked.tag();
        if byte(input) >= 220 {
            return vec![error(tag, input)];
        }
        match asked {
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
                let mut frames: Vec<_> = operations.into_iter().filter_map(|operation| told(tag, operation)).collect();
                frames.push(self.mark(tag, input));
                frames
            }
            Message::Mark(_) => vec![self.mark(tag, input)],
            Message::Hello(_) => vec![Message::hello(tag, greeting(input).encode())],
            Message::Auth(_) => vec![Message::auth(tag, "")],
            Message::Status(_) => vec![Message::status(tag, raw(input))],
            same => vec![same],
        }
    }

    /// Any frame, under a tag that may be one in flight.
    fn any(&mut self, input: &mut Unstructured<'_>) -> Message {
        let tag = match byte(input) {
            0..100 => Tag::BROADCAST,
            small => Tag::new(u16::from(small) - 99),
        };
        match byte(input) % 10 {
            0..=4 => state(tag, key(input), input),
            5 => error(tag, input),
            6 => Message::hello(tag, greeting(input).encode()),
            7 => Message::watch(tag, key(input), Revision::ZERO),
            8 => Message::auth(tag, raw(input)),
            _ => Message::status(tag, raw(input)),
        }
    }

    /// So much of it arrives; answers how much that was.
    fn deliver(&mut self, bytes: usize, buffer: &mut BytesMut) -> usize {
        let arrived = self.outgoing.split_to(bytes.min(self.outgoing.len()));
        buffer.extend_from_slice(&arrived);
        arrived.len()
    }
}

fn told(tag: Tag, operation: Operation) -> Option<Message> {
    match operation {
        Operation::Check { .. } => None,
        Operation::Put { key, value, version } => Some(Message::write(tag, key, value, version)),
        Operation::Delete { key, version } => Some(Message::delete(tag, key, version)),
    }
}

/// The state of a key.
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

/// What goes wrong: the texts that mean something, and others.
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

fn greeting(input: &mut Unstructured<'_>) -> ServerHello {
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

/// How a server speaks: it asks at most once for everything, and no server makes it panic or ask on.
pub fn handshake(input: &mut Unstructured<'_>) -> Option<HandshakeResult> {
    let mut server = Server::default();
    let mut buffer = BytesMut::new();
    let password = (byte(input) % 2 == 0).then(|| Password::new(vec![7; length(input)]));
    let is_base = byte(input) % 4 == 0;
    let begun = if is_base { Handshake::base(password.as_ref()) } else { Handshake::new(password.as_ref()) };
    let Ok(mut handshake) = begun else {
        assert!(password.is_some_and(|password| password.expose().len() > 65_535), "it fits a frame");
        return None;
    };
    let mut asked = Vec::new();
    for _ in 0..STEPS {
        asked.extend(server.take(handshake.output(), false).iter().map(Message::kind));
        let most = if password.is_some() { &[Kind::Auth, Kind::Hello][..] } else { &[Kind::Hello] };
        assert!(most.starts_with(&asked), "asks {asked:?}");
        match handshake.handle_input(&mut buffer) {
            Ok(None) => {}
            Ok(Some(speech)) => return Some(speech),
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

/// What of the requests of a client is known.
#[derive(Default)]
struct Tokens {
    last: u32,
    /// Those that are not answered.
    open: BTreeSet<u32>,
}

impl Tokens {
    fn next(&mut self) -> u32 {
        self.last += 1;
        self.open.insert(self.last);
        self.last
    }

    /// One is answered, or refused, or handed back.
    fn close(&mut self, token: u32) {
        assert!(self.open.remove(&token), "request {token} is answered twice");
    }
}

/// Lets an input drive connections, one after the other, and checks all that they say and show.
pub fn connections(input: &mut Unstructured<'_>) {
    let (mut tokens, mut told) = (Tokens::default(), 0);
    let mut left = Lost { unanswered: Vec::new(), held: Vec::new(), replicas: Replicas::new() };
    for _ in 0..4 {
        let Lost { unanswered, held, replicas } = left;
        // Whoever asked is told, or asks again.
        for (_, token) in unanswered {
            tokens.close(token);
        }
        let is_base = byte(input) % 8 == 0;
        let connection = if is_base {
            ClientConnection::base(replicas, held)
        } else {
            ClientConnection::extended(&greeting(input), replicas, held)
        };
        let (server, buffer) = (Server::default(), BytesMut::new());
        left = Session { connection, told: &mut told, server, buffer, is_base }.run(input, &mut tokens);
        if input.is_empty() {
            return;
        }
    }
}

/// One connection.
struct Session<'a> {
    connection: ClientConnection<u32>,
    /// The bytes that all connections were told.
    told: &'a mut usize,
    server: Server,
    buffer: BytesMut,
    is_base: bool,
}

/// What is shown: of each prefix, where it stands, and its keys.
type Snapshot = Vec<(StoreId, Revision, Vec<(Bytes, Version, usize)>)>;

impl Session<'_> {
    fn run(mut self, input: &mut Unstructured<'_>, tokens: &mut Tokens) -> Lost<u32> {
        for _ in 0..STEPS {
            if input.is_empty() || self.step(input, tokens).is_err() {
                break;
            }
        }
        let shown = self.shown();
        let held_before = self.connection.in_flight();
        let left = self.connection.into_lost();
        assert!(left.held.len() <= held_before + tokens.open.len());
        let mut handed: Vec<_> = left.unanswered.iter().map(|(_, token)| *token).collect();
        handed.extend(left.held.iter().map(|(token, _)| *token));
        handed.sort_unstable();
        assert_eq!(handed, tokens.open.iter().copied().collect::<Vec<_>>(), "what is not answered is handed on");
        assert_eq!(shown, snapshot(&left.replicas), "what is shown stays");
        left
    }

    fn step(&mut self, input: &mut Unstructured<'_>, tokens: &mut Tokens) -> Result<(), ProtocolError> {
        match byte(input) % 8 {
            0..=2 => {
                let before = self.shown();
                let token = tokens.next();
                if let Err(Refused { token: back, .. }) = self.connection.request(request(input), token) {
                    assert_eq!(back, token);
                    tokens.close(token);
                }
                assert_eq!(before, self.shown(), "asking changes what is shown");
                self.events(tokens)
            }
            3 | 4 => {
                self.server.send(input);
                Ok(())
            }
            5 => {
                self.server.take(self.connection.output(), self.is_base);
                Ok(())
            }
            _ => {
                self.server.take(self.connection.output(), self.is_base);
                *self.told += self.server.deliver(count(input), &mut self.buffer);
                self.events(tokens)
            }
        }
    }

    /// Hands it what has arrived, up to its end.
    fn events(&mut self, tokens: &mut Tokens) -> Result<(), ProtocolError> {
        // Each frame has three bytes at the least, and answers whoever waits for it.
        let most = (self.buffer.len() + 1) * EVENTS + tokens.open.len();
        for happened in 0.. {
            assert!(happened <= most, "there is no end of it");
            let before = self.shown();
            let event = self.connection.handle_input(&mut self.buffer)?;
            let marked = matches!(event, Event::Marked { .. });
            assert!(marked || before == self.shown(), "what is shown changes without a MARK");
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

    /// What is current is what it was at the MARK; and no more is shown than was told.
    fn check_shown(&self, revision: Revision) {
        let shown = self.connection.replicas().shown();
        for view in KEYS.iter().filter_map(|prefix| shown.view(prefix)).filter(|view| view.is_current()) {
            assert_eq!(view.revision(), revision);
        }
        let bytes = |(.., keys): &(_, _, Vec<(Bytes, Version, usize)>)| -> usize {
            keys.iter().map(|(key, _, value)| key.len() + value).sum()
        };
        let largest = self.shown().iter().map(bytes).max().unwrap_or_default();
        assert!(largest <= *self.told, "{largest} bytes are shown, {} were told", self.told);
    }

    fn shown(&self) -> Snapshot {
        snapshot(self.connection.replicas())
    }
}

fn snapshot(replicas: &Replicas) -> Snapshot {
    let shown = replicas.shown();
    let views = KEYS.iter().filter_map(|prefix| shown.view(prefix).map(|view| (prefix, view)));
    let keys = views.map(|(prefix, view)| {
        let keys = view.range(prefix, ..).map(|(key, now)| (key.clone(), now.version, now.value.len()));
        (view.store(), view.revision(), keys.collect())
    });
    keys.collect()
}

/// What a client asks for. It watches some of a few prefixes.
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

/// Lets an input drive a cursor over several connections: its steps lead from where it stands to where it stands then.
pub fn cursor(input: &mut Unstructured<'_>) {
    let prefix = key(input);
    let since = (byte(input) % 2 == 0).then(|| Position {
        store: (byte(input) % 2 == 0).then_some(StoreId::new([byte(input) % 2; 16])),
        revision: Revision::new(number(input)),
    });
    let mut cursor = Cursor::new(prefix.clone(), since);
    let mut is_first = true;
    for _ in 0..4 {
        let Ok(()) = cursor.connected(&greeting(input)) else {
            return assert!(prefix.len() > 65_535, "it fits a frame");
        };
        let (mut server, mut buffer) = (Server::default(), BytesMut::new());
        let asked = server.take(cursor.output(), false);
        assert!(matches!(asked[..], [Message::Watch(_)]), "asks {asked:?}");
        assert!(cursor.patience().is_some());
        for _ in 0..STEPS {
            server.send(input);
            server.deliver(count(input), &mut buffer);
            if !steps(&mut cursor, &mut buffer, &mut is_first) || input.is_empty() {
                break;
            }
            assert!(cursor.output().is_empty(), "it asks once");
        }
        let position = cursor.position();
        cursor.lost();
        assert_eq!((cursor.patience(), cursor.position()), (None, position), "where it stands is kept");
        if input.is_empty() {
            return;
        }
    }
}

/// What it makes of what has arrived; answers whether it can go on.
fn steps(cursor: &mut Cursor, buffer: &mut BytesMut, is_first: &mut bool) -> bool {
    for _ in 0..=buffer.len() {
        match cursor.handle_input(buffer) {
            Ok(CursorEvent::Step(step)) => {
                assert_eq!(cursor.position(), Some(step.at), "it does not stand where the step leads to");
                // Of a later connection, what it was told first may have been nothing, and so no step.
                if std::mem::take(is_first) || step.is_reset {
                    assert!(step.changes.is_sorted_by(|a, b| a.key < b.key), "keys twice, or out of order");
                }
            }
            Ok(CursorEvent::Notice { .. }) => {}
            Ok(CursorEvent::Refused { .. }) => return false,
            Ok(CursorEvent::Incomplete { expected }) => {
                assert!(buffer.len() < expected, "{expected} bytes are there");
                return true;
            }
            Err(_) => return false,
        }
    }
    panic!("there is no end of it")
}

/// Positions that people write: what is read is shown as it is read.
pub fn position(text: &str) {
    if let Ok(position) = text.parse::<Position>() {
        assert_eq!(position.to_string().parse(), Ok(position));
    }
}
