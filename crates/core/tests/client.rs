//! The client's side of a connection: frames go in, events and views of replicas come out.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use bytes::{Buf, Bytes, BytesMut};
use std::time::Duration;
use syncline_core::Operation;
use syncline_core::client::{
    ClientConnection, Event, LostConnection, ProtocolError, Replicas, Request, Response, SendErrorKind, Versioned,
    Views,
};
use syncline_wire::{Decoded, Message, Revision, ServerHello, Tag, Version, decode};

const STORE: [u8; 16] = [1; 16];
const OTHER_STORE: [u8; 16] = [2; 16];

fn hello(store_id: [u8; 16]) -> ServerHello {
    let (protocol, features, head, heartbeat_ms) = (1, 0, Revision::new(10), 2000);
    ServerHello { protocol, features, store_id, head, heartbeat_ms, max_key: 4096, max_entry: 65_525 }
}

fn put(tag: u16, key: &str, value: &str, version: u64) -> Message {
    Message::put(Tag::new(tag), key.to_owned(), value.to_owned(), Version::new(version))
}

fn delete(tag: u16, key: &str, version: u64) -> Message {
    Message::delete(Tag::new(tag), key.to_owned(), Version::new(version))
}

fn mark(tag: u16, revision: u64) -> Message {
    Message::mark(Tag::new(tag), Revision::new(revision))
}

fn watch_frame(tag: u16, prefix: &str, since: u64) -> Message {
    Message::watch(Tag::new(tag), prefix.to_owned(), Revision::new(since))
}

fn error(tag: u16, text: &str) -> Message {
    Message::error(Tag::new(tag), text.to_owned())
}

fn watch(prefix: &'static str) -> Request {
    Request::Watch { prefix: prefix.into() }
}

fn write(key: &'static str, value: &'static str, version: u64) -> Request {
    Request::Put { key: key.into(), value: value.into(), version: Version::new(version) }
}

fn marked(revision: u64) -> Event<u32> {
    Event::Marked { revision: Revision::new(revision) }
}

const fn completed(token: u32, response: Response) -> Event<u32> {
    Event::Response { token, response }
}

fn versioned(value: &'static str, version: u64) -> Versioned {
    Versioned { value: value.into(), version: Version::new(version) }
}

/// A connection with helpers that encode and decode its frames.
struct Rig(ClientConnection<u32>);

impl Rig {
    fn new() -> Self {
        Self(ClientConnection::extended(&hello(STORE), Replicas::new(), Vec::new()))
    }

    /// Returns a connection with a replica of `prefix` that shows these keys at revision 10.
    fn watching(prefix: &'static str, keys: &[(&str, &str)]) -> Self {
        let mut rig = Self::new();
        rig.0.request(watch(prefix), 0).unwrap();
        assert_eq!(rig.sent(), [watch_frame(1, prefix, 0)]);
        let frames: Vec<_> = keys.iter().map(|(key, value)| put(0, key, value, 1)).collect();
        assert_eq!(rig.receive(&frames), []);
        assert_eq!(rig.receive(&[mark(1, 10)]), [marked(10), completed(0, Response::Watched)]);
        rig
    }

    fn request(&mut self, request: Request, token: u32) -> Vec<Message> {
        self.0.request(request, token).unwrap();
        self.sent()
    }

    fn sent(&mut self) -> Vec<Message> {
        let mut bytes = BytesMut::new();
        while self.0.output().has_remaining() {
            let chunk = self.0.output().chunk().len();
            bytes.extend_from_slice(&self.0.output().copy_to_bytes(chunk));
        }
        let mut frames = Vec::new();
        while let Decoded::Frame(frame) = decode(&mut bytes).unwrap() {
            frames.push(frame);
        }
        frames
    }

    fn receive(&mut self, frames: &[Message]) -> Vec<Event<u32>> {
        self.try_receive(frames).unwrap()
    }

    fn try_receive(&mut self, frames: &[Message]) -> Result<Vec<Event<u32>>, ProtocolError> {
        let mut input = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut input).unwrap());
        let mut events = Vec::new();
        loop {
            match self.0.handle_input(&mut input)? {
                Event::Incomplete { .. } => return Ok(events),
                event => events.push(event),
            }
        }
    }

    /// Returns what readers see, as `10: a=1 b=2`, with `?` behind the revision if the view is not current. Returns `None` if
    /// the replica was never shown.
    fn shown(&self, prefix: &str) -> Option<String> {
        shown(self.0.replicas(), prefix)
    }

    /// Loses the connection, and connects to this store.
    fn reconnect(self, store: [u8; 16]) -> Self {
        let LostConnection { unanswered, deferred, replicas } = self.0.into_lost();
        assert_eq!(unanswered, [], "no request was in flight");
        Self(ClientConnection::extended(&hello(store), replicas, deferred))
    }
}

