//! The engines that servers are tested on. Every test on each engine expects the same of all of them.

use super::{Client, History, TestServer, TestStore, put};
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;
use syncline_core::{Entry, KeyPage, Outcome, Page, StoreId, Transaction};
use syncline_server::Config;
use syncline_store::{ChangedError, DiskOptions, DiskStore, Durability, Feed, MemoryStore, Stats, Store, Unavailable};
use syncline_wire::Revision;
use tempfile::TempDir;

/// A heartbeat interval that is longer than any test.
pub const NEVER: Duration = Duration::from_secs(1_000_000);

/// An engine, with its temporary directory if it has one.
pub enum Engine {
    Memory(Box<MemoryStore>),
    Disk(Box<DiskStore>, Option<TempDir>),
}

/// Returns the options of disk engines in tests. They do not sync, because no test cuts the power.
pub fn disk_options() -> DiskOptions {
    DiskOptions { durability: Durability::Os, segment_size: 4 * 1024 * 1024, ..DiskOptions::default() }
}

impl Engine {
    pub fn memory() -> Self {
        Self::Memory(Box::new(MemoryStore::new().unwrap()))
    }

    /// Creates a disk engine in a new directory.
    pub fn disk() -> Self {
        Self::disk_with(disk_options())
    }

    /// Creates a disk engine in a new directory, with segments that fit the largest transaction of the protocol.
    pub fn large_disk() -> Self {
        Self::disk_with(DiskOptions { segment_size: DiskOptions::default().segment_size, ..disk_options() })
    }

    fn disk_with(options: DiskOptions) -> Self {
        let directory = TempDir::new().unwrap();
        Self::Disk(Box::new(DiskStore::open(directory.path(), options).unwrap()), Some(directory))
    }

    /// Opens a disk engine in a directory of the test.
    pub fn on(directory: &Path) -> Self {
        Self::Disk(Box::new(DiskStore::open(directory, disk_options()).unwrap()), None)
    }

    pub const fn name(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::Disk(..) => "disk",
        }
    }
}

/// A server, and access to its store.
pub struct Lab {
    pub server: TestServer,
    pub store: TestStore,
}

impl Lab {
    /// Starts a server. It sends no heartbeats unless `change` configures some.
    pub fn new(engine: Engine, history: History, change: impl FnOnce(&mut Config)) -> Self {
        Self::of(TestStore::over(engine, history), change)
    }

    fn of(store: TestStore, change: impl FnOnce(&mut Config)) -> Self {
        let server = TestServer::on(store.clone(), |config| {
            config.heartbeat = NEVER;
            change(config);
        });
        Self { server, store }
    }

    /// Stops the server, and checks that it has released the store.
    pub fn stop(self) {
        let Self { server, store } = self;
        server.shut_down().unwrap();
        assert_eq!(store.handles(), 1, "the server still holds the store");
    }

    /// Writes each key once, at version 1, and returns the connection that wrote them.
    pub fn put_keys(&self, keys: &[&str]) -> Client {
        let mut writer = self.server.extended();
        for key in keys {
            writer.expect_echo(&put(1, key, "v", 1));
        }
        writer
    }

    pub fn history(&self) -> &History {
        self.store.all()
    }
}

/// Runs a test on a new server of each engine.
pub fn on_each_engine(test: impl Fn(&Lab)) {
    on_each_engine_with(|_| {}, test);
}

/// Runs a test on a new server of each engine, with a changed configuration.
pub fn on_each_engine_with(change: impl Fn(&mut Config), test: impl Fn(&Lab)) {
    on_each(TestStore::over, change, test);
}

/// Runs a test on a new server of each engine, whose commits the test can block.
pub fn on_each_gated_engine(test: impl Fn(&Lab)) {
    on_each(TestStore::gated, |_| {}, test);
}

fn on_each(store: fn(Engine, History) -> TestStore, change: impl Fn(&mut Config), test: impl Fn(&Lab)) {
    let mut config = Config::default();
    change(&mut config);
    // Large segments only if they are needed, because creating them takes time.
    let is_large = config.limits.max_transaction() > Config::default().limits.max_transaction();
    for engine in [Engine::memory(), if is_large { Engine::large_disk() } else { Engine::disk() }] {
        let _name = NameOnPanic(engine.name());
        test(&Lab::of(store(engine, History::default()), &change));
    }
}

/// Prints the name of the engine if the test fails.
struct NameOnPanic(&'static str);

impl Drop for NameOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "on the engine: {}", self.0);
        }
    }
}

impl Store for Engine {
    fn id(&self) -> StoreId {
        match self {
            Self::Memory(store) => store.id(),
            Self::Disk(store, _) => store.id(),
        }
    }

    fn head(&self) -> Revision {
        match self {
            Self::Memory(store) => store.head(),
            Self::Disk(store, _) => store.head(),
        }
    }

    fn follow(&self, feed: Feed) -> Revision {
        match self {
            Self::Memory(store) => store.follow(feed),
            Self::Disk(store, _) => store.follow(feed),
        }
    }

    fn commit(&self, batch: Vec<Transaction>) -> Vec<Outcome> {
        match self {
            Self::Memory(store) => store.commit(batch),
            Self::Disk(store, _) => store.commit(batch),
        }
    }

    fn blocks(&self) -> bool {
        match self {
            Self::Memory(store) => store.blocks(),
            Self::Disk(store, _) => store.blocks(),
        }
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Entry>, Unavailable> {
        match self {
            Self::Memory(store) => store.get(key).await,
            Self::Disk(store, _) => store.get(key).await,
        }
    }

    async fn changed_since(&self, since: Revision, prefix: &[u8], max_bytes: usize) -> Result<Page, ChangedError> {
        match self {
            Self::Memory(store) => store.changed_since(since, prefix, max_bytes).await,
            Self::Disk(store, _) => store.changed_since(since, prefix, max_bytes).await,
        }
    }

    async fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        max_entries: NonZeroUsize,
        max_bytes: usize,
    ) -> Result<KeyPage, Unavailable> {
        match self {
            Self::Memory(store) => store.list(prefix, after, max_entries, max_bytes).await,
            Self::Disk(store, _) => store.list(prefix, after, max_entries, max_bytes).await,
        }
    }

    fn stats(&self) -> Stats {
        match self {
            Self::Memory(store) => store.stats(),
            Self::Disk(store, _) => store.stats(),
        }
    }

    fn accepts_writes(&self) -> Result<(), Unavailable> {
        match self {
            Self::Memory(store) => store.accepts_writes(),
            Self::Disk(store, _) => store.accepts_writes(),
        }
    }
}
