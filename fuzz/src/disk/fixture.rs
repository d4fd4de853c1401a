//! The directories that are damaged, and the history that stands in them. They are kept as files, so that an input means the
//! same each time; `cargo run --example disk-fixture` writes them anew.

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

/// Files, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The latest state of keys: a value, or of a deletion none; version; revision.
pub type State = BTreeMap<Bytes, (Option<Bytes>, u64, u64)>;

/// How many transactions the history has.
pub const HEAD: u64 = 90;

/// After how many the directory is opened again, which takes a checkpoint.
const REOPENED_AT: [u64; 2] = [30, 60];

/// How the directories are opened: small files, and tombstones that are never forgotten.
pub const OPTIONS: DiskOptions =
    DiskOptions { durability: Durability::Fsync, tombstones: Duration::from_secs(1 << 40), segment_size: 4096 };

/// The operations of a revision, on the state before it.
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
    (0..count).map(|other| operation(revision + other * 2)).collect()
}

/// The state as of a revision.
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

/// The state that a store shows.
pub fn shown(store: &DiskStore) -> State {
    let page = block_on(store.changed_since(Revision::ZERO, b"", usize::MAX)).expect("all can be told");
    let state = page.entries.into_iter();
    state.map(|entry| (entry.key, (entry.value, entry.version.get(), entry.revision.get()))).collect()
}

/// The files of a directory.
pub fn read(path: &Path) -> Files {
    let files = fs::read_dir(path).expect("it is there").map(|entry| entry.expect("it can be read"));
    let files = files.filter(|entry| entry.path().is_file() && entry.file_name() != "lock");
    files
        .map(|entry| (entry.file_name().into_string().unwrap_or_default(), fs::read(entry.path()).unwrap_or_default()))
        .collect()
}

/// Writes a directory of files.
pub fn lay_out(path: &Path, files: &Files) {
    fs::create_dir_all(path).expect("there is room");
    files.iter().for_each(|(name, bytes)| fs::write(path.join(name), bytes).expect("there is room"));
}

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// The directory of a store that was closed, that of one that was killed, and a backup.
pub fn all() -> [Files; 3] {
    ["closed", "killed", "backup"].map(|name| read(&place(name)))
}

/// Writes them anew.
pub fn write() {
    let directory = tempfile::tempdir().expect("there is room");
    let data = directory.path().join("data");
    let mut state = State::new();
    let mut store = DiskStore::open(&data, OPTIONS).expect("it is new");
    let replace = |name: &str, files: &Files| {
        let _ = fs::remove_dir_all(place(name));
        lay_out(&place(name), files);
    };
    for revision in 1..=HEAD {
        let transaction = Transaction { origin: None, operations: operations(revision, &state).into() };
        let outcome = store.commit(vec![transaction]);
        assert!(matches!(outcome[..], [Outcome::Accepted { .. }]), "{outcome:?}");
        state = at(revision);
        if REOPENED_AT.contains(&revision) {
            drop(store);
            store = DiskStore::open(&data, OPTIONS).expect("it was closed");
        }
    }
    replace("killed", &read(&data));
    assert_eq!(shown(&store), state);
    drop(store);
    replace("closed", &read(&data));
    let file = directory.path().join("backup");
    backup(&data, &file, &(Arc::new(|_| {}) as _)).expect("it is whole");
    replace("backup", &Files::from([("backup".to_owned(), fs::read(file).expect("it was written"))]));
}
