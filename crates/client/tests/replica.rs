//! Replicas against a real server: what they show, and when.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use support::{Proxy, TestServer};
use syncline_client::{
    Client, GetError, Options, PutError, Replica, RequestError, Revision, Snapshot, TxnError, Version, Versioned,
};
use syncline_core::server::Limits;
use syncline_server::Config;
use syncline_store::MemoryStore;

/// Returns options that make a client reconnect quickly.
fn quick() -> Options {
    let pause = Duration::from_millis(5);
    let mut options = Options::default();
    (options.min_pause, options.max_pause) = (pause, pause);
    options
}

fn keys(snapshot: &Snapshot) -> BTreeMap<Bytes, Bytes> {
    snapshot.iter().map(|(key, now)| (key.clone(), now.value.clone())).collect()
}

fn value(replica: &Replica, key: &str) -> Option<Bytes> {
    replica.get(key).map(|now| now.value)
}

async fn until(replica: &mut Replica, holds: impl Fn(&Replica) -> bool) {
    while !holds(replica) {
        replica.changed().await.unwrap();
    }
}

const fn v(version: u64) -> Version {
    Version::new(version)
}

#[tokio::test]
async fn a_write_is_in_the_replica_when_it_completes() {
    let server = TestServer::start().await;
    let (client, other) = (server.client().await, server.client().await);
    other.put("a/0", "before", v(1)).await.unwrap();
    let replica = client.watch("a/").await.unwrap();
    assert_eq!(value(&replica, "a/0"), Some("before".into()));
    for version in 1..=200 {
        client.put("a/1", version.to_string(), v(version)).await.unwrap();
        assert_eq!(replica.get("a/1"), Some(Versioned { value: version.to_string().into(), version: v(version) }));
    }
    client.delete("a/1", v(201)).await.unwrap();
    assert_eq!(replica.get("a/1"), None);
    let revision =
        client.txn().put("a/1", "again", v(202)).delete("a/0", v(2)).put("b", "", v(1)).commit().await.unwrap();
    assert_eq!(keys(&replica.snapshot()), BTreeMap::from([("a/1".into(), "again".into())]));
    assert!(replica.revision() >= revision);
    assert_eq!(replica.get("b"), None, "the key is not under the prefix");
    let (snapshot, status) = (replica.snapshot(), client.status().await.unwrap());
    let position = snapshot.position().unwrap();
    assert_eq!((position.revision, snapshot.is_current()), (snapshot.revision(), true));
    assert!(status.contains(&position.store.unwrap().to_string()), "{status}");
}

#[tokio::test]
async fn a_replica_receives_the_writes_of_other_clients() {
    let server = TestServer::start().await;
    let (client, other) = (server.client().await, server.client().await);
    let mut replica = client.watch("").await.unwrap();
    assert!(replica.is_empty() && replica.staleness().is_current);
    let before = replica.revision();
    other.put("k", "v", v(1)).await.unwrap();
    assert!(replica.changed().await.unwrap() > before);
    until(&mut replica, |replica| replica.len() == 1).await;
    other.delete("k", v(2)).await.unwrap();
    until(&mut replica, Replica::is_empty).await;
}

