//! The client against a real server, and against servers that misbehave.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use bytes::{Bytes, BytesMut};
use std::time::Duration;
use support::{TestServer, hello, next_request, send};
use syncline_client::{
    BaseOnly, Change, Client, GetError, Options, Password, PutError, RequestError, UpdateError, Version, Versioned,
};
use syncline_store::MemoryStore;
use syncline_wire::{Message, Revision, Tag};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn found(value: &'static str, version: u64) -> Versioned {
    Versioned { value: value.into(), version: Version::new(version) }
}

const NOT_FOUND: GetError = GetError::NotFound { deleted_at: None };

#[tokio::test]
async fn put_then_get_returns_the_value() {
    let server = TestServer::start().await;
    let client = server.client().await;
    assert_eq!(client.get("key").await, Err(NOT_FOUND));
    client.put("key", "one", Version::new(1)).await.unwrap();
    assert_eq!(client.get("key").await, Ok(found("one", 1)));
    for version in [0, 1, 3] {
        assert_eq!(client.put("key", "no", Version::new(version)).await, Err(PutError::StalePut));
    }
    client.put("key", "", Version::new(2)).await.unwrap();
    assert_eq!(client.get("key").await, Ok(found("", 2)));
}

#[tokio::test]
async fn errors_of_limits_quote_what_was_expected_and_found() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let text = "too large: key of 5000 bytes, expected at most 4096";
    assert_eq!(client.get(vec![0; 5000]).await, Err(RequestError::TooLarge { text: text.into() }.into()));
    let refused = client.put("k", vec![0; 65_525], Version::new(1)).await.unwrap_err();
    let expected = "too large: key and value of 65526 bytes together, expected at most 65525";
    assert_eq!(refused.to_string(), expected);
    // A request that is too long for a frame is not sent.
    let refused = client.get(vec![0; 65_536]).await.unwrap_err();
    assert_eq!(refused.to_string(), "bad message: expected a key of at most 65535 bytes, found 65536");
    let refused = client.put("k", "v", Version::MAX).await;
    assert_eq!(refused, Err(RequestError::Refused { text: "version exhausted".into() }.into()));
    assert_eq!(client.get("k").await, Err(NOT_FOUND), "the connection is still usable");
}

#[tokio::test]
async fn changes_are_ordered_and_exclude_own_writes() {
    let server = TestServer::start().await;
    let (writer, watcher) = (server.client().await, server.client().await);
    assert_eq!(watcher.get("k").await, Err(NOT_FOUND), "the server serves the watcher");
    let (mut seen, mut own) = (watcher.changes(), writer.changes());
    for version in 1..=100 {
        writer.put("k", version.to_string(), Version::new(version)).await.unwrap();
    }
    for version in 1..=100 {
        let value = version.to_string().into();
        let expected = Change::Put { key: "k".into(), value, version: Version::new(version) };
        assert_eq!(seen.next().await, Some(expected));
    }
    watcher.put("last", "", Version::new(1)).await.unwrap();
    let Some(Change::Put { key, .. }) = own.next().await else { panic!("no change") };
    assert_eq!(key, "last", "the first change that the writer receives");
}

