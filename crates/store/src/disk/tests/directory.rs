//! Directories with wrong content: files that are missing, swapped, of another store or of an older backup; another
//! format; foreign files; a second process; a place that cannot be written to.

use super::damage::{Data, End, data};
use super::faulty::Faulty;
use super::history::{entries, keys};
use super::{SEGMENT, open, seeds};
use crate::disk::names;
use crate::disk::{Durability, text_file};
use crate::{Contents, DiskOptions, DiskStore, OpenError, Progress, Report, Stage, Store, backup, check, restore};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use syncline_core::{Operation, Outcome, Transaction};
use syncline_wire::Version;
use tempfile::TempDir;

fn each_data(few: u64, test: impl Fn(&Data)) {
    for seed in seeds(few) {
        for durability in [Durability::Fsync, Durability::Os] {
            for checkpoint in [true, false] {
                for end in [End::Closed, End::Killed] {
                    test(&data(durability, seed, checkpoint, end));
                }
            }
        }
    }
}

/// Opens a directory without its identity file: it is not a data directory.
fn is_foreign(files: &BTreeMap<String, Vec<u8>>) -> bool {
    matches!(open(&Faulty::holding(files.clone()), Durability::Fsync), Err(OpenError::Foreign { .. }))
}

#[test]
fn a_missing_file_is_detected_or_was_not_needed() {
    each_data(8, |data| {
        for name in data.files.keys() {
            let mut files = data.files.clone();
            files.remove(name);
            if name == names::IDENTITY {
                assert!(is_foreign(&files));
                continue;
            }
            data.judge(&files).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    });
}

#[test]
fn a_missing_log_is_detected() {
    each_data(2, |data| {
        let mut files = data.files.clone();
        files.retain(|name, _| names::segment_number(name).is_none());
        let refused = data.judge(&files).unwrap();
        // Where writes are acknowledged before they are synced, the last checkpoint may be all that was ever durable.
        assert!(refused || data.least < data.workload.live.head);
    });
}

#[test]
fn two_swapped_files_are_detected_or_harmless() {
    each_data(4, |data| {
        for one in data.files.keys() {
            for other in data.files.keys().filter(|other| *other > one) {
                let mut files = data.files.clone();
                files.insert(one.clone(), data.files[other].clone());
                files.insert(other.clone(), data.files[one].clone());
                data.judge(&files).unwrap_or_else(|error| panic!("{one} and {other}: {error}"));
            }
        }
    });
}

#[test]
fn a_duplicated_file_is_detected_or_harmless() {
    each_data(4, |data| {
        for one in data.files.keys() {
            for other in data.files.keys().filter(|other| *other != one) {
                let mut files = data.files.clone();
                files.insert(one.clone(), data.files[other].clone());
                data.judge(&files).unwrap_or_else(|error| panic!("{other} also as {one}: {error}"));
            }
        }
    });
}

#[test]
fn a_file_of_another_store_is_detected_or_was_not_needed() {
    each_data(4, |data| {
        let other = self::data(data.workload.durability, 99, true, End::Closed);
        for (name, bytes) in other.files.iter().filter(|(name, _)| data.files.contains_key(*name)) {
            let mut files = data.files.clone();
            files.insert(name.clone(), bytes.clone());
            data.judge(&files).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    });
}

#[test]
fn a_file_from_an_older_backup_is_detected_or_harmless() {
    for seed in seeds(4) {
        for end in [End::Closed, End::Killed] {
            // The same directory, as it was after each step.
            let mut data = data(Durability::Fsync, seed, true, end);
            if end == End::Killed {
                // Only the removed file proves what was written since the watermark.
                data.least = data.watermark;
            }
            for older in &data.earlier {
                for (name, bytes) in older.iter().filter(|(name, _)| data.files.contains_key(*name)) {
                    let mut files = data.files.clone();
                    files.insert(name.clone(), bytes.clone());
                    data.judge(&files).unwrap_or_else(|error| panic!("{end:?} {name}: {error}"));
                }
            }
        }
    }
}

#[test]
fn the_error_names_another_format() {
    let data = data(Durability::Fsync, 0, true, End::Closed);
    let mut files = data.files.clone();
    let text = String::from_utf8(files[names::IDENTITY].clone()).unwrap();
    let body: String = text.lines().take(2).map(|line| format!("{}\n", line.replace("format 2", "format 3"))).collect();
    let body = format!("{body}whatever it holds\n");
    let text = format!("{body}{}", text_file::checksum_line(&body));
    files.insert(names::IDENTITY.into(), text.into_bytes());
    match open(&Faulty::holding(files), Durability::Fsync) {
        Err(OpenError::Format { file, expected: 2, found: 3 }) => assert!(file.ends_with(names::IDENTITY)),
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    for name in ["notes.txt", "notes.new", "segment-1", "segment-000001", "checkpoint-1", "mark"] {
        let files = BTreeMap::from([(name.to_owned(), b"precious".to_vec())]);
        let left = Faulty::holding(files.clone());
        match open(&left, Durability::Fsync) {
            Err(OpenError::Foreign { found, .. }) => assert_eq!(found, format!("the file `{name}`")),
            other => panic!("{name}: {:?}", other.err()),
        }
        assert_eq!(left.files(), files);
    }
}

#[test]
fn a_whole_disk_may_be_a_data_directory() {
    let directory = TempDir::new().unwrap();
    let lost = directory.path().join("lost+found");
    fs::create_dir(&lost).unwrap();
    let store = open_real(directory.path()).unwrap();
    put(&store, 1);
    drop(store);
    assert_eq!(open_real(directory.path()).unwrap().head().get(), 1);
    assert!(lost.is_dir());
    // Beside anything else, it makes nothing a data directory.
    let files = BTreeMap::from([("lost+found".to_owned(), vec![]), ("notes.txt".to_owned(), vec![])]);
    match open(&Faulty::holding(files), Durability::Fsync) {
        Err(OpenError::Foreign { found, .. }) => assert_eq!(found, "the file `notes.txt`"),
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn foreign_files_beside_ours_are_left_alone() {
    let foreign = [
        "notes.txt",
        "notes.new",
        "segment-1",
        "segment-+00001",
        "segment-0000001",
        "segment-000001.bak",
        "checkpoint-1",
        "checkpoint-",
        "checkpoint-.new",
        "segment-18446744073709551615",
    ];
    let mut data = data(Durability::Fsync, 0, true, End::Closed);
    let foreign: Vec<_> = foreign.map(|name| (name.to_owned(), b"precious".to_vec())).into();
    data.files.extend(foreign.clone());
    assert_eq!(data.judge(&data.files), Ok(false));
    let left = Faulty::holding(data.files.clone());
    drop(open(&left, Durability::Fsync).unwrap());
    for (name, bytes) in foreign {
        assert_eq!(left.files().get(&name), Some(&bytes), "{name}");
    }
}

/// Opens a directory on a real disk.
fn open_real(path: &Path) -> Result<DiskStore, OpenError> {
    DiskStore::open(path, DiskOptions { segment_size: SEGMENT, ..DiskOptions::default() })
}

fn put(store: &DiskStore, version: u64) {
    let key = keys().last().unwrap();
    let operation = Operation::Put { key, value: "value".into(), version: Version::new(version) };
    let outcome = store.commit(vec![Transaction { origin: None, operations: [operation].into() }]);
    assert!(matches!(outcome[0], Outcome::Accepted { .. }), "{outcome:?}");
}

#[test]
fn the_error_names_the_process_that_has_the_directory() {
    let directory = TempDir::new().unwrap();
    let store = open_real(directory.path()).unwrap();
    put(&store, 1);
    match open_real(directory.path()) {
        Err(OpenError::Locked { path, pid }) => {
            assert_eq!((path.as_path(), pid), (directory.path(), Some(std::process::id())));
        }
        other => panic!("{:?}", other.err()),
    }
    put(&store, 2);
    drop(store);
    let store = open_real(directory.path()).unwrap();
    assert_eq!(store.head().get(), 2);
}

#[test]
fn the_lock_file_of_a_dead_process_does_not_lock() {
    let directory = TempDir::new().unwrap();
    drop(open_real(directory.path()).unwrap());
    fs::write(directory.path().join("lock"), "1\n").unwrap();
    drop(open_real(directory.path()).unwrap());
}

#[test]
fn the_error_names_a_path_that_cannot_be_a_directory() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.as_path(), &file.join("data"), Path::new("/proc/syncline/data")] {
        match open_real(path) {
            Err(error @ (OpenError::Io { .. } | OpenError::Foreign { .. })) => {
                assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            }
            other => panic!("{}: {:?}", path.display(), other.err()),
        }
    }
}

#[test]
fn a_directory_that_may_not_be_written_or_read_is_named() {
    use std::os::unix::fs::PermissionsExt;
    for mode in [0o500, 0o000] {
        let directory = TempDir::new().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(mode)).unwrap();
        if fs::write(data.join("probe"), "").is_ok() {
            let said =
                "skipped: a directory that may not be written or read: whoever runs this may do both everywhere\n";
            io::stderr().write_all(said.as_bytes()).unwrap();
            return;
        }
        let error = open_real(&data).err().unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(matches!(error, OpenError::Io { .. }) && error.to_string().contains(data.to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_store_on_a_real_disk_is_the_same_after_it_was_opened_again() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("not/there/yet");
    let store = open_real(&path).unwrap();
    let id = store.id();
    (1..=300).for_each(|version| put(&store, version));
    drop(store);
    let store = open_real(&path).unwrap();
    assert_eq!((store.id(), store.head().get()), (id, 300));
}

/// Runs an operation, and returns the progress that it reported for each stage.
fn progress(work: impl FnOnce(&Report) -> Result<Contents, OpenError>) -> Vec<Progress> {
    let told: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let of_report = told.clone();
    let report: Report = Arc::new(move |progress| of_report.lock().push(progress));
    assert_eq!(work(&report).unwrap().head.get(), 300);
    std::mem::take(&mut *told.lock())
}

#[test]
fn check_backup_and_restore_report_progress() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let store = open_real(&path("data")).unwrap();
    (1..=300).for_each(|version| put(&store, version));
    drop(store);
    let checked = progress(|report| check(&path("data"), report));
    let backed_up = progress(|report| backup(&path("data"), &path("backup"), report));
    let restored = progress(|report| restore(&path("backup"), &path("again"), DiskOptions::default(), report));
    let both = &[Stage::Reading, Stage::Writing][..];
    for (told, stages) in [(checked, &both[..1]), (backed_up, both), (restored, both)] {
        let mut found: Vec<_> = told.iter().map(|progress| progress.stage).collect();
        found.dedup();
        assert_eq!(found, stages);
        for stage in stages {
            let told: Vec<_> = told.iter().filter(|progress| progress.stage == *stage).collect();
            assert!(told.is_sorted_by_key(|progress| progress.done), "{told:?}");
            let last = told.last().unwrap();
            assert!(0 < last.total && last.done == last.total, "{last:?}");
            assert!(told.iter().all(|progress| progress.total == last.total), "{told:?}");
        }
    }
}

#[test]
fn a_store_that_was_copied_file_by_file_is_the_same() {
    let data = data(Durability::Fsync, 3, true, End::Closed);
    let directory = TempDir::new().unwrap();
    for (name, bytes) in &data.files {
        fs::write(directory.path().join(name), bytes).unwrap();
    }
    let expected = entries(&open(&Faulty::holding(data.files.clone()), Durability::Fsync).unwrap(), 1000);
    let store = open_real(directory.path()).unwrap();
    let page = pollster::block_on(store.changed_since(syncline_wire::Revision::ZERO, b"", usize::MAX)).unwrap();
    assert_eq!(page.entries, expected);
}

#[test]
fn a_created_directory_is_private_to_its_user() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("above/data");
    open_real(&data).unwrap();
    for made in [data.parent().unwrap(), &data] {
        assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700, "{}", made.display());
    }
}
