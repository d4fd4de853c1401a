//! Checks the transactions of a batch against the history and against earlier transactions of the same batch. Both
//! engines use it, so what is tested with one holds for the other.

use crate::index::{Found, Index};
use hashbrown::HashTable;
use syncline_core::{Operation, Transaction, applies_to};
use syncline_wire::Version;

/// The state of a batch that is being checked: what the index holds of its keys, and what the batch has written so
/// far. The memory is reused for the next batch.
///
/// All keys of a batch are looked up before the first check. In one tight loop the processor fetches several keys
/// from memory at once; one key at a time, it waits for each.
#[derive(Default)]
pub(crate) struct ConflictChecker {
    /// What the index holds of each operation's key, in the order of the operations.
    found: Vec<Found>,
    /// The position in `found` of the next transaction's first operation.
    next: usize,
    written: HashTable<Written>,
}

/// A key that the batch has written.
struct Written {
    hash: u64,
    /// The positions of the transaction and operation that wrote it last.
    transaction: usize,
    operation: usize,
    version: Version,
}

impl ConflictChecker {
    /// Begins a batch: looks up all of its keys.
    pub(crate) fn begin(&mut self, index: &Index, batch: &[Transaction]) {
        let operations = batch.iter().flat_map(|transaction| &*transaction.operations);
        index.find_all(operations.map(|operation| operation.key().as_ref()), &mut self.found);
        self.next = 0;
        self.written.clear();
    }

    /// Skips the next transaction.
    pub(crate) fn skip(&mut self, transaction: &Transaction) {
        self.next += transaction.operations.len();
    }

    /// Checks a transaction, which is given by its position in the batch. Must be called once for each
    /// transaction that is not skipped, in order. If the transaction may be applied, it counts as written from
    /// now on, and the index entries of its operations are returned.
    ///
    /// # Errors
    /// Returns the position of the first operation that may not be applied.
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
        // No later transaction is compared with the writes of the last one.
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
