//! Statistics over the figures of several rounds.

/// The median of several figures, and their range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The median.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
    /// How many figures there are.
    pub rounds: usize,
}

impl Summary {
    /// Summarizes figures in any order. Returns `None` if there are none. NaN is ignored; infinity counts, and means "never".
    pub fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.iter().copied().filter(|figure| !figure.is_nan()).collect();
        sorted.sort_by(f64::total_cmp);
        let rounds = sorted.len();
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let upper = *sorted.get(rounds / 2)?;
        let median = match rounds % 2 {
            0 => f64::midpoint(*sorted.get(rounds / 2 - 1)?, upper),
            _ => upper,
        };
        Some(Self { median, least, most, rounds })
    }
}

/// Which of two figures is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// The larger one, for example of requests per second.
    More,
    /// The smaller one, for example of times and bytes.
    Less,
}

impl Better {
    /// Returns whether a figure is as good as a bound, or better.
    pub fn reaches(self, figure: f64, bound: f64) -> bool {
        match self {
            Self::More => figure >= bound,
            Self::Less => figure <= bound,
        }
    }

    /// Returns the best of several figures.
    pub fn best(self, figures: impl IntoIterator<Item = f64>) -> Option<f64> {
        let figures = figures.into_iter().filter(|figure| figure.is_finite());
        match self {
            Self::More => figures.max_by(f64::total_cmp),
            Self::Less => figures.min_by(f64::total_cmp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let of = |figures: &[f64]| Summary::of(figures).unwrap();
        assert_eq!(of(&[3.0, 1.0, 2.0]), Summary { median: 2.0, least: 1.0, most: 3.0, rounds: 3 });
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(of(&[7.0]), Summary { median: 7.0, least: 7.0, most: 7.0, rounds: 1 });
        assert_eq!(of(&[7.0, f64::NAN]).rounds, 1);
        assert_eq!(of(&[7.0, f64::INFINITY, f64::INFINITY]).median, f64::INFINITY);
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[f64::NAN]), None);
    }

    #[test]
    fn better_is_more_or_less() {
        assert!(Better::More.reaches(1.2, 1.2) && !Better::More.reaches(1.1, 1.2));
        assert!(Better::Less.reaches(0.8, 0.8) && !Better::Less.reaches(0.9, 0.8));
        assert_eq!(Better::More.best([1.0, 3.0, f64::NAN, 2.0]), Some(3.0));
        assert_eq!(Better::Less.best([2.0, 1.0]), Some(1.0));
        assert_eq!(Better::Less.best([]), None);
    }
}
