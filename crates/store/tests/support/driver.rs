//! The driver of several connections over one memory engine, whose every step the schedule decides.

use super::coverage::Coverage;
use super::link::{EffectResult, Link};
use bytes::{Buf, Bytes};
use pollster::block_on;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use syncline_core::server::{Effect, PageRequest};
use syncline_core::{CommitBatch, Operation, Outcome, RecentLog, Transaction};
use syncline_store::{MemoryStore, Store, read_page};
use syncline_wire::{Revision, Version};

/// More rounds than any schedule needs until nothing is left to do.
const MAX_ROUNDS: usize = 100_000;

/// A client of a test, and its connection.
pub(crate) trait DrivenClient {
    /// Returns the connection.
    fn link(&mut self) -> &mut Link;

    /// Delivers up to `bytes` of what the client has sent. Returns whether the connection has decoded any.
    fn deliver(&mut self, bytes: usize) -> bool;

    /// Returns the next effect of the connection.
    fn poll_effect(&mut self) -> Option<Effect>;

    /// Hands the connection the result of an effect.
    fn complete(&mut self, result: EffectResult);

    /// Shows the connection the recent log.
    fn show_log(&mut self, log: &RecentLog);

    /// Reads up to `bytes` of what the connection has sent. `history` holds every commit. Returns whether there was any.
    fn read(&mut self, bytes: usize, history: &RecentLog) -> bool;

    /// Panics if a request has no response, or if anything is on its way in either direction.
    fn assert_drained(&mut self);
}

/// One step of the driver. Numbers and bytes are upper bounds: there may be less to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DriverStep {
    /// Some of what a client has sent is delivered.
    Deliver { client: usize, bytes: usize },
    /// Effects of a connection are executed. If `defer_reads`, reads are executed when their results are handed over.
    Execute { client: usize, most: usize, defer_reads: bool },
    /// The committer commits a batch.
    Commit { most: usize },
    /// A connection is handed results of its effects.
    Complete { client: usize, most: usize },
    /// A connection is shown the recent log.
    ShowLog { client: usize },
    /// A client reads.
    Read { client: usize, bytes: usize },
    /// A connection is driven without delay, and its client reads everything.
    Serve { client: usize },
}

/// Returns a number of bytes to deliver or to read: a few, many, or all.
fn bytes() -> impl Strategy<Value = usize> {
    prop_oneof![1 => 1..40usize, 1 => 1000..100_000usize, 2 => Just(usize::MAX)]
}

/// Returns the bytes of a recent log: often too few for everything that a connection has not been sent.
pub(crate) fn recent_log_size() -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(0), 3 => 100..1000usize, 2 => 1000..150_000usize, 2 => Just(usize::MAX)]
}

/// Returns a step of the driver of `clients`.
pub(crate) fn driver_step(clients: Range<usize>) -> impl Strategy<Value = DriverStep> {
    let client = || clients.clone();
    let most = || prop_oneof![1 => 1..4usize, 1 => Just(usize::MAX)];
    prop_oneof![
        4 => (client(), bytes()).prop_map(|(client, bytes)| DriverStep::Deliver { client, bytes }),
        4 => (client(), most(), any::<bool>())
            .prop_map(|(client, most, defer_reads)| DriverStep::Execute { client, most, defer_reads }),
        3 => most().prop_map(|most| DriverStep::Commit { most }),
        4 => (client(), most()).prop_map(|(client, most)| DriverStep::Complete { client, most }),
        4 => client().prop_map(|client| DriverStep::ShowLog { client }),
        2 => (client(), bytes()).prop_map(|(client, bytes)| DriverStep::Read { client, bytes }),
        3 => client().prop_map(|client| DriverStep::Serve { client }),
    ]
}

/// The commits that the store has fed.
struct Logs {
    recent: RecentLog,
    /// Every commit: what the tests check against.
    history: RecentLog,
}

/// The store, the commit queue and the clients.
pub(crate) struct Driver<C> {
    store: MemoryStore,
    logs: Arc<Mutex<Logs>>,
    pub(crate) clients: Vec<C>,
    /// The transactions that wait for the committer, each with the index of its client.
    queue: VecDeque<(usize, Transaction)>,
    /// The most bytes of a page.
    max_page: usize,
    /// The number of values that were written. Each value is unique.
    values: u64,
    pub(crate) coverage: Coverage,
}

