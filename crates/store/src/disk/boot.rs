//! The boot of the machine. Writes that were not synced are lost if the machine goes down without notice.

use std::fmt;
use std::fs;
use std::str::FromStr;

/// The file in which Linux provides the boot id.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The text of an unknown boot.
const UNKNOWN: &str = "unknown";

/// A boot of the machine: its id, if the system provides one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boot(Option<u128>);

impl Boot {
    pub(crate) const UNKNOWN: Self = Self(None);

    #[cfg(test)]
    pub(crate) const fn new(id: u128) -> Self {
        Self(Some(id))
    }

    /// Returns the boot that this process runs in.
    pub(crate) fn current() -> Self {
        let id = fs::read_to_string(BOOT_ID).unwrap_or_default();
        id.trim().replace('-', "").parse().unwrap_or(Self::UNKNOWN)
    }

    /// Returns whether both are the same boot. An unknown boot is not the same as any other.
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
    fn the_current_boot_is_the_same_as_itself() {
        if cfg!(target_os = "linux") {
            assert!(Boot::current().is_still(Boot::current()));
        }
    }

    #[test]
    fn an_unknown_boot_equals_no_other() {
        assert!(!Boot::UNKNOWN.is_still(Boot::UNKNOWN));
        assert!(!Boot::new(1).is_still(Boot::UNKNOWN) && !Boot::UNKNOWN.is_still(Boot::new(1)));
        assert!(Boot::new(1).is_still(Boot::new(1)) && !Boot::new(1).is_still(Boot::new(2)));
    }

    #[test]
    fn a_written_boot_is_read_back() {
        for boot in [Boot::UNKNOWN, Boot::new(0), Boot::new(u128::MAX)] {
            assert_eq!(boot.to_string().parse(), Ok(boot));
        }
    }
}
