//! The steps of a random schedule, and what they do to the watchers and the store.

use crate::client::{Client, RandomRequest};
use crate::history::History;
use crate::support::{Coverage, DrivenClient, Driver, DriverStep};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use syncline_wire::{Message, Operation, Revision, Version};

/// A write. Its versions are the next ones when the request is sent.
#[derive(Clone, Debug)]
pub(crate) enum RandomWrite {
    Put {
        key: &'static str,
        size: usize,
    },
    Delete {
        key: &'static str,
    },
    /// PUTs (`true`) and DELETEs.
    Transaction(Vec<(&'static str, bool)>),
}

/// One step of the schedule.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A client sends requests.
    Send { client: usize, requests: Vec<RandomRequest> },
    /// The driver or the committer acts, or a client reads.
    Drive(DriverStep),
    /// Another process writes.
    WriteExternally(Vec<RandomWrite>),
    /// Half a heartbeat passes.
    Beat { client: usize },
    /// A client loses its connection and connects again.
    Reconnect { client: usize },
    /// A connection is served until nothing is left to do; then its client sends a GET.
    GetWhenIdle { client: usize, key: &'static str },
}

/// The number of clients.
pub(crate) const CLIENTS: usize = 3;

/// The bytes of a page: so few that there are several.
const MAX_PAGE: usize = 60;

/// The watchers and the store.
pub(crate) struct World {
    driver: Driver<Client>,
    history: Rc<RefCell<History>>,
}

impl World {
    pub(crate) fn new(recent_log: usize) -> Self {
        let history = Rc::default();
        let clients = (1..).take(CLIENTS).map(|id| Client::new(id, Rc::clone(&history))).collect();
        Self { driver: Driver::new(recent_log, MAX_PAGE, clients), history }
    }

    fn operations(&mut self, write: &RandomWrite) -> Vec<Operation> {
        let driver = &mut self.driver;
        match write {
            RandomWrite::Put { key, size } => vec![driver.next_put(*key, *size)],
            RandomWrite::Delete { key } => vec![driver.next_delete(*key)],
            RandomWrite::Transaction(writes) => {
                let by_key: BTreeMap<_, _> = writes.iter().copied().collect();
                by_key
                    .into_iter()
                    .map(|(key, is_put)| if is_put { driver.next_put(key, 10) } else { driver.next_delete(key) })
                    .collect()
            }
        }
    }

    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Send { client, requests } => requests.iter().for_each(|request| self.send(client, request)),
            Step::Drive(step) => self.driver.step(step),
            Step::WriteExternally(writes) => self.write_externally(&writes),
            Step::Beat { client } => self.beat(client),
            Step::Reconnect { client } => self.reconnect(client),
            Step::GetWhenIdle { client, key } => {
                self.driver.serve_until_idle(client);
                self.send(client, &RandomRequest::Get(key));
                self.driver.serve(client);
            }
        }
    }

    /// Passes half a heartbeat twice: a MARK is due if none was sent meanwhile.
    fn beat(&mut self, client: usize) {
        for _ in 0..2 {
            self.driver.clients[client].link().connection.handle_beat();
            self.driver.show_log(client);
        }
    }

    fn reconnect(&mut self, client: usize) {
        let last = self.driver.clients.iter_mut().map(|client| client.link().connection.id().get()).max().unwrap();
        let head = self.driver.head();
        self.driver.clients[client].reconnect(last + 1, head);
    }

    fn send(&mut self, client: usize, request: &RandomRequest) {
        let operations = match request {
            RandomRequest::Write(write) => self.operations(write),
            _ => Vec::new(),
        };
        let head = self.driver.head();
        let client = &mut self.driver.clients[client];
        match request {
            RandomRequest::Write(write) => client.send(head, |tag| match (write, &operations[..]) {
                (RandomWrite::Put { .. }, [Operation::Put { key, value, version }]) => {
                    Message::put(tag, key.clone(), value.clone(), *version)
                }
                (RandomWrite::Delete { .. }, [Operation::Delete { key, version }]) => {
                    Message::delete(tag, key.clone(), *version)
                }
                _ => Message::txn(tag, operations),
            }),
            RandomRequest::StalePut(key) => client.send(head, |tag| Message::put(tag, *key, "never", Version::ABSENT)),
            RandomRequest::Get(key) => client.send(head, |tag| Message::get(tag, *key)),
            RandomRequest::Watch(prefix) => client.watch(prefix, Revision::ZERO, head),
            RandomRequest::WatchSinceUnknown(prefix) => client.watch(prefix, Revision::new(1 << 40), head),
            RandomRequest::List { prefix, after, limit } => {
                client.send(head, |tag| Message::list(tag, *prefix, *after, *limit));
            }
            RandomRequest::Barrier => client.send(head, |tag| Message::mark(tag, Revision::ZERO)),
        }
    }

    fn write_externally(&mut self, writes: &[RandomWrite]) {
        for write in writes {
            let operations = self.operations(write);
            self.driver.commit_externally(operations);
        }
    }

    /// Completes everything that is in flight. Then every watcher must hold the latest state of what it watches.
    pub(crate) fn finish(mut self) -> Coverage {
        self.driver.drain();
        let head = self.driver.head();
        (0..CLIENTS).for_each(|client| self.send(client, &RandomRequest::Barrier));
        self.driver.drain();
        let mut coverage = self.driver.coverage;
        for client in &self.driver.clients {
            client.assert_holds(&self.history.borrow().at(head));
            coverage.merge(&client.coverage);
        }
        coverage
    }
}
