//! Every kind of request, of everybody: who has said nothing, who does not know the password, users without the right to it
//! and with just that, and an admin. Over real sockets, within TLS.
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
use support::{
    Ca, TestServer, TlsClient, checks, delete, deletes, error, get, hello, list, mark, put, put_large, puts, status,
    txn, watch,
};
use syncline_server::{AccessControl, ClientCertificates, Hash, Users};
use syncline_wire::{Kind, Message, Tag};

/// Whose rights it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Says nothing of who it is.
    Nobody,
    /// Says it, and does not know the password.
    Wrong,
    /// May read and write something else.
    Without,
    /// May read what is under `r/` and write what is under `w/`, no more.
    With,
    Admin,
}

/// A server with these users, and how clients speak TLS to it.
struct Lab {
    server: TestServer,
    tls: Arc<ClientConfig>,
}

impl Lab {
    fn start() -> Self {
        let hash = Hash::make(b"s3cr3t").unwrap().expose();
        let users = format!(
            "[[user]]\nname = \"without\"\nhash = \"{hash}\"\nread = [\"other/\"]\nwrite = [\"other/\"]\n\
             [[user]]\nname = \"with\"\nhash = \"{hash}\"\nread = [\"r/\"]\nwrite = [\"w/\"]\n\
             [[user]]\nname = \"admin\"\nhash = \"{hash}\"\nadmin = true\n"
        );
        let ca = Ca::new();
        let server = TestServer::with(|config| {
            config.tls = Some(ca.server(ClientCertificates::None));
            config.access = AccessControl::Users(Users::parse(&users).unwrap());
            config.limits.max_entry = 100_000;
        });
        Self { server, tls: ca.trusting(rustls::ALL_VERSIONS, None) }
    }

    fn connect(&self) -> TlsClient {
        TlsClient::connect(self.server.addr, &self.tls).unwrap()
    }

    /// A connection of somebody; extended where that can be had, and is wanted.
    fn client(&self, who: Who, extended: bool) -> TlsClient {
        let mut client = self.connect();
        let name = match who {
            Who::Nobody => return client,
            Who::Wrong => {
                let told = client.ask(&Message::auth(Tag::new(1), "admin:wrong"));
                assert_eq!(told, error(1, "go away, bad password"));
                return client;
            }
            Who::Without => "without",
            Who::With => "with",
            Who::Admin => "admin",
        };
        let told = client.ask(&Message::auth(Tag::new(1), format!("{name}:s3cr3t")));
        assert_eq!(told, Message::auth(Tag::new(1), ""));
        if extended {
            assert_eq!(client.ask(&hello(2)).kind(), Kind::Hello);
        }
        client
    }

    /// What is there, as an admin is told.
    fn state(&self) -> Vec<Message> {
        let mut admin = self.client(Who::Admin, true);
        admin.send(&list(9, "", "", 100));
        let mut told = Vec::new();
        loop {
            match admin.receive() {
                Message::Mark(_) => return told,
                entry => told.push(entry),
            }
        }
    }
}

/// A request, and what is to be known of it.
struct Case {
    request: Message,
    /// Whether it comes after HELLO.
    extended: bool,
    /// The right that it needs, as its refusal names it.
    needs: Option<&'static str>,
    /// How it is answered to who has that right.
    is_answer: fn(&Message) -> bool,
}

/// Every kind of request, about keys that are there and such as are not.
fn cases() -> Vec<Case> {
    let base = |request, needs, is_answer| Case { request, extended: false, needs, is_answer };
    let extended = |request, needs, is_answer| Case { request, extended: true, needs, is_answer };
    let under = |prefix| match prefix {
        "r/" => (prefix, Some("read everything under \"r/\"")),
        _ => ("r/nothing", Some("read everything under \"r/nothing\"")),
    };
    let large = "v".repeat(70_000);
    let mut cases = vec![
        base(get(7, "r/there"), Some("read \"r/there\""), |answer| *answer == put(7, "r/there", "old", 1)),
        base(get(7, "r/nothing"), Some("read \"r/nothing\""), |a| *a == error(7, "\"r/nothing\": not found")),
        base(put(7, "w/there", "new", 2), Some("write \"w/there\""), |answer| answer.kind() == Kind::Put),
        base(put(7, "w/there", "stale", 9), Some("write \"w/there\""), |answer| *answer == error(7, "stale put")),
        base(put(7, "w/new", "new", 1), Some("write \"w/new\""), |answer| answer.kind() == Kind::Put),
        base(error(7, "?"), None, |a| *a == error(7, "messages of kind ERROR cannot be applied")),
        base(hello(7), None, |answer| answer.kind() == Kind::Hello),
        extended(delete(7, "w/gone", 2), Some("write \"w/gone\""), |answer| answer.kind() == Kind::Delete),
        extended(mark(7, 0), None, |answer| answer.kind() == Kind::Mark),
        extended(txn(7, [checks("r/there", 1)]), Some("read \"r/there\""), |answer| answer.kind() == Kind::Mark),
        extended(txn(7, [puts("w/txn", "new", 1)]), Some("write \"w/txn\""), |answer| answer.kind() == Kind::Put),
        extended(txn(7, [deletes("w/there", 3)]), Some("write \"w/there\""), |a| a.kind() == Kind::Delete),
        extended(put_large(7, "w/large", &large, 1), Some("write \"w/large\""), |a| a.kind() == Kind::PutLarge),
        extended(status(7), Some("STATUS"), |answer| answer.kind() == Kind::Status),
    ];
    for (prefix, needs) in [under("r/"), under("r/nothing")] {
        cases.push(extended(watch(7, prefix, 0), needs, |answer| answer.kind() == Kind::Mark));
        cases.push(extended(list(7, prefix, "", 9), needs, |answer| matches!(answer.kind(), Kind::Put | Kind::Mark)));
    }
    cases
}

