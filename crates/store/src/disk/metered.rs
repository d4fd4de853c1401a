//! A file layer that reports the progress of reading or writing.

use super::files::{FileHandle, FileSystem};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of bytes after which a read reports its progress.
const STEP: usize = 1024 * 1024;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Existing files are read and checked.
    Reading,
    /// The result is written.
    Writing,
}

/// The progress of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// How many bytes are done.
    pub done: u64,
    /// The approximate number of bytes in total.
    pub total: u64,
}

/// A function that is called often with the progress, from any thread.
pub type Report = Arc<dyn Fn(Progress) + Send + Sync>;

/// Counts the progress of a stage.
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
        self.report(done);
    }

    /// Reports the end of the stage, even if less was done than was estimated.
    pub(crate) fn finish(&self) {
        self.report(self.total);
    }

    fn report(&self, done: u64) {
        (self.report)(Progress { stage: self.stage, done: done.min(self.total), total: self.total });
    }
}

/// A directory of which reads and writes are metered.
pub(crate) struct Metered<F> {
    pub(crate) files: F,
    pub(crate) meter: Arc<Meter>,
}

/// A file of which reads and writes are metered.
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
