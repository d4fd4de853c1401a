//! What a server sends in response to a WATCH, and how MARK(0) changes that.

use syncline_wire::Revision;

/// What the server sends before it completes a WATCH.
///
/// ```text
///   WATCH since R > 0 ──▶ Changes ── MARK(0) ──▶ Everything ◀── WATCH since 0
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// What changed since the revision from which the WATCH resumes, including tombstones.
    Changes,
    /// All keys that exist.
    Everything,
}

impl Scope {
    /// Returns the scope of a WATCH since this revision.
    pub(super) fn since(revision: Revision) -> Self {
        if revision == Revision::ZERO { Self::Everything } else { Self::Changes }
    }

    /// Returns whether a MARK with the tag of the WATCH is a reset instead of the response.
    ///
    /// MARK(0) in scope [`Changes`](Self::Changes) means that the server cannot send what changed since the requested
    /// revision. The client must discard everything that it received, and the scope becomes
    /// [`Everything`](Self::Everything). In that scope, MARK(0) means that the store is empty.
    pub(super) fn is_reset_by(self, mark: Revision) -> bool {
        self == Self::Changes && mark == Revision::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_resumed_watch_is_reset_by_mark_0() {
        let resumed = Scope::since(Revision::new(1));
        assert!(resumed.is_reset_by(Revision::ZERO));
        assert!(!resumed.is_reset_by(Revision::new(1)));
        assert!(!Scope::since(Revision::ZERO).is_reset_by(Revision::ZERO));
        assert!(!Scope::Everything.is_reset_by(Revision::ZERO));
    }
}