#[tokio::test]
async fn a_local_read_after_a_barrier_is_as_fresh_as_a_get() {
    let server = TestServer::start().await;
    let (client, other) = (server.client().await, server.client().await);
    let replica = client.watch("a/").await.unwrap();
    for version in 1..=100 {
        other.put("a/1", version.to_string(), v(version)).await.unwrap();
        let revision = replica.barrier().await.unwrap();
        assert_eq!(replica.get("a/1").map(|now| now.version), Some(v(version)));
        assert!(replica.revision() >= revision);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_snapshot_contains_half_of_a_transaction() {
    let server = TestServer::start().await;
    let (client, other) = (server.client().await, server.client().await);
    let replica = client.watch("").await.unwrap();
    let reader = std::thread::spawn({
        let replica = replica.clone();
        move || {
            let mut seen = 0;
            loop {
                let snapshot = replica.snapshot();
                let (a, b) = (snapshot.get("a").cloned(), snapshot.get("b").cloned());
                assert_eq!(a, b, "at revision {}", snapshot.revision());
                seen += 1;
                if a.is_some_and(|a| a.version == v(300)) {
                    return seen;
                }
            }
        }
    });
    for version in 1..=300 {
        let value = version.to_string();
        other.txn().put("a", value.clone(), v(version)).put("b", value, v(version)).commit().await.unwrap();
    }
    assert!(reader.join().unwrap() > 0);
}

#[tokio::test]
async fn a_replica_resumes_after_the_connection_was_lost() {
    let server = TestServer::start().await;
    let proxy = Proxy::to(server.addr).await;
    let client = Client::connect_with(proxy.addr.to_string(), quick()).await.unwrap();
    let other = server.client().await;
    for key in ["a/1", "a/2"] {
        other.put(key, "before", v(1)).await.unwrap();
    }
    let mut replica = client.watch("a/").await.unwrap();
    proxy.redirect(None);
    other.put("a/1", "meanwhile", v(2)).await.unwrap();
    other.delete("a/2", v(2)).await.unwrap();
    other.put("a/3", "meanwhile", v(1)).await.unwrap();
    // The replica can be read before and after the client notices the loss.
    assert_eq!(
        keys(&replica.snapshot()),
        BTreeMap::from([("a/1", "before"), ("a/2", "before")].map(|(k, v)| (k.into(), v.into())))
    );
    proxy.redirect(Some(server.addr));
    until(&mut replica, |replica| value(replica, "a/3").is_some()).await;
    assert_eq!(
        keys(&replica.snapshot()),
        BTreeMap::from([("a/1", "meanwhile"), ("a/3", "meanwhile")].map(|(k, v)| (k.into(), v.into())))
    );
    assert!(replica.staleness().is_current);
    client.put("a/4", "after", v(1)).await.unwrap();
    assert_eq!(value(&replica, "a/4"), Some("after".into()));
}

#[tokio::test]
async fn another_store_is_shown_only_when_it_is_complete() {
    let (old, new) = (TestServer::start().await, TestServer::start().await);
    let proxy = Proxy::to(old.addr).await;
    let client = Client::connect_with(proxy.addr.to_string(), quick()).await.unwrap();
    let (to_old, to_new) = (old.client().await, new.client().await);
    for number in 0..500 {
        to_old.put(format!("old/{number}"), "old", v(1)).await.unwrap();
        to_new.put(format!("new/{number}"), "new", v(1)).await.unwrap();
    }
    let mut replica = client.watch("").await.unwrap();
    let (before, mut updates) = (keys(&replica.snapshot()), replica.updates());
    assert_eq!(before.len(), 500);
    proxy.redirect(Some(new.addr));
    loop {
        let now = keys(&replica.snapshot());
        if now != before {
            assert_eq!(now.len(), 500);
            assert!(now.keys().all(|key| key.starts_with(b"new/")));
            break;
        }
        replica.changed().await.unwrap();
    }
    // The stream of updates turns the old state into the new one.
    let mut followed = before;
    for _ in 0..1000 {
        let update = updates.next().await.unwrap();
        match update.now {
            Some(now) => followed.insert(update.key, now.value),
            None => followed.remove(&update.key),
        };
    }
    assert_eq!(followed, keys(&replica.snapshot()));
}

#[tokio::test]
async fn a_slow_reader_of_updates_receives_each_key_once() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let replica = client.watch("a/").await.unwrap();
    let (mut updates, start) = (replica.updates(), replica.snapshot());
    for version in 1..=50 {
        client.put("a/1", version.to_string(), v(version)).await.unwrap();
        client.put("b", version.to_string(), v(version)).await.unwrap();
    }
    client.put("a/2", "v", v(1)).await.unwrap();
    client.delete("a/2", v(2)).await.unwrap();
    client.put("a/3", "v", v(1)).await.unwrap();
    let received = [updates.next().await.unwrap(), updates.next().await.unwrap()];
    let found: Vec<_> = received.iter().map(|update| (&update.key[..], update.now.as_ref().unwrap().version)).collect();
    assert_eq!(found, [(&b"a/1"[..], v(50)), (b"a/3", v(1))]);
    client.delete("a/3", v(2)).await.unwrap();
    let update = updates.next().await.unwrap();
    assert_eq!((&update.key[..], update.now), (&b"a/3"[..], None));
    // Updates since an earlier snapshot are the difference to the current one.
    let mut updates = replica.updates_since(start);
    assert_eq!(updates.next().await.unwrap().key, "a/1");
}

#[tokio::test]
async fn overlapping_replicas_share_their_keys() {
    let server = TestServer::start().await;
    let client = server.client().await;
    for key in ["a/1", "a/b/1", "b"] {
        client.put(key, "1", v(1)).await.unwrap();
    }
    let narrow = client.watch("a/b/").await.unwrap();
    let middle = client.watch("a/").await.unwrap();
    let wide = client.watch("").await.unwrap();
    let again = client.watch("a/").await.unwrap();
    assert_eq!([narrow.len(), middle.len(), wide.len(), again.len()], [1, 2, 3, 2]);
    client.put("a/b/2", "1", v(1)).await.unwrap();
    assert_eq!([narrow.len(), middle.len(), wide.len(), again.len()], [2, 3, 4, 3]);
    assert_eq!(narrow.get("a/1"), None, "the key is not under the prefix");
    let found: Vec<_> = middle.range(&b"a/b/1"[..]..).into_iter().map(|(key, _)| key).collect();
    assert_eq!(found, ["a/b/1", "a/b/2"]);
}

#[tokio::test]
async fn a_stale_transaction_writes_nothing_and_names_the_key() {
    let server = TestServer::start().await;
    let client = server.client().await;
    client.put("taken", "v", v(1)).await.unwrap();
    let refused = client.txn().put("free", "v", v(1)).check("taken", Version::ABSENT).commit().await.unwrap_err();
    assert_eq!(refused, TxnError::StaleKey { key: "\"taken\"".into() });
    assert_eq!(client.get("free").await, Err(GetError::NotFound { deleted_at: None }));
    let revision =
        client.txn().put("free", "v", v(1)).check("other", Version::ABSENT).delete("taken", v(2)).commit().await;
    assert!(revision.unwrap() > Revision::ZERO);
    assert_eq!(client.get("taken").await, Err(GetError::NotFound { deleted_at: Some(v(2)) }));
    assert_eq!(client.delete("taken", v(2)).await, Err(PutError::StalePut));
    let too_many = (0..1025).fold(client.txn(), |txn, number| txn.put(number.to_string(), "v", v(1)));
    let expected = "bad message: expected a transaction of at most 1024 operations, found 1025";
    assert_eq!(too_many.commit().await, Err(RequestError::TooLarge { text: expected.into() }.into()));
}

#[tokio::test]
async fn keys_are_listed_in_order_page_by_page() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let writes = (0..2500).map(|number| client.put(format!("k{number:04}"), "v", v(1)));
    for written in writes {
        written.await.unwrap();
    }
    client.put("", "the empty key", v(1)).await.unwrap();
    client.delete("k0007", v(2)).await.unwrap();
    let listed = client.list("k", "k0005", 3).await.unwrap();
    let found: Vec<_> = listed.into_iter().map(|(key, _)| key).collect();
    assert_eq!(found, ["k0006", "k0008", "k0009"]);
    for (prefix, expected) in [("", 2500), ("k1", 1000), ("k2", 500), ("x", 0)] {
        let (mut pages, mut all) = (client.pages(prefix), Vec::new());
        while let Some(page) = pages.next().await.unwrap() {
            all.extend(page.into_iter().map(|(key, _)| key));
        }
        assert_eq!(all.len(), expected, "under {prefix:?}");
        assert!(all.is_sorted() && all.iter().all(|key| key.starts_with(prefix.as_bytes())));
    }
}

