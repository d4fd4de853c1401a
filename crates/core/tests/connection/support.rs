//! A connection that the test drives, the history that it is shown, and short constructors of frames, effects and results.

use bytes::{Buf, Bytes, BytesMut};
use std::sync::Arc;
use std::time::Duration;
use syncline_core::server::{
    Access, Effect, Input, Limits, PageRequest, PageResult, ServerConnection, ServerParameters,
};
use syncline_core::{
    CommitBatch, Committed, ConnId, Entry, KeyPage, Operation, Outcome, Page, PageError, RecentLog, StoreId,
    Transaction,
};
use syncline_wire::{Decoded, Message, Put, Revision, ServerHello, Tag, Version, decode};

/// The connection under test.
pub(crate) const ME: Option<ConnId> = Some(ConnId::new(1));
/// Another connection of the same server.
pub(crate) const OTHER: Option<ConnId> = Some(ConnId::new(2));

/// What [`ServerConnection::handle_input`] returns when it has decoded everything.
pub(crate) const ALL_DECODED: Input = Input::Wanted { expected: 3 };

/// The unsent bytes from which on a connection adds no more to its output.
pub(crate) const MAX_UNSENT_OUTPUT: usize = 128 * 1024;

/// With more unsent bytes than this, a connection reads no page of the store.
pub(crate) const MAX_UNSENT_BEFORE_PAGE: usize = 16 * 1024;

pub(crate) fn get(tag: u16, key: &'static str) -> Message {
    Message::get(Tag::new(tag), key)
}

pub(crate) fn put(tag: u16, key: &'static str, value: impl Into<Bytes>, version: u64) -> Message {
    Message::put(Tag::new(tag), key, value, Version::new(version))
}

pub(crate) fn broadcast(key: &'static str, value: impl Into<Bytes>, version: u64) -> Message {
    put(0, key, value, version)
}

pub(crate) fn error(tag: u16, text: impl Into<Bytes>) -> Message {
    Message::error(Tag::new(tag), text)
}

pub(crate) fn auth(tag: u16, password: &'static str) -> Message {
    Message::auth(Tag::new(tag), password)
}

/// Returns a PUT as an operation of a transaction.
pub(crate) fn put_operation(key: &'static str, value: impl Into<Bytes>, version: u64) -> Operation {
    Operation::Put { key: key.into(), value: value.into(), version: Version::new(version) }
}

/// Returns a DELETE as an operation of a transaction.
pub(crate) fn delete_operation(key: &'static str, version: u64) -> Operation {
    Operation::Delete { key: key.into(), version: Version::new(version) }
}

/// Returns the effect of a PUT.
pub(crate) fn commit_effect(key: &'static str, value: impl Into<Bytes>, version: u64) -> Effect {
    Effect::Commit { transaction: Transaction { origin: ME, operations: [put_operation(key, value, version)].into() } }
}

/// Returns the effect of a GET.
pub(crate) fn get_effect(key: &'static str) -> Effect {
    Effect::Get { key: key.into() }
}

pub(crate) fn accepted(revision: Revision) -> Outcome {
    Outcome::Accepted { revision }
}

pub(crate) fn stale(at: Revision) -> Outcome {
    Outcome::Stale { operation: 0, at }
}

/// Returns the state of a key that has a value.
pub(crate) fn entry(key: &'static str, value: impl Into<Bytes>, version: u64, revision: Revision) -> Entry {
    Entry { key: key.into(), value: Some(value.into()), version: Version::new(version), revision }
}

/// Returns the state of a key that was deleted.
pub(crate) fn tombstone(key: &'static str, version: u64, revision: Revision) -> Entry {
    Entry { key: key.into(), value: None, version: Version::new(version), revision }
}

/// Returns a page of changes that was read when `through` was the head.
pub(crate) fn page(entries: impl Into<Vec<Entry>>, through: Revision) -> Page {
    page_read_at(entries, through, through)
}

