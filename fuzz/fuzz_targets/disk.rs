//! Damaged data directories and backups: bytes, sectors and files are changed, exchanged or missing. In half of the inputs,
//! the files are forged: their checksums are correct again, as if by an attacker.
//!
//! Checks:
//! - To open, check, back up or restore a directory ends with success or an error, within a bound of memory.
//! - A directory that is damaged, but not forged, is refused and left unchanged; or it holds exactly the state of the history
//!   at the head that it reports. Then it accepts writes, and holds them when it is opened again.
#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    syncline_fuzz::disk::run(&mut Unstructured::new(input));
});
