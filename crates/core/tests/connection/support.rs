//! A connection whose driver is the test, and the history that it is shown.

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

/// What [`ServerConnection::handle_input`] says where it has taken everything.
pub(crate) const ALL_TAKEN: Input = Input::Wanted { expected: 3 };

/// How much unsent output makes a connection wait with more.
pub(crate) const OUTPUT_ROOM: usize = 128 * 1024;

/// With more than that unsent, no page is asked for.
pub(crate) const UNSENT_BEFORE_PAGE: usize = 16 * 1024;

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

/// One PUT, as the history holds it.
pub(crate) fn write(key: &'static str, value: impl Into<Bytes>, version: u64) -> Operation {
    Operation::Put { key: key.into(), value: value.into(), version: Version::new(version) }
}

/// One deletion, as the history holds it.
pub(crate) fn delete(key: &'static str, version: u64) -> Operation {
    Operation::Delete { key: key.into(), version: Version::new(version) }
}

/// What the connection asks for when a PUT is to be done.
pub(crate) fn commit(key: &'static str, value: impl Into<Bytes>, version: u64) -> Effect {
    Effect::Commit { transaction: Transaction { origin: ME, operations: [write(key, value, version)].into() } }
}

/// What it asks for when a GET is to be done.
pub(crate) fn read(key: &'static str) -> Effect {
    Effect::Get { key: key.into() }
}

pub(crate) fn accepted(revision: Revision) -> Outcome {
    Outcome::Accepted { revision }
}

pub(crate) fn stale(at: Revision) -> Outcome {
    Outcome::Stale { operation: 0, at }
}

/// The state of a key that is there.
pub(crate) fn entry(key: &'static str, value: impl Into<Bytes>, version: u64, revision: Revision) -> Entry {
    Entry { key: key.into(), value: Some(value.into()), version: Version::new(version), revision }
}

/// The state of a key that was deleted.
pub(crate) fn tombstone(key: &'static str, version: u64, revision: Revision) -> Entry {
    Entry { key: key.into(), value: None, version: Version::new(version), revision }
}

/// One page of what changed, read when its last entry was the head.
pub(crate) fn page(entries: impl Into<Vec<Entry>>, through: Revision) -> Page {
    page_read_at(entries, through, through)
}

/// One page of what changed, read at a head.
pub(crate) fn page_read_at(entries: impl Into<Vec<Entry>>, through: Revision, head: Revision) -> Page {
    Page { entries: entries.into(), through, head }
}

/// One page of keys, read at a head.
pub(crate) fn keys(entries: impl Into<Vec<Entry>>, next: Option<&'static str>, head: Revision) -> KeyPage {
    KeyPage { entries: entries.into(), next: next.map(Bytes::from), head }
}

/// A change, as those are told who have said HELLO and did not make it.
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

/// A revision, or the number of one.
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

/// What HELLO is answered with at a head.
pub(crate) fn greeting(tag: u16, head: u64) -> Message {
    let greeting = ServerHello {
        protocol: 1,
        features: 0,
        store_id: *b"the test's store",
        head: Revision::new(head),
        heartbeat_ms: 2000,
        max_key: 4096,
        max_entry: 65_525,
    };
    Message::hello(Tag::new(tag), greeting.encode())
}

/// The history, as its recent log shows it.
pub(crate) struct History {
    pub(crate) log: RecentLog,
}

impl History {
    /// A history of ten transactions, none of which the log holds, and a log that holds all that follow.
    pub(crate) fn new() -> Self {
        Self::keeping(usize::MAX)
    }

    /// The same, and a log of so many bytes.
    pub(crate) const fn keeping(max_bytes: usize) -> Self {
        Self { log: RecentLog::new(Revision::new(10), max_bytes) }
    }

    /// Commits one PUT.
    pub(crate) fn put(
        &mut self,
        origin: Option<ConnId>,
        key: &'static str,
        value: impl Into<Bytes>,
        version: u64,
    ) -> Revision {
        self.commit([(origin, vec![write(key, value, version)])])
    }

