//! Every kind of request with every kind of client: unauthenticated, with a wrong password, without the right, with exactly
//! the right, and an admin. Over TLS sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod support;

use rustls::ClientConfig;
use std::sync::Arc;
use support::prelude::*;
use syncline_server::{AccessControl, ClientCertificates, Hash, Users};
use syncline_store::MemoryStore;
use syncline_wire::Kind;

/// How a client authenticates, and its rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Credentials {
    /// Sends no AUTH.
    Missing,
    /// Sends AUTH with a wrong password.
    Wrong,
    /// A user with rights on other prefixes.
    Without,
    /// A user that may read under `r/` and write under `w/`.
    With,
    Admin,
}

/// A server with these users, and the TLS configuration of its clients.
struct Lab {
    server: TestServer,
    tls: Arc<ClientConfig>,
}

impl Lab {
    fn start() -> Self {
        Self::on(MemoryStore::new().unwrap())
    }

    fn on(store: impl Store) -> Self {
        let hash = Hash::make(b"s3cr3t").unwrap().expose();
        let users = format!(
            "[[user]]\nname = \"without\"\nhash = \"{hash}\"\nread = [\"other/\"]\nwrite = [\"other/\"]\n\
             [[user]]\nname = \"with\"\nhash = \"{hash}\"\nread = [\"r/\"]\nwrite = [\"w/\"]\n\
             [[user]]\nname = \"admin\"\nhash = \"{hash}\"\nadmin = true\n"
        );
        let ca = Ca::new();
        let server = TestServer::on(store, |config| {
            config.tls = Some(ca.server(ClientCertificates::None));
            config.access = AccessControl::Users(Users::parse(&users).unwrap());
            config.limits.max_entry = 100_000;
        });
        Self { server, tls: ca.trusting(rustls::ALL_VERSIONS, None) }
    }

    fn connect(&self) -> TlsClient {
        TlsClient::connect(self.server.addr, &self.tls).unwrap()
    }

    /// Opens a connection. If `extended`, it completes HELLO, which only authenticated clients can.
    fn client(&self, credentials: Credentials, extended: bool) -> TlsClient {
        let mut client = self.connect();
        let name = match credentials {
            Credentials::Missing => return client,
            Credentials::Wrong => {
                let received = client.ask(&auth(1, "admin:wrong"));
                assert_eq!(received, error(1, "go away, bad password"));
                return client;
            }
            Credentials::Without => "without",
            Credentials::With => "with",
            Credentials::Admin => "admin",
        };
        let received = client.ask(&auth(1, &format!("{name}:s3cr3t")));
        assert_eq!(received, auth(1, ""));
        if extended {
            assert_eq!(client.ask(&hello(2)).kind(), Kind::Hello);
        }
        client
    }

    /// Returns the contents of the store.
    fn state(&self) -> Vec<Message> {
        let mut admin = self.client(Credentials::Admin, true);
        admin.send(&list(9, "", "", 100));
        let mut received = Vec::new();
        loop {
            match admin.receive() {
                Message::Mark(_) => return received,
                entry => received.push(entry),
            }
        }
    }
}

/// A request, the right that it needs, and its expected response.
struct Case {
    request: Message,
    /// Whether it is sent after HELLO.
    extended: bool,
    /// The right that it needs, in the words of the refusal.
    needs: Option<&'static str>,
    /// Whether a message is the response for a client with that right.
    is_response: fn(&Message) -> bool,
}

/// Returns every kind of request, for existing and missing keys.
fn cases() -> Vec<Case> {
    let base = |request, needs, is_response| Case { request, extended: false, needs, is_response };
    let extended = |request, needs, is_response| Case { request, extended: true, needs, is_response };
    let under = |prefix| match prefix {
        "r/" => (prefix, Some("read everything under \"r/\"")),
        _ => ("r/nothing", Some("read everything under \"r/nothing\"")),
    };
    let large = "v".repeat(70_000);
    let mut cases = vec![
        base(get(7, "r/there"), Some("read \"r/there\""), |response| *response == put(7, "r/there", "old", 1)),
        base(get(7, "r/nothing"), Some("read \"r/nothing\""), |a| *a == error(7, "\"r/nothing\": not found")),
        base(put(7, "w/there", "new", 2), Some("write \"w/there\""), |response| response.kind() == Kind::Put),
        base(put(7, "w/there", "stale", 9), Some("write \"w/there\""), |response| *response == error(7, "stale put")),
        base(put(7, "w/new", "new", 1), Some("write \"w/new\""), |response| response.kind() == Kind::Put),
        base(error(7, "?"), None, |a| *a == error(7, "messages of kind ERROR cannot be applied")),
        base(hello(7), None, |response| response.kind() == Kind::Hello),
        extended(delete(7, "w/gone", 2), Some("write \"w/gone\""), |response| response.kind() == Kind::Delete),
        extended(mark(7, 0), None, |response| response.kind() == Kind::Mark),
        extended(txn(7, [checks("r/there", 1)]), Some("read \"r/there\""), |response| response.kind() == Kind::Mark),
        extended(txn(7, [puts("w/txn", "new", 1)]), Some("write \"w/txn\""), |response| response.kind() == Kind::Put),
        extended(txn(7, [deletes("w/there", 3)]), Some("write \"w/there\""), |a| a.kind() == Kind::Delete),
        extended(put_large(7, "w/large", &large, 1), Some("write \"w/large\""), |a| a.kind() == Kind::PutLarge),
        extended(status(7), None, |response| response.kind() == Kind::Status),
    ];
    for (prefix, needs) in [under("r/"), under("r/nothing")] {
        cases.push(extended(watch(7, prefix, 0), needs, |response| response.kind() == Kind::Mark));
        cases.push(extended(list(7, prefix, "", 9), needs, |response| {
            matches!(response.kind(), Kind::Put | Kind::Mark)
        }));
    }
    cases
}

