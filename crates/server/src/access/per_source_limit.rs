//! A limit on a number of permits: in total, and for each source.

use super::source::Source;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitReached {
    /// All permits are held.
    Total,
    /// The source holds as many permits as one source may.
    PerSource,
}

/// Issues permits to sources.
#[derive(Debug)]
pub(super) struct PerSourceLimit {
    max_total: usize,
    max_per_source: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    /// Holds only sources with at least one permit, so the number of permits or of connections bounds it.
    by_source: BTreeMap<Source, usize>,
}

/// A permit of a source. Released when it is dropped.
#[derive(Debug)]
pub(super) struct SourcePermit {
    limit: Arc<PerSourceLimit>,
    source: Source,
}

impl PerSourceLimit {
    pub(super) fn new(max_total: usize, max_per_source: usize) -> Arc<Self> {
        Arc::new(Self { max_total, max_per_source, held: Mutex::default() })
    }

    /// Acquires a permit for a source.
    ///
    /// # Errors
    /// Returns [`LimitReached`] if no permit is left, or none for this source.
    pub(super) fn acquire(self: &Arc<Self>, source: Source) -> Result<SourcePermit, LimitReached> {
        let mut held = self.held.lock();
        if held.total >= self.max_total {
            return Err(LimitReached::Total);
        }
        let by_source = held.by_source.get(&source).copied().unwrap_or_default();
        if by_source >= self.max_per_source {
            return Err(LimitReached::PerSource);
        }
        held.by_source.insert(source, by_source + 1);
        held.total += 1;
        Ok(SourcePermit { limit: self.clone(), source })
    }

    /// Returns the number of permits that are held.
    pub(super) fn count(&self) -> usize {
        self.held.lock().total
    }
}

impl SourcePermit {
    /// Returns the source that holds the permit.
    pub(super) const fn source(&self) -> Source {
        self.source
    }
}

impl Drop for SourcePermit {
    fn drop(&mut self) {
        let mut held = self.limit.held.lock();
        held.total -= 1;
        if let Some(by_source) = held.by_source.get_mut(&self.source) {
            *by_source -= 1;
            if *by_source == 0 {
                held.by_source.remove(&self.source);
            }
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

    #[test]
    fn permits_are_limited_in_total_and_per_source() {
        let limit = PerSourceLimit::new(4, 2);
        let acquire = |number| limit.acquire(source(number));
        let mut first = vec![acquire(1).unwrap(), acquire(1).unwrap()];
        assert_eq!(first[0].source(), source(1));
        assert_eq!(acquire(1).unwrap_err(), LimitReached::PerSource);
        let others = [acquire(2).unwrap(), acquire(3).unwrap()];
        assert_eq!(acquire(4).unwrap_err(), LimitReached::Total);
        assert_eq!(acquire(1).unwrap_err(), LimitReached::Total);
        first.pop();
        drop(acquire(4).unwrap());
        first.push(acquire(1).unwrap());
        assert_eq!(limit.count(), 4);
        drop((first, others));
        assert_eq!(limit.count(), 0);
        assert!(limit.held.lock().by_source.is_empty(), "nothing is kept of sources without permits");
    }
}
