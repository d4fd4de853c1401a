//! The promises, each as a function over what one client has seen, and what has happened.

use crate::client::{Client, Request};
use crate::support::{Counts, count};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, BTreeSet};
use syncline_core::{ConnId, Dialect, RecentLog, Rights};
use syncline_wire::{Decoded, Message, Revision, Tag, Version, decode};

/// One write of one key.
pub(crate) struct Write {
    revision: Revision,
    origin: Option<ConnId>,
    key: Bytes,
    /// Empty where the key was deleted.
    value: Bytes,
    version: Version,
}

/// What has happened, in the order of the commits.
pub(crate) struct History {
    writes: Vec<Write>,
    /// Where the writes of each key stand, in order.
    by_key: BTreeMap<Bytes, BTreeMap<Version, usize>>,
}

impl History {
    /// What a log holds that has forgotten nothing, as far as somebody may read it.
    pub(crate) fn of(log: &RecentLog, rights: &Rights) -> Self {
        let mut writes = Vec::new();
        for unread in log.after(Revision::ZERO).unwrap() {
            for (place, committed) in unread.commits().iter().enumerate() {
                let mut frames = BytesMut::from(unread.frames(Dialect::Base, place..place + 1).as_ref());
                while let Ok(Decoded::Frame(Message::Put(put))) = decode(&mut frames) {
                    let (revision, origin) = (committed.revision, committed.origin);
                    if !rights.may_read(&put.key) {
                        continue;
                    }
                    writes.push(Write { revision, origin, key: put.key, value: put.value, version: put.version });
                }
                assert!(frames.is_empty());
            }
        }
        let mut by_key: BTreeMap<Bytes, BTreeMap<Version, usize>> = BTreeMap::new();
        for (place, write) in writes.iter().enumerate() {
            by_key.entry(write.key.clone()).or_default().insert(write.version, place);
        }
        Self { writes, by_key }
    }

    /// The write that a frame tells of: the values are unique, and so are the versions of a key.
    fn find(&self, message: &Message) -> usize {
        let Message::Put(put) = message else { panic!("no write: {message}") };
        let versions = self.by_key.get(&put.key).unwrap_or_else(|| panic!("nothing that it may read: {message}"));
        let place = versions[&put.version];
        assert!(self.writes[place].value == put.value, "a value that was never written: {message}");
        place
    }

    /// The latest write of a key at a revision.
    fn latest(&self, key: &Bytes, at: Revision) -> Option<usize> {
        let places = self.by_key.get(key)?.values().rev();
        places.copied().find(|place| self.writes[*place].revision <= at)
    }

    /// Whether a later write of the same key followed.
    fn is_superseded(&self, place: usize) -> bool {
        let write = &self.writes[place];
        self.by_key[&write.key].keys().next_back() > Some(&write.version)
    }
}

/// What a client was sent, in order.
enum Seen<'a> {
    Broadcast(usize),
    Answer(&'a Request),
}

/// Checks every promise for one client, all of whose requests are answered.
pub(crate) fn check(client: &Client, history: &History, counts: &mut Counts) {
    let seen = every_request_is_answered_once_and_in_order(client, history);
    commits_are_seen_in_order_and_at_most_once(client, history, &seen);
    own_writes_are_not_broadcast_nor_what_was_before(client, history, &seen);
    the_latest_of_each_key_is_known(client, history, &seen);
    a_value_is_never_older_than_what_was_sent(history, &seen);
    a_value_comes_after_its_broadcast(client, history, &seen, counts);
    stale_put_comes_after_what_made_it_stale(client, history, &seen, counts);
    everything_is_seen_where_the_log_sufficed(client, history, &seen, counts);

    count(counts, "answers", client.requests.len());
    count(counts, "broadcasts", client.frames.len() - client.requests.len());
    for request in &client.requests {
        count(counts, "own writes", usize::from(request.is_accepted()));
        count(counts, "stale", usize::from(request.is_stale()));
        let Some(Message::Error(error)) = &request.answer else {
            count(counts, "values", usize::from(request.read.is_some()));
            continue;
        };
        count(counts, "not permitted", usize::from(error.text.starts_with(b"not permitted")));
        let is_absent = request.read == Some(Version::ABSENT);
        count(counts, "not found", usize::from(is_absent));
        count(counts, "deleted", usize::from(!is_absent && error.text.ends_with(b"not found")));
    }
}

fn every_request_is_answered_once_and_in_order<'a>(client: &'a Client, history: &History) -> Vec<Seen<'a>> {
    let mut requests = client.requests.iter();
    let mut seen = Vec::new();
    for frame in &client.frames {
        if frame.tag() == Tag::BROADCAST {
            seen.push(Seen::Broadcast(history.find(frame)));
            continue;
        }
        let request = requests.next().unwrap();
        let expected = request.answer.as_ref().unwrap();
        assert!(frame == expected, "to {}: expected {expected}, found {frame}", request.message);
        seen.push(Seen::Answer(request));
    }
    assert!(requests.next().is_none(), "a request without an answer");
    seen
}

/// Where in the history the writes stand that a client has seen as writes: broadcasts, and its own as they were accepted.
fn writes_of<'a>(history: &'a History, seen: &'a [Seen<'a>]) -> impl Iterator<Item = usize> + 'a {
    seen.iter().filter_map(|seen| match seen {
        Seen::Broadcast(place) => Some(*place),
        Seen::Answer(request) => request.is_accepted().then(|| history.find(&request.message)),
    })
}

