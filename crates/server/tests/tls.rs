//! Servers with TLS: they serve like plain servers, and reject clients that violate TLS.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use rustls::version::{TLS12, TLS13};
use rustls::{ALL_VERSIONS, AlertDescription, ClientConfig};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use support::prelude::*;
use syncline_server::{ClientCertificates, Identity, Pem, PemError, PlainServer, Tls, TlsError, TlsFiles};

/// Starts a server with the name `localhost`. Returns it with its CA and the configuration of clients that trust the CA.
fn server(clients: ClientCertificates) -> (Ca, TestServer, Arc<ClientConfig>) {
    let ca = Ca::new();
    let server = TestServer::with(|config| config.tls = Some(ca.server(clients)));
    let config = ca.trusting(ALL_VERSIONS, None);
    (ca, server, config)
}

#[track_caller]
fn expect_service(client: &mut TlsClient, key: &str) {
    assert_eq!(client.ask(&put(7, key, "served", 1)), put(7, key, "served", 1));
    assert_eq!(client.ask(&get(8, key)), put(8, key, "served", 1));
}

/// Returns the alert in an error of rustls, inside an error of a socket.
fn alert(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

#[test]
fn both_tls_versions_are_served() {
    let (ca, server, _) = server(ClientCertificates::None);
    for (version, key) in [(&TLS12, "by 1.2"), (&TLS13, "by 1.3")] {
        let mut client = TlsClient::connect(server.addr, &ca.trusting(&[version], None)).unwrap();
        assert_eq!(client.stream.conn.protocol_version(), Some(version.version));
        expect_service(&mut client, key);
    }
}

#[test]
fn writes_are_broadcast_to_every_tls_session() {
    let (_, server, config) = server(ClientCertificates::None);
    let mut clients: Vec<TlsClient> = (0..50).map(|_| TlsClient::connect(server.addr, &config).unwrap()).collect();
    // After a response, a connection is registered.
    clients.iter_mut().for_each(|client| assert_eq!(client.ask(&get(1, "k")), error(1, "\"k\": not found")));
    assert_eq!(clients[0].ask(&put(2, "k", "v", 1)), put(2, "k", "v", 1));
    clients[1..].iter_mut().for_each(|client| assert_eq!(client.receive(), put(0, "k", "v", 1)));
}

#[test]
fn values_of_many_tls_records_arrive_complete() {
    let ca = Ca::new();
    let server = TestServer::with(|config| {
        config.tls = Some(ca.server(ClientCertificates::None));
        config.limits.max_entry = 4 * 1024 * 1024;
    });
    let mut client = TlsClient::connect(server.addr, &ca.trusting(ALL_VERSIONS, None)).unwrap();
    client.send(&hello(1));
    assert_eq!(client.receive().tag(), Tag::new(1));
    let value: String = ('a'..='z').cycle().take(3_000_000).collect();
    let large = put_large(2, "large", &value, 1);
    assert!(client.ask(&large) == large);
    client.send(&get(2, "large"));
    assert!(client.receive() == large);
}

#[test]
fn a_client_that_stops_reading_blocks_no_other_and_loses_nothing() {
    const GETS: u16 = 400;
    let (_, server, config) = server(ClientCertificates::None);
    let value = "v".repeat(60_000);
    let mut writer = TlsClient::connect(server.addr, &config).unwrap();
    assert_eq!(writer.ask(&put(1, "k", &value, 1)), put(1, "k", &value, 1));
    // 24 MB are far more than kernels buffer. So the server's buffers are full, inside and outside of TLS.
    let mut stuck = TlsClient::connect(server.addr, &config).unwrap();
    let requests: Vec<u8> = (1..=GETS).flat_map(|tag| encoded(&get(tag, "k"))).collect();
    stuck.stream.write_all(&requests).unwrap();
    let mut beside = TlsClient::connect(server.addr, &config).unwrap();
    expect_service(&mut beside, "beside");
    for tag in 1..=GETS {
        assert!(stuck.receive_response() == put(tag, "k", &value, 1), "tag {tag}");
    }
}

#[test]
fn responses_arrive_after_a_tls_close_notify_of_the_client() {
    let (_, server, config) = server(ClientCertificates::None);
    let mut client = TlsClient::connect(server.addr, &config).unwrap();
    client.stream.write_all(&[encoded(&put(1, "k", "v", 1)), encoded(&get(2, "k"))].concat()).unwrap();
    client.stream.conn.send_close_notify();
    client.stream.flush().unwrap();
    assert_eq!(client.receive(), put(1, "k", "v", 1));
    assert_eq!(client.receive(), put(2, "k", "v", 1));
    assert_eq!(client.try_receive().unwrap(), None, "a close_notify alert");
}

#[test]
fn half_a_frame_of_a_truncated_session_is_never_served() {
    let (_, server, config) = server(ClientCertificates::None);
    let mut client = TlsClient::connect(server.addr, &config).unwrap();
    expect_service(&mut client, "before");
    let request = encoded(&put(1, "k", "v", 1));
    client.stream.write_all(&request[..request.len() - 1]).unwrap();
    client.stream.flush().unwrap();
    // The end of the stream without a TLS alert, as after an attack that truncates it.
    client.stream.sock.shutdown(Shutdown::Write).unwrap();
    let ended = client.try_receive();
    assert!(matches!(ended, Ok(None)) || ended.is_err(), "{ended:?}");
    let mut other = TlsClient::connect(server.addr, &config).unwrap();
    assert_eq!(other.ask(&get(1, "k")), error(1, "\"k\": not found"));
}

#[test]
fn a_shutdown_is_announced_within_tls() {
    let (_, mut server, config) = server(ClientCertificates::None);
    let mut client = TlsClient::connect(server.addr, &config).unwrap();
    expect_service(&mut client, "k");
    // A connection in the middle of its handshake does not delay the shutdown.
    let stuck = TcpStream::connect(server.addr).unwrap();
    (&stuck).write_all(&[0x16, 3, 1]).unwrap();
    server.start_shutdown();
    assert_eq!(client.receive(), error(0, "unavailable: shutting down"));
    assert_eq!(client.try_receive().unwrap(), None, "a close_notify alert");
    drop(client);
    server.shut_down().unwrap();
}

#[test]
fn a_refusal_is_sent_within_tls() {
    let ca = Ca::new();
    let server = TestServer::with(|config| {
        config.tls = Some(ca.server(ClientCertificates::None));
        config.max_connections = 1;
    });
    let config = ca.trusting(ALL_VERSIONS, None);
    let mut first = TlsClient::connect(server.addr, &config).unwrap();
    expect_service(&mut first, "k");
    let mut second = TlsClient::connect(server.addr, &config).unwrap();
    assert_eq!(second.receive(), error(0, "unavailable: too many connections"));
    assert_eq!(second.try_receive().unwrap(), None, "a close_notify alert");
}

#[test]
fn a_client_without_tls_receives_an_error_frame() {
    let (_, server, _) = server(ClientCertificates::None);
    let received = error(0, "unavailable: this server speaks TLS only, expected a TLS handshake");
    for first in [get(1, "k"), put(1, "k", "v", 1), auth(1, "secret"), hello(1)] {
        let mut client = Client::connect(server.addr);
        client.send(&first);
        assert_eq!(client.receive_to_end(), std::slice::from_ref(&received), "{first}");
    }
}

#[test]
fn garbage_within_a_handshake_gets_an_alert() {
    let (_, server, config) = server(ClientCertificates::None);
    for garbage in [&[0x16, 3, 1, 0, 4, 99, 0, 0, 0][..], &[0x16; 100], &[0x16, 3, 1, 0xff, 0xff, 0]] {
        let mut client = TcpStream::connect(server.addr).unwrap();
        client.set_read_timeout(Some(TIMEOUT)).unwrap();
        client.write_all(garbage).unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        assert_eq!((received.first(), received.len()), (Some(&0x15), 7), "one alert: {received:?}");
    }
    expect_service(&mut TlsClient::connect(server.addr, &config).unwrap(), "beside");
}

#[test]
fn garbage_within_a_session_ends_it_and_nothing_else() {
    let (_, server, config) = server(ClientCertificates::None);
    let mut client = TlsClient::connect(server.addr, &config).unwrap();
    expect_service(&mut client, "k");
    client
        .stream
        .sock
        .write_all(&[0x17, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20])
        .unwrap();
    let received = client.try_receive().unwrap_err();
    assert_eq!(alert(&received), Some(AlertDescription::BadRecordMac), "{received}");
    expect_service(&mut TlsClient::connect(server.addr, &config).unwrap(), "beside");
}

#[test]
fn silence_within_a_handshake_ends_at_the_deadline() {
    let ca = Ca::new();
    let server = TestServer::with(|config| {
        config.tls = Some(ca.server(ClientCertificates::None));
        config.authorize_within = Duration::from_millis(200);
        config.max_connections = 3;
    });
    let config = ca.trusting(ALL_VERSIONS, None);
    let mut served = TlsClient::connect(server.addr, &config).unwrap();
    expect_service(&mut served, "k");
    for begun in [&[][..], &[0x16, 3, 1, 0, 200, 1, 0]] {
        let mut client = TcpStream::connect(server.addr).unwrap();
        client.set_read_timeout(Some(TIMEOUT)).unwrap();
        client.write_all(begun).unwrap();
        let mut received = Vec::new();
        // The connection may be reset, because the server did not read all input.
        let _ = client.read_to_end(&mut received);
        assert!(received.is_empty(), "no bytes expected: {received:?}");
    }
    assert_eq!(
        served.ask(&get(1, "k")),
        put(1, "k", "served", 1),
        "the deadline applies only to unauthenticated connections"
    );
}

#[test]
fn a_new_certificate_applies_to_new_connections() {
    let (ca, server, config) = server(ClientCertificates::None);
    let mut old = TlsClient::connect(server.addr, &config).unwrap();
    expect_service(&mut old, "old");
    let other_ca = Ca::new();
    server.handle.set_tls(other_ca.server(ClientCertificates::None)).unwrap();
    assert_eq!(old.ask(&get(1, "old")), put(1, "old", "served", 1), "stays");
    let refused = TlsClient::connect(server.addr, &ca.trusting(ALL_VERSIONS, None)).err().unwrap();
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
    let mut new = TlsClient::connect(server.addr, &other_ca.trusting(ALL_VERSIONS, None)).unwrap();
    expect_service(&mut new, "new");
    assert_eq!(old.ask(&get(1, "new")), put(1, "new", "served", 1));
}

#[test]
fn a_server_without_tls_refuses_a_tls_configuration() {
    let server = TestServer::start();
    let set = server.handle.set_tls(Ca::new().server(ClientCertificates::None));
    // All servers of the tests have TLS if the variable is set.
    let expected = if std::env::var_os("SYNCLINE_TEST_TLS").is_some() { Ok(()) } else { Err(PlainServer) };
    assert_eq!(set, expected);
}

#[test]
fn an_old_session_cannot_be_resumed_under_a_new_client_ca() {
    for version in [&TLS12, &TLS13] {
        let ca = Ca::new();
        let accepts = |of: &Ca| ClientCertificates::Demanded(Pem::bytes(&of.pem));
        let server = TestServer::with(|config| config.tls = Some(ca.server(accepts(&ca))));
        let identity = ca.identity("alice", |_| {});
        // This configuration stores sessions.
        let config = ca.trusting(&[version], Some(&identity));
        for key in ["first", "second"] {
            expect_service(&mut TlsClient::connect(server.addr, &config).unwrap(), key);
        }
        let mut resumed = TlsClient::connect(server.addr, &config).unwrap();
        expect_service(&mut resumed, "third");
        assert_eq!(resumed.stream.conn.handshake_kind(), Some(rustls::HandshakeKind::Resumed), "{version:?}");
        server.handle.set_tls(ca.server(accepts(&Ca::new()))).unwrap();
        let refused = TlsClient::connect(server.addr, &config).and_then(|mut client| client.try_receive()).unwrap_err();
        assert_eq!(alert(&refused), Some(AlertDescription::UnknownCA), "{version:?}: {refused}");
    }
}

#[test]
fn a_demanded_client_certificate_must_be_valid_and_of_a_known_ca() {
    let ca = Ca::new();
    let demanded = ClientCertificates::Demanded(Pem::bytes(&ca.pem));
    let server = TestServer::with(|config| config.tls = Some(ca.server(demanded)));
    let expired = ca.identity("alice", |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let foreign = Ca::new().identity("alice", |_| {});
    let no_client = ca.identity("alice", |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    for version in [&TLS12, &TLS13] {
        for (shown, expected) in [
            (None, AlertDescription::CertificateRequired),
            (Some(&expired), AlertDescription::CertificateExpired),
            (Some(&foreign), AlertDescription::UnknownCA),
            (Some(&no_client), AlertDescription::UnsupportedCertificate),
        ] {
            let config = ca.trusting(&[version], shown);
            let refused = TlsClient::connect(server.addr, &config).and_then(|mut client| client.try_receive());
            let refused = refused.unwrap_err();
            assert_eq!(alert(&refused), Some(expected), "{version:?}: {refused}");
        }
        let identity = ca.identity("alice", |_| {});
        let key = format!("{:?}", version.version);
        let mut client = TlsClient::connect(server.addr, &ca.trusting(&[version], Some(&identity))).unwrap();
        expect_service(&mut client, &key);
    }
}

#[test]
fn without_an_optional_certificate_a_client_is_not_authenticated() {
    let ca = Ca::new();
    let accepted = ClientCertificates::Accepted(Pem::bytes(&ca.pem));
    let server = TestServer::with(|config| config.tls = Some(ca.server(accepted)));
    let identity = ca.identity("alice", |_| {});
    let mut alice = TlsClient::connect(server.addr, &ca.trusting(ALL_VERSIONS, Some(&identity))).unwrap();
    expect_service(&mut alice, "k");
    let mut unauthenticated = TlsClient::connect(server.addr, &ca.trusting(ALL_VERSIONS, None)).unwrap();
    assert_eq!(unauthenticated.ask(&get(1, "k")), error(1, "go away, bad message type"));
    let mut wrong_password = TlsClient::connect(server.addr, &ca.trusting(ALL_VERSIONS, None)).unwrap();
    assert_eq!(wrong_password.ask(&auth(1, "alice")), error(1, "go away, bad password"));
}

#[test]
fn a_watch_over_tls_receives_heartbeats() {
    let ca = Ca::new();
    let server = TestServer::with(|config| {
        config.tls = Some(ca.server(ClientCertificates::None));
        config.heartbeat = Duration::from_millis(10);
    });
    let mut client = TlsClient::connect(server.addr, &ca.trusting(ALL_VERSIONS, None)).unwrap();
    client.send(&hello(1));
    client.receive();
    client.send(&watch(2, "", 0));
    assert_eq!(client.receive().tag(), Tag::new(2));
    for _ in 0..3 {
        assert!(matches!(client.receive(), Message::Mark(mark) if mark.tag == Tag::BROADCAST));
    }
}

#[test]
fn errors_name_the_tls_file_what_was_expected_and_what_was_found() {
    let ca = Ca::new();
    let directory = tempfile::TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (good, other) = (rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap(), ca);
    let (cert, key) = (good.cert.pem(), good.signing_key.serialize_pem());
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMII=\n-----END RSA PRIVATE KEY-----\n";
    for (certificate, key, expected) in [
        (
            key.as_str(),
            key.as_str(),
            "cert.pem: expected a certificate (-----BEGIN CERTIFICATE-----), found PRIVATE KEY",
        ),
        ("", &key, "cert.pem: expected a certificate (-----BEGIN CERTIFICATE-----), found an empty file"),
        ("hello", &key, "cert.pem: expected a certificate (-----BEGIN CERTIFICATE-----), found nothing in PEM"),
        (cert.get(..cert.len() / 2).unwrap(), &key, "cert.pem: expected PEM, found it damaged: "),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &key,
            "cert.pem: expected a certificate, found one that can't be used: ",
        ),
        (&cert, &cert, "key.pem: expected a private key (-----BEGIN PRIVATE KEY-----), found CERTIFICATE"),
        (
            &cert,
            encrypted,
            "key.pem: expected a private key that can be read, found an encrypted one; `openssl pkey` decrypts it",
        ),
        (&cert, old, "key.pem: expected a private key that can be read, found an encrypted one"),
        (
            &cert,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "key.pem: expected an RSA, ECDSA or Ed25519 key, found one that can't be used: ",
        ),
        (&other.pem, &key, "key.pem is not the key of the certificate in "),
        (
            &"x".repeat(2 * 1024 * 1024),
            &key,
            "cert.pem: expected at most 1048576 bytes of PEM, found more; is it the right file?",
        ),
    ] {
        let identity = Identity::files(file("cert.pem", certificate), file("key.pem", key));
        let error = Tls::load(&TlsFiles { identity, clients: ClientCertificates::None }).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\nexpected {expected}");
        let secret = key.lines().nth(1).filter(|line| line.len() > 8);
        assert!(secret.is_none_or(|secret| !error.contains(secret)), "{error}");
    }
    let identity = Identity::files(directory.path().join("none.pem"), file("key.pem", &key));
    let error = Tls::load(&TlsFiles { identity, clients: ClientCertificates::None }).unwrap_err();
    assert!(matches!(&error, TlsError::Pem(PemError::Io { file, .. }) if file.ends_with("none.pem")), "{error}");
    assert_eq!(format!("{:?}", Pem::bytes(&key)), "Pem(PEM)");
}
