//! A limit on the number of unauthenticated connections.
//!
//! It is well below the limit on all connections. So however many unauthenticated connections there are, they never
//! displace authenticated ones. One address may hold only a part of the permits.
//!
//! # Silent connections make room
//! A connection is *silent* while the server has read nothing from it: no byte of a TLS handshake, or, after the
//! handshake, no byte of a frame. At a limit, a new connection takes the permit of the connection that has been silent for
//! longest, which the server then closes. So idle connections keep no client out, even if they come from the address of
//! the client, such as that of a load balancer. A connection that has sent something keeps its permit until its deadline.

use super::source::Source;
use crate::notify::Notify;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
use thiserror::Error;

/// One address may hold this fraction of the permits: one in so many.
const ADDRESSES: usize = 4;

/// An error: one more unauthenticated connection would exceed a limit, and no connection is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum TooManyUnauthenticated {
    /// The limit on all unauthenticated connections.
    #[error("too many connections that are not authorized yet")]
    Total,
    /// The limit on those of one address.
    #[error("too many connections from your address that are not authorized yet")]
    PerAddress,
}

/// Issues permits to unauthenticated connections.
#[derive(Debug)]
pub(crate) struct Unauthenticated {
    max_total: usize,
    max_per_source: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    /// Holds only sources with at least one permit, so the number of permits bounds it.
    by_source: BTreeMap<Source, Permits>,
    /// How often a connection became silent. Orders silent connections by the time since they are.
    silences: u64,
}

/// The permits of one source.
#[derive(Debug, Default)]
struct Permits {
    count: usize,
    /// The silent connections, the one that has been silent for longest first.
    silent: BTreeMap<u64, Arc<Eviction>>,
}

/// Tells a connection that its permit was given to another one.
#[derive(Debug, Default)]
struct Eviction {
    has_happened: AtomicBool,
    notify: Notify,
}

/// The permit of one unauthenticated connection. Released when it is dropped, unless it was given to another connection.
#[derive(Debug)]
pub(crate) struct UnauthenticatedPermit {
    unauthenticated: Arc<Unauthenticated>,
    source: Source,
    eviction: Arc<Eviction>,
    /// The number of the connection's silence, if it is silent.
    silence: Option<u64>,
}

impl Unauthenticated {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max_total: max, max_per_source: max.div_ceil(ADDRESSES), held: Mutex::default() })
    }

    /// Acquires a permit for a connection from this source, which is silent. At a limit, it is taken from another silent
    /// connection.
    ///
    /// # Errors
    /// Returns [`TooManyUnauthenticated`] if no permit is left, or none for this address, and no silent connection holds
    /// one.
    pub(crate) fn acquire(self: &Arc<Self>, source: Source) -> Result<UnauthenticatedPermit, TooManyUnauthenticated> {
        let mut held = self.held.lock();
        let own = held.by_source.get(&source).map_or(0, |permits| permits.count);
        if own >= self.max_per_source {
            held.evict(Some(source)).ok_or(TooManyUnauthenticated::PerAddress)?;
        } else if held.total >= self.max_total {
            let largest = held.largest_with_silence(own);
            held.evict(largest).ok_or(TooManyUnauthenticated::Total)?;
        }
        let eviction = Arc::new(Eviction::default());
        held.total += 1;
        held.by_source.entry(source).or_default().count += 1;
        let silence = held.begin_silence(source, &eviction);
        drop(held);
        Ok(UnauthenticatedPermit { unauthenticated: self.clone(), source, eviction, silence })
    }

    /// Returns the number of unauthenticated connections.
    pub(crate) fn count(&self) -> usize {
        self.held.lock().total
    }
}

impl Held {
    /// Returns the source that holds the most permits, among those with a silent connection. A source that holds fewer than
    /// `least` is left in peace: a large source must not displace a small one.
    fn largest_with_silence(&self, least: usize) -> Option<Source> {
        let candidates =
            self.by_source.iter().filter(|(_, permits)| !permits.silent.is_empty() && permits.count >= least);
        candidates.max_by_key(|(_, permits)| permits.count).map(|(source, _)| *source)
    }

    /// Releases the permit of the connection of a source that has been silent for longest, and tells that connection.
    /// Returns `None` if there is none.
    fn evict(&mut self, source: Option<Source>) -> Option<()> {
        let source = source?;
        let (_, evicted) = self.by_source.get_mut(&source)?.silent.pop_first()?;
        self.release(source);
        evicted.has_happened.store(true, Ordering::Release);
        evicted.notify.notify();
        Some(())
    }

    fn begin_silence(&mut self, source: Source, eviction: &Arc<Eviction>) -> Option<u64> {
        self.silences += 1;
        let silence = self.silences;
        self.by_source.get_mut(&source)?.silent.insert(silence, eviction.clone());
        Some(silence)
    }

    fn release(&mut self, source: Source) {
        let Some(permits) = self.by_source.get_mut(&source) else { return };
        permits.count -= 1;
        self.total -= 1;
        if permits.count == 0 {
            self.by_source.remove(&source);
        }
    }
}

impl UnauthenticatedPermit {
    /// Records that the server has read something from the connection: it keeps its permit.
    pub(crate) fn end_silence(&mut self) {
        if let Some(silence) = self.silence.take() {
            let mut held = self.unauthenticated.held.lock();
            if let Some(permits) = held.by_source.get_mut(&self.source) {
                permits.silent.remove(&silence);
            }
        }
    }

    /// Records that the connection has completed a step, and that nothing of its next step has arrived.
    pub(crate) fn begin_silence(&mut self) {
        self.end_silence();
        let mut held = self.unauthenticated.held.lock();
        if !self.is_evicted() {
            self.silence = held.begin_silence(self.source, &self.eviction);
        }
    }

