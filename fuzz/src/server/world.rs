//! The connection, its driver, its client and the store. The fuzz input chooses the next step of each.

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
    Access, Effect, Input, Limits, PageRequest, PageResult, ServerConnection, ServerParameters, StatusScope,
};
use syncline_core::{
    CommitBatch, ConnId, Entry, KeyPage, Operation, Outcome, Page, PageError, RecentLog, Rights, StoreId, Transaction,
};
use syncline_store::{MemoryStore, Store, read_page};
use syncline_wire::{Message, Revision, Tag, Version};

/// The id of the connection under test.
const CONNECTION: ConnId = ConnId::new(1);

/// The most steps of one input.
const MAX_STEPS: usize = 400;

/// The most rounds in which the remaining work may be done at the end.
const MAX_ROUNDS: usize = 10_000;

/// The unsent output above which a connection adds no more broadcasts (`core/src/server/timeline.rs`).
const MAX_UNSENT_OUTPUT: usize = 128 * 1024;

/// More than the frames of any single response, transaction or page in these tests.
const MAX_RESPONSE: usize = 800 * 1024;

/// The most unsent output of an unauthenticated connection, and one more response.
const MAX_UNSENT_UNAUTHENTICATED: usize = 2 * 2048;

/// The size of pages, in bytes: small, so that catch-ups take several.
const PAGE_BYTES: usize = 60;

/// The result of an effect.
enum Completion {
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
    /// Whether the store is honest: it returns what was committed, not arbitrary values.
    is_honest: bool,
    store: MemoryStore,
    /// What was committed, but is not in the log yet.
    feed: Arc<Mutex<Vec<CommitBatch>>>,
    log: RecentLog,
    history: History,
    /// Sent by the client, but not received by the driver.
    outgoing: BytesMut,
    /// Received by the driver, but not decoded.
    input: BytesMut,
    wanted: Input,
    has_ended: bool,
    /// After the connection was abandoned: the unsent output, which must not grow.
    abandoned_output: Option<usize>,
    commits: VecDeque<Transaction>,
    completions: VecDeque<Completion>,
    /// Pages are completed independently of the other effects.
    pages: VecDeque<Completion>,
    /// The head when the connection began to follow the log.
    follows_from: Option<Revision>,
    next_tag: u16,
    values: u64,
    status: Bytes,
}

/// Drives a connection as the input chooses, and checks everything that it sends.
pub fn run(input: &mut Unstructured<'_>) {
    let mut world = World::new(input);
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        world.step(input);
    }
    world.finish(input);
}

