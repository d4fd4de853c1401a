//! Passwords and users over TLS. The unit tests in `src/access/tests.rs` cover the details and the timing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use rustls::{ALL_VERSIONS, ClientConfig};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use support::prelude::*;
use syncline_server::{AccessControl, BindError, ClientCertificates, Hash, MustUseTls, Pem, Server, Users};
use syncline_store::MemoryStore;
use syncline_wire::Kind;

fn one_password(password: &str) -> AccessControl {
    AccessControl::Password(Arc::new(Hash::make(password.as_bytes()).unwrap()))
}

fn ann(password: &str) -> AccessControl {
    let hash = Hash::make(password.as_bytes()).unwrap().expose();
    let text = format!(
        "[[user]]\nname = \"ann\"\nhash = {hash:?}\nread = [\"a/\"]\nwrite = [\"a/\"]\n\
         [[user]]\nname = \"backup\"\ncertificate = \"backup\"\nread = [\"\"]\n"
    );
    AccessControl::Users(Users::parse(&text).unwrap())
}

/// Starts a server that also accepts client certificates of its CA.
fn server(access: AccessControl, change: impl FnOnce(&mut Config)) -> (Ca, TestServer, Arc<ClientConfig>) {
    let ca = Ca::new();
    let server = TestServer::with(|config| {
        config.tls = Some(ca.server(ClientCertificates::Accepted(Pem::bytes(&ca.pem))));
        config.access = access;
        change(config);
    });
    let config = ca.trusting(ALL_VERSIONS, None);
    (ca, server, config)
}

