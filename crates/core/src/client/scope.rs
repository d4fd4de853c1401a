//! What a WATCH has the server tell, and how a MARK changes that.

use syncline_wire::Revision;

/// What the server tells before it answers a WATCH.
///
/// ```text
///   asked from a later revision ──▶ Missed ── MARK of revision 0 ──▶ All ◀── asked from the start
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// What changed since the revision from which it asks, deletions among it.
    Missed,
    /// Everything that there is.
    All,
}

impl Scope {
    /// That of a WATCH that asks from this revision on.
    pub(super) fn since(revision: Revision) -> Self {
        if revision == Revision::ZERO { Self::All } else { Self::Missed }
    }

    /// Whether a MARK that carries the tag of the WATCH is no answer yet, but says that the server can't tell what was
    /// missed: all that is known is to be forgotten, and the scope is [`Scope::All`] from here on. To one that is told
    /// everything, revision 0 says that the store is empty.
    pub(super) fn is_forgotten_at(self, mark: Revision) -> bool {
        self == Self::Missed && mark == Revision::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_missed_can_be_forgotten() {
        let missed = Scope::since(Revision::new(1));
        assert!(missed.is_forgotten_at(Revision::ZERO));
        assert!(!missed.is_forgotten_at(Revision::new(1)));
        assert!(!Scope::since(Revision::ZERO).is_forgotten_at(Revision::ZERO));
        assert!(!Scope::All.is_forgotten_at(Revision::ZERO));
    }
}
