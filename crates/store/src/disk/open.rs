//! The disk engine: opening, closing, and the implementation of [`Store`].

use super::boot::Boot;
use super::commit::CommitState;
use super::error::OpenError;
use super::files::{Directory, FileSystem};
use super::health::{Condition, Health};
use super::identity::{self, Identity};
use super::lock::DirectoryLock;
use super::maintenance;
use super::names;
use super::options::DiskOptions;
use super::record::Encoder;
use super::recovery::{Recovered, apply_repairs, recover};
use super::reserve::Reserve;
use super::state::{EngineState, Maintenance};
use crate::conflict_checker::ConflictChecker;
use crate::index::Record;
use crate::{ChangedError, Clock, Feed, Stats, Store, StoreTime, Unavailable, monotonic_clock};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use syncline_core::{Entry, KeyPage, Outcome, Page, StoreId, Transaction};
use syncline_wire::Revision;

/// A store with the history on disk and the latest state in memory.
pub struct DiskStore(DiskEngine<Directory>);

impl DiskStore {
    /// Opens a data directory. Creates one if `path` does not exist or is an empty directory.
    ///
    /// # Errors
    /// Returns [`OpenError`] if the directory is in use, damaged, or holds something else.
    pub fn open(path: &Path, options: DiskOptions) -> Result<Self, OpenError> {
        let files = Directory::make(path).map_err(not_a_directory("make the directory", path))?;
        let lock = DirectoryLock::acquire(&files)?;
        let mut engine = DiskEngine::open(files, options, monotonic_clock(), Boot::current(), Some(lock))?;
        engine.start_maintenance()?;
        Ok(Self(engine))
    }
}

/// Returns a function that converts the error of opening or creating a data directory.
pub(crate) fn not_a_directory(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |error| {
        let found = match error.kind() {
            io::ErrorKind::NotFound => "nothing at this path",
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists if path.is_symlink() && !path.exists() => {
                "a symbolic link that leads nowhere"
            }
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "something that is no directory",
            _ => return OpenError::io(what, path.to_owned())(error),
        };
        OpenError::Foreign { path: path.to_owned(), expected: "a data directory", found: found.to_owned() }
    }
}

/// The engine over any file system.
pub(crate) struct DiskEngine<F: FileSystem> {
    pub(crate) shared: Arc<EngineState<F>>,
    maintenance: Option<JoinHandle<()>>,
    /// Closed last, when everything else has ended.
    _lock: Option<DirectoryLock>,
}

impl<F: FileSystem> DiskEngine<F> {
    /// Opens the engine without its maintenance thread: nothing runs in the background until
    /// [`DiskEngine::start_maintenance`].
    pub(crate) fn open(
        files: F,
        options: DiskOptions,
        clock: Clock,
        boot: Boot,
        lock: Option<DirectoryLock>,
    ) -> Result<Self, OpenError> {
        let files = Arc::new(files);
        let names = files.list().map_err(OpenError::io("list the files of", files.path("")))?;
        let identity = if names.iter().any(|name| name == names::IDENTITY) {
            Identity::read(&*files)?
        } else {
            identity::expect_none(&*files, "an empty directory, or a data directory with a file `identity`")?;
            let identity = Identity::new(options.segment_size)?;
            identity.write(&*files).map_err(OpenError::io("write", files.path(names::IDENTITY)))?;
            identity
        };
        let recovered = recover(&files, identity, options.first_segment_size)?;
        apply_repairs(&*files, &recovered)?;
        let identity = identity.opened(&*files, options.durability, boot)?;
        let Recovered { index, log, time, .. } = recovered;
        let reserve = Reserve::find(&*files).map_err(OpenError::io("read", files.path(names::RESERVE)))?;
        let health = Arc::new(Health::new(files.path("")));
        let commit_state = CommitState {
            identity,
            durability: options.durability,
            feed: Box::new(|_| {}),
            log,
            synced: index.head(),
            time: StoreTime::resume(time, clock),
            health: health.clone(),
            encoder: Encoder::default(),
            conflicts: ConflictChecker::default(),
        };
        let shared = Arc::new(EngineState {
            files,
            identity,
            options,
            index: RwLock::new(index),
            commit_state: Mutex::new(commit_state),
            maintenance: Maintenance::default(),
            reserve: Mutex::new(reserve),
            health,
        });
        Ok(Self { shared, maintenance: None, _lock: lock })
    }

    /// Starts the maintenance thread.
    fn start_maintenance(&mut self) -> Result<(), OpenError> {
        let shared = self.shared.clone();
        let thread = thread::Builder::new()
            .name("maintenance".into())
            .spawn(move || maintenance::run(&shared))
            .map_err(OpenError::io("start a thread for", self.shared.files.path("")))?;
        self.maintenance = Some(thread);
        Ok(())
    }
}