#[tokio::test]
async fn a_server_that_requires_passwords_does_not_start_without_tls() {
    for access in [one_password("secret"), ann("secret")] {
        let config = Config { listen: "127.0.0.1:0".into(), access, ..Config::default() };
        match Server::bind(config, MemoryStore::new().unwrap()).await {
            Err(error @ BindError::MustUseTls(_)) => {
                assert_eq!(error.to_string(), "must use TLS if authorization is required");
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("the server started"),
        }
    }
}

#[test]
fn a_server_without_tls_refuses_access_control() {
    let plain = TestServer::start();
    if plain.handle.set_access(one_password("secret")) == Err(MustUseTls) {
        plain.connect().expect(&get(1, "k"), &error(1, "\"k\": not found"));
    } else {
        assert!(std::env::var_os("SYNCLINE_TEST_TLS").is_some(), "a server without TLS accepted it");
    }
}

#[test]
fn users_have_access_to_their_prefixes() {
    let (_, server, config) = server(ann("secret"), |_| {});
    let mut client = TlsClient::connect(server.addr, &config).unwrap();
    assert_eq!(client.ask(&get(1, "a/k")), error(1, "go away, bad message type"));
    assert_eq!(client.ask(&auth(2, "ann:wrong")), error(2, "go away, bad password"));
    assert_eq!(client.ask(&auth(3, "ann:secret")), auth(3, ""));
    assert_eq!(client.ask(&put(4, "a/k", "v", 1)), put(4, "a/k", "v", 1));
    assert_eq!(client.ask(&put(5, "b", "v", 1)), error(5, "not permitted: expected the right to write \"b\""));
    assert_eq!(client.ask(&get(6, "b")), error(6, "not permitted: expected the right to read \"b\""));
}

#[test]
fn a_certificate_authenticates_its_user() {
    let (ca, server, _) = server(ann("secret"), |_| {});
    let backup = ca.trusting(ALL_VERSIONS, Some(&ca.identity("backup", |_| {})));
    let mut client = TlsClient::connect(server.addr, &backup).unwrap();
    assert_eq!(client.ask(&get(1, "k")), error(1, "\"k\": not found"));
    assert_eq!(client.ask(&put(2, "k", "v", 1)), error(2, "not permitted: expected the right to write \"k\""));
    let nobody = ca.trusting(ALL_VERSIONS, Some(&ca.identity("ann", |_| {})));
    let mut client = TlsClient::connect(server.addr, &nobody).unwrap();
    assert_eq!(client.ask(&get(1, "k")), error(1, "go away, bad message type"), "the name of a user with a password");
}

#[test]
fn a_reload_ends_only_connections_with_changed_rights() {
    let (ca, server, config) = server(ann("secret"), |_| {});
    let backup = ca.trusting(ALL_VERSIONS, Some(&ca.identity("backup", |_| {})));
    let mut stays = TlsClient::connect(server.addr, &backup).unwrap();
    assert_eq!(stays.ask(&get(1, "k")), error(1, "\"k\": not found"));
    let mut ends = TlsClient::connect(server.addr, &config).unwrap();
    assert_eq!(ends.ask(&auth(1, "ann:secret")), auth(1, ""));
    server.handle.set_access(ann("another")).unwrap();
    let received = "unavailable: the rights of this user have changed; connect again";
    assert_eq!(ends.receive(), error(0, received));
    assert_eq!(ends.try_receive().unwrap(), None, "a close_notify alert");
    let mut anew = TlsClient::connect(server.addr, &config).unwrap();
    assert_eq!(anew.ask(&auth(1, "ann:another")), auth(1, ""));
    assert_eq!(anew.ask(&put(2, "a/k", "v", 1)), put(2, "a/k", "v", 1));
    assert_eq!(stays.receive(), put(0, "a/k", "v", 1));
}

#[test]
fn an_unauthenticated_connection_is_sent_the_reason_at_its_deadline() {
    let (_, server, config) = server(one_password("secret"), |config| {
        config.authorize_within = Duration::from_millis(300);
    });
    let mut client = TlsClient::connect(server.addr, &config).unwrap();
    client.stream.write_all(b"\x03\x01\x00\x06\x00se").unwrap();
    client.stream.flush().unwrap();
    assert_eq!(client.receive(), error(0, "unavailable: not authorized within 300ms"));
    assert_eq!(client.try_receive().unwrap(), None, "a close_notify alert");
}

/// The number of idle connections of a test: more than the 256 that one address may hold by default.
const IDLE: usize = 300;

/// Checks that clients can authenticate, one after the other.
#[track_caller]
fn expect_admission(addr: SocketAddr, config: &Arc<ClientConfig>) {
    for number in 0..3 {
        let mut client = TlsClient::connect(addr, config).unwrap();
        assert_eq!(client.ask(&auth(1, "secret")), auth(1, ""), "client {number}");
        assert_eq!(client.ask(&get(2, "k")), error(2, "\"k\": not found"), "client {number}");
    }
}

#[test]
fn idle_connections_of_an_address_keep_no_client_of_it_out() {
    let (_, server, config) = server(one_password("secret"), |_| {});
    let mut idle = Vec::new();
    for round in 0..3 {
        idle.extend((0..IDLE).map(|_| TcpStream::connect(server.addr).unwrap()));
        println!("round {round}: {} idle connections", idle.len());
        expect_admission(server.addr, &config);
    }
}

#[test]
fn idle_connections_after_the_handshake_keep_no_client_out() {
    let (_, server, config) = server(one_password("secret"), |_| {});
    let mut idle: Vec<_> = (0..IDLE).map(|_| TlsClient::connect(server.addr, &config).unwrap()).collect();
    expect_admission(server.addr, &config);
    // The oldest made room, and was sent the reason.
    let reason = "unavailable: this connection had sent nothing, and made room for a new one";
    assert_eq!(idle[0].receive(), error(0, reason));
    assert_eq!(idle[0].try_receive().unwrap(), None, "a close_notify alert");
    // The youngest is still there.
    assert_eq!(idle[IDLE - 1].ask(&auth(1, "secret")), auth(1, ""));
}

#[test]
fn a_client_that_sends_slowly_is_not_replaced_by_idle_ones() {
    let (_, server, config) = server(one_password("secret"), |_| {});
    let mut slow = TlsClient::connect(server.addr, &config).unwrap();
    let request = encoded(&auth(1, "secret"));
    let mut idle = Vec::new();
    for byte in request.chunks(1) {
        slow.stream.write_all(byte).unwrap();
        slow.stream.flush().unwrap();
        // The server reads the byte before it accepts the following connections, or it closes this one.
        while idle.len() < 4 {
            idle.push(TlsClient::connect(server.addr, &config).unwrap());
        }
        idle.extend((0..IDLE / request.len() + 1).map(|_| TlsClient::connect(server.addr, &config).unwrap()));
    }
    assert!(idle.len() > IDLE);
    assert_eq!(slow.receive(), auth(1, ""));
}

#[test]
fn authenticated_connections_never_make_room() {
    let (_, server, config) = server(one_password("secret"), |config| config.max_unauthenticated = 8);
    let mut authorized: Vec<_> = (0..8)
        .map(|_| {
            let mut client = TlsClient::connect(server.addr, &config).unwrap();
            assert_eq!(client.ask(&auth(1, "secret")), auth(1, ""));
            client
        })
        .collect();
    let _idle: Vec<_> = (0..32).map(|_| TcpStream::connect(server.addr).unwrap()).collect();
    expect_admission(server.addr, &config);
    for client in &mut authorized {
        assert_eq!(client.ask(&get(2, "k")), error(2, "\"k\": not found"));
    }
}

#[test]
fn the_count_of_unauthenticated_connections_stays_true() {
    let (_, server, config) = server(one_password("secret"), |config| config.max_unauthenticated = 40);
    let mut admin = TlsClient::connect(server.addr, &config).unwrap();
    assert_eq!(admin.ask(&auth(1, "secret")), auth(1, ""));
    assert_eq!(admin.ask(&hello(2)).kind(), Kind::Hello);
    let count = |admin: &mut TlsClient| match admin.ask(&status(3)) {
        Message::Status(status) => {
            let status: serde_json::Value = serde_json::from_slice(&status.text).unwrap();
            (status["strangers"].as_u64().unwrap(), status["connections"].as_u64().unwrap())
        }
        other => panic!("{other} to STATUS"),
    };
    let mut idle = Vec::new();
    for number in 0..100 {
        match number % 3 {
            0 => idle.push((Some(TlsClient::connect(server.addr, &config).unwrap()), None)),
            _ => idle.push((None, Some(TcpStream::connect(server.addr).unwrap()))),
        }
        let (unauthenticated, _) = count(&mut admin);
        assert!(unauthenticated <= 10, "{unauthenticated} after {number} connections");
    }
    while count(&mut admin) != (10, 11) {}
    drop(idle);
    while count(&mut admin) != (0, 1) {}
}

#[test]
fn at_the_total_limit_the_largest_address_makes_room() {
    let (_, server, config) = server(one_password("secret"), |config| {
        config.max_unauthenticated = 16;
        config.listen = "0.0.0.0:0".into();
    });
    let port = server.addr.port();
    let from = |last: u8| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into()).unwrap();
        socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
        TcpStream::from(socket)
    };
    // Each address holds the 4 permits that one address may hold.
    let mut idle: Vec<TcpStream> = (2..6).flat_map(|last| (0..4).map(move |_| last)).map(from).collect();
    expect_admission(SocketAddr::from(([127, 0, 0, 1], port)), &config);
    // One of them was closed for each of the three.
    let closed = idle.iter_mut().filter_map(|socket| {
        socket.set_nonblocking(true).unwrap();
        socket.read(&mut [0]).ok()
    });
    assert!((1..=3).contains(&closed.count()));
}

