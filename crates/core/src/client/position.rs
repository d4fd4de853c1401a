//! Positions in a history, and their text form.

use crate::StoreId;
use syncline_wire::Revision;
use thiserror::Error;

/// A position in the history of a store.
///
/// The text form is `STORE:REVISION`, or only the revision if the store is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The store of the history. `None` matches any store.
    pub store: Option<StoreId>,
    /// The revision within the history.
    pub revision: Revision,
}

/// A text is not a [`Position`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected REVISION or STORE:REVISION, a number behind 32 hexadecimal digits, found {found}")]
pub struct ParsePositionError {
    found: String,
}

impl std::str::FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, ParsePositionError> {
        let error = || ParsePositionError { found: text.to_owned() };
        let (store, revision) = match text.split_once(':') {
            None => (None, text),
            Some((store, revision)) => (Some(parse_store_id(store).ok_or_else(error)?), revision),
        };
        Ok(Self { store, revision: Revision::new(revision.parse().map_err(|_| error())?) })
    }
}

fn parse_store_id(text: &str) -> Option<StoreId> {
    let number = u128::from_str_radix(text, 16).ok()?;
    // `from_str_radix` also accepts a sign and fewer digits.
    let is_canonical = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_canonical.then(|| StoreId::new(number.to_be_bytes()))
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.store {
            Some(store) => write!(f, "{store}:{}", self.revision),
            None => self.revision.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId::new([7; 16]);

    fn at(store: Option<StoreId>, revision: u64) -> Position {
        Position { store, revision: Revision::new(revision) }
    }

    #[test]
    fn positions_round_trip_through_text() {
        let text = format!("{}:17", "07".repeat(16));
        assert_eq!(at(Some(STORE), 17).to_string(), text);
        assert_eq!(text.parse(), Ok(at(Some(STORE), 17)));
        assert_eq!("17".parse(), Ok(at(None, 17)));
        for text in ["", "x", "7:17", "-1", ":1", &format!("+{}:1", "7".repeat(31)), &format!("{}:", "07".repeat(16))] {
            let expected =
                format!("expected REVISION or STORE:REVISION, a number behind 32 hexadecimal digits, found {text}");
            assert_eq!(text.parse::<Position>().unwrap_err().to_string(), expected);
        }
    }
}
