//! The driver of the connection, the store, and what both do next.

use super::checks::Checks;
use super::history::History;
use crate::choose::{below, byte, count, key, length, number, one_of, raw};
use arbitrary::Unstructured;
use bytes::{Buf, Bytes, BytesMut};
use pollster::block_on;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use syncline_core::server::{
    Access, Effect, Input, Limits, PageRequest, PageResult, ServerConnection, ServerParameters,
};
use syncline_core::{
    CommitBatch, ConnId, Entry, KeyPage, Operation, Outcome, Page, PageError, RecentLog, Rights, StoreId, Transaction,
};
use syncline_store::{MemoryStore, Store, read_page};
use syncline_wire::{Message, Revision, Tag, Version};

/// The connection under test.
const ME: ConnId = ConnId::new(1);

/// The most steps of one input.
const STEPS: usize = 400;

/// How often everything is served at the end, at the most: as soon as nothing is left to do, it ends.
const ROUNDS: usize = 10_000;

/// How much unsent output makes a connection wait with more (`core/src/server/timeline.rs`).
const OUTPUT_ROOM: usize = 128 * 1024;

/// More than any single answer, transaction or page that this driver makes has in frames.
const LARGEST: usize = 800 * 1024;

/// The most that waits to be sent to somebody who is not known, and one answer more.
const MAX_UNSENT_UNAUTHENTICATED: usize = 2 * 2048;

/// How large pages are made, so that there are several.
const PAGE: usize = 60;

/// What was done for a connection.
enum Done {
    Verdict(Option<Arc<Rights>>),
    Outcome(Outcome),
    Entry(Result<Option<Entry>, Arc<str>>),
    Status,
    Page(PageResult),
}

struct World {
    connection: ServerConnection,
    limits: Limits,
    checks: Checks,
    /// Whether the store says the truth.
    is_true: bool,
    store: MemoryStore,
    /// What is committed, and not in the log yet.
    feed: Arc<Mutex<Vec<CommitBatch>>>,
    log: RecentLog,
    history: History,
    /// Sent by the client, and not there yet.
    outgoing: BytesMut,
    /// Not taken yet.
    input: BytesMut,
    wanted: Input,
    has_ended: bool,
    /// Since it was abandoned: how much there is to be written, and no more will be.
    left: Option<usize>,
    commits: VecDeque<Transaction>,
    done: VecDeque<Done>,
    /// Pages are answered beside the rest.
    pages: VecDeque<Done>,
    /// The head when it began to follow the log.
    begun: Option<Revision>,
    next_tag: u16,
    values: u64,
    status: Bytes,
}

/// Lets an input drive a connection, and checks all that it sends.
pub fn run(input: &mut Unstructured<'_>) {
    let mut world = World::new(input);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        world.step(input);
    }
    world.finish(input);
}

/// The rights of some user.
fn rights(input: &mut Unstructured<'_>) -> Arc<Rights> {
    let prefixes = |input: &mut Unstructured<'_>| (0..below(input, 3)).map(|_| key(input)).collect::<Vec<_>>();
    Arc::new(match byte(input) % 3 {
        0 => Rights::all(),
        _ => Rights::new(prefixes(input), prefixes(input)),
    })
}

impl World {
    fn new(input: &mut Unstructured<'_>) -> Self {
        let setting = byte(input);
        let is_true = setting & 3 != 0;
        let limits = if setting & 8 == 0 {
            Limits::default()
        } else {
            let limits = Limits {
                max_key: one_of(input, &[4096, 0, 3, 65_535]),
                max_entry: one_of(input, &[65_525, 10, 200_000]),
                max_requests: one_of(input, &[4096, 1, 2, 5]),
                max_unsent: one_of(input, &[1 << 20, 1, 100, 10_000]),
            };
            limits.validated().expect("the protocol allows them")
        };
        let max_log = one_of(input, &[1 << 20, 0, 300, 2000]);
        let parameters = ServerParameters { limits, store: StoreId::new([7; 16]), heartbeat: Duration::from_secs(2) };
        let rights = (setting & 4 == 0).then(|| rights(input));
        let access = rights.clone().map_or(Access::Password, Access::Granted);
        let store = MemoryStore::new().expect("there are random numbers");
        let feed = Arc::new(Mutex::new(Vec::new()));
        let of_store = feed.clone();
        store.follow(Box::new(move |committed| {
            of_store.lock().expect("no panic").push(CommitBatch::encode(committed));
        }));
        Self {
            connection: ServerConnection::new(ME, parameters, access),
            limits,
            checks: Checks::new(&limits, rights, is_true),
            is_true,
            store,
            feed,
            log: RecentLog::new(Revision::ZERO, max_log),
            history: History::default(),
            outgoing: BytesMut::new(),
            input: BytesMut::new(),
            wanted: Input::Wanted { expected: 0 },
            has_ended: false,
            left: None,
            commits: VecDeque::new(),
            done: VecDeque::new(),
            pages: VecDeque::new(),
            begun: None,
            next_tag: 1,
            values: 0,
            status: Bytes::from_static(b"{}"),
        }
    }