/// Returns a page of changes that was read when `head` was the head.
pub(crate) fn page_read_at(entries: impl Into<Vec<Entry>>, through: Revision, head: Revision) -> Page {
    Page { entries: entries.into(), through, head }
}

/// Returns a page of keys that was read when `head` was the head.
pub(crate) fn keys(entries: impl Into<Vec<Entry>>, next: Option<&'static str>, head: Revision) -> KeyPage {
    KeyPage { entries: entries.into(), next: next.map(Bytes::from), head }
}

/// Returns the broadcast of a deletion to a connection that has sent HELLO.
pub(crate) fn deletion(key: &'static str, version: u64) -> Message {
    Message::delete(Tag::BROADCAST, key, Version::new(version))
}

pub(crate) fn hello(tag: u16) -> Message {
    Message::hello(Tag::new(tag), "")
}

pub(crate) fn watch(tag: u16, prefix: &'static str, since: u64) -> Message {
    Message::watch(Tag::new(tag), prefix, Revision::new(since))
}

pub(crate) fn mark(tag: u16, revision: impl Into<At>) -> Message {
    Message::mark(Tag::new(tag), revision.into().0)
}

/// A revision, or its number.
pub(crate) struct At(Revision);

impl From<Revision> for At {
    fn from(revision: Revision) -> Self {
        Self(revision)
    }
}

impl From<u64> for At {
    fn from(number: u64) -> Self {
        Self(Revision::new(number))
    }
}

/// Returns the response to HELLO at a head.
pub(crate) fn server_hello(tag: u16, head: u64) -> Message {
    let hello = ServerHello {
        protocol: 1,
        features: 0,
        store_id: *b"the test's store",
        head: Revision::new(head),
        heartbeat_ms: 2000,
        max_key: 4096,
        max_entry: 65_525,
    };
    Message::hello(Tag::new(tag), hello.encode())
}

/// The history of a store: a recent log that the test appends to.
pub(crate) struct History {
    pub(crate) log: RecentLog,
}

impl History {
    /// Returns a history of ten transactions, and a log that holds only those that follow.
    pub(crate) fn new() -> Self {
        Self::keeping(usize::MAX)
    }

    /// Returns the same history with a log of at most `max_bytes` bytes.
    pub(crate) const fn keeping(max_bytes: usize) -> Self {
        Self { log: RecentLog::new(Revision::new(10), max_bytes) }
    }

    /// Commits one PUT. Returns its revision.
    pub(crate) fn put(
        &mut self,
        origin: Option<ConnId>,
        key: &'static str,
        value: impl Into<Bytes>,
        version: u64,
    ) -> Revision {
        self.commit([(origin, vec![put_operation(key, value, version)])])
    }

    /// Commits transactions in one batch. Returns the revision of the last.
    pub(crate) fn commit(&mut self, batch: impl IntoIterator<Item = (Option<ConnId>, Vec<Operation>)>) -> Revision {
        let mut revision = self.log.head();
        let committed = batch.into_iter().map(|(origin, operations)| {
            revision = revision.next().unwrap();
            Committed { revision, origin, operations: operations.into() }
        });
        self.log.append(CommitBatch::encode(&committed.collect::<Vec<_>>()));
        revision
    }
}

/// The connection under test, its undecoded input, and the bytes that the test has read from it.
pub(crate) struct Harness {
    pub(crate) connection: ServerConnection,
    input: BytesMut,
    received: BytesMut,
}

impl Harness {
    /// Returns a base connection that follows the history from here on, under the default limits.
    pub(crate) fn following(history: &History) -> Self {
        Self::within(Limits::default(), history)
    }

    /// Returns a base connection that follows the history from here on.
    pub(crate) fn within(limits: Limits, history: &History) -> Self {
        let mut harness = Self::new(Access::open(), limits);
        harness.connection.handle_log(&history.log);
        harness
    }

