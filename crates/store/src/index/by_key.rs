//! The order by key: sorted blocks of slots. It changes only when a key is created or forgotten.
//!
//! ```text
//!   from        ""            "d"            "m"         a key that is after all before the block, and not after its first
//!   block       ┌────────┐   ┌─────────┐    ┌──────┐
//!               │ a b cc │   │ d  f  k │    │ m  x │     slots: the keys are in their records
//!               └────────┘   └─────────┘    └──────┘
//! ```

use super::both::both;
use super::slots::{Slot, Slots};
use std::collections::BTreeMap;
use std::ops::Bound;

/// The maximum number of slots of a block.
const BLOCK: usize = 128;

/// The number of slots of a block when the order is built at once, which leaves space for a few more.
const FILLED: usize = BLOCK * 7 / 8;

/// All used slots, in the order of keys.
#[derive(Debug, Default)]
pub(super) struct ByKey {
    blocks: BTreeMap<Box<[u8]>, Vec<Slot>>,
}

impl ByKey {
    /// Builds the order of all used slots.
    pub(super) fn of(slots: &Slots) -> Self {
        let mut order = Self::default();
        for block in sorted(slots).chunks(FILLED) {
            let first = block.first().filter(|_| !order.blocks.is_empty());
            let from = first.map_or(&[][..], |(_, slot)| slots.key(*slot));
            order.blocks.insert(from.into(), block.iter().map(|(_, slot)| *slot).collect());
        }
        order
    }

    /// Inserts a slot with a new key.
    pub(super) fn insert(&mut self, slot: Slot, slots: &Slots) {
        let key = slots.key(slot);
        let Some((_, block)) = self.blocks.range_mut::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back()
        else {
            self.blocks.entry(Box::default()).or_default().insert(0, slot);
            return;
        };
        let place = block.partition_point(|other| slots.key(*other) < key);
        block.insert(place, slot);
        if block.len() > BLOCK {
            // If keys arrive in ascending order, blocks stay full.
            let kept = if place == BLOCK { BLOCK } else { BLOCK / 2 };
            let rest = block.split_off(kept);
            let first = rest.first().map(|slot| slots.key(*slot)).unwrap_or_default();
            self.blocks.insert(first.into(), rest);
        }
    }

    /// Removes a slot, before it loses its key.
    pub(super) fn remove(&mut self, slot: Slot, slots: &Slots) {
        let key = slots.key(slot);
        let found = self.blocks.range_mut::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        let Some((from, block)) = found else {
            return debug_assert!(false, "every key is in the order");
        };
        let place = block.partition_point(|other| slots.key(*other) < key);
        if block.get(place) != Some(&slot) {
            return debug_assert!(false, "every key is in its block");
        }
        block.remove(place);
        if block.len() <= BLOCK / 4 {
            let from = from.clone();
            self.join(&from);
        }
    }

    /// Joins a small block with the one before it, if both fit in one.
    fn join(&mut self, from: &[u8]) {
        let Some(length) = self.blocks.get(from).map(Vec::len) else { return };
        let before = self.blocks.range_mut::<[u8], _>((Bound::Unbounded, Bound::Excluded(from))).next_back();
        if before.is_some_and(|(_, before)| before.len() + length <= BLOCK)
            && let Some(block) = self.blocks.remove(from)
            && let Some((_, before)) =
                self.blocks.range_mut::<[u8], _>((Bound::Unbounded, Bound::Excluded(from))).next_back()
        {
            before.extend(block);
        }
    }

    /// Returns the slots of the keys from `from` on, in the order of keys.
    pub(super) fn from<'a>(&'a self, from: Bound<&[u8]>, slots: &'a Slots) -> impl Iterator<Item = Slot> + 'a {
        let is_before = |key: &[u8]| match from {
            Bound::Unbounded => false,
            Bound::Included(from) => key < from,
            Bound::Excluded(from) => key <= from,
        };
        let (Bound::Included(key) | Bound::Excluded(key)) = from else {
            return self.slots_from(Bound::Unbounded, 0);
        };
        let found = self.blocks.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        let Some((first, block)) = found else { return self.slots_from(Bound::Unbounded, 0) };
        let skipped = block.partition_point(|slot| is_before(slots.key(*slot)));
        self.slots_from(Bound::Included(first), skipped)
    }

