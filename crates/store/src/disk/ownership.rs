//! Whether what this engine writes will be found again: the data directory is still where it was opened, its files are
//! still there, and no other process writes to it.
//!
//! Every batch is checked before it is written, and again before it is acknowledged. The maintenance thread checks as
//! well, so that trouble shows although nothing is written. The checks of the place keep no state: when the directory is
//! back, writes are accepted again.
//!
//! # How two writers notice each other
//! The lock of the directory keeps a second process out, except where locks do not reach: on another machine that shares
//! the disk, for example. Two engines that opened the same log append at the same offset. So each reads the place of its
//! next record first. A record there that continues the log, or begins a later segment, is another writer's. After its own
//! record was synced, the engine reads that back: if another writer has replaced it, nothing is acknowledged.

use super::files::{FileHandle, FileSystem};
use super::health::{Condition, Health};
use super::log::{AppendError, Log};
use super::names;
use super::record::{self, ChecksumSeed};
use super::state::EngineState;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use syncline_wire::Revision;

/// How often the maintenance thread checks the directory.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What to do if the directory itself is not at its path.
const MOVE_IT_BACK: &str = "what was acknowledged is in the directory that was opened. Move it back, and writes are accepted again; or save the keys with `syncline export`, and restart";

/// What to do if a file of the directory was removed.
const EXPORT: &str = "the server still has all keys in memory. Save them with `syncline export`, and import them into a server with a new data directory";

/// Checks that the directory is where it was opened, and that none of its files is known to be removed. Updates the
/// health accordingly.
///
/// # Errors
/// Returns the reason why nothing may be written or acknowledged, for people.
pub(crate) fn check_place<F: FileSystem>(log: &Log<F>, health: &Health) -> Result<(), Arc<str>> {
    if let Some(reason) = health.reason(Condition::Incomplete) {
        return Err(reason);
    }
    if let Some(current) = &log.current
        && matches!(current.segment.handle.has_name(), Ok(false))
    {
        let reason = removed(&*log.files, &names::segment(current.segment.number));
        return Err(health.begin(Condition::Incomplete, reason));
    }
    match log.files.check_place() {
        Ok(()) => {
            health.end(Condition::Misplaced);
            Ok(())
        }
        Err(found) => Err(health.begin(Condition::Misplaced, misplaced(&*log.files, &found, MOVE_IT_BACK))),
    }
}

fn misplaced<F: FileSystem>(files: &F, found: &str, what_to_do: &str) -> String {
    format!("the data directory {} was moved, replaced or removed: {found}; {what_to_do}", files.path("").display())
}

fn removed<F: FileSystem>(files: &F, name: &str) -> String {
    misplaced(files, &format!("its file {name} is gone"), EXPORT)
}

impl<F: FileSystem> Log<F> {
    /// Checks that no other process has written where the next record goes.
    ///
    /// # Errors
    /// Returns [`AppendError::OtherWriter`] if one has, and [`AppendError::Refused`] if the place cannot be read.
    pub(crate) fn expect_room(&self, seed: ChecksumSeed) -> Result<(), AppendError> {
        // What a failed write of this process has left there is replaced.
        let Some(current) = self.current.as_ref().filter(|current| !current.is_torn) else { return Ok(()) };
        let header = header_at(&current.segment.handle, current.offset).map_err(AppendError::Refused)?;
        let is_others = record::header_of(seed, &header).is_some_and(|found| match current.offset {
            // Of an earlier use of the file, only records of earlier segments remain.
            0 => found.segment >= current.id,
            // After a crash, whole records of the same segment may remain behind the end of the log. They do not continue it.
            _ => found.segment > current.id || (found.segment == current.id && found.previous == self.previous),
        });
        if is_others { Err(AppendError::OtherWriter { is_written: false }) } else { Ok(()) }
    }

    /// Checks that the last record is still the one that was appended.
    ///
    /// # Errors
    /// Returns [`AppendError::OtherWriter`] if another process has replaced it, and [`AppendError::Failed`] if it cannot
    /// be read.
    pub(crate) fn expect_last_record(&self, seed: ChecksumSeed) -> Result<(), AppendError> {
        let Some((current, start)) = self.current.as_ref().and_then(|current| Some((current, current.last_record?)))
        else {
            return Ok(());
        };
        let header = header_at(&current.segment.handle, start).map_err(AppendError::Failed)?;
        match record::header_of(seed, &header) {
            Some(found) if found.checksum == self.previous => Ok(()),
            _ => Err(AppendError::OtherWriter { is_written: true }),
        }
    }
}

fn header_at<H: FileHandle>(handle: &H, offset: u64) -> io::Result<[u8; record::HEADER]> {
    let mut header = [0; record::HEADER];
    handle.read_at(&mut header, offset)?;
    Ok(header)
}

/// The checks of the maintenance thread.
#[derive(Default)]
pub(crate) struct Inspector {
    /// The newest checkpoint that was ever seen.
    newest: Option<Revision>,
}

impl Inspector {
    /// Checks the directory, and updates the health of the engine.
    pub(crate) fn inspect<F: FileSystem>(&mut self, shared: &EngineState<F>) {
        let mut commit_state = shared.commit_state.lock();
        if shared.health.has_failed() {
            return;
        }
        let log = &commit_state.log;
        let seed = shared.identity.seed;
        // A disk that cannot be read shows when something is written.
        if let Err(error @ AppendError::OtherWriter { .. }) =
            log.expect_room(seed).and_then(|()| log.expect_last_record(seed))
        {
            commit_state.reason(&error);
            return;
        }
        let segments: BTreeSet<_> = log.files().map(|segment| names::segment(segment.number)).collect();
        // A file may have been replaced by another one of the same name.
        let nameless = log.files().find(|segment| matches!(segment.handle.has_name(), Ok(false)));
        let nameless = nameless.map(|segment| names::segment(segment.number));
        drop(commit_state);
        match shared.files.check_place() {
            Ok(()) => shared.health.end(Condition::Misplaced),
            Err(found) => {
                shared.health.begin(Condition::Misplaced, misplaced(&*shared.files, &found, MOVE_IT_BACK));
            }
        }
        let found = match nameless {
            Some(name) => Err(removed(&*shared.files, &name)),
            None => self.find_removed(&*shared.files, segments),
        };
        match found {
            Ok(()) => shared.health.end(Condition::Incomplete),
            Err(reason) => {
                shared.health.begin(Condition::Incomplete, reason);
            }
        }
    }

    /// Checks that the identity, the newest checkpoint, and these segments are there.
    fn find_removed<F: FileSystem>(&mut self, files: &F, segments: BTreeSet<String>) -> Result<(), String> {
        // A directory that cannot be listed shows when something is written.
        let Ok(names) = files.list() else { return Ok(()) };
        self.newest = names.iter().filter_map(|name| names::checkpoint_revision(name)).max().max(self.newest);
        let needed = segments.into_iter().chain(self.newest.map(names::checkpoint)).chain([names::IDENTITY.to_owned()]);
        match needed.into_iter().find(|needed| !names.contains(needed)) {
            Some(gone) => Err(removed(files, &gone)),
            None => Ok(()),
        }
    }
}
