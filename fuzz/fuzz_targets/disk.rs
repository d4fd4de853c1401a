//! Data directories and backups that are damaged: bytes, sectors and files that are other ones, or gone; and such whose
//! checksums are right all the same, as of somebody who forges them.
//!
//! Checked: opening, checking, backing up and restoring end, within bounds of memory, and are refused by an error or succeed.
//! What was only damaged is refused, and then not changed; or it is what the history held at its head, takes writes, and is
//! the same when it is opened again.
#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    syncline_fuzz::disk::run(&mut Unstructured::new(input));
});
