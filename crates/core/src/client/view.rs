//! What readers of replicas see: immutable values that are cheap to clone.

use crate::StoreId;
use bytes::Bytes;
use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use std::ops::{Bound, RangeBounds};
use syncline_wire::{Redacted, Revision, Version};

/// A value with its version.
#[derive(Clone, derive_more::Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The value.
    #[debug("{:?}", Redacted(value))]
    pub value: Bytes,
    /// Its version. The next write must carry this version plus 1.
    pub version: Version,
}

/// The keys of a replica, in key order. Clones share the parts that neither of them changes.
pub(super) type Map = OrdMap<Bytes, Versioned>;

/// What all replicas of a client show at one moment.
///
/// Each view is a consistent cut: it shows what the store held at one revision.
#[derive(Clone, Debug, Default)]
pub struct Views {
    pub(super) views: Vec<View>,
}

impl Views {
    /// Returns the view that contains the keys under this prefix, or `None` if no replica has shown them yet.
    pub fn view(&self, prefix: &[u8]) -> Option<&View> {
        self.views.iter().find(|view| prefix.starts_with(&view.prefix))
    }
}

/// The keys under a prefix as the store held them at one revision.
#[derive(Clone, Debug)]
pub struct View {
    /// The prefix of all keys.
    pub(super) prefix: Bytes,
    pub(super) store: StoreId,
    pub(super) revision: Revision,
    pub(super) is_current: bool,
    pub(super) keys: Map,
}

impl View {
    /// Returns the store of the revision.
    pub const fn store(&self) -> StoreId {
        self.store
    }

    /// Returns the revision that the view shows.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns whether the server kept the view up to date. It does not while the connection is lost, or while the replica
    /// catches up.
    pub const fn is_current(&self) -> bool {
        self.is_current
    }

    /// Returns the value of a key, or `None` if the key does not exist.
    pub fn get(&self, key: &[u8]) -> Option<&Versioned> {
        self.keys.get(key)
    }

    /// Returns how many keys start with `prefix`. This takes constant time for the prefix of the view itself; for a longer
    /// prefix it counts.
    pub fn len(&self, prefix: &[u8]) -> usize {
        if prefix == self.prefix { self.keys.len() } else { self.range(prefix, ..).count() }
    }

    /// Returns the keys within bounds that start with `prefix`, in key order.
    pub fn range<'a, 'b>(&'a self, prefix: &'a [u8], bounds: impl RangeBounds<&'b [u8]>) -> Keys<'a> {
        let from = match bounds.start_bound().cloned() {
            Bound::Included(key) | Bound::Excluded(key) if key < prefix => Bound::Included(prefix),
            Bound::Unbounded => Bound::Included(prefix),
            bound => bound,
        };
        let to = bounds.end_bound().cloned();
        let is_empty = match (from, to) {
            (Bound::Included(from), Bound::Included(to)) => from > to,
            (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to) | Bound::Included(to)) => from >= to,
            _ => false,
        };
        // `OrdMap::range` panics if a range ends before it starts.
        Keys { keys: (!is_empty).then(|| self.keys.range::<_, [u8]>((from, to))), prefix }
    }

    /// Returns what must change under `prefix` to turn this view into `newer`: each key once, in key order. If both are
    /// views of one replica, the cost is proportional to the number of differences.
    pub fn differences<'a>(&'a self, newer: &'a Self, prefix: &'a [u8]) -> impl Iterator<Item = Difference> + 'a {
        self.keys.diff(&newer.keys).filter_map(move |item| {
            let (key, now) = match item {
                DiffItem::Add(key, now) | DiffItem::Update { new: (key, now), .. } => (key, Some(now.clone())),
                DiffItem::Remove(key, _) => (key, None),
            };
            key.starts_with(prefix).then(|| Difference { key: key.clone(), now })
        })
    }
}

/// An iterator over the keys of a [`View`], in key order.
#[derive(Default)]
pub struct Keys<'a> {
    keys: Option<imbl::ordmap::RangedIter<'a, Bytes, Versioned, imbl::shared_ptr::DefaultSharedPtr>>,
    prefix: &'a [u8],
}

impl<'a> Iterator for Keys<'a> {
    type Item = (&'a Bytes, &'a Versioned);

    fn next(&mut self) -> Option<Self::Item> {
        self.keys.as_mut()?.next().filter(|(key, _)| key.starts_with(self.prefix))
    }
}

/// A key that differs between two views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key.
    pub key: Bytes,
    /// Its value in the newer view, or `None` if the key no longer exists there.
    pub now: Option<Versioned>,
}
