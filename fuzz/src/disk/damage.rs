//! Damages a directory or backup, and checks what the disk engine does with it.

use super::checksums;
use super::fixture::{self, Files, HEAD, OPTIONS, State};
use crate::choose::{below, byte, raw};
use arbitrary::Unstructured;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use syncline_core::{Operation, Outcome, Transaction};
use syncline_store::{Contents, DiskStore, OpenError, Report, Store, backup, check, restore};
use syncline_wire::Version;

/// The most changes of one input.
const MAX_CHANGES: usize = 12;

/// The most memory for a directory of about 10 KiB: threads, indexes, and the buffer for a checkpoint.
const MAX_MEMORY: u64 = 8 * 1024 * 1024;

/// Damages a directory or a backup as the input chooses, and checks what the disk engine does with it.
pub fn run(input: &mut Unstructured<'_>) {
    static FIXTURES: OnceLock<[Files; 3]> = OnceLock::new();
    let [closed, killed, backed_up] = FIXTURES.get_or_init(fixture::all);
    let setting = byte(input);
    let is_forged = setting & 1 != 0;
    let original = match setting >> 1 & 3 {
        0 => backed_up,
        1 => killed,
        _ => closed,
    };
    let mut files = original.clone();
    for _ in 0..MAX_CHANGES {
        if input.is_empty() || files.is_empty() {
            break;
        }
        damage(&mut files, input);
    }
    if is_forged {
        checksums::renew(&mut files);
    }
    let is_forged = is_forged && files != *original;
    let directory =
        tempfile::Builder::new().tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("the disk has space");
    let allocated = allocation_counter::measure(|| {
        if original == backed_up {
            check_backup(directory.path(), &files, is_forged);
        } else {
            check_directory(directory.path(), &files, is_forged, files == *original);
        }
    });
    let file_bytes: usize = files.values().map(Vec::len).sum();
    assert!(
        allocated.bytes_max < MAX_MEMORY + 64 * file_bytes as u64,
        "{} bytes were allocated for {file_bytes} bytes of files",
        allocated.bytes_max
    );
}

/// Makes one change of the files.
fn damage(files: &mut Files, input: &mut Unstructured<'_>) {
    let names: Vec<_> = files.keys().cloned().collect();
    let (name, other) = (&names[below(input, names.len())], &names[below(input, names.len())]);
    let bytes = files.get_mut(name).expect("the name is one of the files");
    let offset = input.int_in_range(0..=bytes.len().saturating_sub(1)).unwrap_or_default();
    let rest = &mut bytes[offset..];
    match byte(input) % 10 {
        0 | 1 => {
            if let Some(byte) = rest.first_mut() {
                *byte ^= 1 << below(input, 8);
            }
        }
        2 | 3 => {
            let new = raw(input);
            rest.iter_mut().zip(new).for_each(|(old, new)| *old = new);
        }
        4 => bytes.truncate(offset),
        5 => bytes.extend(raw(input)),
        6 => {
            let length = 512.min(rest.len());
            rest[..length].fill(0);
        }
        7 => {
            let moved = bytes[offset..].to_vec();
            let into = files.get_mut(other).expect("the name is one of the files");
            into.iter_mut().skip(offset).zip(moved.into_iter().take(512)).for_each(|(old, new)| *old = new);
        }
        8 => {
            let (first, second) = (files.remove(name), files.remove(other));
            files.extend(first.map(|bytes| (other.clone(), bytes)));
            files.extend(second.map(|bytes| (name.clone(), bytes)));
        }
        _ => drop(files.remove(name)),
    }
}

/// Returns a receiver of progress that ignores it.
fn no_report() -> Report {
    Arc::new(|_| {})
}

/// Checks that the contents are those of the history at their head. Forged files may contain anything.
fn check_contents(contents: Contents, is_forged: bool) {
    let head = contents.head.get();
    if !is_forged {
        assert!(head <= HEAD, "revision {head} was never committed");
        let expected = fixture::at(head);
        let tombstones = expected.values().filter(|(value, ..)| value.is_none()).count();
        let found = (contents.keys + contents.tombstones, contents.tombstones);
        assert_eq!(found, (expected.len(), tombstones), "at revision {head}");
    }
}

fn check_directory(path: &Path, files: &Files, is_forged: bool, is_intact: bool) {
    let data = path.join("data");
    fixture::write_files(&data, files);
    let checked = check(&data, &no_report());
    assert_eq!(&fixture::read(&data), files, "the check has changed the directory");
    match &checked {
        Ok(contents) => check_contents(*contents, is_forged),
        Err(error) => check_error(error, is_intact),
    }
    let backed_up = backup(&data, &path.join("backup"), &no_report());
    assert_eq!(backed_up.as_ref().ok(), checked.as_ref().ok(), "the backup and the check disagree");
    if let Ok(contents) = &backed_up {
        let restored = restore(&path.join("backup"), &path.join("restored"), OPTIONS, &no_report());
        assert_eq!(restored.as_ref().ok(), Some(contents), "of the backup: {restored:?}");
    }
    let store = match DiskStore::open(&data, OPTIONS) {
        Ok(store) => store,
        Err(error) => {
            check_error(&error, is_intact);
            let is_damaged = matches!(error, OpenError::Damaged { .. } | OpenError::Format { .. });
            assert!(!is_damaged || &fixture::read(&data) == files, "the directory was refused, but changed: {error}");
            return;
        }
    };
    let (head, found) = (store.head().get(), fixture::state(&store));
    if is_forged {
        // A forged directory may accept writes or not. It is enough that nothing panics.
        return drop(store);
    }
    assert!(head <= HEAD && (!is_intact || head == HEAD), "the head is {head}");
    assert_eq!(found, fixture::at(head), "at revision {head}");
    let expected = check_write(&store, found);
    drop(store);
    match DiskStore::open(&data, OPTIONS) {
        Ok(store) => assert_eq!(fixture::state(&store), expected, "after the directory was opened again"),
        Err(error) => panic!("the directory cannot be opened again: {error}"),
    }
}

/// Checks that an open store accepts a write, and returns the state after it.
fn check_write(store: &DiskStore, mut state: State) -> State {
    let revision = store.head().get() + 1;
    let operation = Operation::Put { key: "new".into(), value: "value".into(), version: Version::new(1) };
    let outcome = store.commit(vec![Transaction { origin: None, operations: [operation].into() }]);
    assert!(matches!(outcome[..], [Outcome::Accepted { .. }]), "{outcome:?}");
    state.insert("new".into(), (Some("value".into()), 1, revision));
    state
}

fn check_backup(path: &Path, files: &Files, is_forged: bool) {
    let Some(bytes) = files.get("backup") else { return };
    let file = path.join("backup");
    std::fs::write(&file, bytes).expect("the disk has space");
    let data = path.join("data");
    match restore(&file, &data, OPTIONS, &no_report()) {
        Ok(contents) => {
            check_contents(contents, is_forged);
            let checked = check(&data, &no_report());
            assert_eq!(checked.as_ref().ok(), Some(&contents), "of the restored directory: {checked:?}");
        }
        Err(error) => {
            check_error(&error, false);
            assert!(!data.join("identity").exists(), "the backup was refused, but restored: {error}");
        }
    }
}

/// Checks that intact files are never refused, and that each error has a text.
fn check_error(error: &OpenError, is_intact: bool) {
    assert!(!is_intact, "{error}");
    assert!(!error.to_string().is_empty());
}
