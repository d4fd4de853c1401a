//! The directories that the target damages, and the history that they hold.
//!
//! They are files in `fixtures`, so that an input always means the same. `cargo run --example disk-fixture` replaces them.

use bytes::Bytes;
use pollster::block_on;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use syncline_core::{Operation, Outcome, Transaction};
use syncline_store::{DiskOptions, DiskStore, Durability, Store, backup};
use syncline_wire::{Revision, Version};

/// The content of files, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The latest state of each key: its value, or `None` if it was deleted; its version; its revision.
pub type State = BTreeMap<Bytes, (Option<Bytes>, u64, u64)>;

/// The number of transactions in the history.
pub const HEAD: u64 = 90;

/// The revisions at which the directory is closed and opened again, which writes a checkpoint.
const REOPENED_AT: [u64; 2] = [30, 60];

/// The options of the directories: small files, and tombstones that are kept forever.
pub const OPTIONS: DiskOptions =
    DiskOptions {
        durability: Durability::Fsync,
        tombstones: Duration::from_secs(1 << 40),
        reserve: 1024,
        segment_size: 4096,
        first_segment_size: 1024,
    };

/// Returns the operations of `revision`, which follows the state `before`.
fn operations(revision: u64, before: &State) -> Vec<Operation> {
    let operation = |number: u64| {
        let key = Bytes::from(format!("key/{}", number * 7 % 13));
        let version = Version::new(before.get(&key).map_or(0, |(_, version, _)| *version) + 1);
        match number % 5 {
            0 => Operation::Delete { key, version },
            _ => Operation::Put { key, value: vec![b'v'; (number * 37 % 211) as usize].into(), version },
        }
    };
    let count = if revision % 6 == 0 { 3 } else { 1 };
    (0..count).map(|index| operation(revision + index * 2)).collect()
}

/// Returns the state at revision `head`.
pub fn at(head: u64) -> State {
    let mut state = State::new();
    for revision in 1..=head {
        for operation in operations(revision, &state) {
            match operation {
                Operation::Put { key, value, version } => state.insert(key, (Some(value), version.get(), revision)),
                Operation::Delete { key, version } => state.insert(key, (None, version.get(), revision)),
                Operation::Check { .. } => None,
            };
        }
    }
    state
}

/// Returns the state that a store holds.
pub fn state(store: &DiskStore) -> State {
    let page = block_on(store.changed_since(Revision::ZERO, b"", usize::MAX)).expect("no tombstone was forgotten");
    let entries = page.entries.into_iter();
    entries.map(|entry| (entry.key, (entry.value, entry.version.get(), entry.revision.get()))).collect()
}

/// Reads the files of a directory, except the lock.
pub fn read(path: &Path) -> Files {
    let files = fs::read_dir(path).expect("the directory exists").map(|entry| entry.expect("it can be read"));
    let files = files.filter(|entry| entry.path().is_file() && entry.file_name() != "lock");
    files
        .map(|entry| (entry.file_name().into_string().unwrap_or_default(), fs::read(entry.path()).unwrap_or_default()))
        .collect()
}

/// Writes files into a directory, which is created.
pub fn write_files(path: &Path, files: &Files) {
    fs::create_dir_all(path).expect("the disk has space");
    for (name, bytes) in files {
        fs::write(path.join(name), bytes).expect("the disk has space");
    }
}

/// Returns the path of a fixture.
fn path_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Reads the fixtures: the directory of a store that was closed, that of a store that was killed, and a backup.
pub fn all() -> [Files; 3] {
    ["closed", "killed", "backup"].map(|name| read(&path_of(name)))
}

/// Replaces the fixtures.
pub fn write() {
    let directory = tempfile::tempdir().expect("the disk has space");
    let data = directory.path().join("data");
    let mut state = State::new();
    let mut store = DiskStore::open(&data, OPTIONS).expect("an empty directory can be opened");
    let replace = |name: &str, files: &Files| {
        let _ = fs::remove_dir_all(path_of(name));
        write_files(&path_of(name), files);
    };
    for revision in 1..=HEAD {
        let transaction = Transaction { origin: None, operations: operations(revision, &state).into() };
        let outcome = store.commit(vec![transaction]);
        assert!(matches!(outcome[..], [Outcome::Accepted { .. }]), "{outcome:?}");
        state = at(revision);
        if REOPENED_AT.contains(&revision) {
            drop(store);
            store = DiskStore::open(&data, OPTIONS).expect("the store was closed");
        }
    }
    replace("killed", &read(&data));
    assert_eq!(self::state(&store), state);
    drop(store);
    replace("closed", &read(&data));
    let file = directory.path().join("backup");
    backup(&data, &file, &(Arc::new(|_| {}) as _)).expect("the directory is intact");
    replace("backup", &Files::from([("backup".to_owned(), fs::read(file).expect("the backup was written"))]));
}
