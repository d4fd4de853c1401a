//! What a frame is: its first byte.

use std::fmt;

/// The kind of a frame, as its first byte says it. Displayed as the field knows them: `GET`, `PUT`, `ERROR`, `AUTH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Asks for the latest value of a key.
    Get = 0,
    /// Writes a key, or tells its value: a request, its answer, the answer of a GET, or a broadcast.
    Put = 1,
    /// Tells what went wrong.
    Error = 2,
    /// Shows a password, or says that it was right.
    Auth = 3,
}

impl Kind {
    /// The kind that a frame's first byte stands for, or `None` where the base protocol has none.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Get),
            1 => Some(Self::Put),
            2 => Some(Self::Error),
            3 => Some(Self::Auth),
            _ => None,
        }
    }

    /// The byte that starts a frame of this kind.
    pub const fn byte(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Error => "ERROR",
            Self::Auth => "AUTH",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_one_kind_or_none() {
        let known: Vec<_> = (0..=u8::MAX).filter_map(Kind::from_byte).collect();
        assert_eq!(known, [Kind::Get, Kind::Put, Kind::Error, Kind::Auth]);
        for kind in known {
            assert_eq!(Kind::from_byte(kind.byte()), Some(kind));
        }
    }

    #[test]
    fn displayed_as_the_field_knows_them() {
        let names: Vec<_> = [Kind::Get, Kind::Put, Kind::Error, Kind::Auth].map(|k| k.to_string()).into();
        assert_eq!(names, ["GET", "PUT", "ERROR", "AUTH"]);
    }
}
