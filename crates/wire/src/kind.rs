//! What a frame is: its first byte.

use std::fmt;

/// The kind of a frame, as its first byte says it. Displayed as the field knows them: `GET`, `PUT`, `ERROR`, …
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
    /// Says that the extension is spoken, and what the server is.
    Hello = 4,
    /// Deletes a key, or tells that it was deleted.
    Delete = 5,
    /// Asks for all that changes under a prefix.
    Watch = 6,
    /// Says up to which revision all was told, or asks for that.
    Mark = 7,
    /// Asks for the keys under a prefix.
    List = 8,
    /// Several operations, all or none.
    Txn = 9,
    /// A PUT that is larger than a PUT can be. Displayed as `PUTL`.
    PutLarge = 10,
    /// Asks how a server is, or tells it.
    Status = 11,
}

impl Kind {
    /// The kind that a frame's first byte stands for, or `None` where the protocol has none.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Get),
            1 => Some(Self::Put),
            2 => Some(Self::Error),
            3 => Some(Self::Auth),
            4 => Some(Self::Hello),
            5 => Some(Self::Delete),
            6 => Some(Self::Watch),
            7 => Some(Self::Mark),
            8 => Some(Self::List),
            9 => Some(Self::Txn),
            10 => Some(Self::PutLarge),
            11 => Some(Self::Status),
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
            Self::Hello => "HELLO",
            Self::Delete => "DELETE",
            Self::Watch => "WATCH",
            Self::Mark => "MARK",
            Self::List => "LIST",
            Self::Txn => "TXN",
            Self::PutLarge => "PUTL",
            Self::Status => "STATUS",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> impl Iterator<Item = (u8, Kind)> {
        (0..=u8::MAX).filter_map(|byte| Kind::from_byte(byte).map(|kind| (byte, kind)))
    }

    #[test]
    fn every_byte_is_one_kind_or_none() {
        assert!(known().map(|(byte, _)| byte).eq(0..=11));
        for (byte, kind) in known() {
            assert_eq!(kind.byte(), byte);
        }
    }

    #[test]
    fn displayed_as_the_field_knows_them() {
        let names: Vec<_> = known().map(|(_, kind)| kind.to_string()).collect();
        let expected = "GET PUT ERROR AUTH HELLO DELETE WATCH MARK LIST TXN PUTL STATUS";
        assert_eq!(names.join(" "), expected);
    }
}
