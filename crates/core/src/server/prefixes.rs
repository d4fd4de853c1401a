//! The prefixes that a connection watches.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Included, Unbounded};

/// The prefixes that a connection watches.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefixes {
    /// All of them, and how many WATCHes each has.
    watched: BTreeMap<Bytes, usize>,
    /// Those that are under no other of them: none of these is the prefix of another.
    widest: BTreeSet<Bytes>,
}

impl Prefixes {
    /// Adds what is under a prefix.
    pub(super) fn insert(&mut self, prefix: Bytes) {
        *self.watched.entry(prefix.clone()).or_default() += 1;
        if !self.covers(&prefix) {
            self.widest.retain(|other| !other.starts_with(&prefix));
            self.widest.insert(prefix);
        }
    }

    /// Takes back one [`insert`](Self::insert).
    pub(super) fn remove(&mut self, prefix: &[u8]) {
        if let Some(watches) = self.watched.get_mut(prefix) {
            *watches -= 1;
            if *watches == 0 {
                self.watched.remove(prefix);
            }
        }
        self.widest.clear();
        // In the order of bytes, each comes before those that are under it.
        for prefix in self.watched.keys() {
            if !covers(&self.widest, prefix) {
                self.widest.insert(prefix.clone());
            }
        }
    }

    /// Whether a key is under one of them.
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        covers(&self.widest, key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// How many different ones there are.
    pub(super) fn len(&self) -> usize {
        self.watched.len()
    }

    /// A prefix of everything that is under them: the only one, or the empty one.
    pub(super) fn common(&self) -> Bytes {
        match self.widest.first() {
            Some(only) if self.widest.len() == 1 => only.clone(),
            _ => Bytes::new(),
        }
    }
}

/// Whether a key is under one of a set of prefixes, none of which is the prefix of another.
///
/// Of the prefixes up to the key in the order of bytes only the last can be one of its: between a prefix of the key and the
/// key there are only strings that begin with that prefix, and so none of this set.
fn covers(widest: &BTreeSet<Bytes>, key: &[u8]) -> bool {
    let last = widest.range::<[u8], _>((Unbounded, Included(key))).next_back();
    last.is_some_and(|prefix| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn one_that_is_under_another_is_not_kept() {
        let mut prefixes = Prefixes::default();
        for (prefix, length) in [("a/b", 1), ("a/c", 2), ("a/b/c", 2), ("b", 3), ("a/", 2), ("a/b", 2), ("", 1)] {
            prefixes.insert(prefix.into());
            assert_eq!(prefixes.widest.len(), length, "{prefix:?}");
        }
        assert!(prefixes.covers(b""));
    }

    #[test]
    fn the_common_prefix_is_one_of_all_of_them() {
        let mut prefixes = Prefixes::default();
        assert_eq!(prefixes.common(), "");
        prefixes.insert("a/".into());
        assert_eq!(prefixes.common(), "a/");
        prefixes.insert("b".into());
        assert_eq!(prefixes.common(), "");
    }

    fn string() -> impl Strategy<Value = Vec<u8>> {
        vec(prop::sample::select(&[0_u8, 1, 0xff][..]), 0..5)
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(mut all in vec(string(), 0..8), removed in 0..4usize, key in string()) {
            let mut prefixes = Prefixes::default();
            all.iter().for_each(|prefix| prefixes.insert(prefix.clone().into()));
            for _ in 0..removed.min(all.len()) {
                prefixes.remove(&all.remove(all.len() / 2));
            }
            prop_assert_eq!(prefixes.covers(&key), all.iter().any(|prefix| key.starts_with(prefix)));
            prop_assert_eq!(prefixes.is_empty(), all.is_empty());
            prop_assert!(!prefixes.covers(&key) || key.starts_with(&prefixes.common()));
        }
    }
}
