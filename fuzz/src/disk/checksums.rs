//! Makes the checksums of damaged files correct again. An attacker can do that with the format and the checksum seed.
//!
//! The layouts are those of `crates/store/src/disk/record.rs`, `checkpoint.rs` and `text_file.rs`.

use super::fixture::Files;

const RECORD_HEADER: usize = 52;
const BLOCK_HEADER: usize = 8;

/// Makes all checksums correct that are still at their place.
pub fn renew(files: &mut Files) {
    if let Some(identity) = files.get_mut("identity") {
        renew_text(identity);
    }
    let seed = files.get("identity").and_then(|identity| checksum_seed(identity)).unwrap_or_default();
    for (name, bytes) in files {
        match name.split('-').next() {
            Some("mark") => renew_text(bytes),
            Some("segment") => renew_records(seed, bytes),
            Some("checkpoint") => renew_blocks(seed, bytes),
            Some("backup") => renew_blocks(crc32c::crc32c(b"syncline backup\0"), bytes),
            _ => {}
        }
    }
}

fn checksum_seed(identity: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(identity).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("seal "))?;
    u32::from_str_radix(line, 16).ok()
}

fn renew_text(bytes: &mut Vec<u8>) {
    let Some(last) = bytes.strip_suffix(b"\n").and_then(|text| text.iter().rposition(|byte| *byte == b'\n')) else {
        return;
    };
    bytes.truncate(last + 1);
    let line = format!("crc {:08x}\n", crc32c::crc32c(bytes));
    bytes.extend_from_slice(line.as_bytes());
}

fn number(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..at + 4).map_or(0, |bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
}

/// Makes the checksums of a segment correct: one record after the other, as their lengths say.
fn renew_records(seed: u32, bytes: &mut [u8]) {
    let mut offset = 0;
    while offset + RECORD_HEADER <= bytes.len() {
        let length = number(bytes, offset);
        if length == 0 {
            return;
        }
        if let Some(body) = bytes.get(offset + RECORD_HEADER..offset.saturating_add(length)) {
            let checksum = crc32c::crc32c(body);
            bytes[offset + 4..offset + 8].copy_from_slice(&checksum.to_le_bytes());
        }
        let checksum = crc32c::crc32c_append(seed, &bytes[offset..offset + RECORD_HEADER - 4]);
        bytes[offset + RECORD_HEADER - 4..offset + RECORD_HEADER].copy_from_slice(&checksum.to_le_bytes());
        offset = offset.saturating_add(length.next_multiple_of(8));
    }
}

/// Makes the checksums of a checkpoint or backup correct: one block after the other, as their lengths say.
fn renew_blocks(seed: u32, bytes: &mut [u8]) {
    let mut offset = 0;
    while offset + BLOCK_HEADER <= bytes.len() {
        let length = number(bytes, offset);
        let Some(body) = bytes.get(offset + BLOCK_HEADER..offset.saturating_add(length)) else { return };
        let checksum = crc32c::crc32c_append(crc32c::crc32c_append(seed, &(offset as u64).to_le_bytes()), body);
        bytes[offset + 4..offset + 8].copy_from_slice(&checksum.to_le_bytes());
        offset += length;
    }
}
