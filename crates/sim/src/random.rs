//! Random decisions from a seed. The same seed makes the same decisions.

/// A generator of random decisions.
#[derive(Clone, Debug)]
pub struct Random(fastrand::Rng);

impl Random {
    /// Returns the generator of a seed.
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// Returns an independent generator, so that additional decisions of one do not change those of the other.
    pub fn fork(&mut self) -> Self {
        Self(self.0.fork())
    }

    /// Returns any number.
    pub fn number(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// Returns a number below `bound`, or 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.0.u64(..bound) }
    }

    /// Returns a number from `min` to `max`.
    pub fn between(&mut self, min: u64, max: u64) -> u64 {
        min + self.below(max.saturating_sub(min).saturating_add(1))
    }

    /// Returns a number from `min` to `max`. Each order of magnitude is equally likely.
    pub fn spread(&mut self, min: u64, max: u64) -> u64 {
        let (min, max) = (min.max(1), max.max(1));
        let magnitude = self.between(u64::from(min.ilog2()), u64::from(max.ilog2()));
        let lowest = 1 << magnitude;
        self.between(lowest, lowest.saturating_mul(2) - 1).clamp(min, max)
    }

    /// Returns `true` with a probability of `percent` in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Returns one of the elements, or `None` if there are none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.0.usize(..of.len().max(1)))
    }

    /// Returns an index, with a probability proportional to its weight.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut left = self.below(weights.iter().sum());
        for (index, weight) in weights.iter().enumerate() {
            if left < *weight {
                return index;
            }
            left -= weight;
        }
        weights.len().saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_decisions() {
        let decide = |seed| {
            let mut random = Random::new(seed);
            (0..100).map(|_| random.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(decide(7), decide(7));
        assert_ne!(decide(7), decide(8));
    }

    #[test]
    fn numbers_are_within_their_bounds_and_reach_them() {
        let mut random = Random::new(1);
        let numbers: Vec<_> = (0..2000).map(|_| random.spread(3, 100)).collect();
        assert_eq!((numbers.iter().min(), numbers.iter().max()), (Some(&3), Some(&100)));
        assert!(numbers.iter().filter(|number| **number < 8).count() > 400, "each order of magnitude");
        let indices: Vec<_> = (0..2000).map(|_| random.weighted(&[0, 1, 3])).collect();
        let count = |index| indices.iter().filter(|found| **found == index).count();
        assert!(count(0) == 0 && count(1) > 300 && count(2) > 2 * count(1), "{} {}", count(1), count(2));
        assert_eq!((random.below(0), random.between(5, 5), random.pick::<u8>(&[])), (0, 5, None));
    }
}