impl<C: DrivenClient> Driver<C> {
    /// Returns a driver over an empty store, with a recent log of `recent_log` bytes and pages of at most `max_page` bytes.
    pub(crate) fn new(recent_log: usize, max_page: usize, clients: Vec<C>) -> Self {
        let store = MemoryStore::new().unwrap();
        let log = |max_bytes| RecentLog::new(Revision::ZERO, max_bytes);
        let logs = Arc::new(Mutex::new(Logs { recent: log(recent_log), history: log(usize::MAX) }));
        let feed = logs.clone();
        store.follow(Box::new(move |committed| {
            let mut logs = feed.lock().unwrap();
            let batch = CommitBatch::encode(committed);
            logs.recent.append(batch.clone());
            logs.history.append(batch);
        }));
        Self { store, logs, clients, queue: VecDeque::new(), max_page, values: 0, coverage: Coverage::default() }
    }

    /// Returns the revision of the latest commit.
    pub(crate) fn head(&self) -> Revision {
        self.store.head()
    }

    /// Calls `check` with the log of all commits, the clients and what was covered.
    pub(crate) fn check<T>(&mut self, check: impl FnOnce(&RecentLog, &mut [C], &mut Coverage) -> T) -> T {
        check(&self.logs.lock().unwrap().history, &mut self.clients, &mut self.coverage)
    }

    /// Returns the latest version of a key.
    pub(crate) fn version(&self, key: &[u8]) -> Version {
        block_on(self.store.get(key)).unwrap().map_or(Version::ABSENT, |entry| entry.version)
    }

    /// Returns a unique value of `size` bytes, or of a few more if they are needed to make it unique.
    pub(crate) fn unique_value(&mut self, size: usize) -> Bytes {
        self.values += 1;
        let mut value = self.values.to_le_bytes().to_vec();
        value.resize(size.max(value.len()), b'v');
        value.into()
    }

    /// Returns a PUT of a unique value with the next version.
    pub(crate) fn next_put(&mut self, key: impl Into<Bytes>, size: usize) -> Operation {
        let key = key.into();
        let version = self.version(&key).next().unwrap();
        Operation::Put { value: self.unique_value(size), key, version }
    }

    /// Returns a DELETE with the next version.
    pub(crate) fn next_delete(&self, key: impl Into<Bytes>) -> Operation {
        let key = key.into();
        let version = self.version(&key).next().unwrap();
        Operation::Delete { key, version }
    }

    /// Commits a transaction of another process.
    pub(crate) fn commit_externally(&self, operations: Vec<Operation>) {
        let outcomes = self.store.commit(vec![Transaction { origin: None, operations: operations.into() }]);
        assert!(matches!(outcomes[..], [Outcome::Accepted { .. }]), "{outcomes:?}");
    }

    /// Performs one step.
    pub(crate) fn step(&mut self, step: DriverStep) {
        match step {
            DriverStep::Deliver { client, bytes } => drop(self.clients[client].deliver(bytes)),
            DriverStep::Execute { client, most, defer_reads } => drop(self.execute(client, most, defer_reads)),
            DriverStep::Commit { most } => drop(self.commit(most)),
            DriverStep::Complete { client, most } => drop(self.complete(client, most)),
            DriverStep::ShowLog { client } => self.show_log(client),
            DriverStep::Read { client, bytes } => drop(self.read(client, bytes)),
            DriverStep::Serve { client } => drop(self.serve(client)),
        }
    }

    /// Executes up to `most` effects of a connection. Returns whether there were any.
    pub(crate) fn execute(&mut self, client: usize, most: usize, defer_reads: bool) -> bool {
        for executed in 0..most {
            let Some(effect) = self.clients[client].poll_effect() else { return executed > 0 };
            let link = self.clients[client].link();
            match effect {
                Effect::Commit { transaction } => {
                    assert_eq!(transaction.origin, Some(link.connection.id()));
                    self.queue.push_back((client, transaction));
                }
                Effect::Verify { password } => {
                    assert_eq!(password.expose(), "secret");
                    link.results.push_back(EffectResult::Verdict);
                }
                // Reads are executed in the order of their effects, so one that follows a deferred read is deferred too.
                Effect::Get { .. } | Effect::Page(_) if defer_reads || link.has_deferred() => {
                    link.results.push_back(EffectResult::Deferred(effect));
                }
                Effect::Get { key } => {
                    let entry = self.get(&key);
                    self.clients[client].link().results.push_back(entry);
                }
                // A page overtakes earlier results if it can: it is the only page in flight.
                Effect::Page(request) => {
                    let page = self.read_page(request);
                    self.clients[client].link().results.push_front(page);
                }
                Effect::Status(_) => panic!("no client requests the status"),
            }
        }
        true
    }