/// What somebody is told who lacks a right.
fn refusal(needs: &str) -> Message {
    error(
        7,
        &match needs {
            "STATUS" => "not permitted: expected the rights of an admin".to_owned(),
            right => format!("not permitted: expected the right to {right}"),
        },
    )
}

#[test]
fn nobody_gets_anything_without_the_right_to_it_and_everybody_what_they_may() {
    let lab = Lab::start();
    let mut admin = lab.client(Who::Admin, false);
    for key in ["r/there", "w/there", "w/gone"] {
        assert_eq!(admin.ask(&put(3, key, "old", 1)), put(3, key, "old", 1));
    }
    let before = lab.state();

    // Whoever has not shown who they are gets one answer to everything, and it stays that way.
    for who in [Who::Nobody, Who::Wrong] {
        let mut stranger = lab.client(who, false);
        for Case { request, .. } in cases() {
            assert_eq!(stranger.ask(&request), error(7, "go away, bad message type"), "{request} of {who:?}");
        }
    }
    for Case { request, extended, needs, .. } in cases() {
        let told = lab.client(Who::Without, extended).ask(&request);
        match needs {
            Some(needs) => assert_eq!(told, refusal(needs), "{request}"),
            None => assert!(!told.to_string().contains("not permitted"), "{request}: {told}"),
        }
    }
    assert_eq!(lab.state(), before, "what is refused is not done");

    // First the one, then the other: what the first has written is stale for the second.
    for who in [Who::With, Who::Admin] {
        for Case { request, extended, is_answer, needs } in cases() {
            let told = lab.client(who, extended).ask(&request);
            let is_stale = who == Who::Admin && matches!(&told, Message::Error(e) if e.text.starts_with(b"stale put"));
            let is_refused = who == Who::With && needs == Some("STATUS") && told == refusal("STATUS");
            assert!(is_answer(&told) || is_stale || is_refused, "{request} of {who:?}: {told}");
        }
    }
    assert_ne!(lab.state(), before);
    // Whoever has shown who they are need not do so again.
    let told = lab.client(Who::With, false).ask(&Message::auth(Tag::new(7), "with:s3cr3t"));
    assert_eq!(told, error(7, "messages of kind AUTH cannot be applied"));
}

#[test]
fn broadcasts_and_watches_tell_what_may_be_read() {
    let lab = Lab::start();
    let (mut base, mut extended) = (lab.client(Who::With, false), lab.client(Who::With, true));
    let mut stranger = lab.client(Who::Nobody, false);
    // Both are in when they are answered.
    assert_eq!(base.ask(&get(3, "r/1")), error(3, "\"r/1\": not found"));
    assert_eq!(extended.ask(&watch(3, "r/", 0)).kind(), Kind::Mark);
    let mut admin = lab.client(Who::Admin, false);
    for (number, key) in (1..).zip(["r/1", "other/1", "w/1", "r", "r/2"]) {
        assert_eq!(admin.ask(&put(number, key, "v", 1)), put(number, key, "v", 1));
    }
    for key in ["r/1", "r/2"] {
        assert_eq!(base.receive(), put(0, key, "v", 1));
        assert_eq!(extended.receive(), put(0, key, "v", 1));
        assert_eq!(extended.receive().kind(), Kind::Mark);
    }
    // Nothing else is on the way.
    assert_eq!(base.ask(&get(4, "r/nothing")), error(4, "\"r/nothing\": not found"));
    assert_eq!(extended.ask(&get(4, "r/nothing")), error(4, "\"r/nothing\": not found"));
    assert_eq!(stranger.ask(&get(4, "r/1")), error(4, "go away, bad message type"));
}
