//! Transactions, the rule by which they are accepted, and their outcomes.

use crate::id::ConnId;
use std::sync::Arc;
use syncline_wire::{Operation, Revision, Version};

/// Returns whether `operation` may be applied to a key at version `current`, or to an unknown key if that is `None`.
///
/// A write is accepted only at the current version plus 1, which proves that the writer has seen the latest. An unknown
/// key has no version to match: its first write may carry any from 1 on (`docs/protocol.md`, Versions).
pub fn applies_to(operation: &Operation, current: Option<Version>) -> bool {
    match operation {
        Operation::Check { version, .. } => *version == current.unwrap_or(Version::ABSENT),
        Operation::Put { version, .. } | Operation::Delete { version, .. } => match current {
            None => *version != Version::ABSENT,
            Some(current) => current.next() == Some(*version),
        },
    }
}

/// Operations that are accepted together under one revision, or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The connection that requested it, or `None` if another process did.
    pub origin: Option<ConnId>,
    /// Its operations. Each key occurs at most once.
    pub operations: Arc<[Operation]>,
}

impl Transaction {
    /// Checks whether all operations may be applied, given the current version of each key.
    ///
    /// # Errors
    /// Returns the position of the first operation that may not be applied.
    pub fn check(&self, current: impl Fn(&[u8]) -> Option<Version>) -> Result<(), usize> {
        match self.operations.iter().position(|operation| !applies_to(operation, current(operation.key()))) {
            None => Ok(()),
            Some(at_fault) => Err(at_fault),
        }
    }

    /// Returns the bytes of all keys and values, by which queues are bounded.
    pub fn bytes(&self) -> usize {
        self.operations.iter().map(Operation::bytes).sum()
    }
}

/// A transaction that is part of the history: what an engine feeds to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its position in the history.
    pub revision: Revision,
    /// The connection that requested it, or `None` if another process did.
    pub origin: Option<ConnId>,
    /// Its operations, shared with the [`Transaction`].
    pub operations: Arc<[Operation]>,
}

impl Committed {
    /// Returns the accepted ones of `transactions`, in their order; each has its outcome at the same position.
    pub fn accepted(transactions: impl IntoIterator<Item = Transaction>, outcomes: &[Outcome]) -> Vec<Self> {
        let mut accepted = Vec::with_capacity(outcomes.len());
        for (Transaction { origin, operations }, outcome) in transactions.into_iter().zip(outcomes) {
            if let Outcome::Accepted { revision } = outcome {
                accepted.push(Self { revision: *revision, origin, operations });
            }
        }
        accepted
    }

    /// Returns the bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.operations.iter().map(Operation::bytes).sum()
    }
}

/// The outcome of a [`Transaction`].
///
/// It is exhaustive: every driver must handle each outcome, or a writer would get a wrong response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is part of the history, and as durable as the store promises.
    Accepted {
        /// Its position in the history.
        revision: Revision,
    },
    /// Nothing was written, because of a conflict: an operation did not match the current version of its key.
    Stale {
        /// The position of the first operation that did not match.
        operation: usize,
        /// The revision at which the conflict was found. The write that it conflicts with is not after this
        /// revision.
        at: Revision,
    },
    /// Nothing was written, because the store could not.
    Unavailable {
        /// The reason, for people.
        reason: Arc<str>,
    },
    /// It is unknown whether it was written: the store failed meanwhile. The client must not be given either
    /// answer.
    Unknown {
        /// What happened, for people.
        reason: Arc<str>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn put(version: u64) -> Operation {
        Operation::Put { key: Bytes::new(), value: Bytes::new(), version: Version::new(version) }
    }

    #[test]
    fn a_write_is_accepted_only_at_the_current_version_plus_1() {
        for write in [put, |v| Operation::Delete { key: Bytes::new(), version: Version::new(v) }] {
            let accepted =
                |current| (0..9).filter(|v| applies_to(&write(*v), Some(Version::new(current)))).collect::<Vec<_>>();
            assert_eq!(accepted(1), [2]);
            assert_eq!(accepted(7), [8]);
        }
    }

    #[test]
    fn the_first_write_of_an_unknown_key_may_carry_any_version_from_1() {
        assert!(!applies_to(&put(0), None));
        for version in [1, 2, 666, u64::MAX] {
            assert!(applies_to(&put(version), None));
        }
    }

    #[test]
    fn version_0_is_always_stale() {
        for current in [None, Some(Version::new(1)), Some(Version::MAX)] {
            assert!(!applies_to(&put(0), current), "{current:?}");
        }
    }

    #[test]
    fn a_check_succeeds_only_at_its_exact_version() {
        let check = |version| Operation::Check { key: Bytes::new(), version: Version::new(version) };
        assert!(applies_to(&check(0), None) && !applies_to(&check(1), None));
        assert!(applies_to(&check(4), Some(Version::new(4))) && !applies_to(&check(4), Some(Version::new(5))));
    }

    #[test]
    fn check_returns_the_first_operation_that_does_not_match() {
        let transaction = Transaction { origin: None, operations: [put(1), put(5), put(6)].into() };
        assert_eq!(transaction.check(|_| None), Ok(()));
        assert_eq!(transaction.check(|_| Some(Version::ABSENT)), Err(1));
    }
}