fn shown(replicas: &Replicas, prefix: &str) -> Option<String> {
    let views = replicas.views();
    let view = views.view(prefix.as_bytes())?;
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let keys: Vec<_> =
        view.range(prefix.as_bytes(), ..).map(|(key, now)| format!("{}={}", text(key), text(&now.value))).collect();
    assert_eq!(view.len(prefix.as_bytes()), keys.len());
    let stale = if view.is_current() { "" } else { "?" };
    Some(format!("{}{stale}: {}", view.revision(), keys.join(" ")))
}

fn is(text: &str) -> Option<String> {
    Some(text.into())
}

#[test]
fn a_replica_is_shown_when_it_is_complete() {
    let mut rig = Rig::new();
    assert_eq!(rig.request(watch("a/"), 1), [watch_frame(1, "a/", 0)]);
    assert_eq!(rig.receive(&[put(0, "a/1", "1", 1), put(0, "a/2", "1", 1)]), []);
    assert_eq!(rig.shown("a/"), None);
    assert_eq!(rig.receive(&[mark(1, 10)]), [marked(10), completed(1, Response::Watched)]);
    assert_eq!(rig.shown("a/"), is("10: a/1=1 a/2=1"));
}

#[test]
fn an_empty_store_is_complete_at_revision_0() {
    let mut rig = Rig::new();
    rig.request(watch(""), 1);
    assert_eq!(rig.receive(&[mark(1, 0)]), [marked(0), completed(1, Response::Watched)]);
    assert_eq!(rig.shown(""), is("0: "));
    let mut rig = rig.reconnect(STORE);
    assert_eq!(rig.sent(), [watch_frame(1, "", 0)]);
    assert_eq!(rig.receive(&[mark(1, 0)]), [marked(0)]);
    assert_eq!(rig.shown(""), is("0: "));
}

#[test]
fn changes_are_shown_at_the_mark_and_all_at_once() {
    let mut rig = Rig::watching("a/", &[("a/1", "1"), ("a/2", "1")]);
    let group = [put(0, "a/1", "2", 2), delete(0, "a/2", 2), put(0, "a/3", "1", 1)];
    assert_eq!(rig.receive(&group), []);
    assert_eq!(rig.shown("a/"), is("10: a/1=1 a/2=1"));
    assert_eq!(rig.receive(&[mark(0, 12)]), [marked(12)]);
    assert_eq!(rig.shown("a/"), is("12: a/1=2 a/3=1"));
    assert_eq!(rig.receive(&[mark(0, 15)]), [marked(15)], "a heartbeat");
    assert_eq!(rig.shown("a/"), is("15: a/1=2 a/3=1"));
}

#[test]
fn views_are_immutable() {
    let mut rig = Rig::watching("", &[("a", "1")]);
    let before = rig.0.replicas().views();
    rig.receive(&[put(0, "a", "2", 2), put(0, "b", "1", 1), mark(0, 12)]);
    let after = rig.0.replicas().views();
    let get = |views: &Views, key: &[u8]| views.view(b"").unwrap().get(key).cloned();
    assert_eq!((get(&before, b"a"), get(&before, b"b")), (Some(versioned("1", 1)), None));
    assert_eq!((get(&after, b"a"), get(&after, b"b")), (Some(versioned("2", 2)), Some(versioned("1", 1))));
    let differences: Vec<_> = before
        .view(b"")
        .unwrap()
        .differences(after.view(b"").unwrap(), b"")
        .map(|difference| (difference.key, difference.now))
        .collect();
    assert_eq!(differences, [("a".into(), Some(versioned("2", 2))), ("b".into(), Some(versioned("1", 1)))]);
}