fn commits_are_seen_in_order_and_at_most_once(client: &Client, history: &History, seen: &[Seen<'_>]) {
    let mut last = Revision::ZERO;
    let mut once = BTreeSet::new();
    for place in writes_of(history, seen) {
        let revision = history.writes[place].revision;
        // The writes of one transaction may come in any order: they are one commit.
        assert!(last <= revision, "{}: {revision} after {last}", client.connection.id());
        assert!(once.insert(place), "{}: twice at {revision}", client.connection.id());
        last = revision;
    }
}

fn own_writes_are_not_broadcast_nor_what_was_before(client: &Client, history: &History, seen: &[Seen<'_>]) {
    for seen in seen {
        if let Seen::Broadcast(place) = seen {
            let write = &history.writes[*place];
            assert!(write.origin != Some(client.connection.id()), "an own write was broadcast");
            assert!(write.revision > client.joined.unwrap(), "a broadcast from before it came");
        }
    }
}

fn the_latest_of_each_key_is_known(client: &Client, history: &History, seen: &[Seen<'_>]) {
    let mut known = BTreeMap::new();
    for place in writes_of(history, seen) {
        known.insert(&history.writes[place].key, place);
    }
    for (key, places) in &history.by_key {
        let latest = *places.values().next_back().unwrap();
        if Some(history.writes[latest].revision) > client.joined {
            assert_eq!(known.get(key), Some(&latest), "the latest of {key:?}");
        }
    }
}

/// Whatever told of a version before (a broadcast, an own write, another GET), no GET tells an earlier one afterwards.
fn a_value_is_never_older_than_what_was_sent(history: &History, seen: &[Seen<'_>]) {
    let mut known: BTreeMap<&Bytes, Version> = BTreeMap::new();
    for seen in seen {
        let (key, version) = match seen {
            Seen::Broadcast(place) => (&history.writes[*place].key, history.writes[*place].version),
            Seen::Answer(request) => match (&request.message, request.read) {
                (Message::Get(get), Some(read)) => {
                    let before = known.get(&get.key).copied().unwrap_or_default();
                    assert!(before <= read, "{:?} was {before}, and is told to be {read}", get.key);
                    (&get.key, read)
                }
                (Message::Put(put), _) if request.is_accepted() => (&put.key, put.version),
                _ => continue,
            },
        };
        known.insert(key, version);
    }
}

/// Unless the value is older than the connection, or was skipped, because the connection was behind and something has
/// replaced it.
fn a_value_comes_after_its_broadcast(client: &Client, history: &History, seen: &[Seen<'_>], counts: &mut Counts) {
    let mut sent = BTreeSet::new();
    for seen in seen {
        match seen {
            Seen::Broadcast(place) => drop(sent.insert(*place)),
            Seen::Answer(request) => match (&request.message, request.read) {
                (Message::Get(get), Some(read)) if read != Version::ABSENT => {
                    let place = history.by_key[&get.key][&read];
                    if sent.contains(&place) {
                        count(counts, "values after their broadcasts", 1);
                        continue;
                    }
                    let is_older = Some(history.writes[place].revision) <= client.joined;
                    let is_skipped = client.has_caught_up && history.is_superseded(place);
                    assert!(is_older || is_skipped, "a value before its broadcast: {}", request.message);
                }
                _ if request.is_accepted() => drop(sent.insert(history.find(&request.message))),
                _ => {}
            },
        }
    }
}

/// What a PUT was refused against is the latest write of its key at the revision of the refusal. The client has been
/// sent that write before, unless it is older than the connection, or was skipped, because the connection was behind and
/// something has replaced it.
fn stale_put_comes_after_what_made_it_stale(
    client: &Client,
    history: &History,
    seen: &[Seen<'_>],
    counts: &mut Counts,
) {
    let mut sent = BTreeSet::new();
    for seen in seen {
        match seen {
            Seen::Broadcast(place) => drop(sent.insert(*place)),
            Seen::Answer(request) if request.is_stale() => {
                let (key, version) = (request.message.key().unwrap(), request.message.version().unwrap());
                let Some(place) = history.latest(key, request.at.unwrap()) else {
                    assert_eq!(version, Version::ABSENT, "a key that is not there takes any other version");
                    continue;
                };
                let current = &history.writes[place];
                assert_ne!(current.version.next(), Some(version), "the right version was refused");
                let is_overtaken = current.version >= version && current.origin != Some(client.connection.id());
                if sent.contains(&place) {
                    count(counts, "stale, overtaken by others", usize::from(is_overtaken));
                    continue;
                }
                let is_older = Some(current.revision) <= client.joined;
                let is_skipped = client.has_caught_up && history.is_superseded(place);
                assert!(is_older || is_skipped, "refused before what made it stale: {}", request.message);
            }
            Seen::Answer(request) if request.is_accepted() => drop(sent.insert(history.find(&request.message))),
            Seen::Answer(_) => {}
        }
    }
}

fn everything_is_seen_where_the_log_sufficed(
    client: &Client,
    history: &History,
    seen: &[Seen<'_>],
    counts: &mut Counts,
) {
    let joined = client.joined.unwrap();
    let since = history.writes.partition_point(|write| write.revision <= joined);
    let found: Vec<_> = writes_of(history, seen).collect();
    if client.has_caught_up {
        count(counts, "writes skipped", history.writes.len() - since - found.len());
    } else {
        assert_eq!(found, (since..history.writes.len()).collect::<Vec<_>>(), "all, in order, each once");
        count(counts, "clients that saw every write", 1);
    }
}
