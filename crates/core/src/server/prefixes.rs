//! The prefixes that a connection watches.

use bytes::Bytes;
use std::collections::BTreeSet;
use std::ops::Bound::{Included, Unbounded};

/// A set of prefixes, none of which is the prefix of another: what is under one of them is under no other.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefixes(BTreeSet<Bytes>);

impl Prefixes {
    /// Adds what is under a prefix.
    pub(super) fn insert(&mut self, prefix: Bytes) {
        if !self.covers(&prefix) {
            self.0.retain(|other| !other.starts_with(&prefix));
            self.0.insert(prefix);
        }
    }

    /// Whether a key is under one of them.
    ///
    /// Of the prefixes up to the key in the order of bytes only the last can be one of its: between a prefix of the key
    /// and the key there are only strings that begin with that prefix, and so none of this set.
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        let last = self.0.range::<[u8], _>((Unbounded, Included(key))).next_back();
        last.is_some_and(|prefix| key.starts_with(prefix))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A prefix of everything that is under them: the only one, or the empty one.
    pub(super) fn common(&self) -> Bytes {
        match self.0.first() {
            Some(only) if self.0.len() == 1 => only.clone(),
            _ => Bytes::new(),
        }
    }
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
            assert_eq!(prefixes.len(), length, "{prefix:?}");
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
        fn agrees_with_a_list(all in vec(string(), 0..8), key in string()) {
            let mut prefixes = Prefixes::default();
            all.iter().for_each(|prefix| prefixes.insert(prefix.clone().into()));
            prop_assert_eq!(prefixes.covers(&key), all.iter().any(|prefix| key.starts_with(prefix)));
            prop_assert_eq!(prefixes.is_empty(), all.is_empty());
            prop_assert!(!prefixes.covers(&key) || key.starts_with(&prefixes.common()));
        }
    }
}
