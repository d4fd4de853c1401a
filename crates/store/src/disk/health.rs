//! Whether the engine accepts writes, and if not, why. This is the one place that commits, maintenance and STATUS agree
//! on.

use crate::Unavailable;
use parking_lot::Mutex;
use std::sync::Arc;

/// Why the engine refuses writes, if it does. Reading it never waits for the disk.
#[derive(Default)]
pub(crate) struct Health {
    /// Why nothing can be written until the store is opened again.
    failed: Mutex<Option<Arc<str>>>,
}

impl Health {
    /// Refuses all writes until the store is opened again. The first reason is kept, and returned.
    pub(crate) fn fail(&self, reason: Arc<str>) -> Arc<str> {
        self.failed.lock().get_or_insert(reason).clone()
    }

    /// Returns whether nothing can be written until the store is opened again.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.lock().is_some()
    }

    /// Returns whether the engine accepts writes.
    ///
    /// # Errors
    /// Returns the reason why it does not.
    pub(crate) fn accepts_writes(&self) -> Result<(), Unavailable> {
        match &*self.failed.lock() {
            Some(reason) => Err(Unavailable(reason.clone())),
            None => Ok(()),
        }
    }
}
