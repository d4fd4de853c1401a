//! Tags for requests.

use crate::Tag;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many tags a request can have: all except 0.
const TAGS: usize = u16::MAX as usize;

/// Hands out tags: 1, 2, … 65535, 1, …; never 0, and never one that is still in flight.
///
/// Can be shared between threads.
///
/// ```
/// use syncline_wire::{MonotoneTags, Tag};
///
/// let tags = MonotoneTags::new();
/// assert_eq!(tags.take(), Some(Tag::new(1)));
/// assert_eq!(tags.take(), Some(Tag::new(2)));
/// tags.give_back(Tag::new(1));
/// assert_eq!(tags.take(), Some(Tag::new(3))); // 1 is handed out again after 65535
/// ```
#[derive(Debug)]
pub struct MonotoneTags(Mutex<State>);

#[derive(Debug)]
struct State {
    last: u16,
    in_flight: usize,
    /// One bit per tag: whether it is in flight. 8 KiB in all.
    taken: Vec<u64>,
}

/// How many tags one word of the bit set covers.
const WORD: u16 = 64;

impl State {
    /// Returns the word that holds the bit of a tag, and that bit.
    fn bit(&mut self, tag: u16) -> (Option<&mut u64>, u64) {
        (self.taken.get_mut(usize::from(tag / WORD)), 1 << (tag % WORD))
    }
}

impl MonotoneTags {
    /// Returns the tags, all of them free. The next one is 1.
    pub fn new() -> Self {
        Self(Mutex::new(State { last: 0, in_flight: 0, taken: vec![0; (TAGS + 1) / usize::from(WORD)] }))
    }

    /// Returns the next free tag, which is in flight from now on, or `None` if all 65,535 are.
    pub fn take(&self) -> Option<Tag> {
        let mut state = self.state();
        if state.in_flight == TAGS {
            return None;
        }
        // Some tag is free, and every tag comes up once in 65,535 steps.
        for _ in 0..TAGS {
            let tag = if state.last == u16::MAX { 1 } else { state.last + 1 };
            state.last = tag;
            if let (Some(word), bit) = state.bit(tag)
                && *word & bit == 0
            {
                *word |= bit;
                state.in_flight += 1;
                return Some(Tag::new(tag));
            }
        }
        None
    }

    /// Frees a tag, because its request was answered, or never will be. Does nothing if the tag is not in flight.
    pub fn give_back(&self, tag: Tag) {
        let mut state = self.state();
        if let (Some(word), bit) = state.bit(tag.get())
            && *word & bit != 0
        {
            *word &= !bit;
            state.in_flight -= 1;
        }
    }

    /// Returns how many tags are in flight.
    pub fn in_flight(&self) -> usize {
        self.state().in_flight
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so even the state behind a poisoned lock is consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MonotoneTags {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn tags_count_from_1_to_65535_and_start_over() {
        let tags = MonotoneTags::new();
        for _ in 0..2 {
            for expected in 1..=u16::MAX {
                let tag = tags.take().unwrap();
                assert_eq!(tag.get(), expected);
                tags.give_back(tag);
            }
        }
    }

    #[test]
    fn a_tag_in_flight_is_skipped() {
        let tags = MonotoneTags::new();
        let kept = tags.take().unwrap();
        for _ in 0..TAGS * 2 {
            let tag = tags.take().unwrap();
            assert!(tag != kept && tag != Tag::BROADCAST);
            tags.give_back(tag);
        }
        assert_eq!(tags.in_flight(), 1);
    }

    #[test]
    fn no_tag_while_all_are_in_flight() {
        let tags = MonotoneTags::new();
        let all: HashSet<_> = (0..TAGS).map(|_| tags.take().unwrap()).collect();
        assert_eq!(all.len(), TAGS);
        assert_eq!(tags.take(), None);
        tags.give_back(Tag::new(777));
        assert_eq!(tags.take(), Some(Tag::new(777)));
        assert_eq!(tags.take(), None);
    }

    #[test]
    fn giving_back_a_tag_that_is_not_in_flight_changes_nothing() {
        let tags = MonotoneTags::new();
        tags.give_back(Tag::BROADCAST);
        tags.give_back(Tag::new(9));
        assert_eq!(tags.in_flight(), 0);
        assert_eq!(tags.take(), Some(Tag::new(1)));
    }

    #[test]
    fn threads_never_hold_the_same_tag() {
        let tags = MonotoneTags::new();
        let held = Mutex::new(HashSet::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let tag = tags.take().unwrap();
                        assert!(held.lock().unwrap().insert(tag), "{tag} was in flight already");
                        held.lock().unwrap().remove(&tag);
                        tags.give_back(tag);
                    }
                });
            }
        });
        assert_eq!(tags.in_flight(), 0);
    }
}
