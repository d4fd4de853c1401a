//! The store, the commit queue and the clients of a random schedule.

use crate::checks::{self, History};
use crate::client::{Ask, Client, Done};
use crate::support::{Counts, add, count};
use bytes::Bytes;
use pollster::block_on;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use syncline_core::server::{Access, Effect, Limits, PageRequest};
use syncline_core::{Operation, Outcome, RecentLog, Rights, Transaction};
use syncline_store::{MemoryStore, Store};
use syncline_wire::{Message, Revision, Version};

/// What a run starts with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) limits: Limits,
    pub(crate) recent_log: usize,
}

/// Which version a PUT carries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Skew {
    /// The one that will be right if nobody else is faster.
    Next,
    /// One that is there already.
    Behind,
    /// One too many.
    Ahead,
}

/// What another process does to a key.
#[derive(Clone, Debug)]
pub(crate) enum Other {
    Put {
        size: usize,
        times: usize,
    },
    Delete,
    /// Writes this and the next key together.
    Transaction,
}

/// What happens next. Counts and bytes are the most that happen: there may be less to do.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A client writes requests to its socket.
    Ask { client: usize, asks: Vec<Ask> },
    /// Some of that arrives.
    Deliver { client: usize, bytes: usize },
    /// The driver does what the connection asks for; `late`: reads are done when they are handed over.
    Work { client: usize, most: usize, late: bool },
    /// The committer takes a batch.
    Commit { most: usize },
    /// The connection is told what became of what it has asked for.
    Hand { client: usize, most: usize },
    /// It is shown the log.
    Show { client: usize },
    /// The client reads.
    Take { client: usize, bytes: usize },
    /// Another process writes.
    Other { key: usize, other: Other },
    /// A prompt driver, and a client that reads all.
    Serve { client: usize },
    /// Much is committed before a connection is told what became of its writes.
    Outrun { client: usize, key: usize },
}

/// The client that takes no output before the end.
const STALLED: usize = 3;

/// The number of the key that a client shares with no other, so that many of its writes are accepted.
pub(crate) const OWN: usize = 10;

/// What one may do who may not do everything: of the keys that connections meet at, it reads every other one, and writes
/// one.
fn some() -> Arc<Rights> {
    let own = format!("key{}", OWN + 4);
    let read = ["key0", "key2", "key4", &own].map(|prefix| Bytes::from(prefix.to_owned()));
    Arc::new(Rights::new(read, ["key0".into(), own.into()]))
}

struct Logs {
    recent: RecentLog,
    /// What everything is checked against.
    whole: RecentLog,
}

pub(crate) struct World {
    store: MemoryStore,
    logs: Arc<Mutex<Logs>>,
    clients: Vec<Client>,
    /// What waits for the committer, and whose it is.
    queue: VecDeque<(usize, Transaction)>,
    /// Counts the values: each is another.
    values: u64,
    counts: Counts,
}

