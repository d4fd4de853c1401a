//! The steps of a random schedule, and what they do to the clients and the store.

use crate::checks::{self, History};
use crate::client::{Client, RandomRequest};
use crate::support::{Coverage, Driver, DriverStep};
use bytes::Bytes;
use std::sync::Arc;
use syncline_core::Rights;
use syncline_core::server::{Access, Limits};
use syncline_wire::{Message, Version};

/// What a run starts with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) limits: Limits,
    /// The bytes of the recent log.
    pub(crate) recent_log: usize,
}

/// How the version of a PUT differs from the next version of its key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum VersionSkew {
    /// The next version, if no other client writes the key first.
    Next,
    /// One version too low.
    Behind,
    /// One version too high.
    Ahead,
}

/// What another process does to a key.
#[derive(Clone, Debug)]
pub(crate) enum ExternalWrite {
    Put {
        size: usize,
        times: usize,
    },
    Delete,
    /// Writes this and the next key in one transaction.
    Transaction,
}

/// One step of the schedule.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A client sends requests.
    Send { client: usize, requests: Vec<RandomRequest> },
    /// The driver or the committer acts, or a client reads.
    Drive(DriverStep),
    /// Another process writes.
    WriteExternally { key: usize, write: ExternalWrite },
    /// Large writes are committed and shown to a connection before it is handed the outcomes of its own writes.
    OutrunOutcomes { client: usize, key: usize },
}

/// The number of clients.
pub(crate) const CLIENTS: usize = 5;

/// The client that reads nothing before the end.
const STALLED: usize = 3;

/// The number of the key that a client shares with no other client, so that many of its writes are accepted.
pub(crate) const OWN_KEY: usize = 10;

/// Returns the rights of the last client. Of the keys that all clients use, it may read every other one and write one.
fn restricted_rights() -> Arc<Rights> {
    let own = format!("key{}", OWN_KEY + CLIENTS - 1);
    let read = ["key0", "key2", "key4", &own].map(|prefix| Bytes::from(prefix.to_owned()));
    Arc::new(Rights::new(read, ["key0".into(), own.into()]))
}

/// The clients and the store.
pub(crate) struct World {
    driver: Driver<Client>,
}

fn key(number: usize) -> Bytes {
    format!("key{number}").into()
}

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let access: [_; CLIENTS] =
            [Access::open(), Access::open(), Access::Password, Access::open(), Access::Granted(restricted_rights())];
        let clients = access.into_iter().zip(1..).map(|(access, id)| Client::new(id, access, setup.limits)).collect();
        Self { driver: Driver::new(setup.recent_log, usize::MAX, clients) }
    }

    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Drive(DriverStep::Read { client: STALLED, .. } | DriverStep::Serve { client: STALLED }) => {}
            Step::Drive(step) => self.driver.step(step),
            Step::Send { client, requests } => requests.iter().for_each(|request| self.send(client, request)),
            Step::WriteExternally { key, write } => self.write_externally(key, &write),
            Step::OutrunOutcomes { client, key } => {
                self.driver.execute(client, usize::MAX, false);
                self.driver.commit(usize::MAX);
                self.write_externally(key, &ExternalWrite::Put { size: 20_000, times: 2 });
                self.driver.show_log(client);
                self.driver.execute(client, usize::MAX, false);
            }
        }
    }

    fn send(&mut self, client: usize, request: &RandomRequest) {
        let driver = &mut self.driver;
        match request {
            RandomRequest::Get { key: number } => driver.clients[client].send(|tag| Message::get(tag, key(*number))),
            RandomRequest::Put { key: number, skew, size } => {
                let key = key(if *number == OWN_KEY { OWN_KEY + client } else { *number });
                let value = driver.unique_value(*size);
                let next = driver.version(&key).get() + driver.clients[client].undecided_writes(&key) + 1;
                let version = match skew {
                    VersionSkew::Next => next,
                    VersionSkew::Behind => next - 1,
                    VersionSkew::Ahead => next + 1,
                };
                driver.clients[client].send(|tag| Message::put(tag, key, value, Version::new(version)));
            }
            RandomRequest::RefusedPut => {
                driver.coverage.count("refused on arrival", 1);
                driver.clients[client].send(|tag| Message::put(tag, key(0), "", Version::MAX));
            }
        }
    }

    fn write_externally(&mut self, number: usize, write: &ExternalWrite) {
        let driver = &mut self.driver;
        match write {
            ExternalWrite::Put { size, times } => {
                for _ in 0..*times {
                    let put = driver.next_put(key(number), *size);
                    driver.commit_externally(vec![put]);
                }
            }
            ExternalWrite::Delete => driver.commit_externally(vec![driver.next_delete(key(number))]),
            ExternalWrite::Transaction => {
                let puts = [number, number + 1].map(|number| driver.next_put(key(number), 20));
                driver.commit_externally(puts.into());
            }
        }
    }

    /// Completes everything that is in flight, and checks what every client has received.
    pub(crate) fn finish(mut self) -> Coverage {
        self.driver.drain();
        let head = self.driver.head();
        self.driver.check(|log, clients, coverage| {
            assert_eq!(log.head(), head);
            for client in clients {
                let history = History::of(log, client.rights());
                checks::check(client, &history, coverage);
                client.finish();
                coverage.merge(&client.coverage);
            }
        });
        self.driver.coverage
    }
}
