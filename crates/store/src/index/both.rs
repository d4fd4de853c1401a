//! Work that is split between two processors.

use std::{panic, thread};

/// Below this number of items, the work takes less time than starting a thread.
const FEW: usize = 16 * 1024;

/// Does two halves of some work, at the same time if it is about many items.
pub(super) fn both<A: Send, B>(things: usize, a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B) -> (A, B) {
    if things < FEW {
        return (a(), b());
    }
    thread::scope(|scope| {
        let a = scope.spawn(a);
        let b = b();
        (a.join().unwrap_or_else(|fault| panic::resume_unwind(fault)), b)
    })
}
