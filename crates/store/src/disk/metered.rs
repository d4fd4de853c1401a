//! A file layer that tells how far reading or writing has come, for what takes long enough that people ask.

use super::files::{FileHandle, FileSystem};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// More is not read at once without telling.
const STEP: usize = 1024 * 1024;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// What is there is read and checked.
    Reading,
    /// What was asked for is written.
    Writing,
}

/// How far a stage has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// So many bytes are done.
    pub done: u64,
    /// About so many there are in all.
    pub total: u64,
}

/// Is told of progress, often, from any thread.
pub type Report = Arc<dyn Fn(Progress) + Send + Sync>;

/// Counts what is done in a stage.
pub(crate) struct Meter {
    report: Report,
    stage: Stage,
    total: u64,
    done: AtomicU64,
}

impl Meter {
    pub(crate) fn new(report: &Report, stage: Stage, total: u64) -> Arc<Self> {
        Arc::new(Self { report: report.clone(), stage, total, done: AtomicU64::new(0) })
    }

    fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.tell(done);
    }

    /// The stage is at its end, even where less was done than was thought.
    pub(crate) fn finish(&self) {
        self.tell(self.total);
    }

    fn tell(&self, done: u64) {
        (self.report)(Progress { stage: self.stage, done: done.min(self.total), total: self.total });
    }
}

/// Files that are metered.
pub(crate) struct Metered<F> {
    pub(crate) files: F,
    pub(crate) meter: Arc<Meter>,
}

/// A file that is metered.
pub(crate) struct MeteredHandle<H> {
    handle: H,
    meter: Arc<Meter>,
}

impl<H> MeteredHandle<H> {
    pub(crate) fn new(handle: H, meter: &Arc<Meter>) -> Self {
        Self { handle, meter: meter.clone() }
    }
}

impl<F: FileSystem> FileSystem for Metered<F> {
    type Handle = MeteredHandle<F::Handle>;

    fn list(&self) -> io::Result<Vec<String>> {
        self.files.list()
    }

    fn open(&self, name: &str) -> io::Result<Self::Handle> {
        Ok(MeteredHandle::new(self.files.open(name)?, &self.meter))
    }

    fn create(&self, name: &str) -> io::Result<Self::Handle> {
        Ok(MeteredHandle::new(self.files.create(name)?, &self.meter))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.files.sync_names()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path(name)
    }
}

impl<H: FileHandle> FileHandle for MeteredHandle<H> {
    fn length(&self) -> io::Result<u64> {
        self.handle.length()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        for part in buffer.chunks_mut(STEP) {
            let read = self.handle.read_at(part, offset + filled as u64)?;
            filled += read;
            self.meter.advance(read as u64);
            if read < part.len() {
                break;
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.handle.write_at(bytes, offset)?;
        self.meter.advance(bytes.len() as u64);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync()
    }
}
