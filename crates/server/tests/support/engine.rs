//! The engines that a server is tested on: what holds on the one holds on the other.

use super::{History, TestServer, TestStore};
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;
use syncline_core::{Entry, KeyPage, Outcome, Page, StoreId, Transaction};
use syncline_server::Config;
use syncline_store::{ChangedError, DiskOptions, DiskStore, Durability, Feed, MemoryStore, Stats, Store, Unavailable};
use syncline_wire::Revision;
use tempfile::TempDir;

/// A heartbeat that no test lives to see.
pub const NEVER: Duration = Duration::from_secs(1_000_000);

/// Any engine. A directory that was made for it goes with it.
pub enum Engine {
    Memory(Box<MemoryStore>),
    Disk(Box<DiskStore>, Option<TempDir>),
}

/// What the tests open data directories with: a power cut is not what they are about.
pub fn disk_options() -> DiskOptions {
    DiskOptions { durability: Durability::Os, segment_size: 4 * 1024 * 1024, ..DiskOptions::default() }
}

impl Engine {
    pub fn memory() -> Self {
        Self::Memory(Box::new(MemoryStore::new().unwrap()))
    }

    /// On a new directory.
    pub fn disk() -> Self {
        Self::disk_with(disk_options())
    }

    /// On a new directory, where a transaction may be as large as the protocol allows.
    pub fn large_disk() -> Self {
        Self::disk_with(DiskOptions { segment_size: DiskOptions::default().segment_size, ..disk_options() })
    }

    fn disk_with(options: DiskOptions) -> Self {
        let directory = TempDir::new().unwrap();
        Self::Disk(Box::new(DiskStore::open(directory.path(), options).unwrap()), Some(directory))
    }

    /// On a directory of the test's own.
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

/// A server, and the test's hand in its store.
pub struct Lab {
    pub server: TestServer,
    pub store: TestStore,
}

impl Lab {
    /// No heartbeat comes in between, unless `change` sets one.
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

    /// Stops the server; then nobody else has the store open.
    pub fn stop(self) {
        let Self { server, store } = self;
        server.shut_down().unwrap();
        assert_eq!(store.handles(), 1, "somebody still has the store");
    }

    pub fn history(&self) -> &History {
        self.store.all()
    }
}

/// Runs a test on a new server of each engine.
pub fn on_each_engine(test: impl Fn(&Lab)) {
    on_each_engine_with(|_| {}, test);
}

/// Runs a test on a new server of each engine, configured as `change` says.
pub fn on_each_engine_with(change: impl Fn(&mut Config), test: impl Fn(&Lab)) {
    on_each(TestStore::over, change, test);
}

/// Runs a test on a new server of each engine, whose commits may be made to wait.
pub fn on_each_gated_engine(test: impl Fn(&Lab)) {
    on_each(TestStore::gated, |_| {}, test);
}

fn on_each(store: fn(Engine, History) -> TestStore, change: impl Fn(&mut Config), test: impl Fn(&Lab)) {
    let mut config = Config::default();
    change(&mut config);
    // A segment holds any transaction; making it takes its time.
    let is_large = config.limits.max_transaction() > Config::default().limits.max_transaction();
    for engine in [Engine::memory(), if is_large { Engine::large_disk() } else { Engine::disk() }] {
        let _named = Named(engine.name());
        test(&Lab::of(store(engine, History::default()), &change));
    }
}

/// Says on which engine a test has failed.
struct Named(&'static str);

impl Drop for Named {
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
}