    fn slots_from<'a>(&'a self, block: Bound<&[u8]>, skipped: usize) -> impl Iterator<Item = Slot> + use<'a> {
        self.blocks.range::<[u8], _>((block, Bound::Unbounded)).flat_map(|(_, block)| block).skip(skipped).copied()
    }
}

/// Returns the used slots, in the order of their keys.
///
/// Keys are scattered in memory, and many begin alike. So this sorts by eight bytes of each key, taken after the
/// common prefix; then, among keys whose eight bytes are equal, by the bytes that follow. The eight bytes are
/// returned with the slots although they are no longer needed: a copy without them would leave a hole in memory as
/// large as itself.
fn sorted(slots: &Slots) -> Vec<(u64, Slot)> {
    let mut pairs: Vec<(u64, Slot)> = slots.used().map(|slot| (0, slot)).collect();
    let mut runs = vec![(0, pairs.len())];
    while let Some((start, end)) = runs.pop() {
        let Some(run) = pairs.get_mut(start..end) else { continue };
        let Some(&(_, first)) = run.first() else { continue };
        let first = slots.key(first);
        let common = common_of(run, first, slots);
        sort_parts(run, common, slots);
        let mut end = start;
        for same in run.chunk_by_mut(|(a, _), (b, _)| a == b) {
            end += same.len();
            let goes_on = |slot: Slot| slots.key(slot).len() >= common + PART;
            if same.len() > FEW && same.iter().all(|(_, slot)| goes_on(*slot)) {
                runs.push((end - same.len(), end));
            } else if same.len() > 1 {
                same.sort_unstable_by(|(_, a), (_, b)| slots.key(*a).cmp(slots.key(*b)));
            }
        }
    }
    pairs
}

/// How many bytes all keys of a run begin with that are the same, as `first` does.
fn common_of(run: &[(u64, Slot)], first: &[u8], slots: &Slots) -> usize {
    let common = |run: &[(u64, Slot)]| {
        run.iter().fold(first.len(), |common, (_, slot)| common_length(first, slots.key(*slot), common))
    };
    let (front, back) = run.split_at(run.len() / 2);
    let (a, b) = both(run.len(), || common(front), || common(back));
    a.min(b)
}

/// Sorts a run by the bytes of its keys from a place on: the half of what is less on one processor, the other on another.
fn sort_parts(run: &mut [(u64, Slot)], place: usize, slots: &Slots) {
    let fill =
        |run: &mut [(u64, Slot)]| run.iter_mut().for_each(|(part, slot)| *part = part_of(slots.key(*slot), place));
    let (length, middle) = (run.len(), run.len() / 2);
    let (front, back) = run.split_at_mut(middle);
    both(length, || fill(front), || fill(back));
    let (less, _, more) = run.select_nth_unstable(middle);
    both(length, || less.sort_unstable(), || more.sort_unstable());
}

/// The bytes of keys that are compared at once.
const PART: usize = size_of::<u64>();

/// So many keys are compared as they are.
const FEW: usize = 32;

/// How many bytes two keys begin with that are the same, of the first `most`.
fn common_length(a: &[u8], b: &[u8], most: usize) -> usize {
    a.iter().zip(b).take(most).take_while(|(a, b)| a == b).count()
}

