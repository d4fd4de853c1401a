//! Work for two processors.

use std::{panic, thread};

/// Less than so many things are done sooner than a thread is made.
const FEW: usize = 16 * 1024;

/// Does two halves of some work: at the same time, where it is about many things.
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
