//! Base and extended connections on one server see the same history, each in its own frames.

use crate::support::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

const STEPS: u64 = 600;
const KEYS: [&str; 8] = ["a/1", "a/2", "a/b/1", "a/b/2", "a/b/c/1", "b", "", "a"];

fn as_base(operation: Operation) -> Option<Written> {
    match operation {
        Operation::Put { key, value, version } => Some((key, value, version.get())),
        Operation::Delete { key, version } => Some((key, Bytes::new(), version.get())),
        Operation::Check { .. } => None,
    }
}

/// Runs a base connection, which writes, and receives all broadcasts.
fn base(client: &mut Client, seed: u64, done: &AtomicUsize) -> Vec<Written> {
    let mut random = Random::new(seed);
    let mut versions: BTreeMap<Bytes, u64> = BTreeMap::new();
    let mut seen = Vec::new();
    let mut receive = |client: &mut Client, versions: &mut BTreeMap<Bytes, u64>| {
        let message = client.receive();
        if let Message::Put(put) = &message {
            versions.insert(put.key.clone(), put.version.get());
            seen.push((put.key.clone(), put.value.clone(), put.version.get()));
        }
        message
    };
    for step in 0..STEPS {
        let key = KEYS[random.below(KEYS.len() as u64) as usize];
        let version = versions.get(key.as_bytes()).map_or(1, |version| version + 1);
        client.send(&put(7, key, &format!("{seed}/{step}"), version));
        while receive(client, &mut versions).tag() != Tag::new(7) {}
    }
    done.fetch_add(1, Ordering::SeqCst);
    while receive(client, &mut versions).key().is_none_or(|key| key != "the end") {}
    seen
}

/// Runs an extended connection, which uses all kinds of writes, and watches overlapping prefixes.
fn extended(lab: &Lab, seed: u64, done: &AtomicUsize) {
    let mut random = Random::new(seed);
    let mut client = Watcher::of(lab.server.addr, lab.history(), "");
    client.send(&watch(2, "a/b/", 0));
    for step in 0..STEPS {
        let mut pick = || KEYS[random.below(KEYS.len() as u64) as usize];
        let (key, other) = (pick(), pick());
        let value = format!("{seed}/{step}");
        let (version, next) = (client.version(key) + 1, client.version(other) + 1);
        let request = match random.below(4) {
            0 => delete(7, key, version),
            1 if key != other => txn(7, [puts(key, &value, version), deletes(other, next)]),
            2 if key != other => txn(7, [puts(key, &value, version), checks(other, next - 1)]),
            _ => put(7, key, &value, version),
        };
        client.send(&request);
        while client.is_writing() {
            client.receive();
        }
    }
    done.fetch_add(1, Ordering::SeqCst);
    while client.version("the end") == 0 {
        client.receive();
    }
    client.send(&mark(8, 0));
    client.until_response(8);
}

/// Runs a connection that only watches overlapping prefixes.
fn watches(lab: &Lab, prefixes: &[&str]) {
    let mut client = Watcher::connect(lab.server.addr, lab.history());
    for (tag, prefix) in (1..).zip(prefixes) {
        client.send(&watch(tag, prefix, 0));
    }
    client.send(&watch(9, "the end", 0));
    while client.version("the end") == 0 {
        client.receive();
    }
    client.until_complete();
    client.until_marked(lab.history().head());
}

fn mixed(recent_log: usize, sees_all: bool) {
    on_each_engine_with(
        |config| config.recent_log = recent_log,
        |lab| {
            let done = AtomicUsize::new(0);
            let mut clients: Vec<Client> = (0..2).map(|_| lab.server.connected()).collect();
            let mut main = lab.server.extended();
            let seen: Vec<Vec<Written>> = thread::scope(|scope| {
                for prefixes in [&["a/", "a/b/"][..], &["a/b/", "a/", "b"], &["a/b/c/"]] {
                    scope.spawn(|| watches(lab, prefixes));
                }
                for seed in 0..2 {
                    let done = &done;
                    scope.spawn(move || extended(lab, seed, done));
                }
                let base: Vec<_> = (2..)
                    .zip(&mut clients)
                    .map(|(seed, client)| {
                        let done = &done;
                        scope.spawn(move || base(client, seed, done))
                    })
                    .collect();
                while done.load(Ordering::SeqCst) < 4 {
                    thread::yield_now();
                }
                main.expect_echo(&put(1, "the end", "", 1));
                base.into_iter().map(|base| base.join().unwrap()).collect()
            });
            let history: Vec<Written> =
                lab.history().writes().into_iter().filter_map(|(_, write)| as_base(write)).collect();
            assert!(history.len() > STEPS as usize, "some writes were accepted: {}", history.len());
            for seen in &seen {
                if sees_all {
                    assert!(*seen == history, "another order");
                } else {
                    assert!(is_subsequence(seen, &history), "another order");
                    assert_eq!(latest(seen), latest(&history));
                }
            }
        },
    );
}

#[test]
fn all_connections_see_one_history_in_their_own_frames() {
    mixed(64 << 20, true);
}

#[test]
fn all_connections_see_one_history_with_a_short_recent_log() {
    mixed(1_000, false);
}

#[test]
fn all_connections_see_one_history_from_the_store() {
    mixed(0, false);
}

#[test]
fn a_watcher_receives_writes_of_base_connections() {
    on_each_engine(|lab| {
        let mut watcher = lab.server.watching("k");
        let mut writer = lab.server.connected();
        let mut base = lab.server.connected();
        for version in 1..=10 {
            writer.expect_echo(&put(1, "k", "v", version));
            watcher.expect_all(&[put(0, "k", "v", version), mark(0, version)]);
            assert_eq!(base.receive(), put(0, "k", "v", version));
        }
        writer.expect_silence();
    });
}

#[test]
fn watchers_of_overlapping_prefixes_each_receive_their_own() {
    on_each_engine(|lab| {
        let mut watchers: Vec<(Watcher, &str)> = ["a/", "a/b/", "", "a/b/c"]
            .map(|prefix| (Watcher::of(lab.server.addr, lab.history(), prefix), prefix))
            .into();
        let mut writer = lab.server.extended();
        for (revision, key) in (1..).zip(KEYS) {
            writer.expect_echo(&put(1, key, "v", 1));
            for (watcher, prefix) in &mut watchers {
                if key.starts_with(*prefix) {
                    let seen = watcher.until_marked(revision);
                    let changes: Vec<_> = seen.iter().filter_map(change_of).map(|(key, ..)| key).collect();
                    assert_eq!(changes, [key], "to the watcher of {prefix:?}");
                }
            }
        }
        for (watcher, prefix) in &mut watchers {
            watcher.send(&mark(2, 0));
            watcher.until_response(2);
            let model = Model::at(lab.history(), 8);
            assert_eq!(watcher.changes, model.live().filter(|(key, ..)| key.starts_with(prefix.as_bytes())).count());
        }
    });
}
