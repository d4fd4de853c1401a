//! The latest states of keys, and pages of them, as stores return them.

use bytes::Bytes;
use std::sync::Arc;
use syncline_wire::{Redacted, Revision, Version};

/// The latest state of a key that has a value, or whose tombstone is still remembered.
#[derive(Clone, derive_more::Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// The value, or `None` if the key was deleted.
    #[debug("{:?}", value.as_deref().map(Redacted))]
    pub value: Option<Bytes>,
    /// The version of the value or of the deletion.
    pub version: Version,
    /// The revision of the transaction that wrote it.
    pub revision: Revision,
}

impl Entry {
    /// Returns the bytes of key and value.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// A page of what changed since a revision: keys in their latest state, each once, in the order of their revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The keys that changed.
    pub entries: Vec<Entry>,
    /// The page has every key whose latest change is after the requested revision and not after this one. If more
    /// changes follow, the next page starts here.
    pub through: Revision,
    /// The head of the store when the page was read.
    pub head: Revision,
}

/// A page of the keys that have a value, in the order of keys, each in its latest state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPage {
    /// The keys.
    pub entries: Vec<Entry>,
    /// The key after which the next page starts, which need not be one of the entries; `None` if this is the last
    /// page.
    pub next: Option<Bytes>,
    /// The head of the store when the page was read. The entries are the state at this revision.
    pub head: Revision,
}

/// Why a store does not return what changed since a revision, with a text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageError {
    /// The store does not know the revision, or has forgotten tombstones since. The reader must start over.
    Untold(Arc<str>),
    /// The store cannot read for now.
    Unavailable(Arc<str>),
}