#[tokio::test]
async fn status_returns_a_json_object() {
    let server = TestServer::start().await;
    let status = server.client().await.status().await.unwrap();
    assert!(status.starts_with('{') && status.contains("\"head\":"), "{status}");
}

#[tokio::test]
async fn large_values_work_if_the_server_allows_them() {
    let limits = Limits { max_entry: 1 << 20, ..Limits::default() };
    let config = Config { listen: "127.0.0.1:0".into(), limits, ..Config::default() };
    let server = TestServer::with(MemoryStore::new().unwrap(), config).await;
    let (client, other) = (server.client().await, server.client().await);
    let mut replica = other.watch("").await.unwrap();
    let large = Bytes::from(vec![7; 1_000_000]);
    client.put("large", large.clone(), v(1)).await.unwrap();
    assert_eq!(client.get("large").await.unwrap().value, large);
    until(&mut replica, |replica| value(replica, "large") == Some(large.clone())).await;
    client.txn().put("large", large.slice(1..), v(2)).commit().await.unwrap();
    until(&mut replica, |replica| value(replica, "large") == Some(large.slice(1..))).await;
}

#[tokio::test]
async fn the_client_fails_over_to_the_next_endpoint() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = TestServer::start().await;
    let proxy = Proxy::to(server.addr).await;
    let endpoints = [dead, proxy.addr, server.addr].map(|addr| addr.to_string());
    let client = Client::connect_with(endpoints, quick()).await.unwrap();
    let replica = client.watch("").await.unwrap();
    // The endpoint of the connection fails, and the next one responds.
    proxy.redirect(None);
    let other = server.client().await;
    other.put("k", "v", v(1)).await.unwrap();
    replica.barrier().await.unwrap();
    assert_eq!(value(&replica, "k"), Some("v".into()));
}

#[tokio::test]
async fn a_prefix_that_is_too_long_for_a_frame_is_refused() {
    let server = TestServer::start().await;
    let refused = server.client().await.watch(vec![0; 65_536]).await.unwrap_err();
    let text = "bad message: expected a prefix of at most 65535 bytes, found 65536";
    assert_eq!(refused, RequestError::TooLarge { text: text.into() });
}