#[test]
fn ranges_take_any_bounds_and_stay_under_the_prefix() {
    let rig = Rig::watching("", &[("a", "1"), ("b/1", "1"), ("b/2", "1"), ("b/3", "1"), ("c", "1")]);
    let views = rig.0.replicas().views();
    let view = views.view(b"").unwrap();
    let count = |from: std::ops::Bound<&[u8]>, to: std::ops::Bound<&[u8]>| view.range(b"b/", (from, to)).count();
    use std::ops::Bound::{Excluded, Included, Unbounded};
    for (from, to, expected) in [
        (Unbounded, Unbounded, 3),
        (Included(&b""[..]), Included(&b"z"[..]), 3),
        (Excluded(b"b/1"), Unbounded, 2),
        (Included(b"b/2"), Excluded(b"b/3"), 1),
        (Excluded(b"b/2"), Excluded(b"b/2"), 0),
        (Included(b"b/2"), Included(b"b/2"), 1),
        (Included(b"b/3"), Included(b"b/1"), 0),
        (Included(b"z"), Unbounded, 0),
        (Unbounded, Excluded(b"a"), 0),
        (Unbounded, Included(b"b/"), 0),
    ] {
        assert_eq!(count(from, to), expected, "{from:?} to {to:?}");
    }
}

#[test]
fn an_own_write_completes_at_the_mark_that_covers_it() {
    let mut rig = Rig::watching("a/", &[]);
    assert_eq!(rig.request(write("a/1", "mine", 1), 5), [put(2, "a/1", "mine", 1)]);
    assert_eq!(rig.receive(&[put(2, "a/1", "mine", 1), put(0, "a/1", "others", 2)]), []);
    assert_eq!(rig.0.in_flight(), 1, "the response is deferred");
    assert_eq!(rig.receive(&[mark(0, 12)]), [marked(12), completed(5, Response::Written)]);
    assert_eq!(rig.shown("a/"), is("12: a/1=others"));

    rig.request(Request::Delete { key: "a/1".into(), version: Version::new(3) }, 6);
    assert_eq!(rig.receive(&[delete(3, "a/1", 3)]), []);
    assert_eq!(rig.receive(&[mark(0, 13)]), [marked(13), completed(6, Response::Written)]);
    assert_eq!(rig.shown("a/"), is("13: "));
}

#[test]
fn a_write_that_no_replica_shows_completes_at_once() {
    let mut rig = Rig::watching("a/", &[]);
    rig.request(write("b", "mine", 1), 5);
    assert_eq!(rig.receive(&[put(2, "b", "mine", 1)]), [completed(5, Response::Written)]);
    rig.request(write("a/1", "mine", 1), 6);
    assert_eq!(rig.receive(&[error(3, "stale put")]), [completed(6, Response::Stale)]);
}

fn transaction() -> Request {
    let version = Version::new;
    Request::Txn {
        operations: vec![
            Operation::Check { key: "a/dir".into(), version: version(4) },
            Operation::Put { key: "a/1".into(), value: "new".into(), version: version(1) },
            Operation::Delete { key: "a/2".into(), version: version(2) },
        ],
    }
}

#[test]
fn a_transaction_is_shown_as_a_whole_and_not_at_its_own_mark() {
    let mut rig = Rig::watching("a/", &[("a/2", "old")]);
    let operations = vec![
        Operation::Check { key: "a/dir".into(), version: Version::new(4) },
        Operation::Put { key: "a/1".into(), value: "new".into(), version: Version::new(1) },
        Operation::Delete { key: "a/2".into(), version: Version::new(2) },
    ];
    assert_eq!(rig.request(transaction(), 5), [Message::txn(Tag::new(2), operations)]);
    let frames = [put(0, "a/9", "half", 1), put(2, "a/1", "new", 1), delete(2, "a/2", 2), mark(2, 12)];
    assert_eq!(rig.receive(&frames), [], "a broadcast before it may be half of another transaction");
    assert_eq!(rig.shown("a/"), is("10: a/2=old"));
    let committed = Response::Committed { revision: Revision::new(12) };
    let frames = [put(0, "a/8", "other half", 1), mark(0, 13)];
    assert_eq!(rig.receive(&frames), [marked(13), completed(5, committed)]);
    assert_eq!(rig.shown("a/"), is("13: a/1=new a/8=other half a/9=half"));
}

#[test]
fn a_transaction_without_replica_completes_at_its_own_mark() {
    let mut rig = Rig::new();
    rig.request(transaction(), 5);
    let frames = [put(1, "a/1", "new", 1), delete(1, "a/2", 2), mark(1, 12)];
    assert_eq!(rig.receive(&frames), [completed(5, Response::Committed { revision: Revision::new(12) })]);
    rig.request(transaction(), 6);
    let stale = Response::StaleKey { key: "\"a/dir\"".into() };
    assert_eq!(rig.receive(&[error(2, "stale put: \"a/dir\"")]), [completed(6, stale)]);
}

