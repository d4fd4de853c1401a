//! The latest state of keys, as a store tells it.

use bytes::Bytes;
use std::sync::Arc;
use syncline_wire::{Redacted, Revision, Version};

/// The latest state of a key that is there, or was: its tombstone is not forgotten yet.
#[derive(Clone, derive_more::Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which key.
    pub key: Bytes,
    /// What it holds; `None` where it was deleted.
    #[debug("{:?}", value.as_deref().map(Redacted))]
    pub value: Option<Bytes>,
    /// The version of the value, or of the deletion.
    pub version: Version,
    /// The transaction that wrote this.
    pub revision: Revision,
}

impl Entry {
    /// The bytes of key and value.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// A part of "what changed since a revision": keys at their latest state, each once, in the order of their revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// What changed.
    pub entries: Vec<Entry>,
    /// The page tells of every key whose latest change is after the revision that was asked for, and not after this
    /// one. Where more was left, the next page starts here.
    pub through: Revision,
    /// The head of the store when the page was read.
    pub head: Revision,
}

/// A part of the keys that have a value, in the order of keys, each at its latest state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPage {
    /// The keys.
    pub entries: Vec<Entry>,
    /// The next page starts after this key, which need not be one of the entries; `None`: that was all.
    pub next: Option<Bytes>,
    /// The head of the store when the page was read: it tells of the state as of there.
    pub head: Revision,
}

/// Why a store does not tell what changed since a revision; each with words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageError {
    /// It never will: it knows no such revision, or has forgotten tombstones since. Whoever asks must start over.
    Untold(Arc<str>),
    /// It can't, for now.
    Unavailable(Arc<str>),
}
