//! A limit on the number of unauthenticated connections.
//!
//! It is well below the limit on all connections. So however many unauthenticated connections there are, they neither
//! displace authenticated ones nor keep new ones out for longer than the time in which each must authenticate. One address
//! may hold only a part of the permits, so it takes several addresses to exhaust them.

use super::per_source_limit::{LimitReached, PerSourceLimit, SourcePermit};
use super::source::Source;
use std::sync::Arc;
use thiserror::Error;

/// One address may hold this fraction of the permits: one in so many.
const ADDRESSES: usize = 4;

/// An error: one more unauthenticated connection would exceed a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum TooManyUnauthenticated {
    /// The limit on all unauthenticated connections.
    #[error("too many connections that are not authorized yet")]
    Total,
    /// The limit on those of one address.
    #[error("too many connections from your address that are not authorized yet")]
    PerAddress,
}

impl From<LimitReached> for TooManyUnauthenticated {
    fn from(limit: LimitReached) -> Self {
        match limit {
            LimitReached::Total => Self::Total,
            LimitReached::PerSource => Self::PerAddress,
        }
    }
}

/// Issues permits to unauthenticated connections.
#[derive(Debug)]
pub(crate) struct Unauthenticated(Arc<PerSourceLimit>);

/// The permit of one unauthenticated connection. Released when it is dropped.
#[derive(Debug)]
pub(crate) struct UnauthenticatedPermit(#[expect(dead_code, reason = "held until it is dropped")] SourcePermit);

impl Unauthenticated {
    pub(crate) fn new(max: usize) -> Self {
        Self(PerSourceLimit::new(max, max.div_ceil(ADDRESSES)))
    }

    /// Acquires a permit for a connection from this source.
    ///
    /// # Errors
    /// Returns [`TooManyUnauthenticated`] if no permit is left, or none for this address.
    pub(crate) fn acquire(&self, source: Source) -> Result<UnauthenticatedPermit, TooManyUnauthenticated> {
        Ok(UnauthenticatedPermit(self.0.acquire(source)?))
    }

    /// Returns the number of unauthenticated connections.
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
    fn one_address_may_hold_a_quarter_of_the_permits() {
        let unauthenticated = Unauthenticated::new(8);
        let acquire = |number| unauthenticated.acquire(source(number));
        let first = [acquire(1).unwrap(), acquire(1).unwrap()];
        assert_eq!(acquire(1).unwrap_err(), TooManyUnauthenticated::PerAddress);
        let others: Vec<_> = (2..5).flat_map(|number| [acquire(number).unwrap(), acquire(number).unwrap()]).collect();
        assert_eq!(unauthenticated.count(), 8);
        assert_eq!(acquire(5).unwrap_err(), TooManyUnauthenticated::Total);
        drop(first);
        drop(acquire(5).unwrap());
        drop(others);
        assert_eq!(unauthenticated.count(), 0);
    }
}