#[test]
fn a_transaction_with_a_wrong_echo_is_an_error() {
    for frames in [
        vec![put(1, "a/1", "old", 1)],
        vec![delete(1, "a/2", 2)],
        vec![put(1, "a/1", "new", 1), mark(1, 12)],
        vec![put(1, "a/1", "new", 1), error(1, "stale put")],
    ] {
        let mut rig = Rig::new();
        rig.request(transaction(), 5);
        let found = rig.try_receive(&frames).unwrap_err();
        assert!(matches!(found, ProtocolError::WrongResponse { .. }), "{found}");
    }
}

#[test]
fn a_get_may_return_a_tombstone_or_a_large_value() {
    let mut rig = Rig::new();
    rig.request(Request::Get { key: "k".into() }, 1);
    rig.request(Request::Get { key: "l".into() }, 2);
    let large = vec![7; 70_000];
    let frames = [delete(1, "k", 7), Message::put_large(Tag::new(2), "l", large.clone(), Version::new(3))];
    let expected = [
        completed(1, Response::NotFound { deleted_at: Some(Version::new(7)) }),
        completed(2, Response::Value(Versioned { value: large.into(), version: Version::new(3) })),
    ];
    assert_eq!(rig.receive(&frames), expected);
}

#[test]
fn large_values_use_putl_except_on_base_connections() {
    let request = |value| Request::Put { key: "k".into(), value: vec![7; value].into(), version: Version::new(1) };
    let mut rig = Rig::new();
    let kinds: Vec<_> = [65_524, 65_525]
        .into_iter()
        .flat_map(|value| rig.request(request(value), 1))
        .map(|m| m.kind().to_string())
        .collect();
    assert_eq!(kinds, ["PUT", "PUTL"]);
    let mut rig = Rig(ClientConnection::new());
    assert_eq!(
        rig.request(request(65_525), 1).first().map(|m| m.kind().to_string()),
        is("PUT"),
        "the server refuses it with the better text"
    );
}

#[test]
fn a_list_completes_at_its_mark() {
    let mut rig = Rig::new();
    let request = Request::List { prefix: "a/".into(), after: "a/0".into(), limit: 2 };
    assert_eq!(rig.request(request, 5), [Message::list(Tag::new(1), "a/", "a/0", 2)]);
    assert_eq!(rig.receive(&[put(1, "a/1", "1", 1), put(1, "a/2", "1", 3)]), []);
    let entries = vec![("a/1".into(), versioned("1", 1)), ("a/2".into(), versioned("1", 3))];
    assert_eq!(rig.receive(&[mark(1, 12)]), [marked(12), completed(5, Response::Listed { entries })]);
    rig.request(Request::List { prefix: "".into(), after: "".into(), limit: 2 }, 6);
    let refused = Response::Unavailable { reason: "disk".into() };
    assert_eq!(rig.receive(&[error(2, "unavailable: disk")]), [completed(6, refused)]);
}

#[test]
fn status_returns_the_text_of_the_server() {
    let mut rig = Rig::new();
    assert_eq!(rig.request(Request::Status, 5), [Message::status(Tag::new(1), "")]);
    let frames = [Message::status(Tag::new(1), "{\"keys\":1}")];
    assert_eq!(rig.receive(&frames), [completed(5, Response::Status { text: "{\"keys\":1}".into() })]);
}

#[test]
fn a_barrier_shows_what_was_received_before_it() {
    let mut rig = Rig::watching("", &[]);
    assert_eq!(rig.request(Request::Barrier, 5), [mark(2, 0)]);
    let passed = Response::Passed { revision: Revision::new(12) };
    assert_eq!(rig.receive(&[put(0, "a", "1", 1), mark(2, 12)]), [marked(12), completed(5, passed)]);
    assert_eq!(rig.shown(""), is("12: a=1"));
}

