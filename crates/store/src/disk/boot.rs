//! Which start of the machine this is. What was written and not synced is lost when it ends without notice.

use std::fmt;
use std::fs;
use std::str::FromStr;

/// Where Linux tells it.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// How one that is not known is written.
const UNKNOWN: &str = "unknown";

/// A start of the machine: what the system calls it, where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boot(Option<u128>);

impl Boot {
    pub(crate) const UNKNOWN: Self = Self(None);

    #[cfg(test)]
    pub(crate) const fn new(id: u128) -> Self {
        Self(Some(id))
    }

    /// The one that this process runs in.
    pub(crate) fn current() -> Self {
        let id = fs::read_to_string(BOOT_ID).unwrap_or_default();
        id.trim().replace('-', "").parse().unwrap_or(Self::UNKNOWN)
    }

    /// Whether the machine has run from one to the other. Of what is not known, nobody can say so.
    pub(crate) fn is_still(self, other: Self) -> bool {
        self.0.is_some() && self == other
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => write!(f, "{id:032x}"),
            None => f.write_str(UNKNOWN),
        }
    }
}

impl FromStr for Boot {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == UNKNOWN { Ok(Self::UNKNOWN) } else { u128::from_str_radix(text, 16).map(|id| Self(Some(id))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_that_runs_this_runs_on() {
        if cfg!(target_os = "linux") {
            assert!(Boot::current().is_still(Boot::current()));
        }
    }

    #[test]
    fn what_is_not_known_may_be_any() {
        assert!(!Boot::UNKNOWN.is_still(Boot::UNKNOWN));
        assert!(!Boot::new(1).is_still(Boot::UNKNOWN) && !Boot::UNKNOWN.is_still(Boot::new(1)));
        assert!(Boot::new(1).is_still(Boot::new(1)) && !Boot::new(1).is_still(Boot::new(2)));
    }

    #[test]
    fn what_is_written_is_read() {
        for boot in [Boot::UNKNOWN, Boot::new(0), Boot::new(u128::MAX)] {
            assert_eq!(boot.to_string().parse(), Ok(boot));
        }
    }
}