    fn step(&mut self, input: &mut Unstructured<'_>) {
        match byte(input) % 16 {
            0..=3 => self.ask(input),
            4 => {
                let bytes = raw(input);
                self.outgoing.extend_from_slice(&bytes);
            }
            5 => {
                let bytes = count(input);
                _ = self.deliver(bytes);
            }
            6 => self.work(Some(input)),
            7 => {
                let most = below(input, 4) + 1;
                _ = self.commit(most);
            }
            8 => _ = self.hand(),
            9 => _ = self.hand_page(),
            10 => self.show(),
            11 => {
                let bytes = count(input);
                _ = self.take(bytes);
            }
            12 => self.others(input),
            13 => {
                self.connection.handle_beat();
                self.show();
            }
            14 => _ = self.serve(Some(input)),
            _ => match byte(input) % 16 {
                0 => {
                    self.connection.close("shutting down");
                    self.checks.is_closed = true;
                }
                1 => self.abandon(),
                2 => self.end(),
                3..8 => {
                    self.connection.own_keys();
                    self.connection.output().shrink();
                }
                _ => self.feed(),
            },
        }
        self.check_bounds();
    }

    /// The client sends something that makes sense, mostly.
    fn ask(&mut self, input: &mut Unstructured<'_>) {
        let tag = match byte(input) {
            other @ 240.. => Tag::new(u16::from(other) - 240),
            _ => {
                self.next_tag += 1;
                Tag::new(self.next_tag)
            }
        };
        let message = match byte(input) % 20 {
            0..=2 => Message::hello(tag, ""),
            3 | 4 => Message::get(tag, key(input)),
            5 | 6 => {
                let key = key(input);
                let version = self.version(&key, input);
                Message::write(tag, key, self.value(length(input)), version)
            }
            7 => {
                let key = key(input);
                let version = self.version(&key, input);
                Message::delete(tag, key, version)
            }
            8 | 9 => {
                let operations = (0..below(input, 5)).map(|_| self.operation(input)).collect();
                Message::txn(tag, operations)
            }
            10..=12 => {
                let since = match byte(input) {
                    0..160 => Revision::ZERO,
                    known @ 160..230 => Revision::new(u64::from(known - 160)),
                    _ => Revision::new(number(input)),
                };
                Message::watch(tag, key(input), since)
            }
            13 | 14 => Message::list(tag, key(input), key(input), u32::try_from(number(input)).unwrap_or(u32::MAX)),
            15 => Message::mark(tag, Revision::ZERO),
            16 => Message::status(tag, ""),
            17 => Message::auth(tag, "password"),
            18 => Message::put_large(tag, key(input), self.value(length(input)), Version::new(number(input))),
            _ => Message::error(tag, raw(input)),
        };
        message.encode(&mut self.outgoing).expect("it was made to be encoded");
    }

    fn operation(&mut self, input: &mut Unstructured<'_>) -> Operation {
        let key = key(input);
        let version = self.version(&key, input);
        match byte(input) % 4 {
            0 | 1 => Operation::Put { key, value: self.value(length(input) % 700), version },
            2 => Operation::Delete { key, version },
            _ => Operation::Check { key, version: Version::new(version.get().saturating_sub(1)) },
        }
    }

    /// The version that a write should carry now, mostly.
    fn version(&self, key: &[u8], input: &mut Unstructured<'_>) -> Version {
        if byte(input) >= 230 {
            return Version::new(number(input));
        }
        let entry = block_on(self.store.get(key)).expect("memory has no trouble");
        let version = entry.map_or(Version::ABSENT, |entry| entry.version);
        version.next().unwrap_or(Version::MAX)
    }

