//! Whether the engine accepts writes, and if not, why. This is the one place that commits, maintenance and STATUS agree
//! on, and the one that logs when writes begin to be refused and when they are accepted again.

use crate::Unavailable;
use parking_lot::Mutex;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tracing::{error, info};

/// A condition in which the engine refuses writes. The first one in this order is shown if several hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Nothing can be written until the store is opened again. This condition never ends.
    Failed,
    /// Files of the data directory were removed.
    Incomplete,
    /// The data directory is not where it was opened.
    Misplaced,
    /// The disk refuses what must be written. Deletions may be accepted nevertheless.
    DiskRefuses,
}

/// Returns the reason of [`Condition::DiskRefuses`] for an error of the disk.
pub(crate) fn refusal(error: &io::Error) -> String {
    format!("the disk refuses: {error}")
}

/// The conditions that hold, each with its reason for people. Reading them never waits for the disk.
pub(crate) struct Health {
    /// The data directory, for the log.
    directory: PathBuf,
    reasons: Mutex<[Option<Arc<str>>; 4]>,
}

impl Health {
    /// Returns the health of an engine in which no condition holds.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, reasons: Mutex::default() }
    }

    /// Begins a condition, unless it holds already: then its reason is replaced, except that of
    /// [`Condition::Failed`]. Returns the reason that is kept.
    pub(crate) fn begin(&self, condition: Condition, reason: impl Into<Arc<str>>) -> Arc<str> {
        let reason = reason.into();
        let mut reasons = self.reasons.lock();
        let Some(place) = reasons.get_mut(condition as usize) else { return reason };
        match place {
            Some(kept) if condition == Condition::Failed => kept.clone(),
            Some(kept) => {
                kept.clone_from(&reason);
                reason
            }
            None => {
                *place = Some(reason.clone());
                drop(reasons);
                error!(directory = %self.directory.display(), %reason, "writes are refused");
                reason
            }
        }
    }

    /// Ends a condition, if it holds.
    pub(crate) fn end(&self, condition: Condition) {
        debug_assert!(condition != Condition::Failed, "a failed store must be opened again");
        let mut reasons = self.reasons.lock();
        let ended = reasons.get_mut(condition as usize).and_then(Option::take);
        let remaining = reasons.iter().flatten().next().cloned();
        drop(reasons);
        match (ended, remaining) {
            (Some(ended), None) => info!(directory = %self.directory.display(), %ended, "writes are accepted again"),
            (Some(ended), Some(reason)) => info!(%ended, %reason, "writes are still refused, for another reason"),
            (None, _) => {}
        }
    }

    /// Returns the reason of a condition, if it holds.
    pub(crate) fn reason(&self, condition: Condition) -> Option<Arc<str>> {
        self.reasons.lock().get(condition as usize).cloned().flatten()
    }

    /// Returns whether nothing can be written until the store is opened again.
    pub(crate) fn has_failed(&self) -> bool {
        self.reason(Condition::Failed).is_some()
    }

    /// Returns whether the engine accepts writes.
    ///
    /// # Errors
    /// Returns the reason why it does not.
    pub(crate) fn accepts_writes(&self) -> Result<(), Unavailable> {
        match self.reasons.lock().iter().flatten().next() {
            Some(reason) => Err(Unavailable(reason.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(health: &Health) -> Option<String> {
        health.accepts_writes().err().map(|Unavailable(reason)| reason.to_string())
    }

    #[test]
    fn writes_are_accepted_when_no_condition_holds() {
        let health = Health::new("data".into());
        assert_eq!(refusal(&health), None);
        health.begin(Condition::DiskRefuses, "full");
        health.begin(Condition::Misplaced, "moved");
        assert_eq!(refusal(&health), Some("moved".into()));
        health.end(Condition::Misplaced);
        assert_eq!(refusal(&health), Some("full".into()));
        health.end(Condition::DiskRefuses);
        health.end(Condition::DiskRefuses);
        assert_eq!(refusal(&health), None);
    }

    #[test]
    fn the_latest_reason_is_shown_except_that_the_first_failure_is_kept() {
        let health = Health::new("data".into());
        health.begin(Condition::DiskRefuses, "full");
        assert_eq!(&*health.begin(Condition::DiskRefuses, "read-only"), "read-only");
        assert_eq!(refusal(&health), Some("read-only".into()));
        assert_eq!(&*health.begin(Condition::Failed, "first"), "first");
        assert_eq!(&*health.begin(Condition::Failed, "second"), "first");
        assert!(health.has_failed());
        assert_eq!(refusal(&health), Some("first".into()));
    }
}