#[test]
fn a_barrier_passed_on_a_lost_connection_is_repeated_on_the_next() {
    let mut rig = Rig::watching("a/", &[("a/1", "1")]).reconnect(STORE);
    assert_eq!(rig.request(Request::Barrier, 5).last(), Some(&mark(2, 0)));
    // The replica still shows a state from before this connection, so the barrier must wait.
    assert_eq!(rig.receive(&[mark(2, 12)]), [marked(12)]);
    let LostConnection { unanswered, deferred, replicas } = rig.0.into_lost();
    assert_eq!((unanswered, deferred.len()), (vec![(Request::Barrier, 5)], 0), "the barrier is repeated");
    let mut rig = Rig(ClientConnection::extended(&hello(OTHER_STORE), replicas, deferred));
    assert_eq!(rig.sent(), [watch_frame(1, "a/", 0)]);
    assert_eq!(rig.receive(&[put(0, "a/1", "other", 1), mark(1, 3)]), [marked(3)], "and the barrier is not completed");
}

#[test]
fn a_new_replica_fills_while_others_are_shown() {
    let mut rig = Rig::watching("a/", &[("a/1", "1")]);
    assert_eq!(rig.request(watch("b/"), 2), [watch_frame(2, "b/", 0)]);
    let frames = [put(0, "b/1", "1", 1), put(0, "a/1", "2", 2), mark(0, 12), put(0, "b/2", "1", 1)];
    assert_eq!(rig.receive(&frames), [marked(12)]);
    assert_eq!((rig.shown("a/"), rig.shown("b/")), (is("12: a/1=2"), None));
    assert_eq!(rig.receive(&[mark(2, 12)]), [marked(12), completed(2, Response::Watched)]);
    assert_eq!(rig.shown("b/"), is("12: b/1=1 b/2=1"));
}

#[test]
fn a_key_deleted_before_a_wider_watch_is_not_in_the_new_replica() {
    let mut rig = Rig::watching("b", &[("b", "1")]);
    rig.request(Request::Delete { key: "b/2".into(), version: Version::new(3) }, 5);
    assert_eq!(rig.request(watch(""), 6), [watch_frame(3, "", 0)]);
    // Another client's write is broadcast for the old prefix before the new WATCH starts. The new WATCH does not report
    // the deletion.
    assert_eq!(rig.receive(&[put(0, "b/2", "2", 2), mark(0, 12), delete(2, "b/2", 3), mark(0, 13)]).len(), 3);
    assert_eq!(rig.shown("b"), is("13: b=1"));
    rig.receive(&[put(0, "b", "1", 1), mark(3, 13)]);
    assert_eq!(rig.shown(""), is("13: b=1"));
}

#[test]
fn a_narrower_prefix_needs_no_watch_of_its_own() {
    let mut rig = Rig::watching("a/", &[("a/1", "1"), ("a/b/1", "1")]);
    assert_eq!(rig.request(watch("a/b"), 2), []);
    assert_eq!(rig.receive(&[]), [completed(2, Response::Watched)]);
    assert_eq!(rig.shown("a/b"), is("10: a/b/1=1"));
    // The same holds while the wider replica fills.
    assert_eq!(rig.request(watch("b/"), 3), [watch_frame(2, "b/", 0)]);
    assert_eq!(rig.request(watch("b/c"), 4), []);
    assert_eq!(rig.receive(&[put(0, "b/c", "1", 1)]), []);
    let both = [marked(11), completed(3, Response::Watched), completed(4, Response::Watched)];
    assert_eq!(rig.receive(&[mark(2, 11)]), both);
}

#[test]
fn a_wider_replica_replaces_narrower_ones() {
    let mut rig = Rig::watching("a/", &[("a/1", "1")]);
    assert_eq!(rig.request(watch(""), 2), [watch_frame(2, "", 0)]);
    let frames = [put(0, "a/1", "1", 1), put(0, "b", "1", 1), put(0, "a/1", "2", 2), mark(0, 11)];
    assert_eq!(rig.receive(&frames), [marked(11)]);
    assert_eq!((rig.shown("a/"), rig.shown("")), (is("11: a/1=2"), None));
    assert_eq!(rig.receive(&[mark(2, 12)]), [marked(12), completed(2, Response::Watched)]);
    assert_eq!((rig.shown("a/"), rig.shown("")), (is("12: a/1=2"), is("12: a/1=2 b=1")));
    let mut rig = rig.reconnect(STORE);
    assert_eq!(rig.sent(), [watch_frame(1, "", 12)], "one WATCH remains");
}

#[test]
fn a_refused_watch_can_be_repeated() {
    let mut rig = Rig::new();
    rig.request(watch("a/"), 1);
    rig.request(watch("a/b"), 2);
    let refused = || Response::Unavailable { reason: "disk".into() };
    // The pending watch of a longer prefix is refused too, because no other replica covers it.
    assert_eq!(rig.receive(&[error(1, "unavailable: disk")]), [completed(1, refused()), completed(2, refused())]);
    assert_eq!(rig.request(watch("a/"), 3), [watch_frame(2, "a/", 0)]);
}

