//! A limit on the number of permits of each source.

use super::source::Source;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An error: the source holds as many permits as one source may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LimitReached;

/// Issues permits to sources.
#[derive(Debug)]
pub(super) struct PerSourceLimit {
    max_per_source: usize,
    /// The number of permits of each source that holds any, so the number of permits bounds it.
    held: Mutex<BTreeMap<Source, usize>>,
}

/// A permit of a source. Released when it is dropped.
#[derive(Debug)]
pub(super) struct SourcePermit {
    limit: Arc<PerSourceLimit>,
    source: Source,
}

impl PerSourceLimit {
    pub(super) fn new(max_per_source: usize) -> Arc<Self> {
        Arc::new(Self { max_per_source, held: Mutex::default() })
    }

    /// Acquires a permit for a source.
    ///
    /// # Errors
    /// Returns [`LimitReached`] if no permit is left for this source.
    pub(super) fn acquire(self: &Arc<Self>, source: Source) -> Result<SourcePermit, LimitReached> {
        let mut held = self.held.lock();
        let count = held.get(&source).copied().unwrap_or_default();
        if count >= self.max_per_source {
            return Err(LimitReached);
        }
        held.insert(source, count + 1);
        Ok(SourcePermit { limit: self.clone(), source })
    }

    /// Returns the number of permits that are held.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.held.lock().values().sum()
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
        if let Some(count) = held.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.source);
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
    fn permits_are_limited_per_source() {
        let limit = PerSourceLimit::new(2);
        let acquire = |number| limit.acquire(source(number));
        let mut first = vec![acquire(1).unwrap(), acquire(1).unwrap()];
        assert_eq!(first[0].source(), source(1));
        assert_eq!(acquire(1).unwrap_err(), LimitReached);
        let other = acquire(2).unwrap();
        first.pop();
        first.push(acquire(1).unwrap());
        assert_eq!(acquire(1).unwrap_err(), LimitReached);
        assert_eq!(limit.count(), 3);
        drop((first, other));
        assert!(limit.held.lock().is_empty(), "nothing is kept of sources without permits");
    }
}
