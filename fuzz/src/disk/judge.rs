//! What must be made of a damaged directory.

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
const CHANGES: usize = 12;

/// The most memory that is taken for a directory, which has no more than some 10 KiB: threads, indexes, room for a checkpoint.
const MOST: u64 = 8 * 1024 * 1024;

/// Lets an input damage a directory and a backup, and looks at what is made of them.
pub fn run(input: &mut Unstructured<'_>) {
    static FIXTURES: OnceLock<[Files; 3]> = OnceLock::new();
    let [closed, killed, of_backup] = FIXTURES.get_or_init(fixture::all);
    let setting = byte(input);
    let is_forged = setting & 1 != 0;
    let original = match setting >> 1 & 3 {
        0 => of_backup,
        1 => killed,
        _ => closed,
    };
    let mut files = original.clone();
    for _ in 0..CHANGES {
        if input.is_empty() || files.is_empty() {
            break;
        }
        damage(&mut files, input);
    }
    if is_forged {
        checksums::renew(&mut files);
    }
    let is_forged = is_forged && files != *original;
    let place =
        tempfile::Builder::new().tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("there is room");
    let taken = allocation_counter::measure(|| {
        if original == of_backup {
            judge_backup(place.path(), &files, is_forged);
        } else {
            judge(place.path(), &files, is_forged, files == *original);
        }
    });
    let given: usize = files.values().map(Vec::len).sum();
    assert!(taken.bytes_max < MOST + 64 * given as u64, "{} bytes were taken for {given}", taken.bytes_max);
}

/// One thing happens to the files.
fn damage(files: &mut Files, input: &mut Unstructured<'_>) {
    let names: Vec<_> = files.keys().cloned().collect();
    let (name, other) = (&names[below(input, names.len())], &names[below(input, names.len())]);
    let bytes = files.get_mut(name).expect("it was listed");
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
            let into = files.get_mut(other).expect("it was listed");
            into.iter_mut().skip(offset).zip(moved.into_iter().take(512)).for_each(|(old, new)| *old = new);
        }
        8 => {
            let (one, two) = (files.remove(name), files.remove(other));
            files.extend(one.map(|one| (other.clone(), one)));
            files.extend(two.map(|two| (name.clone(), two)));
        }
        _ => drop(files.remove(name)),
    }
}

fn nothing() -> Report {
    Arc::new(|_| {})
}

/// What is found is what the history holds at its head, or, where it was forged, anything.
fn judge_contents(contents: Contents, is_forged: bool) {
    let head = contents.head.get();
    if !is_forged {
        assert!(head <= HEAD, "revision {head} never was");
        let expected = fixture::at(head);
        let tombstones = expected.values().filter(|(value, ..)| value.is_none()).count();
        let found = (contents.keys + contents.tombstones, contents.tombstones);
        assert_eq!(found, (expected.len(), tombstones), "at revision {head}");
    }
}

fn judge(place: &Path, files: &Files, is_forged: bool, is_whole: bool) {
    let data = place.join("data");
    fixture::lay_out(&data, files);
    let checked = check(&data, &nothing());
    assert_eq!(&fixture::read(&data), files, "looking has changed it");
    match &checked {
        Ok(contents) => judge_contents(*contents, is_forged),
        Err(error) => judge_error(error, is_whole),
    }
    let backed_up = backup(&data, &place.join("backup"), &nothing());
    assert_eq!(backed_up.as_ref().ok(), checked.as_ref().ok(), "a backup holds something else");
    if let Ok(contents) = &backed_up {
        let restored = restore(&place.join("backup"), &place.join("again"), OPTIONS, &nothing());
        assert_eq!(restored.as_ref().ok(), Some(contents), "what was backed up: {restored:?}");
    }
    let store = match DiskStore::open(&data, OPTIONS) {
        Ok(store) => store,
        Err(error) => {
            judge_error(&error, is_whole);
            let is_damaged = matches!(error, OpenError::Damaged { .. } | OpenError::Format { .. });
            assert!(!is_damaged || &fixture::read(&data) == files, "it was changed though it was refused: {error}");
            return;
        }
    };
    let (head, found) = (store.head().get(), fixture::shown(&store));
    if is_forged {
        // What was forged may be written, or not; it must not panic.
        return drop(store);
    }
    assert!(head <= HEAD && (!is_whole || head == HEAD), "the head is {head}");
    assert_eq!(found, fixture::at(head), "at revision {head}");
    let expected = go_on(&store, found);
    drop(store);
    match DiskStore::open(&data, OPTIONS) {
        Ok(store) => assert_eq!(fixture::shown(&store), expected, "after it was opened again"),
        Err(error) => panic!("it can't be opened again: {error}"),
    }
}

/// A store that was opened takes writes.
fn go_on(store: &DiskStore, mut state: State) -> State {
    let revision = store.head().get() + 1;
    let operation = Operation::Put { key: "new".into(), value: "value".into(), version: Version::new(1) };
    let outcome = store.commit(vec![Transaction { origin: None, operations: [operation].into() }]);
    assert!(matches!(outcome[..], [Outcome::Accepted { .. }]), "{outcome:?}");
    state.insert("new".into(), (Some("value".into()), 1, revision));
    state
}

fn judge_backup(place: &Path, files: &Files, is_forged: bool) {
    let Some(bytes) = files.get("backup") else { return };
    let file = place.join("backup");
    std::fs::write(&file, bytes).expect("there is room");
    let data = place.join("data");
    match restore(&file, &data, OPTIONS, &nothing()) {
        Ok(contents) => {
            judge_contents(contents, is_forged);
            let checked = check(&data, &nothing());
            assert_eq!(checked.as_ref().ok(), Some(&contents), "what was restored: {checked:?}");
        }
        Err(error) => {
            judge_error(&error, false);
            assert!(!data.join("identity").exists(), "a directory was made of what was refused: {error}");
        }
    }
}

/// What is whole is not refused; what is refused, for a reason.
fn judge_error(error: &OpenError, is_whole: bool) {
    assert!(!is_whole, "{error}");
    assert!(!error.to_string().is_empty());
}