#[test]
fn a_replica_resumes_from_its_revision() {
    let mut rig = Rig::watching("a/", &[("a/1", "1"), ("a/2", "1")]);
    rig.receive(&[put(0, "a/1", "2", 2), mark(0, 12), put(0, "a/1", "unmarked", 3)]);
    let LostConnection { deferred, replicas, .. } = rig.0.into_lost();
    assert_eq!(shown(&replicas, "a/"), is("12?: a/1=2 a/2=1"));
    let mut rig = Rig(ClientConnection::extended(&hello(STORE), replicas, deferred));
    assert_eq!(rig.sent(), [watch_frame(1, "a/", 12)]);
    assert_eq!(
        rig.receive(&[delete(0, "a/2", 2), mark(0, 13)]),
        [marked(13)],
        "this MARK does not complete the catch-up"
    );
    assert_eq!(rig.shown("a/"), is("12?: a/1=2 a/2=1"));
    assert_eq!(rig.receive(&[put(0, "a/3", "1", 1), mark(1, 14)]), [marked(14)]);
    assert_eq!(rig.shown("a/"), is("14: a/1=2 a/3=1"));
}

#[test]
fn a_refused_resume_is_not_reported_as_a_protocol_violation() {
    let mut rig = Rig::watching("a/", &[("a/1", "1")]).reconnect(STORE);
    let error = rig.try_receive(&[error(1, "unavailable: disk")]).unwrap_err();
    assert_eq!(error, ProtocolError::ResumeRefused { text: "unavailable: disk".into() });
    assert_eq!(error.to_string(), "a replica cannot be resumed: unavailable: disk");
    assert_eq!(rig.shown("a/"), is("10?: a/1=1"), "the view is kept for the next connection");
    let mut rig = Rig(ClientConnection::extended(&hello(STORE), rig.0.into_lost().replicas, Vec::new()));
    assert_eq!(rig.sent(), [watch_frame(1, "a/", 10)]);
}

#[test]
fn a_resume_that_is_not_permitted_differs_from_one_that_is_unavailable() {
    let mut rig = Rig::watching("a/", &[("a/1", "1")]).reconnect(STORE);
    let missing = "expected the right to read everything under \"a/\"";
    let error = rig.try_receive(&[error(1, &format!("not permitted: {missing}"))]).unwrap_err();
    assert_eq!(error, ProtocolError::ResumeNotPermitted { missing: missing.into() });
    assert_eq!(error.to_string(), format!("a replica cannot be resumed: not permitted: {missing}"));
    assert_eq!(rig.shown("a/"), is("10?: a/1=1"), "readers keep what they see");
}

#[test]
fn a_reset_replaces_the_view_when_it_is_complete() {
    let mut rig = Rig::watching("a/", &[("a/1", "1"), ("a/2", "1")]).reconnect(STORE);
    assert_eq!(rig.receive(&[mark(1, 0), put(0, "a/2", "5", 5)]), []);
    assert_eq!(rig.shown("a/"), is("10?: a/1=1 a/2=1"), "until the new state is complete");
    assert_eq!(rig.receive(&[mark(1, 20)]), [marked(20)]);
    assert_eq!(rig.shown("a/"), is("20: a/2=5"));
}

#[test]
fn a_second_mark_0_means_that_the_store_is_empty() {
    let mut rig = Rig::watching("a/", &[("a/1", "1")]).reconnect(STORE);
    assert_eq!(rig.receive(&[mark(1, 0), mark(1, 0)]), [marked(0)], "the second MARK(0) is the response");
    assert_eq!(rig.receive(&[mark(0, 20)]), [marked(20)]);
    assert_eq!(rig.shown("a/"), is("20: "));
}

#[test]
fn another_store_replaces_the_view_at_once() {
    let mut rig = Rig::watching("a/", &[("a/1", "1"), ("a/2", "1")]).reconnect(OTHER_STORE);
    assert_eq!(rig.sent(), [watch_frame(1, "a/", 0)]);
    assert_eq!(rig.receive(&[put(0, "a/1", "other", 1)]), []);
    assert_eq!(rig.shown("a/"), is("10?: a/1=1 a/2=1"));
    assert_eq!(rig.receive(&[mark(1, 3)]), [marked(3)]);
    assert_eq!(rig.shown("a/"), is("3: a/1=other"), "revisions of different stores are not compared");
}

