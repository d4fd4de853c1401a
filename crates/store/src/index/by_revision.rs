//! The order by revision: which slot was written at which revision, with only the latest write of each slot.
//!
//! ```text
//!   first revision    4711                        9001
//!   chunk             ┌───┬───┬───┬───┬───┐      ┌───┬───┬───┐
//!   place             │ 0 │ † │ 3 │ 3 │ 7 │      │ 0 │ 1 │   │  ◀─ pushed here
//!                     └───┴───┴───┴───┴───┘      └───┴───┴───┘
//!                       revisions after the first, and slots; †: marked, because the slot was written again or emptied
//! ```
//!
//! A place whose slot was written again is marked, not moved. A chunk with many marked places is compacted, and
//! joined with the chunk before it if both fit in one.
//!
//! The order holds slots, not records: it would otherwise keep replaced records in memory. A write finds and marks
//! the replaced place directly. Checking each slot later would read two cold cache lines per place, in bursts, under
//! the lock.

use super::slots::Slot;
use std::collections::BTreeMap;
use syncline_wire::Revision;

/// The maximum number of places of a chunk. Places of one transaction stay together and may exceed it.
const CHUNK: usize = 1024;

/// The slot of a marked place.
const NONE: Slot = Slot::MAX;

/// A place: a slot, and the revision at which it was written.
#[derive(Clone, Copy, Debug)]
struct RevisionSlot {
    /// The revision, relative to the first of the chunk.
    after: u32,
    slot: Slot,
}

#[derive(Debug, Default)]
struct Chunk {
    places: Vec<RevisionSlot>,
    /// How many of the places are not marked.
    used: usize,
}

impl Chunk {
    /// Returns how many places come before those of a revision. Revisions are distributed almost evenly, so the
    /// search starts at the interpolated position.
    fn before(&self, after: u64) -> usize {
        let is_before = |place: &RevisionSlot| u64::from(place.after) < after;
        let length = self.places.len();
        let span = self.places.last().map_or(0, |last| u64::from(last.after)) + 1;
        let guess = usize::try_from(after.saturating_mul(length as u64) / span).unwrap_or(length).min(length);
        let (mut start, mut end, mut step) = (guess, guess, 1);
        while start > 0 && !self.places.get(start - 1).is_some_and(is_before) {
            (end, start) = (start - 1, start.saturating_sub(step));
            step *= 2;
        }
        step = 1;
        while self.places.get(end).is_some_and(is_before) {
            (start, end) = (end + 1, (end + step).min(length));
            step *= 2;
        }
        start + self.places.get(start..end).unwrap_or_default().partition_point(is_before)
    }

    fn pack(&mut self) {
        self.places.retain(|place| place.slot != NONE);
        self.places.shrink_to_fit();
    }
}

/// The latest write of each slot, in the order of revisions.
#[derive(Debug, Default)]
pub(super) struct ByRevision {
    /// The key is a revision that is not after any in the chunk.
    chunks: BTreeMap<u64, Chunk>,
}

impl ByRevision {
    /// Records that a slot was written. Revisions must be ascending.
    pub(super) fn push(&mut self, revision: Revision, slot: Slot) {
        if let Some(mut last) = self.chunks.last_entry()
            && let Ok(after) = u32::try_from(revision.get().saturating_sub(*last.key()))
        {
            let chunk = last.get_mut();
            if chunk.places.len() < CHUNK || chunk.places.last().is_some_and(|place| place.after == after) {
                chunk.places.push(RevisionSlot { after, slot });
                chunk.used += 1;
                return;
            }
        }
        let mut places = Vec::with_capacity(CHUNK);
        places.push(RevisionSlot { after: 0, slot });
        self.chunks.insert(revision.get(), Chunk { places, used: 1 });
    }

    /// Records that the write of a slot at a revision is no longer its latest.
    pub(super) fn remove(&mut self, revision: Revision, slot: Slot) {
        let Some((&first, chunk)) = self.chunks.range_mut(..=revision.get()).next_back() else {
            return debug_assert!(false, "every slot is in the order");
        };
        let after = revision.get() - first;
        let start = chunk.before(after);
        let mut same = chunk.places.iter_mut().skip(start).take_while(|place| u64::from(place.after) == after);
        match same.find(|place| place.slot == slot) {
            Some(place) => place.slot = NONE,
            None => return debug_assert!(false, "every slot is in its chunk"),
        }
        chunk.used -= 1;
        if chunk.used == 0 {
            self.chunks.remove(&first);
        } else if chunk.used * 4 < chunk.places.len() * 3 {
            chunk.pack();
            if chunk.used <= CHUNK / 4 {
                self.join(first);
            }
        }
    }