    fn get(&self, key: &[u8]) -> EffectResult {
        EffectResult::Entry(block_on(self.store.get(key)).unwrap())
    }

    fn read_page(&self, request: PageRequest) -> EffectResult {
        EffectResult::Page(block_on(read_page(&self.store, &request.at_most(self.max_page))))
    }

    /// Commits up to `most` transactions of the queue as one batch. Returns whether there were any.
    pub(crate) fn commit(&mut self, most: usize) -> bool {
        let batch: Vec<_> = self.queue.drain(..most.min(self.queue.len())).collect();
        let origins: Vec<_> = batch.iter().map(|(client, transaction)| (*client, transaction.origin)).collect();
        let outcomes = self.store.commit(batch.into_iter().map(|(_, transaction)| transaction).collect());
        assert_eq!(outcomes.len(), origins.len());
        for ((client, origin), outcome) in origins.iter().zip(outcomes) {
            let link = self.clients[*client].link();
            // A connection that was lost meanwhile gets no outcome.
            if *origin == Some(link.connection.id()) {
                link.results.push_back(EffectResult::Outcome(outcome));
            }
        }
        !origins.is_empty()
    }

    /// Hands a connection up to `most` results. Returns whether there were any.
    pub(crate) fn complete(&mut self, client: usize, most: usize) -> bool {
        for completed in 0..most {
            let Some(result) = self.clients[client].link().results.pop_front() else { return completed > 0 };
            let result = match result {
                EffectResult::Deferred(Effect::Get { key }) => self.get(&key),
                EffectResult::Deferred(Effect::Page(request)) => self.read_page(request),
                result => result,
            };
            self.clients[client].complete(result);
        }
        true
    }

    /// Shows a connection the recent log.
    pub(crate) fn show_log(&mut self, client: usize) {
        self.clients[client].show_log(&self.logs.lock().unwrap().recent);
    }

    fn read(&mut self, client: usize, bytes: usize) -> bool {
        self.clients[client].read(bytes, &self.logs.lock().unwrap().history)
    }

    /// Drives a connection as far as it gets in one round, and reads everything. Returns whether there was anything to do.
    ///
    /// Panics if the connection continues after reads or after output although it had no work.
    pub(crate) fn serve(&mut self, client: usize) -> bool {
        let mut acted = self.complete(client, usize::MAX);
        acted |= self.clients[client].deliver(usize::MAX);
        self.show_log(client);
        acted |= self.execute(client, usize::MAX, false);
        let results = &self.clients[client].link().results;
        if !results.is_empty() && results.iter().all(|result| matches!(result, EffectResult::Entry(_))) {
            self.complete(client, usize::MAX);
            if !self.clients[client].link().has_work() {
                assert!(!self.settle(client), "after reads: the connection continues, expected no work");
                self.coverage.count("no work after reads", 1);
            }
        }
        acted |= self.commit(usize::MAX);
        acted |= self.complete(client, usize::MAX);
        acted |= self.settle(client);
        let has_work = self.clients[client].link().has_work();
        let has_read = self.read(client, usize::MAX);
        if has_read && !has_work {
            assert!(!self.settle(client), "after output was written: the connection continues, expected no work");
            self.coverage.count("no work after output was written", 1);
        }
        acted | has_read
    }

    /// Drives a connection until it produces neither effects nor output. Returns whether it has produced any.
    fn settle(&mut self, client: usize) -> bool {
        let mut acted = false;
        loop {
            let unsent = self.clients[client].link().connection.output().remaining();
            let mut again = self.clients[client].deliver(0);
            self.show_log(client);
            again |= self.execute(client, usize::MAX, false);
            again |= self.clients[client].link().connection.output().remaining() > unsent;
            acted |= again;
            if !again {
                return acted;
            }
        }
    }

    /// Serves one connection until nothing is left to do for it.
    pub(crate) fn serve_until_idle(&mut self, client: usize) {
        assert!((0..MAX_ROUNDS).any(|_| !self.serve(client)), "client {client} never becomes idle");
    }

    /// Serves all connections until nothing is left to do. Then every request must have its response.
    pub(crate) fn drain(&mut self) {
        for _ in 0..MAX_ROUNDS {
            let acted: Vec<_> = (0..self.clients.len()).map(|client| self.serve(client)).collect();
            if acted.iter().all(|acted| !acted) {
                return self.clients.iter_mut().for_each(C::assert_drained);
            }
        }
        panic!("the schedule never ends");
    }
}