fn key(number: usize) -> Bytes {
    format!("key{number}").into()
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let store = MemoryStore::new().unwrap();
        let log = |max_bytes| RecentLog::new(Revision::ZERO, max_bytes);
        let logs = Arc::new(Mutex::new(Logs { recent: log(setup.recent_log), whole: log(usize::MAX) }));
        let feed = logs.clone();
        store.follow(Box::new(move |batch| {
            let mut logs = feed.lock().unwrap();
            logs.recent.append(batch.clone());
            logs.whole.append(batch);
        }));
        let access = [Access::open(), Access::open(), Access::Password, Access::open(), Access::Granted(some())];
        let clients = access.into_iter().zip(1..).map(|(access, id)| Client::new(id, access, setup.limits)).collect();
        Self { store, logs, clients, queue: VecDeque::new(), values: 0, counts: Counts::new() }
    }

    /// A value that nobody else writes, of about this size.
    fn value(&mut self, size: usize) -> Bytes {
        self.values += 1;
        let mut value = self.values.to_le_bytes().to_vec();
        value.resize(size.max(value.len()), b'v');
        value.into()
    }

    fn version(&self, key: &Bytes) -> u64 {
        block_on(self.store.get(key)).unwrap().map_or(0, |entry| entry.version.get())
    }

    pub(crate) fn step(&mut self, step: Step) {
        match step {
            // One reads nothing before the end.
            Step::Take { client, .. } | Step::Serve { client } if client == STALLED => {}
            Step::Ask { client, asks } => asks.iter().for_each(|ask| self.ask(client, ask)),
            Step::Deliver { client, bytes } => drop(self.clients[client].deliver(bytes)),
            Step::Work { client, most, late } => drop(self.work(client, most, late)),
            Step::Commit { most } => drop(self.commit(most)),
            Step::Hand { client, most } => drop(self.hand(client, most)),
            Step::Show { client } => self.show(client),
            Step::Take { client, bytes } => drop(self.clients[client].take(bytes)),
            Step::Other { key, other } => self.other(key, &other),
            Step::Serve { client } => drop(self.serve(client)),
            Step::Outrun { client, key } => {
                self.work(client, usize::MAX, false);
                self.commit(usize::MAX);
                self.other(key, &Other::Put { size: 20_000, times: 2 });
                self.show(client);
                self.work(client, usize::MAX, false);
            }
        }
    }

    fn ask(&mut self, client: usize, ask: &Ask) {
        match ask {
            Ask::Get { key: number } => self.clients[client].ask(|tag| Message::get(tag, key(*number))),
            Ask::Put { key: number, skew, size } => {
                let number = if *number == OWN { OWN + client } else { *number };
                let (key, value) = (key(number), self.value(*size));
                let next = self.version(&key) + self.clients[client].undecided_writes(&key) + 1;
                let version = match skew {
                    Skew::Next => next,
                    Skew::Behind => next - 1,
                    Skew::Ahead => next + 1,
                };
                self.clients[client].ask(|tag| Message::put(tag, key, value, Version::new(version)));
            }
            Ask::Refused => {
                count(&mut self.counts, "refused at once", 1);
                self.clients[client].ask(|tag| Message::put(tag, key(0), "", Version::MAX));
            }
        }
    }

    /// Does what a connection asks for; answers whether that was anything.
    fn work(&mut self, client: usize, most: usize, late: bool) -> bool {
        for done in 0..most {
            let Some(effect) = self.clients[client].poll() else { return done > 0 };
            let done = match effect {
                Effect::Verify { password } => {
                    assert_eq!(password.expose(), "secret");
                    Done::Verdict
                }
                Effect::Commit { transaction } => {
                    self.clients[client].check_effect(&transaction);
                    self.queue.push_back((client, transaction));
                    continue;
                }
                // A read is done after the earlier ones, as a driver must.
                Effect::Get { key } if late || self.clients[client].is_reading() => Done::Asked(key),
                Effect::Get { key } => Done::Entry(block_on(self.store.get(&key)).unwrap()),
                Effect::Page(PageRequest::Changes { prefix, since, max_bytes }) => {
                    let page = block_on(self.store.changed_since(since, &prefix, max_bytes)).unwrap();
                    // It overtakes what the committer still has to tell, if that is possible.
                    self.clients[client].done.push_front(Done::Page(page));
                    continue;
                }
                Effect::Page(PageRequest::Keys { .. }) | Effect::Status => panic!("nobody has said HELLO"),
            };
            self.clients[client].done.push_back(done);
        }
        true
    }

    /// Commits a batch; answers whether there was anything to commit.
    fn commit(&mut self, most: usize) -> bool {
        let batch: Vec<_> = self.queue.drain(..most.min(self.queue.len())).collect();
        let (whose, batch): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let outcomes = self.store.commit(batch);
        assert_eq!(outcomes.len(), whose.len());
        for (client, outcome) in whose.iter().zip(outcomes) {
            self.clients[*client].done.push_back(Done::Outcome(outcome));
        }
        !whose.is_empty()
    }

    /// Hands a connection what was done for it; answers whether that was anything.
    fn hand(&mut self, client: usize, most: usize) -> bool {
        for handed in 0..most {
            let Some(mut done) = self.clients[client].done.pop_front() else { return handed > 0 };
            if let Done::Asked(key) = done {
                done = Done::Entry(block_on(self.store.get(&key)).unwrap());
            }
            self.clients[client].hand(done);
        }
        true
    }

    fn show(&mut self, client: usize) {
        self.clients[client].show(&self.logs.lock().unwrap().recent);
    }

    fn other(&mut self, number: usize, other: &Other) {
        let put = |world: &mut Self, key: Bytes, size| {
            let version = Version::new(world.version(&key) + 1);
            Operation::Put { value: world.value(size), key, version }
        };
        let operations = match other {
            Other::Put { times: 0, .. } => return,
            Other::Put { size, times } => {
                self.other(number, &Other::Put { size: *size, times: times - 1 });
                vec![put(self, key(number), *size)]
            }
            Other::Delete => {
                let version = Version::new(self.version(&key(number)) + 1);
                vec![Operation::Delete { key: key(number), version }]
            }
            Other::Transaction => vec![put(self, key(number), 20), put(self, key(number + 1), 20)],
        };
        let outcomes = self.store.commit(vec![Transaction { origin: None, operations: operations.into() }]);
        assert!(matches!(outcomes[..], [Outcome::Accepted { .. }]), "{outcomes:?}");
    }

    /// All that can be done for one client, once; answers whether that was anything.
    fn serve(&mut self, client: usize) -> bool {
        let mut acted = self.clients[client].deliver(usize::MAX);
        acted |= self.work(client, usize::MAX, false);
        acted |= self.commit(usize::MAX);
        acted |= self.hand(client, usize::MAX);
        self.show(client);
        // What it was shown may make it ask for more.
        acted |= self.work(client, usize::MAX, false);
        acted | (self.clients[client].take(usize::MAX) > 0)
    }

    /// Everything that is on the way arrives, and is done.
    pub(crate) fn drain(&mut self) {
        for _ in 0..100_000 {
            let acted: Vec<_> = (0..self.clients.len()).map(|client| self.serve(client)).collect();
            if acted.iter().all(|acted| !acted) {
                for (number, client) in self.clients.iter().enumerate() {
                    assert!(client.is_drained(), "client {number} is stuck");
                }
                return;
            }
        }
        panic!("there is no end of it");
    }

    /// Checks what all have seen against what has happened.
    pub(crate) fn check(mut self) -> Counts {
        let whole = &self.logs.lock().unwrap().whole;
        assert_eq!(whole.head(), self.store.head());
        for client in &mut self.clients {
            let history = History::of(whole, client.connection.rights().unwrap());
            checks::check(client, &history, &mut self.counts);
            add(&mut self.counts, &client.counts);
            client.connection.handle_end();
            assert!(client.connection.is_finished());
        }
        self.counts
    }
}
