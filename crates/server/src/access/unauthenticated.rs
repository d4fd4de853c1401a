//! How many there may be of whom nobody knows yet who they are.
//!
//! Unauthenticated have bounds of their own, well below that of all connections: however many come, those who are known are not
//! in their way, nor kept from coming by more than the time that strangers get. One address gets a part of the places, so
//! it takes several to fill them all.

use super::per_source_limit::{Full, PerSourceLimit, SourcePermit};
use super::source::Source;
use std::sync::Arc;
use thiserror::Error;

/// One address has at most one of so many places.
const ADDRESSES: usize = 4;

/// There is no place for one more stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum TooManyUnauthenticated {
    /// All places are taken.
    #[error("too many connections that are not authorized yet")]
    Everywhere,
    /// The address has all the places that it gets.
    #[error("too many connections from your address that are not authorized yet")]
    FromAddress,
}

impl From<Full> for TooManyUnauthenticated {
    fn from(full: Full) -> Self {
        match full {
            Full::InAll => Self::Everywhere,
            Full::OfSource => Self::FromAddress,
        }
    }
}

/// The places that strangers have.
#[derive(Debug)]
pub(crate) struct Unauthenticated(Arc<PerSourceLimit>);

/// The place of one stranger; free when it is dropped.
#[derive(Debug)]
pub(crate) struct UnauthenticatedPermit(#[expect(dead_code, reason = "held, for as long as it is taken")] SourcePermit);

impl Unauthenticated {
    pub(crate) fn new(max: usize) -> Self {
        Self(PerSourceLimit::new(max, max.div_ceil(ADDRESSES)))
    }

    /// Takes a place.
    ///
    /// # Errors
    /// [`TooManyUnauthenticated`] where there is none, or none for this address.
    pub(crate) fn enter(&self, source: Source) -> Result<UnauthenticatedPermit, TooManyUnauthenticated> {
        Ok(UnauthenticatedPermit(self.0.enter(source)?))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn source(number: u8) -> Source {
        SocketAddr::from(([192, 0, 2, number], 1)).into()
    }

    #[test]
    fn one_address_gets_a_quarter_of_the_places() {
        let strangers = Unauthenticated::new(8);
        let enter = |number| strangers.enter(source(number));
        let first = [enter(1).unwrap(), enter(1).unwrap()];
        assert_eq!(enter(1).unwrap_err(), TooManyUnauthenticated::FromAddress);
        let others: Vec<_> = (2..5).flat_map(|number| [enter(number).unwrap(), enter(number).unwrap()]).collect();
        assert_eq!(strangers.count(), 8);
        assert_eq!(enter(5).unwrap_err(), TooManyUnauthenticated::Everywhere);
        drop(first);
        drop(enter(5).unwrap());
        drop(others);
        assert_eq!(strangers.count(), 0);
    }
}