    /// A value that is written once.
    fn value(&mut self, length: usize) -> Bytes {
        self.values += 1;
        let mut value = self.values.to_string().into_bytes();
        value.resize(length.max(value.len()), b'v');
        value.into()
    }

    fn deliver(&mut self, bytes: usize) -> bool {
        if !self.has_ended {
            let arrived = self.outgoing.split_to(bytes.min(self.outgoing.len()));
            self.checks.handle_input(&arrived, self.log.head());
            self.input.extend_from_slice(&arrived);
        }
        let before = self.input.len();
        self.wanted = self.connection.handle_input(&mut self.input);
        match self.wanted {
            Input::Wanted { expected } => assert!(self.input.len() < expected, "{expected} bytes are there"),
            Input::Paused => {}
            Input::Closed => assert!(self.input.is_empty(), "bytes are left that are of no more use"),
        }
        self.input.len() < before
    }

    /// The driver does all that the connection asks for. With an input, the store's answers are anything that their types
    /// allow, unless it is to say the truth.
    fn work(&mut self, mut lies: Option<&mut Unstructured<'_>>) {
        let most = self.limits.max_requests + 2;
        for asked in 0.. {
            assert!(asked <= most, "{asked} things are asked for at once");
            let Some(effect) = self.connection.poll_effect() else { break };
            assert!(!self.has_answer_pending(&effect), "{effect:?} before the answer to the last");
            self.check_rights(&effect);
            let is_page = matches!(effect, Effect::Page(_));
            let done = match (&mut lies, effect) {
                (_, Effect::Commit { transaction }) => {
                    assert_eq!(transaction.origin, Some(ME));
                    self.commits.push_back(transaction);
                    continue;
                }
                (lies, Effect::Verify { .. }) => {
                    Done::Verdict(lies.as_mut().and_then(|input| (byte(input) % 4 != 0).then(|| rights(input))))
                }
                (_, Effect::Status) => Done::Status,
                (None, Effect::Get { key }) => {
                    self.read_together(key);
                    continue;
                }
                (Some(input), effect) if !self.is_true => self.lie(input, effect),
                (_, effect) => self.tell(effect),
            };
            if is_page { &mut self.pages } else { &mut self.done }.push_back(done);
        }
    }

    /// As the server's driver does it: what the store has no room for is asked for again.
    fn read_together(&mut self, first: Bytes) {
        let mut keys = vec![first];
        while let Some(key) = self.connection.poll_get() {
            self.check_rights(&Effect::Get { key: key.clone() });
            keys.push(key);
        }
        if !self.done.is_empty() {
            // Those before are answered first.
            let read = keys.into_iter().map(|key| self.tell(Effect::Get { key }));
            let read: Vec<_> = read.collect();
            return self.done.extend(read);
        }
        let entries = block_on(self.store.get_all(&keys, PAGE)).unwrap_or_default();
        assert!(!entries.is_empty(), "the first is always read");
        let is_all = entries.len() == keys.len();
        entries.into_iter().for_each(|entry| self.connection.handle_entry(Ok(entry)));
        if !is_all {
            self.connection.requeue_reads();
        }
    }

    /// Nothing is asked for that the client has no right to. (What is caught up with is filtered later.)
    fn check_rights(&self, effect: &Effect) {
        let is_permitted = match (self.connection.rights(), effect) {
            (None, effect) => matches!(effect, Effect::Verify { .. }),
            (Some(_), Effect::Verify { .. }) => false,
            (Some(rights), Effect::Commit { transaction }) => {
                transaction.operations.iter().all(|operation| match operation {
                    Operation::Check { key, .. } => rights.may_read(key),
                    Operation::Put { key, .. } | Operation::Delete { key, .. } => rights.may_write(key),
                })
            }
            (Some(rights), Effect::Get { key }) => rights.may_read(key),
            (Some(rights), Effect::Page(PageRequest::Keys { prefix, .. })) => rights.may_read(prefix),
            (Some(rights), Effect::Status) => rights.is_admin(),
            (Some(_), Effect::Page(PageRequest::Changes { .. })) => true,
        };
        assert!(is_permitted, "{effect:?} without the right to");
    }

