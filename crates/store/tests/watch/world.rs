//! The store, the commit queue and the watchers of a random schedule.

use crate::client::{Ask, Client, Done, next};
use crate::history::History;
use crate::support::{Counts, add, count};
use bytes::{Buf, Bytes};
use pollster::block_on;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use syncline_core::server::Effect;
use syncline_core::{Operation, Outcome, RecentLog, Transaction};
use syncline_store::{MemoryStore, Store, read_page};
use syncline_wire::{Message, Revision, Version};

/// What somebody writes; the versions are the next ones, as far as is known when it is asked.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Put {
        key: &'static str,
        size: usize,
    },
    Delete {
        key: &'static str,
    },
    /// Puts, and deletions.
    Transaction(Vec<(&'static str, bool)>),
}

/// What happens next. Counts and bytes are the most that happen: there may be less to do.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A client writes requests to its socket.
    Ask { client: usize, asks: Vec<Ask> },
    /// Some of that arrives.
    Deliver { client: usize, bytes: usize },
    /// The driver does what the connection asks for.
    Work { client: usize, most: usize },
    /// The committer takes a batch.
    Commit { most: usize },
    /// The connection is told what became of what it has asked for.
    Hand { client: usize, most: usize },
    /// It is shown the log.
    Show { client: usize },
    /// The client reads.
    Take { client: usize, bytes: usize },
    /// Others write, in one batch.
    Others(Vec<Write>),
    /// Half a heartbeat passes.
    Beat { client: usize },
    /// A client loses its connection, and makes another.
    Reconnect { client: usize },
    /// A prompt driver, and a client that reads all.
    Serve { client: usize },
    /// The same, until nothing is left to do, and then of one that asks for a key.
    Read { client: usize, key: &'static str },
}

struct Logs {
    recent: RecentLog,
    /// What everything is checked against.
    whole: RecentLog,
}

pub(crate) struct World {
    store: MemoryStore,
    logs: Arc<Mutex<Logs>>,
    history: History,
    clients: Vec<Client>,
    /// What waits for the committer, and for which connection of which client.
    queue: VecDeque<(usize, u64, Transaction)>,
    /// The id of the connection that each client has now.
    connections: Vec<u64>,
    values: u64,
}

impl World {
    pub(crate) fn new(recent_log: usize) -> Self {
        let store = MemoryStore::new().unwrap();
        let log = |max_bytes| RecentLog::new(Revision::ZERO, max_bytes);
        let logs = Arc::new(Mutex::new(Logs { recent: log(recent_log), whole: log(usize::MAX) }));
        let feed = logs.clone();
        store.follow(Box::new(move |batch| {
            let mut logs = feed.lock().unwrap();
            logs.recent.append(batch.clone());
            logs.whole.append(batch);
        }));
        let connections: Vec<u64> = (1..=3).collect();
        let clients = connections.iter().map(|id| Client::new(*id)).collect();
        let (history, queue) = (History::default(), VecDeque::new());
        Self { store, logs, history, clients, queue, connections, values: 0 }
    }

    fn version(&self, key: &'static str) -> Version {
        block_on(self.store.get(key.as_bytes())).unwrap().map_or(Version::ABSENT, |entry| entry.version)
    }

    /// A value that nobody else writes.
    fn value(&mut self, size: usize) -> Bytes {
        self.values += 1;
        let mut value = self.values.to_le_bytes().to_vec();
        value.resize(size.max(value.len()), b'v');
        value.into()
    }

    fn operations(&mut self, write: &Write) -> Vec<Operation> {
        let put = |world: &mut Self, key, size| {
            let version = next(world.version(key));
            Operation::Put { key: Bytes::from(key), value: world.value(size), version }
        };
        let delete = |world: &Self, key| Operation::Delete { key: Bytes::from(key), version: next(world.version(key)) };
        match write {
            Write::Put { key, size } => vec![put(self, key, *size)],
            Write::Delete { key } => vec![delete(self, key)],
            Write::Transaction(writes) => {
                let each: BTreeMap<_, _> = writes.iter().copied().collect();
                each.into_iter()
                    .map(|(key, is_put)| if is_put { put(self, key, 10) } else { delete(self, key) })
                    .collect()
            }
        }
    }

    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Ask { client, asks } => asks.iter().for_each(|ask| self.ask(client, ask)),
            Step::Deliver { client, bytes } => drop(self.clients[client].deliver(bytes)),
            Step::Work { client, most } => drop(self.work(client, most)),
            Step::Commit { most } => drop(self.commit(most)),
            Step::Hand { client, most } => drop(self.hand(client, most)),
            Step::Show { client } => self.clients[client].show(&self.logs.lock().unwrap().recent),
            Step::Take { client, bytes } => drop(self.take(client, bytes)),
            Step::Others(writes) => self.others(&writes),
            Step::Beat { client } => {
                // Twice, and a MARK is due wherever none was sent meanwhile.
                for _ in 0..2 {
                    self.clients[client].connection.handle_beat();
                    self.clients[client].show(&self.logs.lock().unwrap().recent);
                }
            }
            Step::Reconnect { client } => {
                let id = self.connections.iter().max().unwrap() + 1;
                self.connections[client] = id;
                let head = self.store.head();
                self.clients[client].reconnect(id, head);
            }
            Step::Serve { client } => drop(self.serve(client)),
            Step::Read { client, key } => {
                assert!((0..100_000).any(|_| !self.serve(client)), "there is no end of it");
                self.ask(client, &Ask::Get(key));
                self.serve(client);
            }
        }
    }

    fn ask(&mut self, client: usize, ask: &Ask) {
        let head = self.store.head();
        match ask {
            Ask::Write(write) => {
                let mut operations = self.operations(write);
                let client = &mut self.clients[client];
                client.ask(head, |tag| match (write, operations.pop()) {
                    (Write::Put { .. }, Some(Operation::Put { key, value, version })) => {
                        Message::put(tag, key, value, version)
                    }
                    (Write::Delete { .. }, Some(Operation::Delete { key, version })) => {
                        Message::delete(tag, key, version)
                    }
                    (_, last) => {
                        operations.extend(last);
                        Message::txn(tag, operations)
                    }
                });
            }
            Ask::StalePut(key) => {
                self.clients[client].ask(head, |tag| Message::put(tag, *key, "never", Version::ABSENT));
            }
            Ask::Get(key) => self.clients[client].ask(head, |tag| Message::get(tag, *key)),
            Ask::Watch(prefix) if self.clients[client].is_watching(prefix) => {}
            Ask::Watch(prefix) => self.clients[client].watch(prefix, Revision::ZERO, head),
            Ask::WatchUnknown(prefix) if self.clients[client].is_watching(prefix) => {}
            Ask::WatchUnknown(prefix) => self.clients[client].watch(prefix, Revision::new(1 << 40), head),
            Ask::List { prefix, after, limit } => {
                self.clients[client].ask(head, |tag| Message::list(tag, *prefix, *after, *limit));
            }
            Ask::Barrier => self.clients[client].ask(head, |tag| Message::mark(tag, Revision::ZERO)),
        }
    }

    fn work(&mut self, client: usize, most: usize) -> bool {
        for done in 0..most {
            let Some(effect) = self.clients[client].poll() else { return done > 0 };
            let done = match effect {
                Effect::Commit { transaction } => {
                    self.queue.push_back((client, self.connections[client], transaction));
                    continue;
                }
                Effect::Get { key } => Done::Entry(block_on(self.store.get(&key)).unwrap()),
                // Small pages, so that there are several.
                Effect::Page(request) => Done::Page(block_on(read_page(&self.store, &request.at_most(60)))),
                Effect::Verify { .. } | Effect::Status => panic!("nobody has asked for it"),
            };
            self.clients[client].done.push_back(done);
        }
        true
    }

    fn commit(&mut self, most: usize) -> bool {
        let batch: Vec<_> = self.queue.drain(..most.min(self.queue.len())).collect();
        let whose: Vec<_> = batch.iter().map(|(client, connection, _)| (*client, *connection)).collect();
        let outcomes = self.store.commit(batch.into_iter().map(|(_, _, transaction)| transaction).collect());
        for ((client, connection), outcome) in whose.iter().zip(outcomes) {
            // A connection that is lost is told nothing.
            if self.connections[*client] == *connection {
                self.clients[*client].done.push_back(Done::Outcome(outcome));
            }
        }
        !whose.is_empty()
    }

    fn hand(&mut self, client: usize, most: usize) -> bool {
        for handed in 0..most {
            let Some(done) = self.clients[client].done.pop_front() else { return handed > 0 };
            self.clients[client].hand(done);
        }
        true
    }

    fn take(&mut self, client: usize, bytes: usize) -> bool {
        self.history.follow(&self.logs.lock().unwrap().whole);
        self.clients[client].take(bytes, &self.history)
    }

    fn others(&mut self, writes: &[Write]) {
        for write in writes {
            let operations = self.operations(write).into_iter().map(|operation| match operation {
                Operation::Check { key, version } => Operation::Check { key, version },
                Operation::Put { key, value, version } => Operation::Put { key, value, version },
                Operation::Delete { key, version } => Operation::Delete { key, version },
            });
            let transaction = Transaction { origin: None, operations: operations.collect() };
            let outcomes = self.store.commit(vec![transaction]);
            assert!(matches!(outcomes[..], [Outcome::Accepted { .. }]), "{outcomes:?}");
        }
    }

    /// All that can be done for one client, once; answers whether that was anything.
    fn serve(&mut self, client: usize) -> bool {
        let mut acted = self.hand(client, usize::MAX);
        acted |= self.clients[client].deliver(usize::MAX);
        self.clients[client].show(&self.logs.lock().unwrap().recent);
        acted |= self.work(client, usize::MAX);
        let reads = &self.clients[client].done;
        if !reads.is_empty() && reads.iter().all(|done| matches!(done, Done::Entry(_))) {
            self.hand(client, usize::MAX);
            if !self.clients[client].has_work() {
                assert!(!self.settle(client), "it goes on when its reads were answered, and has not said so");
                count(&mut self.clients[client].counts, "reads that nothing waited for", 1);
            }
        }
        acted |= self.commit(usize::MAX);
        acted |= self.hand(client, usize::MAX);
        acted |= self.settle(client);
        let has_work = self.clients[client].has_work();
        let took = self.take(client, usize::MAX);
        if took && !has_work {
            assert!(!self.settle(client), "it goes on when its output was written, and has not said so");
            count(&mut self.clients[client].counts, "outputs that nothing waited for", 1);
        }
        acted | took
    }

    /// Does what a connection wants done, until it wants no more; answers whether that was anything.
    fn settle(&mut self, client: usize) -> bool {
        let mut acted = false;
        loop {
            let unsent = self.clients[client].connection.output().remaining();
            let mut again = self.clients[client].deliver(0);
            self.clients[client].show(&self.logs.lock().unwrap().recent);
            again |= self.work(client, usize::MAX);
            again |= self.clients[client].connection.output().remaining() > unsent;
            acted |= again;
            if !again {
                return acted;
            }
        }
    }

    fn drain(&mut self) {
        for _ in 0..100_000 {
            let acted: Vec<_> = (0..self.clients.len()).map(|client| self.serve(client)).collect();
            if acted.iter().all(|acted| !acted) {
                return self.clients.iter().for_each(Client::assert_drained);
            }
        }
        panic!("there is no end of it");
    }

    /// Everything that is on the way arrives, and all hold the latest.
    pub(crate) fn finish(mut self) -> Counts {
        self.drain();
        let head = self.store.head();
        (0..self.clients.len()).for_each(|client| self.ask(client, &Ask::Barrier));
        self.drain();
        let mut counts = Counts::new();
        for client in &self.clients {
            client.assert_holds(&self.history.at(head));
            add(&mut counts, &client.counts);
        }
        counts
    }
}
