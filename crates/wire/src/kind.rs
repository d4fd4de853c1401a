//! The kind of a frame: its first byte.

use crate::table::frames;
use std::fmt;

/// Generates [`Kind`] from the [table of frames](frames).
macro_rules! define_kind {
    ($($(#[$doc:meta])* $name:ident = $byte:literal, $text:literal;)*) => {
        /// The kind of a frame, which its first byte determines.
        ///
        /// Displayed by its name in the protocol: `GET`, `PUT`, `ERROR`, …
        ///
        /// ```
        /// use syncline_wire::Kind;
        ///
        /// assert_eq!(Kind::from_byte(10), Some(Kind::PutLarge));
        /// assert_eq!(Kind::PutLarge.to_string(), "PUTL");
        /// assert_eq!(Kind::from_byte(255), None);
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])* $name = $byte,)*
        }

        impl Kind {
            /// All kinds, in the order of their bytes, without gaps.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the kind whose frames start with `byte`, or `None` if there is none.
            pub const fn from_byte(byte: u8) -> Option<Self> {
                match byte {
                    $($byte => Some(Self::$name),)*
                    _ => None,
                }
            }

            const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

frames!(define_kind);

impl Kind {
    /// Returns the first byte of a frame of this kind.
    pub const fn byte(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_one_kind_or_none() {
        let known = (0..=u8::MAX).filter_map(Kind::from_byte);
        assert!(known.eq(Kind::ALL.iter().copied()));
        // The text of `DecodeError::UnknownKind` names a range without gaps.
        assert!(Kind::ALL.iter().map(|kind| usize::from(kind.byte())).eq(0..Kind::ALL.len()));
    }

    #[test]
    fn kinds_are_displayed_as_the_protocol_names_them() {
        let names: Vec<_> = Kind::ALL.iter().map(Kind::to_string).collect();
        let expected = "GET PUT ERROR AUTH HELLO DELETE WATCH MARK LIST TXN PUTL STATUS";
        assert!(names.join(" ").starts_with(expected), "{names:?}");
    }
}
