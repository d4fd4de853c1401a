//! Servers that refuse a client, and servers that are unavailable for a time: the client gives up only if it is refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use bytes::BytesMut;
use rcgen::{CertificateParams, KeyPair};
use std::time::Duration;
use support::{TestServer, hello, next_request, send};
use syncline_client::{
    Change, Client, ConnectError, Cursor, CursorError, GetError, Options, Password, Pem, Progress, PutError, Replica,
    RequestError, Version,
};
use syncline_server::{AccessControl, ClientCertificates, Config, Hash, Identity, Tls, TlsFiles, Users};
use syncline_store::MemoryStore;
use syncline_wire::{Message, Revision, Tag};
use tokio::net::{TcpListener, TcpStream};

const REQUIRED: &str = "go away, bad message type";

fn quick() -> Options {
    let mut options = Options::default();
    (options.min_pause, options.max_pause) = (Duration::from_millis(1), Duration::from_millis(5));
    options
}

/// A server that is played by the test.
struct Script {
    listener: TcpListener,
}

impl Script {
    async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn addr(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// Accepts a connection, and responds to its HELLO.
    async fn accept(&self) -> (TcpStream, BytesMut) {
        let (mut stream, mut buffer) = self.accept_silently().await;
        send(&mut stream, &hello(60_000)).await;
        buffer.clear();
        (stream, buffer)
    }

    async fn accept_silently(&self) -> (TcpStream, BytesMut) {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut buffer = BytesMut::new();
        assert_eq!(next_request(&mut stream, &mut buffer).await, Message::hello(Tag::new(1), ""));
        (stream, buffer)
    }

    /// Accepts a connection, and responds to its HELLO with an error.
    async fn refuse(&self, text: &'static str) {
        let (mut stream, _) = self.accept_silently().await;
        send(&mut stream, &Message::error(Tag::new(1), text)).await;
    }

    /// Connects a client with a replica, and returns the server's end of the connection.
    async fn watched(&self, endpoints: Vec<String>) -> (Client, Replica, TcpStream) {
        let watched = async {
            let client = Client::connect_with(endpoints, quick()).await.unwrap();
            let replica = client.watch("a/").await.unwrap();
            (client, replica)
        };
        let served = async {
            let (mut stream, mut buffer) = self.accept().await;
            let watch = next_request(&mut stream, &mut buffer).await;
            assert_eq!(watch, Message::watch(Tag::new(1), "a/", Revision::ZERO));
            send(&mut stream, &Message::put(Tag::BROADCAST, "a/1", "v", Version::new(1))).await;
            send(&mut stream, &Message::mark(Tag::new(1), Revision::new(5))).await;
            stream
        };
        let ((client, replica), stream) = tokio::join!(watched, served);
        (client, replica, stream)
    }

    /// Returns whether no client has connected since the last connection.
    async fn is_left_alone(&self) -> bool {
        std::future::poll_fn(|context| std::task::Poll::Ready(self.listener.poll_accept(context).is_pending())).await
    }
}

/// Checks that everything that the application may wait for ends with this error.
async fn expect_given_up(client: &Client, mut replica: Replica, expected: &RequestError) {
    let mut updates = replica.updates();
    assert_eq!(replica.changed().await, Err(expected.clone()));
    assert_eq!(updates.next().await, None);
    assert_eq!(client.refusal().as_ref(), Some(expected));
    assert_eq!(client.get("k").await, Err(GetError::Request(expected.clone())));
    let put = client.put("k", "v", Version::new(1)).await;
    assert_eq!(put, Err(PutError::Request(expected.clone())), "nothing was written");
    assert_eq!(client.barrier().await, Err(expected.clone()));
    assert_eq!(client.watch("").await.err().as_ref(), Some(expected));
    let mut late = client.changes();
    while let Some(change) = late.next().await {
        assert_eq!(change, Change::Gap);
    }
    assert!(!replica.staleness().is_current);
    assert_eq!(replica.get("a/1").unwrap().value, "v", "the replica can still be read");
    assert_eq!(replica.clone().changed().await, Err(expected.clone()));
}

#[tokio::test]
async fn a_refused_client_gives_up_and_says_so_everywhere() {
    let script = Script::new().await;
    let (client, replica, mut stream) = script.watched(vec![script.addr()]).await;
    let mut changes = client.changes();
    // This read is in flight when the connection is lost.
    let get = tokio::spawn({
        let client = client.clone();
        async move { client.get("k").await }
    });
    let mut buffer = BytesMut::new();
    while !matches!(next_request(&mut stream, &mut buffer).await, Message::Get(_)) {}
    drop(stream);
    script.refuse(REQUIRED).await;
    let reason = format!("{} requires a password, and none is set", script.addr());
    let expected = RequestError::NotAuthorized { reason };
    assert_eq!(get.await.unwrap(), Err(GetError::Request(expected.clone())));
    assert_eq!(changes.next().await, Some(Change::Gap));
    assert_eq!(changes.next().await, None);
    expect_given_up(&client, replica, &expected).await;
    assert!(script.is_left_alone().await, "the client has connected again");
}

#[tokio::test]
async fn a_client_whose_replica_is_no_longer_permitted_gives_up() {
    let script = Script::new().await;
    let (client, replica, stream) = script.watched(vec![script.addr()]).await;
    drop(stream);
    let (mut stream, mut buffer) = script.accept().await;
    let watch = next_request(&mut stream, &mut buffer).await;
    assert_eq!(watch, Message::watch(Tag::new(1), "a/", Revision::new(5)));
    let missing = "expected the right to read everything under \"a/\"";
    send(&mut stream, &Message::error(Tag::new(1), format!("not permitted: {missing}"))).await;
    expect_given_up(&client, replica, &RequestError::NotPermitted { missing: missing.into() }).await;
    assert!(script.is_left_alone().await, "the client has connected again");
}

#[tokio::test]
async fn an_unavailable_server_is_tried_again() {
    let script = Script::new().await;
    let (client, mut replica, stream) = script.watched(vec![script.addr()]).await;
    drop(stream);
    for text in [
        "unavailable: too many connections",
        "unavailable: too many authorizations from your address at once; try again later",
        "unavailable: shutting down",
        "go away, I am busy",
    ] {
        script.refuse(text).await;
    }
    // A connection that ends during the handshake, and another program on the port.
    drop(script.accept_silently().await);
    let (mut other, _) = script.accept_silently().await;
    tokio::io::AsyncWriteExt::write_all(&mut other, b"HTTP/1.1 400 Bad Request\r\n").await.unwrap();
    let (mut stream, mut buffer) = script.accept().await;
    next_request(&mut stream, &mut buffer).await;
    send(&mut stream, &Message::mark(Tag::new(1), Revision::new(6))).await;
    assert_eq!(replica.changed().await, Ok(Revision::new(6)));
    assert_eq!(client.refusal(), None);
}

#[tokio::test]
async fn the_other_endpoints_are_tried_before_a_refused_client_gives_up() {
    let (first, second) = (Script::new().await, Script::new().await);
    let (client, mut replica, stream) = first.watched(vec![first.addr(), second.addr()]).await;
    drop(stream);
    first.refuse(REQUIRED).await;
    let (mut stream, mut buffer) = second.accept().await;
    next_request(&mut stream, &mut buffer).await;
    send(&mut stream, &Message::mark(Tag::new(1), Revision::new(6))).await;
    assert_eq!(replica.changed().await, Ok(Revision::new(6)));
    assert_eq!(client.refusal(), None);
    // Now the second one refuses, and the first one is gone.
    let addr = first.addr();
    drop((stream, first));
    second.refuse(REQUIRED).await;
    let refusal = replica.changed().await.unwrap_err();
    let reason = format!("{} requires a password, and none is set", second.addr());
    assert_eq!(refusal, RequestError::NotAuthorized { reason });
    // The first attempt to connect reports both.
    let connecting = Client::connect_with(vec![addr.clone(), second.addr()], quick());
    let (connected, ()) = tokio::join!(connecting, second.refuse(REQUIRED));
    let error = connected.err().unwrap();
    assert!(matches!(error.cause(), ConnectError::PasswordRequired { .. }), "{error}");
    let text = error.to_string();
    assert!(text.starts_with(&format!("can't connect to {addr}: ")) && text.contains("; "), "{text}");
    assert!(text.ends_with(&format!("{} requires a password, and none is set", second.addr())), "{text}");
}

/// Opens a cursor, and returns the server's end of its connection.
async fn open(script: &Script) -> (Cursor, TcpStream) {
    let served = async {
        let (mut stream, mut buffer) = script.accept().await;
        next_request(&mut stream, &mut buffer).await;
        send(&mut stream, &Message::mark(Tag::new(1), Revision::new(5))).await;
        stream
    };
    let opened = async {
        let mut cursor = Cursor::open(script.addr(), "", None, quick()).await.unwrap();
        assert!(matches!(cursor.next().await, Ok(Progress::Step(_))));
        cursor
    };
    tokio::join!(opened, served)
}

#[tokio::test]
async fn a_refused_cursor_ends_with_the_refusal() {
    let script = Script::new().await;
    let (mut cursor, stream) = open(&script).await;
    drop(stream);
    assert!(matches!(cursor.next().await, Ok(Progress::Disconnected { .. })));
    let (next, ()) = tokio::join!(cursor.next(), async {
        script.refuse("unavailable: too many connections").await;
        script.refuse(REQUIRED).await;
    });
    assert!(matches!(next, Err(CursorError::Connect(ConnectError::PasswordRequired { .. }))), "{next:?}");
    for _ in 0..2 {
        let again = cursor.next().await;
        assert!(matches!(again, Err(CursorError::Request(RequestError::NotAuthorized { .. }))), "{again:?}");
    }
    assert!(script.is_left_alone().await, "the cursor has connected again");
}

#[tokio::test]
async fn a_cursor_that_may_no_longer_read_its_prefix_ends() {
    let script = Script::new().await;
    let (mut cursor, stream) = open(&script).await;
    drop(stream);
    assert!(matches!(cursor.next().await, Ok(Progress::Disconnected { .. })));
    let (next, (mut stream, mut buffer)) = tokio::join!(cursor.next(), script.accept());
    assert_eq!(next.unwrap(), Progress::Reconnected);
    let refused = async {
        next_request(&mut stream, &mut buffer).await;
        send(&mut stream, &Message::error(Tag::new(1), "not permitted: expected the right to read all")).await;
    };
    let (next, ()) = tokio::join!(cursor.next(), refused);
    assert!(matches!(next, Err(CursorError::Request(RequestError::NotPermitted { .. }))), "{next:?}");
    for _ in 0..2 {
        let next = cursor.next().await;
        assert!(matches!(next, Err(CursorError::Request(RequestError::NotPermitted { .. }))), "{next:?}");
    }
    assert!(script.is_left_alone().await, "the cursor has connected again");
}

#[tokio::test]
async fn a_client_whose_user_is_removed_gives_up() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".into()]).unwrap().self_signed(&key).unwrap().pem();
    let identity = Identity { certificate: Pem::bytes(&certificate), key: Pem::bytes(key.serialize_pem()) };
    let tls = Tls::load(&TlsFiles { identity, clients: ClientCertificates::None }).unwrap();
    let users = |name: &str| {
        let hash = Hash::make(b"secret").unwrap().expose();
        let text = format!("[[user]]\nname = {name:?}\nhash = {hash:?}\nadmin = true\n");
        AccessControl::Users(Users::parse(&text).unwrap())
    };
    let config = Config { listen: "127.0.0.1:0".into(), tls: Some(tls), access: users("ann"), ..Config::default() };
    let server = TestServer::with(MemoryStore::new().unwrap(), config).await;
    let address = format!("synclines://localhost:{}", server.addr.port());
    let mut options = quick();
    options.tls.ca = Some(Pem::bytes(&certificate));
    options.password = Some(Password::of_user("ann", b"secret"));
    let client = Client::connect_with(address.clone(), options.clone()).await.unwrap();
    client.put("a/1", "v", Version::new(1)).await.unwrap();
    let replica = client.watch("").await.unwrap();
    server.handle.set_access(users("bob")).unwrap();
    let reason = format!("{address} refuses: the name or the password is wrong");
    expect_given_up(&client, replica, &RequestError::NotAuthorized { reason }).await;
    // A new client starts afresh.
    options.password = Some(Password::of_user("bob", b"secret"));
    let anew = Client::connect_with(address, options).await.unwrap();
    assert_eq!(anew.get("a/1").await.unwrap().value, "v");
}