#[test]
fn a_replica_never_goes_back_in_time() {
    // The server has the same store, but an older revision.
    let mut rig = Rig::watching("a/", &[("a/1", "10")]).reconnect(STORE);
    assert_eq!(rig.receive(&[mark(1, 0), put(0, "a/1", "8", 8), mark(1, 8)]), [marked(8)]);
    assert_eq!(rig.shown("a/"), is("10?: a/1=10"));
    // The barrier must wait until the view is current.
    rig.request(Request::Barrier, 5);
    assert_eq!(rig.receive(&[put(0, "a/1", "9", 9), mark(2, 9)]), [marked(9)]);
    assert_eq!(rig.shown("a/"), is("10?: a/1=10"));
    let passed = Response::Passed { revision: Revision::new(9) };
    assert_eq!(rig.receive(&[put(0, "a/1", "10", 10), mark(0, 10)]), [marked(10), completed(5, passed)]);
    assert_eq!(rig.shown("a/"), is("10: a/1=10"));
}

#[test]
fn a_watch_restarts_if_the_connection_is_lost_while_it_fills() {
    let mut rig = Rig::new();
    rig.request(watch("a/"), 7);
    rig.receive(&[put(0, "a/1", "1", 1)]);
    let LostConnection { unanswered, deferred, replicas } = rig.0.into_lost();
    assert_eq!(unanswered, [(watch("a/"), 7)], "the caller repeats the request");
    let mut rig = Rig(ClientConnection::extended(&hello(STORE), replicas, deferred));
    assert_eq!(rig.sent(), [watch_frame(1, "a/", 0)]);
    assert_eq!(rig.request(watch("a/"), 7), []);
    let events = rig.receive(&[put(0, "a/2", "1", 1), mark(1, 12)]);
    assert_eq!(events, [marked(12), completed(7, Response::Watched)]);
    assert_eq!(rig.shown("a/"), is("12: a/2=1"));
}

#[test]
fn a_completed_watch_does_not_release_a_deferred_write() {
    let mut rig = Rig::watching("a/", &[("a/b", "1")]);
    rig.request(Request::Put { key: "a/b".into(), value: "2".into(), version: Version::new(2) }, 5);
    assert_eq!(rig.receive(&[put(2, "a/b", "2", 2)]), []);
    assert_eq!(rig.request(watch("a/b"), 6), [], "the replica of a/ covers it");
    assert_eq!(rig.receive(&[]), [completed(6, Response::Watched)]);
    assert_eq!(rig.shown("a/"), is("10: a/b=1"));
    assert_eq!(rig.receive(&[mark(0, 11)]), [marked(11), completed(5, Response::Written)]);
}

#[test]
fn a_write_accepted_before_the_loss_completes_when_it_is_shown() {
    let mut rig = Rig::watching("a/", &[]);
    rig.request(write("a/1", "mine", 1), 5);
    rig.request(write("a/2", "mine", 1), 6);
    assert_eq!(rig.receive(&[put(2, "a/1", "mine", 1)]), []);
    let LostConnection { unanswered, deferred, replicas } = rig.0.into_lost();
    assert_eq!(unanswered, [(write("a/2", "mine", 1), 6)]);
    let mut rig = Rig(ClientConnection::extended(&hello(STORE), replicas, deferred));
    assert_eq!(rig.receive(&[put(0, "a/1", "mine", 1)]), []);
    assert_eq!(rig.receive(&[mark(1, 12)]), [marked(12), completed(5, Response::Written)]);
    assert_eq!(rig.shown("a/"), is("12: a/1=mine"));
}

#[test]
fn unanswered_requests_are_returned_in_order() {
    let mut rig = Rig::watching("a/", &[]);
    let requests = [write("a/1", "v", 1), Request::Barrier, watch("b"), Request::Status, transaction(), watch("b/c")];
    for (token, request) in (1..).zip(&requests) {
        rig.0.request(request.clone(), token).unwrap();
    }
    let expected: Vec<_> = requests.into_iter().zip(1..).collect();
    assert_eq!(rig.0.into_lost().unanswered, expected);
}

