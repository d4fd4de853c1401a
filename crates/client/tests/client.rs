//! The client against a real server, and against servers that misbehave.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use bytes::{Bytes, BytesMut};
use std::time::Duration;
use support::TestServer;
use syncline_client::{
    BaseOnly, Change, Client, GetError, Options, Password, PutError, RequestError, TxnError, UpdateError, Version,
    Versioned,
};
use syncline_store::MemoryStore;
use syncline_wire::{Decoded, Message, Revision, ServerHello, Tag, decode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn found(value: &'static str, version: u64) -> Versioned {
    Versioned { value: value.into(), version: Version::new(version) }
}

const NOT_FOUND: GetError = GetError::NotFound { deleted_at: None };

#[tokio::test]
async fn what_is_put_is_got() {
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
async fn limits_are_told_with_what_was_expected_and_found() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let text =
        |length: usize| GetError::TooLarge { text: format!("too large: key of {length} bytes, expected at most 4096") };
    assert_eq!(client.get(vec![0; 5000]).await, Err(text(5000)));
    let refused = client.put("k", vec![0; 65_525], Version::new(1)).await.unwrap_err();
    let expected = "too large: key and value of 65526 bytes together, expected at most 65525";
    assert_eq!(refused.to_string(), expected);
    // What no frame can hold does not leave the client.
    let refused = client.get(vec![0; 65_536]).await.unwrap_err();
    assert_eq!(refused.to_string(), "bad message: expected a key of at most 65535 bytes, found 65536");
    let refused = client.put("k", "v", Version::MAX).await;
    assert_eq!(refused, Err(PutError::Refused { text: "version exhausted".into() }));
    assert_eq!(client.get("k").await, Err(NOT_FOUND), "the connection lives on");
}

#[tokio::test]
async fn others_see_changes_in_order_and_the_writer_does_not() {
    let server = TestServer::start().await;
    let (writer, watcher) = (server.client().await, server.client().await);
    assert_eq!(watcher.get("k").await, Err(NOT_FOUND), "the server has taken the watcher in");
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
    assert_eq!(key, "last", "the first that the writer is told of");
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
async fn updates_of_many_tasks_over_many_connections_are_all_there() {
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
async fn a_connection_that_is_lost_is_made_again_and_the_gap_is_told() {
    let server = TestServer::start().await;
    let addr = server.addr;
    let client = server.client().await;
    let mut changes = client.changes();
    client.put("before", "v", Version::new(1)).await.unwrap();
    server.shut_down().await;
    // A request that is made meanwhile waits for the next server.
    let asked = tokio::spawn({
        let client = client.clone();
        async move { client.get("before").await }
    });
    let server = TestServer::on(MemoryStore::new().unwrap(), &addr.to_string()).await;
    assert_eq!(asked.await.unwrap(), Err(NOT_FOUND), "the next server's store is empty");
    assert_eq!(changes.next().await, Some(Change::Gap));
    client.put("after", "v", Version::new(1)).await.unwrap();
    server.client().await.put("others", "v", Version::new(1)).await.unwrap();
    let Some(Change::Put { key, .. }) = changes.next().await else { panic!("no change") };
    assert_eq!(key, "others");
    server.shut_down().await;
}

/// A server of the base protocol that a test writes by hand: takes one connection after the other.
async fn by_hand() -> (TcpListener, Client) {
    by_hand_with(Options { request_timeout: Duration::from_secs(60), ..Options::default() }).await
}

async fn by_hand_with(options: Options) -> (TcpListener, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::connect_with(listener.local_addr().unwrap().to_string(), options);
    let (client, ()) = tokio::join!(client, refuse_hello(&listener));
    (listener, client.unwrap())
}

/// Takes the connection on which the client asks how the server speaks, and answers as one that has never heard of that.
async fn refuse_hello(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(next_request(&mut stream, &mut BytesMut::new()).await, Message::hello(Tag::new(1), ""));
    answer(&mut stream, &Message::error(Tag::new(1), "unknown message kind")).await;
}

async fn next_request(stream: &mut TcpStream, buffer: &mut BytesMut) -> Message {
    loop {
        match decode(buffer).unwrap() {
            Decoded::Frame(message) => return message,
            Decoded::Incomplete { .. } => assert_ne!(stream.read_buf(buffer).await.unwrap(), 0, "the client is gone"),
            too_large @ Decoded::TooLarge { .. } => panic!("{too_large:?}"),
        }
    }
}

async fn answer(stream: &mut TcpStream, message: &Message) {
    let mut frame = BytesMut::new();
    message.encode(&mut frame).unwrap();
    stream.write_all(&frame).await.unwrap();
}

#[tokio::test]
async fn reads_are_asked_again_and_writes_have_an_unknown_outcome() {
    let (listener, client) = by_hand().await;
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
    answer(&mut second, &Message::put(Tag::new(1), "k", "v", Version::new(7))).await;
    assert_eq!(get.await.unwrap(), Ok(found("v", 7)));
}

#[tokio::test]
async fn what_the_server_said_last_is_the_reason() {
    let (listener, client) = by_hand().await;
    let put = tokio::spawn(async move { client.put("k", "v", Version::new(1)).await });
    let (mut server, _) = listener.accept().await.unwrap();
    next_request(&mut server, &mut BytesMut::new()).await;
    answer(&mut server, &Message::error(Tag::BROADCAST, "unavailable: shutting down")).await;
    server.shutdown().await.unwrap();
    let reason = "the server says: unavailable: shutting down".into();
    assert_eq!(put.await.unwrap(), Err(PutError::OutcomeUnknown { reason }));
}

#[tokio::test]
async fn a_server_that_does_not_keep_to_the_protocol_is_left() {
    let (listener, client) = by_hand().await;
    let put = tokio::spawn(async move { client.put("k", "v", Version::new(1)).await });
    let (mut server, _) = listener.accept().await.unwrap();
    next_request(&mut server, &mut BytesMut::new()).await;
    answer(&mut server, &Message::put(Tag::new(9), "k", "v", Version::new(1))).await;
    let reason = put.await.unwrap().unwrap_err().to_string();
    assert!(reason.contains("does not keep to the protocol"), "{reason}");
    assert_eq!(server.read(&mut [0; 10]).await.unwrap(), 0, "the client has left");
}

#[tokio::test]
async fn time_that_runs_out_tells_a_request_in_flight_from_one_that_was_never_sent() {
    let options = Options {
        request_timeout: Duration::from_millis(50),
        min_pause: Duration::from_secs(3600),
        max_pause: Duration::from_secs(3600),
        ..Options::default()
    };
    let (listener, client) = by_hand_with(options).await;
    let (mut server, _) = listener.accept().await.unwrap();
    let late = "no answer within 50ms";
    let outcome = client.put("k", "v", Version::new(1)).await;
    assert_eq!(outcome, Err(PutError::OutcomeUnknown { reason: late.into() }));
    assert_eq!(client.get("k").await, Err(GetError::Unavailable { reason: late.into() }));
    // The connection is lost, and for an hour there is no other.
    let mut buffer = BytesMut::new();
    next_request(&mut server, &mut buffer).await;
    drop((server, listener));
    loop {
        match client.put("k", "v", Version::new(1)).await {
            Err(PutError::Unavailable { reason }) => break assert_eq!(reason, late),
            // The loss was not noticed yet.
            Err(PutError::OutcomeUnknown { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_request_that_finds_no_connection_is_told_why_there_is_none() {
    let pause = Duration::from_millis(1);
    let options = Options {
        request_timeout: Duration::from_millis(50),
        min_pause: pause,
        max_pause: pause,
        ..Options::default()
    };
    let (listener, client) = by_hand_with(options).await;
    let address = listener.local_addr().unwrap();
    drop((listener.accept().await.unwrap(), listener));
    loop {
        let Err(GetError::Unavailable { reason }) = client.get("k").await else { panic!("nobody is there") };
        // The loss may not have been noticed yet.
        if reason.starts_with(&format!("no answer within 50ms: can't connect to {address}: ")) {
            break;
        }
    }
}

#[tokio::test]
async fn where_nobody_listens_the_first_attempt_fails() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = Client::connect(unused.to_string()).await.err().unwrap();
    assert!(error.to_string().starts_with(&format!("can't connect to {unused}: ")), "{error}");
    let error = Client::connect("no port").await.err().unwrap();
    let expected = "no port: expected the name or address of a host, found \"no port\"";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[tokio::test]
async fn an_update_that_is_never_the_first_gives_up() {
    let (listener, client) = by_hand().await;
    let update = tokio::spawn(async move { client.update("k", |_| "v").await });
    let (mut server, _) = listener.accept().await.unwrap();
    let mut buffer = BytesMut::new();
    let mut attempts = 0;
    while attempts < 256 {
        let request = next_request(&mut server, &mut buffer).await;
        match request {
            Message::Get(get) => answer(&mut server, &Message::put(get.tag, get.key, "old", Version::new(1))).await,
            Message::Put(put) => {
                assert_eq!(put.version, Version::new(2));
                answer(&mut server, &Message::error(put.tag, "stale put")).await;
                attempts += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(update.await.unwrap(), Err(UpdateError::Contended { attempts: 256 }));
}

#[tokio::test]
async fn an_update_of_a_deleted_key_goes_on_from_its_version() {
    let (listener, client) = by_hand().await;
    let update = tokio::spawn(async move { client.update("k", |old| if old.is_none() { "new" } else { "old" }).await });
    let (mut server, _) = listener.accept().await.unwrap();
    let mut buffer = BytesMut::new();
    next_request(&mut server, &mut buffer).await;
    answer(&mut server, &Message::error(Tag::new(1), "\"k\": deleted at version 7, not found")).await;
    let put = next_request(&mut server, &mut buffer).await;
    assert_eq!(put, Message::put(Tag::new(2), "k", "new", Version::new(8)));
    answer(&mut server, &put).await;
    assert_eq!(update.await.unwrap(), Ok(found("new", 8)));
}

#[tokio::test]
async fn a_server_of_the_base_protocol_is_asked_only_for_what_it_knows() {
    let (listener, client) = by_hand().await;
    let (mut server, _) = listener.accept().await.unwrap();
    assert_eq!(client.watch("").await.unwrap_err(), RequestError::BaseOnly(BaseOnly));
    assert_eq!(client.list("", "", 1).await, Err(RequestError::BaseOnly(BaseOnly)));
    assert_eq!(client.status().await, Err(RequestError::BaseOnly(BaseOnly)));
    assert_eq!(client.barrier().await, Err(RequestError::BaseOnly(BaseOnly)));
    assert_eq!(client.delete("k", Version::new(2)).await, Err(PutError::BaseOnly(BaseOnly)));
    assert_eq!(client.txn().put("k", "v", Version::new(1)).commit().await, Err(TxnError::BaseOnly(BaseOnly)));
    // What it knows goes on, and it tells what others write by itself.
    let mut changes = client.changes();
    let put = tokio::spawn(async move { client.put("k", "v", Version::new(1)).await });
    let request = next_request(&mut server, &mut BytesMut::new()).await;
    assert_eq!(request, Message::put(Tag::new(1), "k", "v", Version::new(1)), "nothing else has reached it");
    answer(&mut server, &Message::put(Tag::BROADCAST, "x", "y", Version::new(3))).await;
    answer(&mut server, &request).await;
    assert_eq!(put.await.unwrap(), Ok(()));
    let expected = Change::Put { key: "x".into(), value: "y".into(), version: Version::new(3) };
    assert_eq!(changes.next().await, Some(expected));
}

fn greeting(heartbeat_ms: u32) -> Message {
    let (store_id, head) = ([7; 16], Revision::new(5));
    let greeting =
        ServerHello { protocol: 1, features: 0, store_id, head, heartbeat_ms, max_key: 4096, max_entry: 65_525 };
    Message::hello(Tag::new(1), greeting.encode())
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let watched = tokio::spawn(async move { Client::connect(addr).await.unwrap().watch("a/").await.unwrap() });
    let accept = async || {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = BytesMut::new();
        assert_eq!(next_request(&mut stream, &mut buffer).await, Message::hello(Tag::new(1), ""));
        answer(&mut stream, &greeting(20)).await;
        let watch = next_request(&mut stream, &mut buffer).await;
        (stream, watch)
    };
    let (mut first, watch) = accept().await;
    assert_eq!(watch, Message::watch(Tag::new(1), "a/", Revision::ZERO));
    answer(&mut first, &Message::put(Tag::BROADCAST, "a/1", "v", Version::new(1))).await;
    answer(&mut first, &Message::mark(Tag::new(1), Revision::new(5))).await;
    let mut replica = watched.await.unwrap();
    assert_eq!(replica.get("a/1"), Some(found("v", 1)));
    // It says no more, but keeps the connection: after three heartbeats it is taken for dead.
    let (mut second, watch) = accept().await;
    assert_eq!(watch, Message::watch(Tag::new(1), "a/", Revision::new(5)));
    let staleness = replica.staleness();
    assert!(!staleness.is_current && staleness.since_mark >= Duration::from_millis(60), "{staleness:?}");
    assert_eq!(replica.get("a/1"), Some(found("v", 1)), "it keeps answering");
    answer(&mut second, &Message::mark(Tag::new(1), Revision::new(6))).await;
    assert_eq!(replica.changed().await, Revision::new(6));
    assert!(replica.staleness().is_current);
}

#[tokio::test]
async fn a_server_that_turns_a_client_away_is_quoted() {
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
    let expected = format!("{addr} is no Syncline server: unknown message kind 83: expected 0 (GET) to 11 (STATUS)");
    assert_eq!(client.err().unwrap().to_string(), expected);
}

#[tokio::test]
async fn a_password_is_never_sent_without_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let options = Options { password: Some(Password::of_user("tony", b"s3cr3t")), ..Options::default() };
    // Also where only one of several endpoints would let it out.
    let endpoints = [format!("synclines://{address}"), format!("syncline://{address}")];
    let error = Client::connect_with(endpoints, options).await.err().unwrap();
    let expected = format!(
        "{address}: expected TLS, for a password is set, and those travel over TLS only; synclines:// speaks it"
    );
    assert_eq!(error.to_string(), expected);
    assert!(nobody_has_come(&listener).await, "somebody has connected");
}

/// Whether nobody has connected.
async fn nobody_has_come(listener: &TcpListener) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(listener.poll_accept(context).is_pending())).await
}
