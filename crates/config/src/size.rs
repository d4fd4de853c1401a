//! The notation of sizes (`65525`, `4KiB`, `64MiB`) and of counts.

use bytesize::ByteSize;
use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub usize);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected a size such as 65525, 4KiB or 64MiB, found {text}");
        let size: ByteSize = text.parse().map_err(|_| expected())?;
        usize::try_from(size.as_u64()).map(Self).map_err(|_| expected())
    }
}

impl fmt::Display for Size {
    /// Writes the exact size, in the largest unit that divides it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, usize); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match UNITS.iter().find(|(_, unit)| self.0 != 0 && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => self.0.fmt(f),
        }
    }
}

/// Parses a count.
///
/// # Errors
/// A message with what was expected and what was found, if the text is not a number or the number is too large.
pub fn count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("expected a whole number, at most {}, found {text}", usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_shown_exactly_and_can_be_parsed_again() {
        for (bytes, shown) in [(0, "0"), (65_525, "65525"), (4096, "4KiB"), (64 << 20, "64MiB"), (3 << 30, "3GiB")] {
            assert_eq!(Size(bytes).to_string(), shown);
            assert_eq!(shown.parse(), Ok(Size(bytes)));
        }
        assert_eq!("1MB".parse(), Ok(Size(1_000_000)));
    }

    #[test]
    fn an_invalid_size_is_refused_with_examples() {
        for text in ["", "many", "-1", "4 elephants"] {
            let expected = format!("expected a size such as 65525, 4KiB or 64MiB, found {text}");
            assert_eq!(text.parse::<Size>(), Err(expected));
        }
    }

    #[test]
    fn an_invalid_count_is_refused_with_the_maximum() {
        assert_eq!(count("20000"), Ok(20_000));
        for text in ["", "many", "-1", "1.5", "18446744073709551616"] {
            let expected = format!("expected a whole number, at most 18446744073709551615, found {text}");
            assert_eq!(count(text), Err(expected));
        }
    }
}