    /// Joins a compacted chunk with the one before it, if both fit in one.
    fn join(&mut self, first: u64) {
        let Some((&before, chunk)) = self.chunks.range(..first).next_back() else { return };
        let Some(joined) = self.chunks.get(&first) else { return };
        // The distance by which the places move away from their first revision.
        let Ok(further) = u32::try_from(first - before) else { return };
        let fits = joined.places.last().is_some_and(|last| last.after.checked_add(further).is_some());
        if !fits || chunk.used + joined.used > CHUNK {
            return;
        }
        if let Some(joined) = self.chunks.remove(&first)
            && let Some(chunk) = self.chunks.get_mut(&before)
        {
            chunk.pack();
            chunk.used += joined.used;
            chunk.places.extend(joined.places.iter().map(|p| RevisionSlot { after: p.after + further, slot: p.slot }));
        }
    }

    /// Returns the writes after a revision.
    pub(super) fn after(&self, since: Revision) -> impl Iterator<Item = (Revision, Slot)> {
        let since = since.get();
        let start = self.chunks.range(..=since).next_back().map_or(since, |(first, _)| *first);
        self.chunks.range(start..).flat_map(move |(&first, chunk)| {
            let start = since.checked_sub(first).map_or(0, |after| chunk.before(after.saturating_add(1)));
            let written = chunk.places.get(start..).unwrap_or_default().iter().filter(|place| place.slot != NONE);
            written.map(move |place| (Revision::new(first + u64::from(place.after)), place.slot))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn chunks_stay_few_and_well_filled() {
        let mut order = ByRevision::default();
        let mut latest = vec![None; 50_000];
        // A fixed walk over all slots that mixes old and new ones.
        for step in 1..=500_000_u64 {
            let slot = (step.wrapping_mul(2_654_435_761) >> 7) % 50_000;
            if let Some(before) = latest[slot as usize].replace(Revision::new(step)) {
                order.remove(before, slot as Slot);
            }
            order.push(Revision::new(step), slot as Slot);
        }
        let used: usize = order.chunks.values().map(|chunk| chunk.used).sum();
        let held: usize = order.chunks.values().map(|chunk| chunk.places.capacity()).sum();
        assert_eq!(used, latest.iter().flatten().count());
        assert!(held < used * 3 / 2 + CHUNK, "{held} places for {used} slots");
        assert!(order.chunks.len() < 8 * used / CHUNK, "{} chunks for {used} slots", order.chunks.len());
    }

    #[test]
    fn revisions_may_be_far_apart() {
        let mut order = ByRevision::default();
        let revisions = [1, 2, u64::from(u32::MAX), u64::from(u32::MAX) + 2, u64::MAX - 1, u64::MAX];
        for (slot, revision) in (0..).zip(revisions) {
            order.push(Revision::new(revision), slot);
        }
        let found: Vec<_> = order.after(Revision::ZERO).map(|(revision, _)| revision.get()).collect();
        assert_eq!(found, revisions);
        for (slot, revision) in (0..).zip(revisions) {
            order.remove(Revision::new(revision), slot);
        }
        assert_eq!(order.after(Revision::ZERO).count(), 0);
    }

    proptest! {
        #[test]
        fn a_place_is_found_at_any_position(steps in vec(0..9_u32, 0..300), after in 0..2000_u64) {
            let mut last = 0;
            let places: Vec<_> = steps.into_iter().map(|step| { last += step; RevisionSlot { after: last, slot: 0 } }).collect();
            let expected = places.iter().filter(|place| u64::from(place.after) < after).count();
            prop_assert_eq!(Chunk { places, used: 0 }.before(after), expected);
        }

        #[test]
        fn agrees_with_a_model(steps in vec((0..3000_u32, 0..4_u64, any::<bool>()), 1..6000), since in any::<prop::sample::Index>()) {
            let mut order = ByRevision::default();
            let mut model: BTreeMap<Slot, u64> = BTreeMap::new();
            let mut revision = 1;
            for (slot, step, is_written) in steps {
                revision += step;
                if let Some(before) = model.remove(&slot) {
                    order.remove(Revision::new(before), slot);
                }
                if is_written {
                    order.push(Revision::new(revision), slot);
                    model.insert(slot, revision);
                }
            }
            let since = since.index(usize::try_from(revision).unwrap() + 1) as u64;
            let mut expected: Vec<_> = model.iter().map(|(slot, revision)| (*revision, *slot)).filter(|(revision, _)| since < *revision).collect();
            let mut found: Vec<_> = order.after(Revision::new(since)).map(|(revision, slot)| (revision.get(), slot)).collect();
            prop_assert!(found.is_sorted_by_key(|(revision, _)| *revision));
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }
}