/// Returns the rights of a user.
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
        let is_honest = setting & 3 != 0;
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
        let receiver = feed.clone();
        store.follow(Box::new(move |committed| {
            receiver.lock().expect("no panic").push(CommitBatch::encode(committed));
        }));
        Self {
            connection: ServerConnection::new(CONNECTION, parameters, access),
            limits,
            checks: Checks::new(&limits, rights, is_honest),
            is_honest,
            store,
            feed,
            log: RecentLog::new(Revision::ZERO, max_log),
            history: History::default(),
            outgoing: BytesMut::new(),
            input: BytesMut::new(),
            wanted: Input::Wanted { expected: 0 },
            has_ended: false,
            abandoned_output: None,
            commits: VecDeque::new(),
            completions: VecDeque::new(),
            pages: VecDeque::new(),
            follows_from: None,
            next_tag: 1,
            values: 0,
            status: Bytes::from_static(b"{}"),
        }
    }

    fn step(&mut self, input: &mut Unstructured<'_>) {
        match byte(input) % 16 {
            0..=3 => self.send_request(input),
            4 => {
                let bytes = raw(input);
                self.outgoing.extend_from_slice(&bytes);
            }
            5 => {
                let bytes = count(input);
                _ = self.deliver(bytes);
            }
            6 => self.run_effects(Some(input)),
            7 => {
                let most = below(input, 4) + 1;
                _ = self.commit(most);
            }
            8 => _ = self.complete_next(),
            9 => _ = self.complete_page(),
            10 => self.handle_log(),
            11 => {
                let bytes = count(input);
                _ = self.receive_output(bytes);
            }
            12 => self.commit_from_others(input),
            13 => {
                self.connection.handle_beat();
                self.handle_log();
            }
            14 => _ = self.serve(Some(input)),
            _ => match byte(input) % 16 {
                0 => {
                    self.connection.close("shutting down");
                    self.checks.is_closing = true;
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

    /// The client sends a request, usually a meaningful one.
    fn send_request(&mut self, input: &mut Unstructured<'_>) {
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
        message.encode(&mut self.outgoing).expect("the lengths are valid");
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

    /// Returns a version for a write: usually the correct one.
    fn version(&self, key: &[u8], input: &mut Unstructured<'_>) -> Version {
        if byte(input) >= 230 {
            return Version::new(number(input));
        }
        let entry = block_on(self.store.get(key)).expect("the memory engine is always available");
        let version = entry.map_or(Version::ABSENT, |entry| entry.version);
        version.next().unwrap_or(Version::MAX)
    }

    /// Returns a value that no other write has.
    fn value(&mut self, length: usize) -> Bytes {
        self.values += 1;
        let mut value = self.values.to_string().into_bytes();
        value.resize(length.max(value.len()), b'v');
        value.into()
    }

    /// Passes bytes of the client to the connection. Returns whether it has taken any.
    fn deliver(&mut self, bytes: usize) -> bool {
        if !self.has_ended {
            let arrived = self.outgoing.split_to(bytes.min(self.outgoing.len()));
            self.checks.handle_input(&arrived, self.log.head());
            self.input.extend_from_slice(&arrived);
        }
        let before = self.input.len();
        self.wanted = self.connection.handle_input(&mut self.input);
        match self.wanted {
            Input::Wanted { expected } => assert!(self.input.len() < expected, "the {expected} wanted bytes are there"),
            Input::Paused => {}
            Input::Closed => assert!(self.input.is_empty(), "a closed connection leaves input"),
        }
        self.input.len() < before
    }

    /// Runs all effects that the connection requests. With an input, and if the store is not honest, their results are
    /// arbitrary values of their types.
    fn run_effects(&mut self, mut arbitrary: Option<&mut Unstructured<'_>>) {
        let max = self.limits.max_requests + 2;
        for count in 0.. {
            assert!(count <= max, "{count} effects at once");
            let Some(effect) = self.connection.poll_effect() else { break };
            assert!(!self.must_wait(&effect), "{effect:?} before an earlier effect is completed");
            self.check_rights(&effect);
            let is_page = matches!(effect, Effect::Page(_));
            let completion = match (&mut arbitrary, effect) {
                (_, Effect::Commit { transaction }) => {
                    assert_eq!(transaction.origin, Some(CONNECTION));
                    self.commits.push_back(transaction);
                    continue;
                }
                (arbitrary, Effect::Verify { .. }) => Completion::Verdict(
                    arbitrary.as_mut().and_then(|input| (byte(input) % 4 != 0).then(|| rights(input))),
                ),
                (_, Effect::Status(_)) => Completion::Status,
                (None, Effect::Get { key }) => {
                    self.read_batch(key);
                    continue;
                }
                (Some(input), effect) if !self.is_honest => self.arbitrary_completion(input, effect),
                (_, effect) => self.completion(effect),
            };
            if is_page { &mut self.pages } else { &mut self.completions }.push_back(completion);
        }
    }

    /// Reads several keys at once, as the server's driver does. Reads beyond the size limit are requested again.
    fn read_batch(&mut self, first: Bytes) {
        let mut keys = vec![first];
        while let Some(key) = self.connection.poll_get() {
            self.check_rights(&Effect::Get { key: key.clone() });
            keys.push(key);
        }
        if !self.completions.is_empty() {
            // The earlier effects are completed first.
            let entries: Vec<_> = keys.into_iter().map(|key| self.completion(Effect::Get { key })).collect();
            return self.completions.extend(entries);
        }
        let entries = block_on(self.store.get_all(&keys, PAGE_BYTES)).unwrap_or_default();
        assert!(!entries.is_empty(), "the first key is always read");
        let are_all_read = entries.len() == keys.len();
        entries.into_iter().for_each(|entry| self.connection.handle_entry(Ok(entry)));
        if !are_all_read {
            self.connection.requeue_reads();
        }
    }

    /// Checks that the client has the right to an effect. (The connection filters the pages of a catch-up itself.)
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
            (Some(rights), Effect::Status(scope)) => *scope == StatusScope::Health || rights.is_admin(),
            (Some(_), Effect::Page(PageRequest::Changes { .. })) => true,
        };
        assert!(is_permitted, "{effect:?} without the right to");
    }

    /// Returns whether the connection must not request this effect yet. It requests one page at a time, and reads only while
    /// no write is undecided.
    fn must_wait(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Page(_) => !self.pages.is_empty(),
            Effect::Get { .. } | Effect::Status(_) => {
                !self.commits.is_empty()
                    || self.completions.iter().any(|completion| matches!(completion, Completion::Outcome(_)))
            }
            Effect::Commit { .. } => self.completions.iter().any(|completion| {
                matches!(completion, Completion::Entry(_) | Completion::Status | Completion::Verdict(_))
            }),
            Effect::Verify { .. } => !self.completions.is_empty() || !self.commits.is_empty(),
        }
    }

    /// Returns the store's result of an effect.
    fn completion(&self, effect: Effect) -> Completion {
        match effect {
            Effect::Get { key } => {
                Completion::Entry(block_on(self.store.get(&key)).map_err(|unavailable| unavailable.0))
            }
            Effect::Page(request) => Completion::Page(block_on(read_page(&self.store, &request.at_most(PAGE_BYTES)))),
            Effect::Verify { .. } | Effect::Commit { .. } | Effect::Status(_) => {
                unreachable!("the store does not run them")
            }
        }
    }

    /// Returns a result of an effect that the input chooses, which no honest store need return.
    fn arbitrary_completion(&mut self, input: &mut Unstructured<'_>, effect: Effect) -> Completion {
        let reason = || Arc::from("the disk is on fire");
        let kind = byte(input) % 8;
        match effect {
            Effect::Get { key } => Completion::Entry(match kind {
                0 => Err(reason()),
                1 => Ok(None),
                _ => Ok(Some(Entry { key, ..self.entry(b"", input) })),
            }),
            Effect::Page(PageRequest::Changes { prefix, .. }) => Completion::Page(PageResult::Changes(match kind {
                0 => Err(PageError::Unavailable(reason())),
                1 => Err(PageError::Untold(reason())),
                _ => Ok(Page {
                    entries: (0..below(input, 6)).map(|_| self.entry(&prefix, input)).collect(),
                    through: Revision::new(number(input)),
                    head: Revision::new(number(input)),
                }),
            })),
            Effect::Page(PageRequest::Keys { prefix, .. }) => Completion::Page(PageResult::Keys(match kind {
                0 => Err(reason()),
                _ => Ok(KeyPage {
                    entries: (0..below(input, 6)).map(|_| self.entry(&prefix, input)).collect(),
                    next: (kind < 4).then(|| key(input)),
                    head: Revision::new(number(input)),
                }),
            })),
            other => self.completion(other),
        }
    }

    /// Returns any state of a key under a prefix.
    fn entry(&mut self, prefix: &[u8], input: &mut Unstructured<'_>) -> Entry {
        let value = (byte(input) % 4 != 0).then(|| self.value(length(input)));
        let (version, revision) = (Version::new(number(input)), Revision::new(number(input)));
        let mut key = [prefix, &key(input)].concat();
        key.truncate(4096.max(prefix.len()));
        Entry { key: key.into(), value, version, revision }
    }

    /// Commits up to `most` transactions as one batch, as the committer does. Returns whether there were any.
    fn commit(&mut self, most: usize) -> bool {
        let batch: Vec<_> = self.commits.drain(..most.min(self.commits.len())).collect();
        let outcomes = self.store.commit(batch.clone());
        for (transaction, outcome) in batch.iter().zip(outcomes) {
            if let Outcome::Accepted { revision } = &outcome {
                self.history.add(*revision, transaction);
            }
            self.completions.push_back(Completion::Outcome(outcome));
        }
        !batch.is_empty()
    }

    /// Commits a transaction of another connection.
    fn commit_from_others(&mut self, input: &mut Unstructured<'_>) {
        let mut operations = Vec::new();
        for _ in 0..below(input, 3) + 1 {
            let operation = self.operation(input);
            if operations.iter().all(|other: &Operation| other.key() != operation.key()) {
                operations.push(operation);
            }
        }
        let transaction = Transaction { origin: None, operations: operations.into() };
        if let [Outcome::Accepted { revision }] = self.store.commit(vec![transaction.clone()])[..] {
            self.history.add(revision, &transaction);
        }
    }

    /// Appends what was committed to the log.
    fn feed(&mut self) {
        for batch in std::mem::take(&mut *self.feed.lock().expect("no panic")) {
            self.log.append(batch);
        }
    }

    /// Feeds the log, and lets the connection read it.
    fn handle_log(&mut self) {
        self.feed();
        if self.connection.rights().is_some() {
            self.follows_from.get_or_insert(self.log.head());
        }
        self.connection.handle_log(&self.log);
    }

    /// Completes the oldest effect, except pages. Returns whether there was one.
    fn complete_next(&mut self) -> bool {
        // The log holds a commit before the connection learns its outcome.
        self.feed();
        match self.completions.pop_front() {
            None => return false,
            Some(Completion::Verdict(verdict)) => {
                self.checks.handle_verdict(verdict.clone(), self.log.head());
                self.connection.handle_verdict(verdict);
            }
            Some(Completion::Outcome(outcome)) => self.connection.handle_outcome(outcome),
            Some(Completion::Entry(entry)) => self.connection.handle_entry(entry),
            Some(Completion::Status) => self.connection.handle_status(self.status.clone()),
            Some(Completion::Page(_)) => unreachable!("pages have their own queue"),
        }
        true
    }

    /// Completes the page that the connection has requested. Returns whether there was one.
    fn complete_page(&mut self) -> bool {
        match self.pages.pop_front() {
            Some(Completion::Page(page)) => self.connection.handle_page(page),
            _ => return false,
        }
        true
    }

    /// The client receives up to `bytes` bytes of output. Returns whether there were any.
    fn receive_output(&mut self, bytes: usize) -> bool {
        let output = self.connection.output();
        let taken = output.copy_to_bytes(bytes.min(output.remaining()));
        self.checks.handle_output(&taken, &self.history);
        !taken.is_empty()
    }

    /// Ends the client's stream. The driver learns it only when the connection has taken all input before.
    fn end(&mut self) {
        if matches!(self.wanted, Input::Wanted { .. }) && !self.has_ended {
            self.has_ended = true;
            self.connection.handle_end();
        }
    }

    /// Abandons the connection.
    fn abandon(&mut self) {
        self.connection.abandon("no answer in time");
        self.checks.is_closing = true;
        self.abandoned_output = Some(self.connection.output().remaining());
        // The effects that are running are never completed.
        (self.completions, self.pages, self.commits) = Default::default();
    }

    /// Checks that the unsent output stays within its bounds.
    fn check_bounds(&mut self) {
        let unsent = self.connection.output().remaining();
        let max = MAX_UNSENT_OUTPUT + self.limits.max_unsent + MAX_RESPONSE;
        assert!(unsent <= max, "{unsent} unsent bytes, expected at most {max}");
        if self.connection.rights().is_none() {
            assert!(unsent <= MAX_UNSENT_UNAUTHENTICATED, "{unsent} unsent bytes of an unauthenticated connection");
        }
        if let Some(before) = &mut self.abandoned_output {
            assert!(unsent <= *before, "{unsent} unsent bytes of an abandoned connection, {before} before");
            *before = unsent;
        }
    }

    /// Takes every possible step once. Returns whether any of them did something.
    fn serve(&mut self, arbitrary: Option<&mut Unstructured<'_>>) -> bool {
        let mut acted = self.deliver(usize::MAX);
        self.handle_log();
        self.run_effects(arbitrary);
        acted |= self.commit(usize::MAX);
        while self.complete_next() {
            acted = true;
        }
        acted |= self.complete_page();
        self.handle_log();
        acted | self.receive_output(usize::MAX)
    }

    /// Completes what is left, and makes the checks that hold at the end.
    fn finish(&mut self, input: &mut Unstructured<'_>) {
        if self.is_honest {
            for round in 0.. {
                assert!(round < MAX_ROUNDS, "there is always more work");
                if !self.serve(None) && !self.serve(None) {
                    break;
                }
            }
            // A connection that is ending sends only what its responses need.
            if self.wanted != Input::Closed && !self.has_ended {
                self.checks.assert_replica_is_current(&self.history, self.log.head());
                if let Some(since) = self.follows_from {
                    self.checks.assert_base_is_current(&self.history, since, self.log.head());
                }
            }
            self.end();
            while self.serve(None) {}
            if !matches!(self.wanted, Input::Paused) && (self.has_ended || self.wanted == Input::Closed) {
                assert!(self.connection.is_finished(), "all requests are complete, but the connection is not finished");
                self.checks.assert_complete();
            } else {
                panic!("all requests are complete, but the connection does not read: {:?}", self.wanted);
            }
        } else {
            for _ in 0..8 {
                self.serve(Some(input));
            }
            self.abandon();
            self.receive_output(usize::MAX);
            assert!(self.connection.is_finished(), "an abandoned connection is not finished");
        }
    }
}
