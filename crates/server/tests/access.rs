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
use std::io::Write;
use std::sync::Arc;
use support::prelude::*;
use syncline_server::{AccessControl, BindError, ClientCertificates, Hash, MustUseTls, Pem, Server, Users};
use syncline_store::MemoryStore;

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

#[test]
fn one_address_may_hold_a_quarter_of_the_permits() {
    let (_, server, config) = server(one_password("secret"), |config| config.max_unauthenticated = 8);
    let mut first = TlsClient::connect(server.addr, &config).unwrap();
    let _second = TlsClient::connect(server.addr, &config).unwrap();
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
