//! The promises to a client, each as a function over what the client was sent and what was committed.

use crate::client::{Client, SentRequest};
use crate::support::{Coverage, commits_after};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use syncline_core::{ConnId, Dialect, RecentLog, Rights};
use syncline_wire::{Message, Revision, Tag, Version};

/// One write of one key.
struct Write {
    revision: Revision,
    origin: Option<ConnId>,
    key: Bytes,
    /// Empty if the key was deleted.
    value: Bytes,
    version: Version,
}

/// All writes that a client may read, in the order of the commits.
pub(crate) struct History {
    writes: Vec<Write>,
    /// The indices of the writes of each key, by version.
    by_key: BTreeMap<Bytes, BTreeMap<Version, usize>>,
}

impl History {
    /// Returns the writes of a log that `rights` allow to read. The log must hold every commit.
    pub(crate) fn of(log: &RecentLog, rights: &Rights) -> Self {
        let mut writes = Vec::new();
        for commit in commits_after(log, Revision::ZERO, Dialect::Base) {
            let (revision, origin) = (commit.revision, commit.origin);
            for message in commit.writes {
                let Message::Put(put) = message else { panic!("expected a PUT, found {message}") };
                if rights.may_read(&put.key) {
                    writes.push(Write { revision, origin, key: put.key, value: put.value, version: put.version });
                }
            }
        }
        let mut by_key: BTreeMap<Bytes, BTreeMap<Version, usize>> = BTreeMap::new();
        for (index, write) in writes.iter().enumerate() {
            by_key.entry(write.key.clone()).or_default().insert(write.version, index);
        }
        Self { writes, by_key }
    }

    /// Returns the index of the write that a frame carries. Values are unique, and so are the versions of a key.
    fn find(&self, message: &Message) -> usize {
        let Message::Put(put) = message else { panic!("expected a PUT, found {message}") };
        let versions = self.by_key.get(&put.key).unwrap_or_else(|| panic!("a key that it may not read: {message}"));
        let index = versions[&put.version];
        assert!(self.writes[index].value == put.value, "a value that was never written: {message}");
        index
    }

    /// Returns the index of the latest write of a key at a revision.
    fn latest(&self, key: &Bytes, at: Revision) -> Option<usize> {
        let indices = self.by_key.get(key)?.values().rev();
        indices.copied().find(|index| self.writes[*index].revision <= at)
    }

    /// Returns whether a later write of the same key follows.
    fn is_superseded(&self, index: usize) -> bool {
        let write = &self.writes[index];
        self.by_key[&write.key].keys().next_back() > Some(&write.version)
    }

    /// Returns whether a client need not have been sent a write: it is older than the connection, or the connection was
    /// behind the recent log and a later write of the key follows.
    fn may_be_missing(&self, client: &Client, index: usize) -> bool {
        let is_older = Some(self.writes[index].revision) <= client.joined;
        let is_skipped = client.has_caught_up && self.is_superseded(index);
        is_older || is_skipped
    }
}

/// A frame that a client has received.
enum Received<'a> {
    /// The index of the write that was broadcast.
    Broadcast(usize),
    /// The request that the response belongs to.
    Response(&'a SentRequest),
}

/// Checks every promise to one client whose requests all have their response.
pub(crate) fn check(client: &Client, history: &History, coverage: &mut Coverage) {
    let received = each_request_has_one_response_in_order(client, history);
    commits_are_received_in_order_and_at_most_once(client, history, &received);
    broadcasts_are_of_others_and_since_the_connection_joined(client, history, &received);
    the_latest_write_of_each_key_is_received(client, history, &received);
    a_get_never_returns_an_older_version_than_was_sent(history, &received);
    a_value_comes_after_its_broadcast(client, history, &received, coverage);
    stale_put_comes_after_the_write_that_won(client, history, &received, coverage);
    without_catch_up_every_write_is_received(client, history, &received, coverage);
    count(client, coverage);
}

fn count(client: &Client, coverage: &mut Coverage) {
    coverage.count("responses", client.requests.len());
    coverage.count("broadcasts", client.frames.len() - client.requests.len());
    for request in &client.requests {
        coverage.count_if("own writes", request.is_accepted());
        coverage.count_if("stale", request.is_stale());
        let Some(Message::Error(error)) = &request.response else {
            coverage.count_if("values", request.read.is_some());
            continue;
        };
        coverage.count_if("not permitted", error.text.starts_with(b"not permitted"));
        let is_absent = request.read == Some(Version::ABSENT);
        coverage.count_if("not found", is_absent);
        coverage.count_if("deleted", !is_absent && error.text.ends_with(b"not found"));
    }
}

fn each_request_has_one_response_in_order<'a>(client: &'a Client, history: &History) -> Vec<Received<'a>> {
    let mut requests = client.requests.iter();
    let mut received = Vec::new();
    for frame in &client.frames {
        if frame.tag() == Tag::BROADCAST {
            received.push(Received::Broadcast(history.find(frame)));
            continue;
        }
        let request = requests.next().unwrap();
        let expected = request.response.as_ref().unwrap();
        assert!(frame == expected, "to {}: expected {expected}, found {frame}", request.message);
        received.push(Received::Response(request));
    }
    assert!(requests.next().is_none(), "a request without a response");
    received
}