    /// A connection asks for one page at a time, and for reads only while none of its writes are undecided.
    fn has_answer_pending(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Page(_) => !self.pages.is_empty(),
            Effect::Get { .. } | Effect::Status => {
                !self.commits.is_empty() || self.done.iter().any(|done| matches!(done, Done::Outcome(_)))
            }
            Effect::Commit { .. } => {
                self.done.iter().any(|done| matches!(done, Done::Entry(_) | Done::Status | Done::Verdict(_)))
            }
            Effect::Verify { .. } => !self.done.is_empty() || !self.commits.is_empty(),
        }
    }

    /// What the store says.
    fn tell(&self, effect: Effect) -> Done {
        match effect {
            Effect::Get { key } => Done::Entry(block_on(self.store.get(&key)).map_err(|trouble| trouble.0)),
            Effect::Page(request) => Done::Page(block_on(read_page(&self.store, &request.at_most(PAGE)))),
            Effect::Verify { .. } | Effect::Commit { .. } | Effect::Status => unreachable!("the driver does that"),
        }
    }

    /// What no store should say.
    fn lie(&mut self, input: &mut Unstructured<'_>, effect: Effect) -> Done {
        let trouble = || Arc::from("the disk is on fire");
        let kind = byte(input) % 8;
        match effect {
            Effect::Get { key } => Done::Entry(match kind {
                0 => Err(trouble()),
                1 => Ok(None),
                _ => Ok(Some(Entry { key, ..self.entry(b"", input) })),
            }),
            Effect::Page(PageRequest::Changes { prefix, .. }) => Done::Page(PageResult::Changes(match kind {
                0 => Err(PageError::Unavailable(trouble())),
                1 => Err(PageError::Untold(trouble())),
                _ => Ok(Page {
                    entries: (0..below(input, 6)).map(|_| self.entry(&prefix, input)).collect(),
                    through: Revision::new(number(input)),
                    head: Revision::new(number(input)),
                }),
            })),
            Effect::Page(PageRequest::Keys { prefix, .. }) => Done::Page(PageResult::Keys(match kind {
                0 => Err(trouble()),
                _ => Ok(KeyPage {
                    entries: (0..below(input, 6)).map(|_| self.entry(&prefix, input)).collect(),
                    next: (kind < 4).then(|| key(input)),
                    head: Revision::new(number(input)),
                }),
            })),
            other => self.tell(other),
        }
    }

    /// Any state of a key under a prefix.
    fn entry(&mut self, prefix: &[u8], input: &mut Unstructured<'_>) -> Entry {
        let value = (byte(input) % 4 != 0).then(|| self.value(length(input)));
        let (version, revision) = (Version::new(number(input)), Revision::new(number(input)));
        let mut key = [prefix, &key(input)].concat();
        key.truncate(4096.max(prefix.len()));
        Entry { key: key.into(), value, version, revision }
    }

    /// The committer takes a batch.
    fn commit(&mut self, most: usize) -> bool {
        let batch: Vec<_> = self.commits.drain(..most.min(self.commits.len())).collect();
        let outcomes = self.store.commit(batch.clone());
        for (transaction, outcome) in batch.iter().zip(outcomes) {
            if let Outcome::Accepted { revision } = &outcome {
                self.history.add(*revision, transaction);
            }
            self.done.push_back(Done::Outcome(outcome));
        }
        !batch.is_empty()
    }

    /// Others write.
    fn others(&mut self, input: &mut Unstructured<'_>) {
        let mut operations = Vec::new();
        for _ in 0..below(input, 3) + 1 {
            let operation = self.operation(input);
            if operations.iter().all(|other: &Operation| other.key() != operation.key()) {
                operations.push(operation);
            }
        }
        let operations = operations.into_iter().map(|operation| match operation {
            Operation::Check { key, version } => Operation::Check { key, version },
            Operation::Put { key, value, version } => Operation::Put { key, value, version },
            Operation::Delete { key, version } => Operation::Delete { key, version },
        });
        let transaction = Transaction { origin: None, operations: operations.collect() };
        if let [Outcome::Accepted { revision }] = self.store.commit(vec![transaction.clone()])[..] {
            self.history.add(revision, &transaction);
        }
    }

    /// What was committed gets into the log.
    fn feed(&mut self) {
        for batch in std::mem::take(&mut *self.feed.lock().expect("no panic")) {
            self.log.append(batch);
        }
    }

    fn show(&mut self) {
        self.feed();
        if self.connection.rights().is_some() {
            self.begun.get_or_insert(self.log.head());
        }
        self.connection.handle_log(&self.log);
    }

    fn hand(&mut self) -> bool {
        // Fed, then answered.
        self.feed();
        match self.done.pop_front() {
            None => return false,
            Some(Done::Verdict(verdict)) => {
                self.checks.handle_verdict(verdict.clone(), self.log.head());
                self.connection.handle_verdict(verdict);
            }
            Some(Done::Outcome(outcome)) => self.connection.handle_outcome(outcome),
            Some(Done::Entry(entry)) => self.connection.handle_entry(entry),
            Some(Done::Status) => self.connection.handle_status(self.status.clone()),
            Some(Done::Page(_)) => unreachable!("they are elsewhere"),
        }
        true
    }

    fn hand_page(&mut self) -> bool {
        match self.pages.pop_front() {
            Some(Done::Page(page)) => self.connection.handle_page(page),
            _ => return false,
        }
        true
    }

    /// The client reads.
    fn take(&mut self, bytes: usize) -> bool {
        let output = self.connection.output();
        let taken = output.copy_to_bytes(bytes.min(output.remaining()));
        self.checks.handle_output(&taken, &self.history);
        !taken.is_empty()
    }

    /// No more comes from the client, which the driver learns when all was taken that did.
    fn end(&mut self) {
        if matches!(self.wanted, Input::Wanted { .. }) && !self.has_ended {
            self.has_ended = true;
            self.connection.handle_end();
        }
    }

    fn abandon(&mut self) {
        self.connection.abandon("no answer in time");
        self.checks.is_closed = true;
        self.left = Some(self.connection.output().remaining());
        // What was asked for before is not answered any more.
        (self.done, self.pages, self.commits) = Default::default();
    }

    /// What it holds stays within bounds.
    fn check_bounds(&mut self) {
        let unsent = self.connection.output().remaining();
        let most = OUTPUT_ROOM + self.limits.max_unsent + LARGEST;
        assert!(unsent <= most, "{unsent} bytes wait to be sent, expected at most {most}");
        if self.connection.rights().is_none() {
            assert!(unsent <= MAX_UNSENT_UNAUTHENTICATED, "{unsent} bytes wait to be sent to a stranger");
        }
        if let Some(left) = &mut self.left {
            assert!(unsent <= *left, "{unsent} bytes of a connection that was abandoned, expected at most {left}");
            *left = unsent;
        }
    }

    /// All that can be done, once; answers whether that was anything.
    fn serve(&mut self, lies: Option<&mut Unstructured<'_>>) -> bool {
        let mut acted = self.deliver(usize::MAX);
        self.show();
        self.work(lies);
        acted |= self.commit(usize::MAX);
        while self.hand() {
            acted = true;
        }
        acted |= self.hand_page();
        self.show();
        acted | self.take(usize::MAX)
    }

    fn finish(&mut self, input: &mut Unstructured<'_>) {
        if self.is_true {
            for round in 0.. {
                assert!(round < ROUNDS, "there is no end of it");
                if !self.serve(None) && !self.serve(None) {
                    break;
                }
            }
            // One that ends is told only what its answers need.
            if self.wanted != Input::Closed && !self.has_ended {
                self.checks.assert_holds(&self.history, self.log.head());
                if let Some(begun) = self.begun {
                    self.checks.assert_told(&self.history, begun, self.log.head());
                }
            }
            self.end();
            while self.serve(None) {}
            if !matches!(self.wanted, Input::Paused) && (self.has_ended || self.wanted == Input::Closed) {
                assert!(self.connection.is_finished(), "all is answered, and it is not finished");
                self.checks.assert_answered();
            } else {
                panic!("all is answered, and it reads no more: {:?}", self.wanted);
            }
        } else {
            for _ in 0..8 {
                self.serve(Some(input));
            }
            self.abandon();
            self.take(usize::MAX);
            assert!(self.connection.is_finished(), "it was abandoned, and is not finished");
        }
    }
}