#[test]
fn extension_requests_are_not_sent_to_a_base_server() {
    let mut rig = Rig(ClientConnection::new());
    let delete = Request::Delete { key: "k".into(), version: Version::new(1) };
    let list = Request::List { prefix: "".into(), after: "".into(), limit: 1 };
    for request in [watch(""), Request::Barrier, Request::Status, transaction(), delete, list] {
        let error = rig.0.request(request.clone(), 1).unwrap_err();
        assert_eq!((error.request, error.kind), (request, SendErrorKind::BaseOnly));
    }
    assert_eq!(rig.sent(), []);
    // A base server sends the writes of other connections without a request.
    assert_eq!(rig.request(Request::Follow, 2), []);
    assert_eq!(rig.receive(&[]), [completed(2, Response::Watched)]);
    let change = Event::Change { key: "k".into(), value: "v".into(), version: Version::new(1) };
    assert_eq!(rig.receive(&[put(0, "k", "v", 1)]), [change]);
}

#[test]
fn follow_reports_every_change() {
    let mut rig = Rig::new();
    assert_eq!(rig.receive(&[put(0, "k", "v", 1)]), [], "Follow was not requested");
    assert_eq!(rig.request(Request::Follow, 2), [watch_frame(1, "", 10)]);
    let change = |value: &'static str, version| Event::Change {
        key: "k".into(),
        value: value.into(),
        version: Version::new(version),
    };
    let frames = [put(0, "k", "w", 2), mark(1, 11), delete(0, "k", 3), mark(0, 12)];
    let events = [change("w", 2), marked(11), completed(2, Response::Watched), change("", 3), marked(12)];
    assert_eq!(rig.receive(&frames), events);
}

#[test]
fn patience_is_limited_only_if_the_server_sends_heartbeats() {
    let mut rig = Rig::new();
    assert_eq!(rig.0.patience(), None);
    rig.request(Request::Get { key: "k".into() }, 1);
    assert_eq!(rig.0.patience(), None);
    rig.request(watch("a/"), 2);
    assert_eq!(rig.0.patience(), Some(Duration::from_secs(6)));
}

#[test]
fn an_unexpected_frame_is_an_error() {
    let hello = Message::hello(Tag::new(9), "");
    for found in [mark(9, 12), put(9, "k", "v", 1), hello, Message::get(Tag::BROADCAST, "k")] {
        let error = Rig::new().try_receive(std::slice::from_ref(&found)).unwrap_err();
        assert_eq!(error, ProtocolError::UnexpectedFrame { found: found.redacted().to_string() });
    }
}

#[test]
fn writes_before_a_watch_are_not_part_of_its_catch_up() {
    let mut rig = Rig::new();
    rig.request(write("a/1", "mine", 1), 1);
    rig.request(watch("a/"), 2);
    rig.request(write("a/2", "mine", 1), 3);
    // Another client deletes a/1 before the WATCH starts. The server does not report that.
    assert_eq!(rig.receive(&[put(1, "a/1", "mine", 1)]), [completed(1, Response::Written)]);
    assert_eq!(rig.receive(&[mark(2, 12)]), [marked(12), completed(2, Response::Watched)]);
    assert_eq!(rig.receive(&[put(3, "a/2", "mine", 1), mark(0, 13)]), [marked(13), completed(3, Response::Written)]);
    let views = rig.0.replicas().views();
    let view = views.view(b"a/").unwrap();
    assert_eq!((view.get(b"a/1"), view.get(b"a/2")), (None, Some(&versioned("mine", 1))));
}

#[test]
fn replicas_do_not_keep_the_input_buffer_alive() {
    let mut rig = Rig::new();
    rig.request(watch(""), 1);
    let mut input = BytesMut::new();
    put(0, "k", "v", 1).encode(&mut input).unwrap();
    mark(1, 11).encode(&mut input).unwrap();
    let received = input.as_ptr_range();
    while !matches!(rig.0.handle_input(&mut input).unwrap(), Event::Incomplete { .. }) {}
    let views = rig.0.replicas().views();
    let (key, now) = views.view(b"").unwrap().range(b"", ..).next().unwrap();
    for kept in [key.as_ptr(), now.value.as_ptr()] {
        assert!(!received.contains(&kept), "it shares the memory of the input buffer");
    }
}

#[test]
fn reads_and_writes_are_distinguished() {
    let reads = [Request::Get { key: "k".into() }, watch(""), Request::Follow, Request::Barrier, Request::Status];
    assert!(reads.iter().all(Request::is_read));
    let delete = Request::Delete { key: "k".into(), version: Version::new(1) };
    assert!(![write("k", "v", 1), delete, transaction()].iter().any(Request::is_read));
}
