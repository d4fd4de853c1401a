//! Points in histories, as people write them.

use crate::StoreId;
use syncline_wire::Revision;
use thiserror::Error;

/// A point in a history. Shown and read as `STORE:REVISION`, or as the revision alone where it is not known of which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Whose history it is; nothing: of whatever store is found.
    pub store: Option<StoreId>,
    /// As of when.
    pub revision: Revision,
}

/// What is no position.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected REVISION or STORE:REVISION, a number behind 32 hexadecimal digits, found {found}")]
pub struct NoPosition {
    found: String,
}

impl std::str::FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let no = || NoPosition { found: text.to_owned() };
        let (store, revision) = match text.split_once(':') {
            None => (None, text),
            Some((store, revision)) => (Some(store_id(store).ok_or_else(no)?), revision),
        };
        Ok(Self { store, revision: Revision::new(revision.parse().map_err(|_| no())?) })
    }
}

fn store_id(text: &str) -> Option<StoreId> {
    let number = u128::from_str_radix(text, 16).ok()?;
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
    fn positions_can_be_shown_and_read() {
        let shown = format!("{}:17", "07".repeat(16));
        assert_eq!(at(Some(STORE), 17).to_string(), shown);
        assert_eq!(shown.parse(), Ok(at(Some(STORE), 17)));
        assert_eq!("17".parse(), Ok(at(None, 17)));
        for text in ["", "x", "7:17", "-1", ":1", &format!("+{}:1", "7".repeat(31)), &format!("{}:", "07".repeat(16))] {
            let expected =
                format!("expected REVISION or STORE:REVISION, a number behind 32 hexadecimal digits, found {text}");
            assert_eq!(text.parse::<Position>().unwrap_err().to_string(), expected);
        }
    }
}