#[test]
fn one_address_may_hold_a_quarter_of_the_permits() {
    let (_, server, config) = server(one_password("secret"), |config| config.max_unauthenticated = 8);
    let mut first = TlsClient::connect(server.addr, &config).unwrap();
    let mut second = TlsClient::connect(server.addr, &config).unwrap();
    // Both have sent something, so neither makes room.
    for client in [&mut first, &mut second] {
        assert_eq!(client.ask(&auth(1, "wrong")), error(1, "go away, bad password"));
    }
    let received = "unavailable: too many connections from your address that are not authorized yet";
    assert_eq!(TlsClient::connect(server.addr, &config).unwrap().receive(), error(0, received));
    assert_eq!(first.ask(&auth(1, "secret")), auth(1, ""));
    // After this response, the permit is free.
    assert_eq!(first.ask(&get(2, "k")), error(2, "\"k\": not found"));
    let mut third = TlsClient::connect(server.addr, &config).unwrap();
    assert_eq!(third.ask(&auth(1, "secret")), auth(1, ""));
}

#[test]
fn a_password_over_a_plain_socket_is_never_accepted() {
    let (_, server, _) = server(one_password("secret"), |_| {});
    let mut plain = Client::connect(server.addr);
    plain.send(&auth(1, "secret"));
    assert!(plain.receive_to_end().iter().all(|message| *message != auth(1, "")));
}