    /// Commits transactions in one batch; answers the revision of the last.
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

/// A connection, what came in for it, and what it has sent.
pub(crate) struct Peer {
    pub(crate) connection: ServerConnection,
    input: BytesMut,
    received: BytesMut,
}

impl Peer {
    /// One that follows the history from here on, under the default limits.
    pub(crate) fn following(history: &History) -> Self {
        Self::within(Limits::default(), history)
    }

    /// The same, under other limits.
    pub(crate) fn within(limits: Limits, history: &History) -> Self {
        let mut peer = Self::new(Access::open(), limits);
        peer.connection.handle_log(&history.log);
        peer
    }

    /// One that was shown no log yet.
    pub(crate) fn new(access: Access, limits: Limits) -> Self {
        let parameters = ServerParameters {
            limits: limits.validated().unwrap(),
            store: StoreId::new(*b"the test's store"),
            heartbeat: Duration::from_secs(2),
        };
        let connection = ServerConnection::new(ME.unwrap(), parameters, access);
        Self { connection, input: BytesMut::new(), received: BytesMut::new() }
    }

    /// One that has said HELLO.
    pub(crate) fn extended(history: &History) -> Self {
        Self::extended_within(Limits::default(), history)
    }

    /// The same, under other limits.
    pub(crate) fn extended_within(limits: Limits, history: &History) -> Self {
        let mut peer = Self::within(limits, history);
        peer.send(&[hello(1)]);
        assert!(matches!(peer.shown(history)[..], [Message::Hello(_)]));
        peer
    }

    /// One that watches a prefix under which there is nothing yet.
    pub(crate) fn watching(prefix: &'static str, history: &History) -> Self {
        let mut peer = Self::extended(history);
        peer.send(&[watch(2, prefix, 0)]);
        assert_eq!(peer.shown(history), []);
        assert!(matches!(peer.effects()[..], [Effect::Page(PageRequest::Keys { .. })]));
        peer.handle_keys(Ok(keys([], None, history.log.head())));
        assert_eq!(peer.shown(history), [mark(2, history.log.head())]);
        peer
    }

    /// Passes on what the store returned for [`PageRequest::Changes`].
    pub(crate) fn handle_changes(&mut self, page: Result<Page, PageError>) {
        self.connection.handle_page(PageResult::Changes(page));
    }

    /// Passes on what the store returned for [`PageRequest::Keys`].
    pub(crate) fn handle_keys(&mut self, page: Result<KeyPage, Arc<str>>) {
        self.connection.handle_page(PageResult::Keys(page));
    }

    /// Frames come in.
    pub(crate) fn send(&mut self, messages: &[Message]) -> Input {
        messages.iter().for_each(|message| message.encode(&mut self.input).unwrap());
        self.go_on()
    }

    /// Any bytes come in.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> Input {
        self.input.extend_from_slice(bytes);
        self.go_on()
    }

    /// Hands it again what it has left of the input.
    pub(crate) fn go_on(&mut self) -> Input {
        self.connection.handle_input(&mut self.input)
    }

    /// Everything that it asks for now.
    pub(crate) fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.connection.poll_effect()).collect()
    }

    /// Takes up to so many bytes of the output; answers how many there were.
    pub(crate) fn take(&mut self, bytes: usize) -> usize {
        let output = self.connection.output();
        let count = bytes.min(output.remaining());
        self.received.extend_from_slice(&output.copy_to_bytes(count));
        count
    }

    /// The whole frames of what was taken, each once.
    pub(crate) fn received(&mut self) -> Vec<Message> {
        let mut frames = Vec::new();
        loop {
            match decode(&mut self.received) {
                Ok(Decoded::Frame(frame)) => frames.push(frame),
                Ok(Decoded::Incomplete { .. }) => return frames,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Takes all that may be sent without another look at the log.
    pub(crate) fn sent(&mut self) -> Vec<Message> {
        self.take(usize::MAX);
        let frames = self.received();
        assert!(self.received.is_empty(), "half a frame");
        frames
    }

    /// Shows it the log, and takes all that it sends then.
    pub(crate) fn shown(&mut self, history: &History) -> Vec<Message> {
        self.connection.handle_log(&history.log);
        self.sent()
    }
}

/// The bytes of a PUT frame of this key and value.
pub(crate) const fn put_bytes(key: &str, value: usize) -> usize {
    Put::OVERHEAD + key.len() + value
}