/// Returns the refusal for a client without a right.
fn refusal(needs: &str) -> Message {
    error(7, &format!("not permitted: expected the right to {needs}"))
}

#[test]
fn every_request_needs_its_right_and_nothing_more() {
    let lab = Lab::start();
    let mut admin = lab.client(Credentials::Admin, false);
    for key in ["r/there", "w/there", "w/gone"] {
        assert_eq!(admin.ask(&put(3, key, "old", 1)), put(3, key, "old", 1));
    }
    let before = lab.state();

    // An unauthenticated client gets the same response to every request.
    for credentials in [Credentials::Missing, Credentials::Wrong] {
        let mut unauthenticated = lab.client(credentials, false);
        for Case { request, .. } in cases() {
            assert_eq!(
                unauthenticated.ask(&request),
                error(7, "go away, bad message type"),
                "{request} of {credentials:?}"
            );
        }
    }
    for Case { request, extended, needs, .. } in cases() {
        let received = lab.client(Credentials::Without, extended).ask(&request);
        match needs {
            Some(needs) => assert_eq!(received, refusal(needs), "{request}"),
            None => assert!(!received.to_string().contains("not permitted"), "{request}: {received}"),
        }
    }
    assert_eq!(lab.state(), before, "refused requests have no effect");

    // One after the other, so the writes of the second client are stale.
    for credentials in [Credentials::With, Credentials::Admin] {
        for Case { request, extended, is_response, .. } in cases() {
            let received = lab.client(credentials, extended).ask(&request);
            let is_stale = credentials == Credentials::Admin
                && matches!(&received, Message::Error(e) if e.text.starts_with(b"stale put"));
            assert!(is_response(&received) || is_stale, "{request} of {credentials:?}: {received}");
        }
    }
    assert_ne!(lab.state(), before);
    // An authenticated client cannot authenticate again.
    let received = lab.client(Credentials::With, false).ask(&auth(7, "with:s3cr3t"));
    assert_eq!(received, error(7, "messages of kind AUTH cannot be applied"));
}

#[test]
fn status_shows_health_alone_without_the_rights_of_an_admin() {
    let store = TestStore::new();
    let lab = Lab::on(store.clone());
    let status_of = |credentials| match lab.client(credentials, true).ask(&status(7)) {
        Message::Status(response) => String::from_utf8(response.text.to_vec()).unwrap(),
        other => panic!("{other} to STATUS"),
    };
    for credentials in [Credentials::Without, Credentials::With] {
        assert_eq!(status_of(credentials), r#"{"accepts_writes":true,"reason":null}"#);
    }
    store.set_failure(Some("can't sync /var/lib/syncline/segment: EIO"));
    let hidden = r#"{"accepts_writes":false,"reason":"the store refuses writes; the log of the server says why, and STATUS to an admin"}"#;
    for credentials in [Credentials::Without, Credentials::With] {
        assert_eq!(status_of(credentials), hidden);
    }
    let shown = status_of(Credentials::Admin);
    assert!(shown.contains("/var/lib/syncline/segment: EIO") && shown.contains("\"keys\":"), "{shown}");
}

#[test]
fn broadcasts_and_watches_contain_only_readable_keys() {
    let lab = Lab::start();
    let (mut base, mut extended) = (lab.client(Credentials::With, false), lab.client(Credentials::With, true));
    let mut unauthenticated = lab.client(Credentials::Missing, false);
    // After a response, a connection is registered.
    assert_eq!(base.ask(&get(3, "r/1")), error(3, "\"r/1\": not found"));
    assert_eq!(extended.ask(&watch(3, "r/", 0)).kind(), Kind::Mark);
    let mut admin = lab.client(Credentials::Admin, false);
    for (number, key) in (1..).zip(["r/1", "other/1", "w/1", "r", "r/2"]) {
        assert_eq!(admin.ask(&put(number, key, "v", 1)), put(number, key, "v", 1));
    }
    for key in ["r/1", "r/2"] {
        assert_eq!(base.receive(), put(0, key, "v", 1));
        assert_eq!(extended.receive(), put(0, key, "v", 1));
        assert_eq!(extended.receive().kind(), Kind::Mark);
    }
    // No other broadcasts are pending.
    assert_eq!(base.ask(&get(4, "r/nothing")), error(4, "\"r/nothing\": not found"));
    assert_eq!(extended.ask(&get(4, "r/nothing")), error(4, "\"r/nothing\": not found"));
    assert_eq!(unauthenticated.ask(&get(4, "r/1")), error(4, "go away, bad message type"));
}
