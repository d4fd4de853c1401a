//! A server that the load generator connects to.

use crate::{Error, Link};

/// A server that the load generator connects to.
pub trait Peer: Clone + Send + Sync + 'static {
    /// Opens another connection, ready for requests.
    fn open(&self) -> impl Future<Output = Result<Link, Error>> + Send;

    /// Returns whether a write increments the version of its key by 1, so that the version is known before the response.
    fn counts(&self) -> bool;
}