impl<F: FileSystem> Drop for DiskEngine<F> {
    fn drop(&mut self) {
        self.shared.maintenance.close();
        if let Some(thread) = self.maintenance.take() {
            // If the thread panicked, it has reported that itself.
            let _ = thread.join();
        }
        if let Err(error) = maintenance::checkpoint_before_closing(&self.shared) {
            tracing::warn!(%error, "can't take a checkpoint; the next start reads the log instead");
        }
        let head = self.shared.index.read().head();
        let closed = self.shared.commit_state.lock().close(head);
        let closed = closed.and_then(|()| maintenance::write_watermark(&self.shared));
        let failed = self.shared.health.has_failed();
        let closed = match closed {
            Err(error) if !failed => Err(error),
            closed => self.shared.identity.closed(&*self.shared.files, closed.is_ok()).and(closed),
        };
        if let Some(reason) = self.shared.health.reason(Condition::Incomplete) {
            tracing::error!(%reason, "the data directory is closed without files that it needs");
        } else if let Some(reason) = self.shared.health.reason(Condition::Misplaced) {
            tracing::error!(%reason, "the data directory is closed where it is now");
        } else if let Err(error) = closed {
            tracing::error!(%error, "can't close the log; what was acknowledged is as durable as was promised");
        }
    }
}

impl<F: FileSystem> Store for DiskEngine<F> {
    fn id(&self) -> StoreId {
        self.shared.identity.store
    }

    fn head(&self) -> Revision {
        self.shared.index.read().head()
    }

    fn follow(&self, feed: Feed) -> Revision {
        let mut commit_state = self.shared.commit_state.lock();
        commit_state.feed = feed;
        self.shared.index.read().head()
    }

    fn commit(&self, batch: Vec<Transaction>) -> Vec<Outcome> {
        let mut commit_state = self.shared.commit_state.lock();
        let outcomes = commit_state.commit(&self.shared.index, &batch);
        self.shared.look(&commit_state.log);
        outcomes
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Entry>, Unavailable> {
        let record = self.shared.index.read().get(key).cloned();
        Ok(record.map(|record| record.entry()))
    }

    async fn get_all(&self, keys: &[Bytes], max_bytes: usize) -> Result<Vec<Option<Entry>>, Unavailable> {
        let records = self.shared.index.read().get_all(keys, max_bytes);
        Ok(Record::entries_of(&records))
    }

    async fn changed_since(&self, since: Revision, prefix: &[u8], max_bytes: usize) -> Result<Page, ChangedError> {
        self.shared.index.read().page(since, prefix, max_bytes)
    }

    async fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        max_entries: NonZeroUsize,
        max_bytes: usize,
    ) -> Result<KeyPage, Unavailable> {
        Ok(self.shared.index.read().list(prefix, after, max_entries, max_bytes))
    }

    fn stats(&self) -> Stats {
        self.shared.index.read().stats(self.shared.options.durability.name(), Some(self.shared.files.path("")))
    }

    fn accepts_writes(&self) -> Result<(), Unavailable> {
        self.shared.health.accepts_writes()
    }
}

impl Store for DiskStore {
    fn id(&self) -> StoreId {
        self.0.id()
    }

    fn head(&self) -> Revision {
        self.0.head()
    }

    fn follow(&self, feed: Feed) -> Revision {
        self.0.follow(feed)
    }

    fn commit(&self, batch: Vec<Transaction>) -> Vec<Outcome> {
        self.0.commit(batch)
    }

    fn get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Entry>, Unavailable>> + Send {
        self.0.get(key)
    }

    fn get_all(
        &self,
        keys: &[Bytes],
        max_bytes: usize,
    ) -> impl Future<Output = Result<Vec<Option<Entry>>, Unavailable>> + Send {
        self.0.get_all(keys, max_bytes)
    }

    fn changed_since(
        &self,
        since: Revision,
        prefix: &[u8],
        max_bytes: usize,
    ) -> impl Future<Output = Result<Page, ChangedError>> + Send {
        self.0.changed_since(since, prefix, max_bytes)
    }

    fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        max_entries: NonZeroUsize,
        max_bytes: usize,
    ) -> impl Future<Output = Result<KeyPage, Unavailable>> + Send {
        self.0.list(prefix, after, max_entries, max_bytes)
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }

    fn accepts_writes(&self) -> Result<(), Unavailable> {
        self.0.accepts_writes()
    }
}
