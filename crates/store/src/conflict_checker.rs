//! Decides on a batch: each transaction against the history, and those before it in the batch. Both engines do it here.

use crate::index::{Found, Index};
use hashbrown::HashTable;
use syncline_core::{Operation, Transaction, applies_to};
use syncline_wire::Version;

/// What was found of the keys of a batch, and which of them the batch itself has written so far. Its memory is used again.
#[derive(Default)]
pub(crate) struct ConflictChecker {
    /// Of each operation, in their order.
    found: Vec<Found>,
    /// The place of the next transaction's first operation.
    next: usize,
    written: HashTable<Written>,
}

/// A key that the batch has written.
struct Written {
    hash: u64,
    /// The transaction and the operation that were the last to write it.
    transaction: usize,
    operation: usize,
    version: Version,
}

impl ConflictChecker {
    /// Finds the keys of a batch.
    pub(crate) fn begin(&mut self, index: &Index, batch: &[Transaction]) {
        let operations = batch.iter().flat_map(|transaction| &*transaction.operations);
        index.find_all(operations.map(|operation| operation.key().as_ref()), &mut self.found);
        self.next = 0;
        self.written.clear();
    }

    /// Leaves out the next transaction.
    pub(crate) fn skip(&mut self, transaction: &Transaction) {
        self.next += transaction.operations.len();
    }

    /// Decides on a transaction of the batch, by its place there; each once, in their order. What was found of its keys is
    /// answered where all of it may be applied: then it counts as written.
    ///
    /// # Errors
    /// The index of the first operation that may not be applied.
    pub(crate) fn decide(&mut self, batch: &[Transaction], transaction: usize) -> Result<&[Found], usize> {
        let operations = batch.get(transaction).map(|t| &*t.operations).unwrap_or_default();
        let first = self.next;
        self.next += operations.len();
        let found = self.found.get(first..self.next).unwrap_or_default();
        let key_of = |written: &Written| Some(batch.get(written.transaction)?.operations.get(written.operation)?.key());
        let may_be_applied = |(operation, found): (&Operation, &Found)| {
            let written = self.written.find(found.hash.get(), |written| key_of(written) == Some(operation.key()));
            applies_to(operation, written.map(|written| written.version).or(found.version))
        };
        if let Some(at_fault) = operations.iter().zip(found).position(|pair| !may_be_applied(pair)) {
            return Err(at_fault);
        }
        // Nobody will ask what the last one has written.
        let is_last = transaction + 1 == batch.len();
        for (place, (operation, found)) in operations.iter().zip(found).enumerate().filter(|_| !is_last) {
            if let Operation::Put { version, .. } | Operation::Delete { version, .. } = operation {
                let hash = found.hash.get();
                let written = Written { hash, transaction, operation: place, version: *version };
                match self.written.find_mut(hash, |written| key_of(written) == Some(operation.key())) {
                    Some(before) => *before = written,
                    None => drop(self.written.insert_unique(hash, written, |written| written.hash)),
                }
            }
        }
        Ok(found)
    }
}