    /// Returns whether the permit was given to another connection, so that this one must end.
    pub(crate) fn is_evicted(&self) -> bool {
        self.eviction.has_happened.load(Ordering::Acquire)
    }

    /// Does the same, and registers the task of `context` to be woken when it happens.
    pub(crate) fn poll_evicted(&self, context: &Context<'_>) -> bool {
        self.eviction.notify.notified(context);
        self.is_evicted()
    }
}

impl Drop for UnauthenticatedPermit {
    fn drop(&mut self) {
        self.end_silence();
        let mut held = self.unauthenticated.held.lock();
        // Checked under the lock: an eviction releases the permit itself.
        if !self.is_evicted() {
            held.release(self.source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn source(number: u8) -> Source {
        SocketAddr::from(([192, 0, 2, number], 1)).into()
    }

    /// Acquires the permit of a connection that has sent something.
    fn acquire(
        unauthenticated: &Arc<Unauthenticated>,
        number: u8,
    ) -> Result<UnauthenticatedPermit, TooManyUnauthenticated> {
        let mut permit = unauthenticated.acquire(source(number))?;
        permit.end_silence();
        Ok(permit)
    }

    #[test]
    fn one_address_may_hold_a_quarter_of_the_permits() {
        let unauthenticated = Unauthenticated::new(8);
        let acquire = |number| acquire(&unauthenticated, number);
        let first = [acquire(1).unwrap(), acquire(1).unwrap()];
        assert_eq!(acquire(1).unwrap_err(), TooManyUnauthenticated::PerAddress);
        let others: Vec<_> = (2..5).flat_map(|number| [acquire(number).unwrap(), acquire(number).unwrap()]).collect();
        assert_eq!(unauthenticated.count(), 8);
        assert_eq!(acquire(5).unwrap_err(), TooManyUnauthenticated::Total);
        drop(first);
        drop(acquire(5).unwrap());
        drop(others);
        assert_eq!(unauthenticated.count(), 0);
        assert!(unauthenticated.held.lock().by_source.is_empty(), "nothing is kept of sources without permits");
    }

    #[test]
    fn a_new_connection_takes_the_permit_of_the_one_silent_for_longest() {
        let unauthenticated = Unauthenticated::new(12);
        let mut permits: Vec<_> = (0..3).map(|_| unauthenticated.acquire(source(1)).unwrap()).collect();
        permits[0].end_silence();
        permits[1].begin_silence();
        let fourth = unauthenticated.acquire(source(1)).unwrap();
        assert_eq!(permits.iter().map(UnauthenticatedPermit::is_evicted).collect::<Vec<_>>(), [false, false, true]);
        let fifth = unauthenticated.acquire(source(1)).unwrap();
        assert!(permits[1].is_evicted() && !permits[0].is_evicted() && !fourth.is_evicted());
        assert_eq!(unauthenticated.count(), 3, "the count includes no evicted connection");
        drop((permits, fourth, fifth));
        assert_eq!(unauthenticated.count(), 0);
    }

    #[test]
    fn a_connection_that_has_sent_something_keeps_its_permit() {
        let unauthenticated = Unauthenticated::new(4);
        let mut permit = acquire(&unauthenticated, 1).unwrap();
        assert_eq!(unauthenticated.acquire(source(1)).unwrap_err(), TooManyUnauthenticated::PerAddress);
        permit.begin_silence();
        let mut next = unauthenticated.acquire(source(1)).unwrap();
        assert!(permit.is_evicted());
        // Too late: its permit is gone.
        permit.end_silence();
        permit.begin_silence();
        next.end_silence();
        assert_eq!(unauthenticated.acquire(source(1)).unwrap_err(), TooManyUnauthenticated::PerAddress);
        drop(permit);
        assert_eq!(unauthenticated.count(), 1);
    }

    #[test]
    fn at_the_total_limit_the_largest_address_makes_room() {
        let unauthenticated = Unauthenticated::new(8);
        let small = unauthenticated.acquire(source(9)).unwrap();
        let busy = [acquire(&unauthenticated, 1).unwrap(), acquire(&unauthenticated, 1).unwrap()];
        let crowd: Vec<_> = [2, 2, 3, 3, 4].map(|number| unauthenticated.acquire(source(number)).unwrap()).into();
        assert_eq!(unauthenticated.count(), 8);
        let newcomers: Vec<_> = (5..7).map(|number| acquire(&unauthenticated, number).unwrap()).collect();
        assert_eq!(unauthenticated.count(), 8);
        assert!(!small.is_evicted() && !busy.iter().any(UnauthenticatedPermit::is_evicted));
        assert_eq!(crowd.iter().map(UnauthenticatedPermit::is_evicted).filter(|evicted| *evicted).count(), 2);
        assert!(crowd[0].is_evicted() && crowd[2].is_evicted(), "the first of each large address");
        drop((small, busy, crowd, newcomers));
        assert_eq!(unauthenticated.count(), 0);
    }

    #[test]
    fn a_large_address_does_not_displace_a_small_one() {
        let unauthenticated = Unauthenticated::new(12);
        let silent: Vec<_> = (2..7).map(|number| unauthenticated.acquire(source(number)).unwrap()).collect();
        let busy: Vec<_> = [1, 1, 8, 8, 8, 9, 9].map(|number| acquire(&unauthenticated, number).unwrap()).into();
        assert_eq!(unauthenticated.acquire(source(1)).unwrap_err(), TooManyUnauthenticated::Total);
        drop(acquire(&unauthenticated, 10).unwrap());
        assert_eq!(silent.iter().filter(|permit| permit.is_evicted()).count(), 1);
        drop((silent, busy));
        assert_eq!(unauthenticated.count(), 0);
    }
}
