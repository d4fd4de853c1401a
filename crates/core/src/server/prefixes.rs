//! The prefixes that a connection follows.

use crate::prefix_set::PrefixSet;
use bytes::Bytes;
use std::collections::BTreeMap;

/// The prefixes that a connection follows. A prefix that was added twice must be removed twice.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefixes {
    /// All prefixes, and how often each was added.
    added: BTreeMap<Bytes, usize>,
    /// The widest of them, which cover the same keys.
    widest: PrefixSet,
}

impl Prefixes {
    /// Adds a prefix.
    pub(super) fn insert(&mut self, prefix: Bytes) {
        *self.added.entry(prefix.clone()).or_default() += 1;
        self.widest.insert(prefix);
    }

    /// Takes back one [`insert`](Self::insert).
    pub(super) fn remove(&mut self, prefix: &[u8]) {
        if let Some(times) = self.added.get_mut(prefix) {
            *times -= 1;
            if *times == 0 {
                self.added.remove(prefix);
            }
        }
        self.widest = self.added.keys().cloned().collect();
    }

    /// Returns whether a key is under one of them.
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        self.widest.covers(key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty()
    }

    /// Returns the number of different prefixes.
    pub(super) fn len(&self) -> usize {
        self.added.len()
    }

    /// Returns a prefix of everything that they cover: the only one, or the empty one.
    pub(super) fn common(&self) -> Bytes {
        self.widest.common()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn a_prefix_under_another_is_not_kept() {
        let mut prefixes = Prefixes::default();
        for (prefix, length) in [("a/b", 1), ("a/c", 2), ("a/b/c", 2), ("b", 3), ("a/", 2), ("a/b", 2), ("", 1)] {
            prefixes.insert(prefix.into());
            assert_eq!(prefixes.widest.iter().count(), length, "{prefix:?}");
        }
        assert!(prefixes.covers(b""));
    }

    #[test]
    fn the_common_prefix_covers_all_of_them() {
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
