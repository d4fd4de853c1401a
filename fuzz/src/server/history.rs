//! All that was ever committed.

use bytes::Bytes;
use std::collections::BTreeMap;
use syncline_core::{Operation, Transaction};
use syncline_wire::{Revision, Version};

/// The latest state of keys: a value, or of a deletion none; and the version.
pub type State = BTreeMap<Bytes, (Option<Bytes>, Version)>;

/// All that was ever committed, in order.
#[derive(Debug, Default)]
pub struct History(Vec<(Revision, Bytes, Option<Bytes>, Version)>);

impl History {
    /// A transaction was accepted.
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

    /// The revision of a write, if it was ever made.
    pub fn find(&self, key: &[u8], value: Option<&[u8]>, version: Version) -> Option<Revision> {
        let made = self.0.iter().find(|(_, k, v, of)| k == key && v.as_deref() == value && *of == version);
        made.map(|(revision, ..)| *revision)
    }

    /// The state as of a revision.
    pub fn at(&self, revision: Revision) -> State {
        let upto = self.0.iter().take_while(|(of, ..)| *of <= revision);
        upto.map(|(_, key, value, version)| (key.clone(), (value.clone(), *version))).collect()
    }
}
