//! What readers of replicas see: values that never change, and cost next to nothing to copy.

use crate::StoreId;
use bytes::Bytes;
use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use std::ops::{Bound, RangeBounds};
use syncline_wire::{Redacted, Revision, Version};

/// A value, and its version.
#[derive(Clone, derive_more::Debug, PartialEq, Eq)]
pub struct Versioned {
    /// What the key holds.
    #[debug("{:?}", Redacted(value))]
    pub value: Bytes,
    /// The version of that. The next write must carry this plus 1.
    pub version: Version,
}

/// The keys of a replica, in their order. A clone shares all that neither of the two changes later.
pub(super) type Map = OrdMap<Bytes, Versioned>;

/// What all replicas of a client show at one time. Each is a consistent cut: what the store held at one revision.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    pub(super) views: Vec<View>,
}

impl Shown {
    /// What is shown of the keys under this prefix; nothing where it was never whole.
    pub fn view(&self, prefix: &[u8]) -> Option<&View> {
        self.views.iter().find(|view| prefix.starts_with(&view.prefix))
    }
}

/// The keys under a prefix as the store held them at a revision.
#[derive(Clone, Debug)]
pub struct View {
    /// What its keys start with.
    pub(super) prefix: Bytes,
    pub(super) store: StoreId,
    pub(super) revision: Revision,
    pub(super) is_current: bool,
    pub(super) keys: Map,
}

impl View {
    /// Whose history the revision belongs to.
    pub const fn store(&self) -> StoreId {
        self.store
    }

    /// As of when this is.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Whether the server keeps it up to date; if not, the connection is lost, or what was missed is not all told yet.
    pub const fn is_current(&self) -> bool {
        self.is_current
    }

    /// What a key holds.
    pub fn get(&self, key: &[u8]) -> Option<&Versioned> {
        self.keys.get(key)
    }

    /// How many keys start with `prefix`. Costs nothing where that is all that was asked for, else counting.
    pub fn len(&self, prefix: &[u8]) -> usize {
        if prefix == self.prefix { self.keys.len() } else { self.range(prefix, ..).count() }
    }

    /// The keys within these bounds that start with `prefix`, in order.
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
        // The map takes no range that ends before it starts.
        Keys { keys: (!is_empty).then(|| self.keys.range::<_, [u8]>((from, to))), prefix }
    }

    /// What has to change under `prefix` to make `newer` of this: each key once, in order. Costs what differs, where both
    /// are views of one replica.
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

/// The keys of a view, in order.
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

/// What differs between two views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which key.
    pub key: Bytes,
    /// What it holds now; `None`: it is no longer there.
    pub now: Option<Versioned>,
}