    /// Returns a connection that was shown no log yet.
    pub(crate) fn new(access: Access, limits: Limits) -> Self {
        let parameters = ServerParameters {
            limits: limits.validated().unwrap(),
            store: StoreId::new(*b"the test's store"),
            heartbeat: Duration::from_secs(2),
        };
        let connection = ServerConnection::new(ME.unwrap(), parameters, access);
        Self { connection, input: BytesMut::new(), received: BytesMut::new() }
    }

    /// Returns a connection that has sent HELLO, under the default limits.
    pub(crate) fn extended(history: &History) -> Self {
        Self::extended_within(Limits::default(), history)
    }

    /// Returns a connection that has sent HELLO.
    pub(crate) fn extended_within(limits: Limits, history: &History) -> Self {
        let mut harness = Self::within(limits, history);
        harness.send(&[hello(1)]);
        assert!(matches!(harness.show_log(history)[..], [Message::Hello(_)]));
        harness
    }

    /// Returns a connection that watches a prefix under which there are no keys yet.
    pub(crate) fn watching(prefix: &'static str, history: &History) -> Self {
        let mut harness = Self::extended(history);
        harness.send(&[watch(2, prefix, 0)]);
        assert_eq!(harness.show_log(history), []);
        assert!(matches!(harness.effects()[..], [Effect::Page(PageRequest::Keys { .. })]));
        harness.handle_keys(Ok(keys([], None, history.log.head())));
        assert_eq!(harness.show_log(history), [mark(2, history.log.head())]);
        harness
    }

    /// Completes [`PageRequest::Changes`].
    pub(crate) fn handle_changes(&mut self, page: Result<Page, PageError>) {
        self.connection.handle_page(PageResult::Changes(page));
    }

    /// Completes [`PageRequest::Keys`].
    pub(crate) fn handle_keys(&mut self, page: Result<KeyPage, Arc<str>>) {
        self.connection.handle_page(PageResult::Keys(page));
    }

    /// Passes frames to the connection.
    pub(crate) fn send(&mut self, messages: &[Message]) -> Input {
        messages.iter().for_each(|message| message.encode(&mut self.input).unwrap());
        self.decode_rest()
    }

    /// Passes bytes to the connection.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> Input {
        self.input.extend_from_slice(bytes);
        self.decode_rest()
    }

    /// Passes the undecoded rest of the input to the connection again.
    pub(crate) fn decode_rest(&mut self) -> Input {
        self.connection.handle_input(&mut self.input)
    }

    /// Returns all effects that the connection has now.
    pub(crate) fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.connection.poll_effect()).collect()
    }

    /// Reads up to `bytes` bytes of the output. Returns how many there were.
    pub(crate) fn read(&mut self, bytes: usize) -> usize {
        let output = self.connection.output();
        let count = bytes.min(output.remaining());
        self.received.extend_from_slice(&output.copy_to_bytes(count));
        count
    }

    /// Returns the whole frames that were read, each once.
    pub(crate) fn frames(&mut self) -> Vec<Message> {
        let mut frames = Vec::new();
        loop {
            match decode(&mut self.received) {
                Ok(Decoded::Frame(frame)) => frames.push(frame),
                Ok(Decoded::Incomplete { .. }) => return frames,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads the whole output, without showing the log first.
    pub(crate) fn read_all(&mut self) -> Vec<Message> {
        self.read(usize::MAX);
        let frames = self.frames();
        assert!(self.received.is_empty(), "expected whole frames");
        frames
    }

    /// Shows the connection the log, and reads the whole output.
    pub(crate) fn show_log(&mut self, history: &History) -> Vec<Message> {
        self.connection.handle_log(&history.log);
        self.read_all()
    }
}

/// Returns the bytes of a PUT frame with this key and a value of `value` bytes.
pub(crate) const fn put_bytes(key: &str, value: usize) -> usize {
    Put::OVERHEAD + key.len() + value
}