#[tokio::test]
async fn changes_keep_the_connection_alive() {
    let server = TestServer::start().await;
    let mut changes = {
        let watcher = server.client().await;
        assert_eq!(watcher.get("k").await, Err(NOT_FOUND));
        watcher.changes()
    };
    server.client().await.put("k", "v", Version::new(1)).await.unwrap();
    assert!(matches!(changes.next().await, Some(Change::Put { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_updates_over_many_connections_are_all_counted() {
    let server = TestServer::start().await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let client = server.client().await;
        for _ in 0..4 {
            let client = client.clone();
            tasks.push(tokio::spawn(async move {
                for _ in 0..25 {
                    let next = |old: Option<&Bytes>| {
                        let count = old.map_or(0, |old| String::from_utf8_lossy(old).parse::<u64>().unwrap());
                        (count + 1).to_string()
                    };
                    client.update("counter", next).await.unwrap();
                }
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(server.client().await.get("counter").await, Ok(found("400", 400)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_of_many_tasks_share_one_connection() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let tasks: Vec<_> = (0..10_000)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                let key = format!("key{number}");
                client.put(key.clone(), key.clone(), Version::new(1)).await.unwrap();
                assert_eq!(client.get(key.clone()).await.unwrap().value, key);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_lost_connection_is_replaced_and_readers_receive_a_gap() {
    let server = TestServer::start().await;
    let addr = server.addr;
    let client = server.client().await;
    let mut changes = client.changes();
    client.put("before", "v", Version::new(1)).await.unwrap();
    server.shut_down().await;
    // A request that is made meanwhile waits for the next server.
    let get = tokio::spawn({
        let client = client.clone();
        async move { client.get("before").await }
    });
    let server = TestServer::on(MemoryStore::new().unwrap(), &addr.to_string()).await;
    assert_eq!(get.await.unwrap(), Err(NOT_FOUND), "the next server's store is empty");
    assert_eq!(changes.next().await, Some(Change::Gap));
    client.put("after", "v", Version::new(1)).await.unwrap();
    server.client().await.put("others", "v", Version::new(1)).await.unwrap();
    let Some(Change::Put { key, .. }) = changes.next().await else { panic!("no change") };
    assert_eq!(key, "others");
    server.shut_down().await;
}

/// Returns options with this request timeout, and with this pause between attempts to reconnect.
fn options(request_timeout: Duration, pause: Option<Duration>) -> Options {
    let mut options = Options::default();
    options.request_timeout = request_timeout;
    options.min_pause = pause.unwrap_or(options.min_pause);
    options.max_pause = pause.unwrap_or(options.max_pause);
    options
}

/// Returns a listener on which the test acts as a server of the base protocol, and a client that is connected to it.
async fn scripted() -> (TcpListener, Client) {
    scripted_with(options(Duration::from_secs(60), None)).await
}

async fn scripted_with(options: Options) -> (TcpListener, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::connect_with(listener.local_addr().unwrap().to_string(), options);
    let (client, ()) = tokio::join!(client, refuse_hello(&listener));
    (listener, client.unwrap())
}

/// Accepts the connection on which the client sends HELLO, and responds like a server that does not know HELLO.
async fn refuse_hello(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(next_request(&mut stream, &mut BytesMut::new()).await, Message::hello(Tag::new(1), ""));
    send(&mut stream, &Message::error(Tag::new(1), "unknown message kind")).await;
}

#[tokio::test]
async fn lost_reads_are_repeated_and_lost_writes_have_an_unknown_outcome() {
    let (listener, client) = scripted().await;
    let get = tokio::spawn({
        let client = client.clone();
        async move { client.get("k").await }
    });
    let (mut first, _) = listener.accept().await.unwrap();
    let mut buffer = BytesMut::new();
    assert_eq!(next_request(&mut first, &mut buffer).await, Message::get(Tag::new(1), "k"));
    let put = tokio::spawn({
        let client = client.clone();
        async move { client.put("k", "v", Version::new(1)).await }
    });
    assert_eq!(next_request(&mut first, &mut buffer).await.tag(), Tag::new(2));
    drop(first);

    let outcome = put.await.unwrap().unwrap_err();
    assert!(matches!(outcome, PutError::OutcomeUnknown { .. }), "{outcome}");
    let (mut second, _) = listener.accept().await.unwrap();
    buffer.clear();
    assert_eq!(next_request(&mut second, &mut buffer).await, Message::get(Tag::new(1), "k"));
    send(&mut second, &Message::put(Tag::new(1), "k", "v", Version::new(7))).await;
    assert_eq!(get.await.unwrap(), Ok(found("v", 7)));
}

#[tokio::test]
async fn the_last_notice_of_the_server_is_the_reason() {
    let (listener, client) = scripted().await;
    let put = tokio::spawn(async move { client.put("k", "v", Version::new(1)).await });
    let (mut server, _) = listener.accept().await.unwrap();
    next_request(&mut server, &mut BytesMut::new()).await;
    send(&mut server, &Message::error(Tag::BROADCAST, "unavailable: shutting down")).await;
    server.shutdown().await.unwrap();
    let reason = "the server says: unavailable: shutting down".into();
    assert_eq!(put.await.unwrap(), Err(PutError::OutcomeUnknown { reason }));
}

#[tokio::test]
async fn a_server_that_violates_the_protocol_is_disconnected() {
    let (listener, client) = scripted().await;
    let put = tokio::spawn(async move { client.put("k", "v", Version::new(1)).await });
    let (mut server, _) = listener.accept().await.unwrap();
    next_request(&mut server, &mut BytesMut::new()).await;
    send(&mut server, &Message::put(Tag::new(9), "k", "v", Version::new(1))).await;
    let reason = put.await.unwrap().unwrap_err().to_string();
    assert!(reason.contains("violates the protocol"), "{reason}");
    assert_eq!(server.read(&mut [0; 10]).await.unwrap(), 0, "the client closes the connection");
}

#[tokio::test]
async fn a_timeout_distinguishes_sent_requests_from_unsent_ones() {
    let options = options(Duration::from_millis(50), Some(Duration::from_secs(3600)));
    let (listener, client) = scripted_with(options).await;
    let (mut server, _) = listener.accept().await.unwrap();
    let late = "no answer within 50ms";
    let outcome = client.put("k", "v", Version::new(1)).await;
    assert_eq!(outcome, Err(PutError::OutcomeUnknown { reason: late.into() }));
    assert_eq!(client.get("k").await, Err(RequestError::Unavailable { reason: late.into() }.into()));
    // The connection is lost, and the client does not reconnect for an hour.
    let mut buffer = BytesMut::new();
    next_request(&mut server, &mut buffer).await;
    drop((server, listener));
    loop {
        match client.put("k", "v", Version::new(1)).await {
            Err(PutError::Request(RequestError::Unavailable { reason })) => break assert_eq!(reason, late),
            // The client has not noticed the loss yet.
            Err(PutError::OutcomeUnknown { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn an_unsent_request_reports_why_there_is_no_connection() {
    let options = options(Duration::from_millis(50), Some(Duration::from_millis(1)));
    let (listener, client) = scripted_with(options).await;
    let address = listener.local_addr().unwrap();
    drop((listener.accept().await.unwrap(), listener));
    loop {
        let Err(GetError::Request(RequestError::Unavailable { reason })) = client.get("k").await else {
            panic!("no server listens")
        };
        // The client may not have noticed the loss yet.
        if reason.starts_with(&format!("no answer within 50ms: can't connect to {address}: ")) {
            break;
        }
    }
}

#[tokio::test]
async fn connect_fails_if_no_server_listens() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = Client::connect(unused.to_string()).await.err().unwrap();
    assert!(error.to_string().starts_with(&format!("can't connect to {unused}: ")), "{error}");
    let error = Client::connect("no port").await.err().unwrap();
    let expected = "no port: expected the name or address of a host, found \"no port\"";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[tokio::test]
async fn an_update_that_always_loses_gives_up() {
    let (listener, client) = scripted().await;
    let update = tokio::spawn(async move { client.update("k", |_| "v").await });
    let (mut server, _) = listener.accept().await.unwrap();
    let mut buffer = BytesMut::new();
    let mut attempts = 0;
    while attempts < 256 {
        let request = next_request(&mut server, &mut buffer).await;
        match request {
            Message::Get(get) => send(&mut server, &Message::put(get.tag, get.key, "old", Version::new(1))).await,
            Message::Put(put) => {
                assert_eq!(put.version, Version::new(2));
                send(&mut server, &Message::error(put.tag, "stale put")).await;
                attempts += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(update.await.unwrap(), Err(UpdateError::Contended { attempts: 256 }));
}

#[tokio::test]
async fn an_update_of_a_deleted_key_continues_from_its_version() {
    let (listener, client) = scripted().await;
    let update = tokio::spawn(async move { client.update("k", |old| if old.is_none() { "new" } else { "old" }).await });
    let (mut server, _) = listener.accept().await.unwrap();
    let mut buffer = BytesMut::new();
    next_request(&mut server, &mut buffer).await;
    send(&mut server, &Message::error(Tag::new(1), "\"k\": deleted at version 7, not found")).await;
    let put = next_request(&mut server, &mut buffer).await;
    assert_eq!(put, Message::put(Tag::new(2), "k", "new", Version::new(8)));
    send(&mut server, &put).await;
    assert_eq!(update.await.unwrap(), Ok(found("new", 8)));
}

#[tokio::test]
async fn extension_requests_are_not_sent_to_a_base_server() {
    let (listener, client) = scripted().await;
    let (mut server, _) = listener.accept().await.unwrap();
    assert_eq!(client.watch("").await.unwrap_err(), RequestError::BaseOnly(BaseOnly));
    assert_eq!(client.list("", "", 1).await, Err(RequestError::BaseOnly(BaseOnly)));
    assert_eq!(client.status().await, Err(RequestError::BaseOnly(BaseOnly)));
    assert_eq!(client.barrier().await, Err(RequestError::BaseOnly(BaseOnly)));
    assert_eq!(client.delete("k", Version::new(2)).await, Err(RequestError::BaseOnly(BaseOnly).into()));
    assert_eq!(
        client.txn().put("k", "v", Version::new(1)).commit().await,
        Err(RequestError::BaseOnly(BaseOnly).into())
    );
    // Base requests work, and the server sends the writes of other connections without a request.
    let mut changes = client.changes();
    let put = tokio::spawn(async move { client.put("k", "v", Version::new(1)).await });
    let request = next_request(&mut server, &mut BytesMut::new()).await;
    assert_eq!(request, Message::put(Tag::new(1), "k", "v", Version::new(1)), "no other request was sent");
    send(&mut server, &Message::put(Tag::BROADCAST, "x", "y", Version::new(3))).await;
    send(&mut server, &request).await;
    assert_eq!(put.await.unwrap(), Ok(()));
    let expected = Change::Put { key: "x".into(), value: "y".into(), version: Version::new(3) };
    assert_eq!(changes.next().await, Some(expected));
}

#[tokio::test]
async fn a_silent_server_is_disconnected() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let watched = tokio::spawn(async move { Client::connect(addr).await.unwrap().watch("a/").await.unwrap() });
    let accept = async || {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = BytesMut::new();
        assert_eq!(next_request(&mut stream, &mut buffer).await, Message::hello(Tag::new(1), ""));
        send(&mut stream, &hello(20)).await;
        let watch = next_request(&mut stream, &mut buffer).await;
        (stream, watch)
    };
    let (mut first, watch) = accept().await;
    assert_eq!(watch, Message::watch(Tag::new(1), "a/", Revision::ZERO));
    send(&mut first, &Message::put(Tag::BROADCAST, "a/1", "v", Version::new(1))).await;
    send(&mut first, &Message::mark(Tag::new(1), Revision::new(5))).await;
    let mut replica = watched.await.unwrap();
    assert_eq!(replica.get("a/1"), Some(found("v", 1)));
    // The server sends nothing more, but keeps the connection open. After three heartbeats the client treats it as dead.
    let (mut second, watch) = accept().await;
    assert_eq!(watch, Message::watch(Tag::new(1), "a/", Revision::new(5)));
    let staleness = replica.staleness();
    assert!(!staleness.is_current && staleness.since_mark >= Duration::from_millis(60), "{staleness:?}");
    assert_eq!(replica.get("a/1"), Some(found("v", 1)), "the replica can still be read");
    send(&mut second, &Message::mark(Tag::new(1), Revision::new(6))).await;
    assert_eq!(replica.changed().await, Ok(Revision::new(6)));
    assert!(replica.staleness().is_current);
}

#[tokio::test]
async fn the_refusal_of_a_server_is_quoted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let refuse = async |text: &'static str| {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        next_request(&mut stream, &mut BytesMut::new()).await;
    };
    let (client, ()) = tokio::join!(Client::connect(&addr), refuse("\x02\0\0\x11\0unavailable: full"));
    assert_eq!(client.err().unwrap().to_string(), format!("{addr} refuses: unavailable: full"));
    let (client, ()) = tokio::join!(Client::connect(&addr), refuse("SSH-2.0"));
    let expected = format!("{addr} is not a Syncline server: unknown message kind 83: expected 0 (GET) to 11 (STATUS)");
    assert_eq!(client.err().unwrap().to_string(), expected);
}

#[tokio::test]
async fn a_password_is_never_sent_without_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut options = Options::default();
    options.password = Some(Password::of_user("tony", b"s3cr3t"));
    // Also if only one of several endpoints does not use TLS.
    let endpoints = [format!("synclines://{address}"), format!("syncline://{address}")];
    let error = Client::connect_with(endpoints, options).await.err().unwrap();
    let expected = format!(
        "{address}: expected TLS, because a password is set and passwords are sent over TLS only; use synclines://"
    );
    assert_eq!(error.to_string(), expected);
    assert!(has_no_connection(&listener).await, "a client has connected");
}

/// Returns whether no client has connected.
async fn has_no_connection(listener: &TcpListener) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(listener.poll_accept(context).is_pending())).await
}
