//! PerSourceLimit that sources take: so many in all, and so many for each.

use super::source::Source;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// There is no place for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// All places are taken.
    InAll,
    /// The source has all the places that it gets.
    OfSource,
}

/// Gives out places.
#[derive(Debug)]
pub(super) struct PerSourceLimit {
    in_all: usize,
    of_source: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Of those who have some. Bounded by the places that there are, or the connections.
    by: BTreeMap<Source, usize>,
}

/// A place that a source has taken; free when it is dropped.
#[derive(Debug)]
pub(super) struct SourcePermit {
    places: Arc<PerSourceLimit>,
    source: Source,
}

impl PerSourceLimit {
    pub(super) fn new(in_all: usize, of_source: usize) -> Arc<Self> {
        Arc::new(Self { in_all, of_source, taken: Mutex::default() })
    }

    /// Takes a place.
    ///
    /// # Errors
    /// [`Full`] where there is none, or none for this source.
    pub(super) fn enter(self: &Arc<Self>, source: Source) -> Result<SourcePermit, Full> {
        let mut taken = self.taken.lock();
        if taken.all >= self.in_all {
            return Err(Full::InAll);
        }
        let of_source = taken.by.get(&source).copied().unwrap_or_default();
        if of_source >= self.of_source {
            return Err(Full::OfSource);
        }
        taken.by.insert(source, of_source + 1);
        taken.all += 1;
        Ok(SourcePermit { places: self.clone(), source })
    }

    /// How many are taken.
    pub(super) fn count(&self) -> usize {
        self.taken.lock().all
    }
}

impl SourcePermit {
    /// Who has taken it.
    pub(super) const fn source(&self) -> Source {
        self.source
    }
}

impl Drop for SourcePermit {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        if let Some(of_source) = taken.by.get_mut(&self.source) {
            *of_source -= 1;
            if *of_source == 0 {
                taken.by.remove(&self.source);
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
    fn so_many_in_all_and_so_many_for_each() {
        let places = PerSourceLimit::new(4, 2);
        let enter = |number| places.enter(source(number));
        let mut first = vec![enter(1).unwrap(), enter(1).unwrap()];
        assert_eq!(first[0].source(), source(1));
        assert_eq!(enter(1).unwrap_err(), Full::OfSource);
        let others = [enter(2).unwrap(), enter(3).unwrap()];
        assert_eq!(enter(4).unwrap_err(), Full::InAll);
        assert_eq!(enter(1).unwrap_err(), Full::InAll);
        first.pop();
        drop(enter(4).unwrap());
        first.push(enter(1).unwrap());
        assert_eq!(places.count(), 4);
        drop((first, others));
        assert_eq!(places.count(), 0);
        assert!(places.taken.lock().by.is_empty(), "nothing is kept of who has gone, nor of who was turned away");
    }
}
