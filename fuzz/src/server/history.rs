//! Everything that was committed, as the reference for the checks.

use bytes::Bytes;
use std::collections::BTreeMap;
use syncline_core::{Operation, Transaction};
use syncline_wire::{Revision, Version};

/// The latest state of each key: its value, or `None` if it was deleted; and its version.
pub type State = BTreeMap<Bytes, (Option<Bytes>, Version)>;

/// Everything that was committed, in order.
#[derive(Debug, Default)]
pub struct History(Vec<(Revision, Bytes, Option<Bytes>, Version)>);

impl History {
    /// Adds an accepted transaction.
    pub fn add(&mut self, revision: Revision, transaction: &Transaction) {
        for operation in &*transaction.operations {
            let (key, value, version) = match operation {
                Operation::Check { .. } => continue,
                Operation::Put { key, value, version } => (key, Some(value.clone()), *version),
                Operation::Delete { key, version } => (key, None, *version),
            };
            self.0.push((revision, key.clone(), value, version));
        }
    }

    /// Returns the revision of a write, or `None` if it was never committed.
    pub fn find(&self, key: &[u8], value: Option<&[u8]>, version: Version) -> Option<Revision> {
        let write = self.0.iter().find(|(_, k, v, of)| k == key && v.as_deref() == value && *of == version);
        write.map(|(revision, ..)| *revision)
    }

    /// Returns the state at `revision`.
    pub fn at(&self, revision: Revision) -> State {
        let writes = self.0.iter().take_while(|(of, ..)| *of <= revision);
        writes.map(|(_, key, value, version)| (key.clone(), (value.clone(), *version))).collect()
    }
}
