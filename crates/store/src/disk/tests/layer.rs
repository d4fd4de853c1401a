//! Tests of the file layer that fails.

use super::faulty::{EIO, ENOSPC, Fault, Faulty, Kind};
use crate::disk::files::{FileHandle, FileSystem};
use std::collections::BTreeSet;

/// A file that is durable, with its name.
fn durable(name: &str, bytes: &[u8]) -> (Faulty, <Faulty as FileSystem>::Handle) {
    let files = Faulty::holding([(name.to_owned(), bytes.to_vec())]);
    let handle = files.open(name).unwrap();
    (files, handle)
}

fn content(files: &Faulty, name: &str) -> Option<Vec<u8>> {
    files.files().remove(name)
}

#[test]
fn what_was_synced_survives_a_power_cut_and_the_rest_need_not() {
    let files = Faulty::new();
    let handle = files.create("file").unwrap();
    handle.write_at(b"synced", 0).unwrap();
    handle.sync().unwrap();
    files.sync_names().unwrap();
    handle.write_at(b"SYN", 0).unwrap();
    assert_eq!(content(&files, "file").unwrap(), b"SYNced");
    assert_eq!(content(&files.disk().power_cut(0), "file").unwrap(), b"synced");
    assert_eq!(content(&files.disk().power_cut(1), "file").unwrap(), b"SYNced");
    assert_eq!(content(&files.disk().kill(), "file").unwrap(), b"SYNced");
}

#[test]
fn each_unsynced_sector_survives_by_itself_in_any_of_its_states() {
    let (files, handle) = durable("file", &[b'0'; 1024]);
    handle.write_at(&[b'1'; 1024], 0).unwrap();
    handle.write_at(&[b'2'; 512], 512).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let left = content(&files.disk().power_cut(seed), "file").unwrap();
        assert!(left[..512].iter().all(|byte| *byte == left[0]), "a sector is written whole");
        assert!(left[512..].iter().all(|byte| *byte == left[512]), "a sector is written whole");
        seen.insert((left[0], left[512]));
    }
    let expected = [b'0', b'1'].into_iter().flat_map(|first| [b'0', b'1', b'2'].map(|second| (first, second)));
    assert_eq!(seen, expected.collect());
}

#[test]
fn a_file_that_grows_may_be_longer_than_what_was_written_to_it() {
    let (files, handle) = durable("file", b"");
    handle.write_at(&[1; 600], 0).unwrap();
    let left: BTreeSet<_> = (0..200).map(|seed| content(&files.disk().power_cut(seed), "file").unwrap()).collect();
    let lengths: BTreeSet<_> = left.iter().map(Vec::len).collect();
    assert_eq!(lengths, BTreeSet::from([0, 512, 600]));
    assert!(left.contains(&vec![0; 600]));
}

#[test]
fn each_unsynced_change_of_names_is_made_or_not() {
    let (files, _) = durable("old", b"old");
    let new = files.create("new").unwrap();
    new.write_at(b"new", 0).unwrap();
    new.sync().unwrap();
    files.rename("new", "file").unwrap();
    files.remove("old").unwrap();
    let seen: BTreeSet<_> = (0..200).map(|seed| files.disk().power_cut(seed).list().unwrap()).collect();
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    let expected = [&["old"][..], &[], &["new"], &["new", "old"], &["file"], &["file", "old"]].map(names);
    assert_eq!(seen, expected.into());
    files.sync_names().unwrap();
    for seed in 0..20 {
        assert_eq!(files.disk().power_cut(seed).files(), files.files());
    }
}

#[test]
fn a_crash_is_determined_by_its_seed() {
    let (files, handle) = durable("file", &[0; 8192]);
    handle.write_at(&[1; 8192], 0).unwrap();
    for seed in 0..20 {
        assert_eq!(files.disk().power_cut(seed).files(), files.disk().power_cut(seed).files());
    }
}

#[test]
fn operations_of_a_killed_process_do_nothing() {
    let (files, handle) = durable("file", b"");
    let left = files.kill();
    assert!(handle.write_at(b"late", 0).is_err() && handle.sync().is_err() && files.create("other").is_err());
    assert_eq!(left.files(), files.files());
    left.open("file").unwrap().write_at(b"new", 0).unwrap();
    assert_eq!(content(&left, "file").unwrap(), b"new");
}

#[test]
fn operations_are_counted_and_fail_on_request() {
    let (files, handle) = durable("file", b"");
    assert_eq!((files.done(), files.log()[0].kind), (1, Kind::Read));
    files.fail([Fault { operations: 2..4, kinds: &[Kind::Create, Kind::Sync], error: ENOSPC, seed: 0 }]);
    handle.sync().unwrap();
    assert_eq!(files.create("full").err().unwrap().raw_os_error(), Some(ENOSPC));
    handle.write_at(b"not told to fail", 0).unwrap();
    files.create("room").unwrap();
    assert_eq!(files.list().unwrap(), ["file", "room"]);
}

#[test]
fn a_write_that_fails_may_have_been_made_in_part() {
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let (files, handle) = durable("file", b"");
        files.fail([Fault { operations: 0..9, kinds: &[Kind::Write], error: EIO, seed }]);
        assert!(handle.write_at(b"12345", 0).is_err());
        let left = content(&files, "file").unwrap();
        assert!(b"12345".starts_with(&left));
        seen.insert(left.len());
    }
    assert!(seen.contains(&0) && seen.contains(&5) && seen.len() > 2, "{seen:?}");
}

#[test]
fn a_later_sync_does_not_restore_what_a_failed_one_lost() {
    let mut survived = BTreeSet::new();
    for seed in 0..50 {
        let (files, handle) = durable("file", b"old");
        handle.write_at(b"new", 0).unwrap();
        files.fail([Fault { operations: 2..3, kinds: &[Kind::Sync], error: EIO, seed }]);
        assert!(handle.sync().is_err());
        handle.sync().unwrap();
        assert_eq!(content(&files, "file").unwrap(), b"new", "it is still seen");
        let left = content(&files.disk().power_cut(1), "file").unwrap();
        survived.insert(left);
        // What is written once more is as any other write.
        handle.write_at(b"n", 0).unwrap();
        handle.sync().unwrap();
        assert_eq!(content(&files.disk().power_cut(0), "file").unwrap(), b"new");
    }
    assert_eq!(survived.len(), 2, "lost for some seeds, not for others");
    let evicted: BTreeSet<_> = (0..50)
        .map(|seed| {
            let (files, handle) = durable("file", b"old");
            handle.write_at(b"new", 0).unwrap();
            files.fail([Fault { operations: 2..3, kinds: &[Kind::Sync], error: EIO, seed }]);
            assert!(handle.sync().is_err());
            content(&files.disk().evict(seed), "file").unwrap()
        })
        .collect();
    assert_eq!(evicted.len(), 2, "seen for some seeds, not for others");
}