/// Returns the indices of the writes that a client has received: broadcasts, and its own when they were accepted.
fn writes_of<'a>(history: &'a History, received: &'a [Received<'a>]) -> impl Iterator<Item = usize> + 'a {
    received.iter().filter_map(|received| match received {
        Received::Broadcast(index) => Some(*index),
        Received::Response(request) => request.is_accepted().then(|| history.find(&request.message)),
    })
}

fn commits_are_received_in_order_and_at_most_once(client: &Client, history: &History, received: &[Received<'_>]) {
    let mut last = Revision::ZERO;
    let mut seen = BTreeSet::new();
    for index in writes_of(history, received) {
        let revision = history.writes[index].revision;
        // The writes of one transaction may come in any order: they are one commit.
        assert!(last <= revision, "{}: {revision} after {last}", client.id());
        assert!(seen.insert(index), "{}: received twice at {revision}", client.id());
        last = revision;
    }
}

fn broadcasts_are_of_others_and_since_the_connection_joined(
    client: &Client,
    history: &History,
    received: &[Received<'_>],
) {
    for received in received {
        if let Received::Broadcast(index) = received {
            let write = &history.writes[*index];
            assert!(write.origin != Some(client.id()), "an own write was broadcast");
            assert!(write.revision > client.joined.unwrap(), "a write from before the connection was broadcast");
        }
    }
}

fn the_latest_write_of_each_key_is_received(client: &Client, history: &History, received: &[Received<'_>]) {
    let mut known = BTreeMap::new();
    for index in writes_of(history, received) {
        known.insert(&history.writes[index].key, index);
    }
    for (key, indices) in &history.by_key {
        let latest = *indices.values().next_back().unwrap();
        if Some(history.writes[latest].revision) > client.joined {
            assert_eq!(known.get(key), Some(&latest), "the latest write of {key:?}");
        }
    }
}

/// After a broadcast, an own write or a GET, no GET returns an earlier version of the key.
fn a_get_never_returns_an_older_version_than_was_sent(history: &History, received: &[Received<'_>]) {
    let mut known: BTreeMap<&Bytes, Version> = BTreeMap::new();
    for received in received {
        let (key, version) = match received {
            Received::Broadcast(index) => (&history.writes[*index].key, history.writes[*index].version),
            Received::Response(request) => match (&request.message, request.read) {
                (Message::Get(get), Some(read)) => {
                    let before = known.get(&get.key).copied().unwrap_or_default();
                    assert!(before <= read, "{:?}: version {read} after version {before}", get.key);
                    (&get.key, read)
                }
                (Message::Put(put), _) if request.is_accepted() => (&put.key, put.version),
                _ => continue,
            },
        };
        known.insert(key, version);
    }
}

fn a_value_comes_after_its_broadcast(
    client: &Client,
    history: &History,
    received: &[Received<'_>],
    coverage: &mut Coverage,
) {
    let mut sent = BTreeSet::new();
    for received in received {
        match received {
            Received::Broadcast(index) => drop(sent.insert(*index)),
            Received::Response(request) => match (&request.message, request.read) {
                (Message::Get(get), Some(read)) if read != Version::ABSENT => {
                    let index = history.by_key[&get.key][&read];
                    let is_sent = sent.contains(&index);
                    coverage.count_if("values after their broadcasts", is_sent);
                    assert!(
                        is_sent || history.may_be_missing(client, index),
                        "a value before its broadcast: {}",
                        request.message
                    );
                }
                _ if request.is_accepted() => drop(sent.insert(history.find(&request.message))),
                _ => {}
            },
        }
    }
}

/// A PUT is refused because of the latest write of its key at the revision of the refusal. The client was sent that write
/// before.
fn stale_put_comes_after_the_write_that_won(
    client: &Client,
    history: &History,
    received: &[Received<'_>],
    coverage: &mut Coverage,
) {
    let mut sent = BTreeSet::new();
    for received in received {
        match received {
            Received::Broadcast(index) => drop(sent.insert(*index)),
            Received::Response(request) if request.is_stale() => {
                let (key, version) = (request.message.key().unwrap(), request.message.version().unwrap());
                let Some(index) = history.latest(key, request.at.unwrap()) else {
                    assert_eq!(version, Version::ABSENT, "a key that was never written accepts any other version");
                    continue;
                };
                let current = &history.writes[index];
                assert_ne!(current.version.next(), Some(version), "the right version was refused");
                let is_overtaken = current.version >= version && current.origin != Some(client.id());
                let is_sent = sent.contains(&index);
                coverage.count_if("stale, overtaken by others", is_sent && is_overtaken);
                assert!(
                    is_sent || history.may_be_missing(client, index),
                    "refused before the write that won: {}",
                    request.message
                );
            }
            Received::Response(request) if request.is_accepted() => drop(sent.insert(history.find(&request.message))),
            Received::Response(_) => {}
        }
    }
}

fn without_catch_up_every_write_is_received(
    client: &Client,
    history: &History,
    received: &[Received<'_>],
    coverage: &mut Coverage,
) {
    let joined = client.joined.unwrap();
    let since = history.writes.partition_point(|write| write.revision <= joined);
    let found: Vec<_> = writes_of(history, received).collect();
    if client.has_caught_up {
        coverage.count("writes skipped", history.writes.len() - since - found.len());
    } else {
        assert_eq!(found, (since..history.writes.len()).collect::<Vec<_>>(), "expected every write once, in order");
        coverage.count("clients that saw every write", 1);
    }
}