/// The bytes of a key from a place on, as a number that is greater where they are; a key that ends counts as zeros.
fn part_of(key: &[u8], place: usize) -> u64 {
    let rest = key.get(place..).unwrap_or_default();
    match rest.first_chunk() {
        Some(part) => u64::from_be_bytes(*part),
        None => {
            let mut part = [0; PART];
            part.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            u64::from_be_bytes(part)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Record;
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use syncline_wire::{Revision, Version};

    #[derive(Default)]
    struct Pair {
        order: ByKey,
        model: BTreeSet<Vec<u8>>,
    }

    impl Pair {
        /// Adds a key that is not there, or removes one that is.
        fn toggle(&mut self, slots: &mut Slots, key: &[u8]) {
            let hash = slots.hash(key);
            if self.model.remove(key) {
                let slot = slots.find(hash, key).unwrap();
                self.order.remove(slot, slots);
                slots.remove(slot).unwrap();
            } else {
                let record = Record::value_at(Revision::new(1), Version::new(1), key, b"");
                let (slot, _) = slots.put(hash, None, record);
                self.order.insert(slot, slots);
                self.model.insert(key.to_vec());
            }
        }
    }

    #[test]
    fn keys_that_come_in_order_fill_their_blocks() {
        let (mut slots, mut pair) = (Slots::new(), Pair::default());
        for key in 0..100_000_u32 {
            pair.toggle(&mut slots, &key.to_be_bytes());
        }
        assert_eq!(pair.order.blocks.len(), 100_000_usize.div_ceil(BLOCK));
    }

    #[test]
    fn nearly_empty_blocks_are_joined() {
        let (mut slots, mut pair) = (Slots::new(), Pair::default());
        for key in 0..20_000_u32 {
            pair.toggle(&mut slots, &key.wrapping_mul(2_654_435_761).to_be_bytes());
        }
        for key in (0..20_000_u32).filter(|key| key % 50 != 0) {
            pair.toggle(&mut slots, &key.wrapping_mul(2_654_435_761).to_be_bytes());
        }
        let blocks = pair.order.blocks.len();
        assert!(blocks < 40, "{blocks} blocks for 400 keys");
    }

    #[test]
    fn keys_with_long_common_prefixes_are_sorted() {
        let mut slots = Slots::new();
        let mut expected = BTreeSet::new();
        for number in 0..3000_u32 {
            let start = ["", "/a/long/prefix/", "/a/long/prefix/and/more/", "\0\0\0\0\0\0\0\0\0"][number as usize % 4];
            let mut key = start.as_bytes().to_vec();
            key.extend(std::iter::repeat_n(0, number as usize % 40));
            key.extend_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes()[..number as usize % 5]);
            slots.put(slots.hash(&key), None, Record::value_at(Revision::new(1), Version::new(1), &key, b""));
            expected.insert(key);
        }
        let found: Vec<_> = sorted(&slots).into_iter().map(|(_, slot)| slots.key(slot).to_vec()).collect();
        assert_eq!(found, Vec::from_iter(expected));
    }

    #[test]
    fn many_keys_are_sorted_by_two_threads() {
        let mut slots = Slots::new();
        let mut expected = BTreeSet::new();
        for number in 0..50_000_u32 {
            // Half of the keys share the eight bytes that are compared first, and extend across the
            // middle.
            let start = ["a", "many/of/the/same", "many/of/the/same", "z"][number as usize % 4];
            let key = [b"/", start.as_bytes(), &number.wrapping_mul(2_654_435_761).to_be_bytes()].concat();
            slots.put(slots.hash(&key), None, Record::value_at(Revision::new(1), Version::new(1), &key, b""));
            expected.insert(key);
        }
        let found: Vec<_> = sorted(&slots).into_iter().map(|(_, slot)| slots.key(slot).to_vec()).collect();
        assert_eq!(found, Vec::from_iter(expected));
    }

    proptest! {
        #[test]
        fn agrees_with_a_model(keys in vec(vec(0..4_u8, 0..6), 1..3000), from in vec(0..4_u8, 0..6)) {
            let (mut slots, mut pair) = (Slots::new(), Pair::default());
            for key in &keys {
                pair.toggle(&mut slots, key);
            }
            let at_once = ByKey::of(&slots);
            prop_assert_eq!(at_once.blocks.into_values().flatten().collect::<Vec<_>>(), pair.order.blocks.values().flatten().copied().collect::<Vec<_>>());
            for bound in [Bound::Unbounded, Bound::Included(&from[..]), Bound::Excluded(&from[..])] {
                let found: Vec<_> = pair.order.from(bound, &slots).map(|slot| slots.key(slot).to_vec()).collect();
                let expected: Vec<_> = pair.model.range::<[u8], _>((bound, Bound::Unbounded)).cloned().collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
