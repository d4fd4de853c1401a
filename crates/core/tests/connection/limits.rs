//! What one connection may ask for, and may make the server hold.

use crate::support::{
    ALL_TAKEN, History, OTHER, OUTPUT_ROOM, Peer, accepted, commit, entry, error, get, put, put_bytes, read, watch,
};
use bytes::{Buf, BytesMut};
use syncline_core::server::{Input, Limits};
use syncline_wire::{MAX_STRING_LENGTH, Message, Operation, Put, Revision, Tag, Version};

#[test]
fn what_is_over_a_limit_is_refused_and_the_connection_stays() {
    let history = History::new();
    let limits = Limits { max_key: 4, max_entry: 10, ..Limits::default() };
    let mut peer = Peer::within(limits, &history);
    let requests = [
        get(1, "12345"),
        put(2, "12345", "", 1),
        put(3, "1234", "1234567", 1),
        put(4, "1234", "123456", u64::MAX),
        get(5, "1234"),
        put(6, "1234", "123456", u64::MAX - 1),
        put(7, "", "1234567890", 1),
    ];
    assert_eq!(peer.send(&requests), ALL_TAKEN);
    let expected = [
        error(1, "too large: key of 5 bytes, expected at most 4"),
        error(2, "too large: key of 5 bytes, expected at most 4"),
        error(3, "too large: key and value of 11 bytes together, expected at most 10"),
        error(4, "version exhausted"),
    ];
    assert_eq!(peer.shown(&history), expected);
    assert_eq!(peer.effects(), [read("1234")]);
    peer.connection.handle_entry(Ok(None));
    assert_eq!(peer.effects(), [commit("1234", "123456", u64::MAX - 1), commit("", "1234567890", 1)]);
}

#[test]
fn the_default_limits_are_those_of_the_protocol() {
    let history = History::new();
    let mut peer = Peer::following(&history);
    let key = vec![b'k'; 4096];
    let refused = [
        Message::get(Tag::new(1), [&key[..], b"k"].concat()),
        put(2, "key", vec![b'v'; 65_525 - 2], 1),
        Message::get(Tag::new(3), key),
        put(4, "key", vec![b'v'; 65_525 - 3], 1),
    ];
    assert_eq!(peer.send(&refused), ALL_TAKEN);
    let expected = [
        error(1, "too large: key of 4097 bytes, expected at most 4096"),
        error(2, "too large: key and value of 65526 bytes together, expected at most 65525"),
    ];
    assert_eq!(peer.shown(&history), expected);
    assert_eq!(peer.effects().len(), 1);
    peer.connection.handle_entry(Ok(None));
    assert_eq!(peer.effects().len(), 1);
}

#[test]
fn at_the_most_requests_in_flight_it_is_not_read_from() {
    let history = History::new();
    let mut peer = Peer::within(Limits { max_requests: 2, ..Limits::default() }, &history);
    assert_eq!(peer.send(&[get(1, "a"), error(2, "?"), get(3, "b"), get(4, "c")]), Input::Paused);
    assert_eq!(peer.effects(), [read("a")]);
    assert_eq!(peer.go_on(), Input::Paused);
    peer.connection.handle_entry(Ok(None));
    assert_eq!(peer.go_on(), Input::Paused, "answered and not sent");
    let sent = [error(1, "\"a\": not found"), error(2, "messages of kind ERROR cannot be applied")];
    assert_eq!(peer.shown(&history), sent);
    assert_eq!(peer.go_on(), Input::Paused);
    assert_eq!(peer.effects(), [read("b"), read("c")]);
    peer.connection.handle_entry(Ok(None));
    peer.connection.handle_entry(Ok(None));
    assert_eq!(peer.shown(&history).len(), 2);
    assert_eq!(peer.go_on(), ALL_TAKEN);
}

#[test]
fn at_the_most_bytes_in_flight_it_is_not_read_from() {
    let history = History::new();
    let limits = Limits { max_unsent: 2 * put_bytes("key", 10), ..Limits::default() };
    let mut peer = Peer::within(limits, &history);
    let requests = [1, 2, 3, 4].map(|tag| put(tag, "key", "0123456789", tag.into()));
    assert_eq!(peer.send(&requests), Input::Paused);
    assert_eq!(peer.effects().len(), 2, "no more were taken");
    for _ in 0..2 {
        peer.connection.handle_outcome(accepted(Revision::new(10)));
    }
    peer.go_on();
    assert_eq!(peer.effects(), [], "the answers are as large");
    peer.connection.handle_log(&history.log);
    peer.go_on();
    assert_eq!(peer.effects(), [], "and are not taken yet");
    assert_eq!(peer.sent(), requests[..2]);
    assert_eq!(peer.go_on(), Input::Paused);
    assert_eq!(peer.effects().len(), 2);
}

#[test]
fn what_waits_shares_no_memory_with_what_it_was_read_from() {
    let history = History::new();
    let mut peer = Peer::extended(&history);
    let large = Message::put_large(Tag::new(5), "large", vec![b'v'; Limits::MAX_PUT], Version::new(1));
    let check = Operation::Check { key: "k".into(), version: Version::new(1) };
    let requests = [
        put(1, "k", "v", 1),
        get(2, "k"),
        get(3, "k"),
        Message::delete(Tag::new(4), "k", Version::new(2)),
        large,
        Message::txn(Tag::new(6), vec![check]),
        watch(7, "k", 0),
        Message::list(Tag::new(8), "k", "after", 1),
    ];
    for request in requests {
        let mut input = BytesMut::new();
        request.encode(&mut input).unwrap();
        let length = input.len();
        assert_eq!(peer.connection.handle_input(&mut input), ALL_TAKEN);
        let is_kept = !input.try_reclaim(length);
        assert_eq!(is_kept, matches!(request, Message::Get(_)), "{request:?}: until its driver waits");
        peer.connection.own_keys();
        assert!(input.try_reclaim(length), "{request:?}");
    }
    assert_eq!(peer.effects(), [commit("k", "v", 1)]);
    peer.connection.handle_outcome(accepted(Revision::new(10)));
    assert_eq!(peer.effects(), [read("k"), read("k")], "they are as they were");
}

#[test]
fn unsent_broadcasts_keep_it_from_being_read() {
    let mut history = History::new();
    let mut peer = Peer::within(Limits { max_unsent: 1000, ..Limits::default() }, &history);
    peer.send(&[get(1, "a")]);
    history.put(OTHER, "key", vec![b'v'; 1000], 1);
    peer.connection.handle_log(&history.log);
    assert_eq!(peer.effects(), [], "no room for the answer");
    assert_eq!(peer.send(&[get(2, "b")]), Input::Paused);
    assert_eq!(peer.sent().len(), 1);
    assert_eq!(peer.go_on(), ALL_TAKEN);
    assert_eq!(peer.effects(), [read("a")], "one at a time, for each answer may be large");
    peer.connection.handle_entry(Ok(None));
    assert_eq!(peer.effects(), [read("b")]);
}

/// Many GETs of a large value, and a reader that takes `taken` bytes at a time.
fn a_flood_of_gets(max_unsent: usize, taken: usize) {
    const GETS: u16 = 300;
    let history = History::new();
    let mut peer = Peer::within(Limits { max_unsent, ..Limits::default() }, &history);
    let large = put_bytes("key", 60_000);
    let requests: Vec<_> = (1..=GETS).map(|tag| get(tag, "key")).collect();
    peer.send(&requests);
    let mut received = Vec::new();
    while received.len() < requests.len() {
        peer.go_on();
        let mut reads = 0;
        while let Some(effect) = peer.connection.poll_effect() {
            assert_eq!(effect, read("key"));
            peer.connection.handle_entry(Ok(Some(entry("key", vec![b'v'; 60_000], 1, Revision::new(10)))));
            reads += 1;
        }
        assert!(reads * large < max_unsent + large, "{reads} large answers at once");
        peer.connection.handle_log(&history.log);
        let unsent = peer.connection.output().remaining();
        assert!(unsent < OUTPUT_ROOM + large, "{unsent} bytes of output");
        assert!(peer.take(taken) > 0, "stuck after {} answers", received.len());
        received.extend(peer.received());
    }
    let tags: Vec<_> = received.iter().map(|message| message.tag().get()).collect();
    assert_eq!(tags, (1..=GETS).collect::<Vec<_>>());
}

#[test]
fn a_flood_of_gets_of_large_values_is_answered_as_output_is_taken() {
    for (max_unsent, taken) in [(1, 30_000), (1, usize::MAX), (100_000, 10_000), (1024 * 1024, 50_000)] {
        a_flood_of_gets(max_unsent, taken);
    }
}

#[test]
fn reads_in_flight_count_as_the_largest_answers() {
    let history = History::new();
    let limits = Limits { max_unsent: 300_000, ..Limits::default() };
    let mut peer = Peer::within(limits, &history);
    let requests: Vec<_> = (1..=100).map(|tag| get(tag, "key")).collect();
    assert_eq!(peer.send(&requests), ALL_TAKEN);
    let mut answered = 0;
    while answered < 100 {
        // All that it asks for before the first is answered.
        let asked = peer.effects().len();
        assert!(asked > 0, "stuck after {answered} answers");
        for _ in 0..asked {
            peer.connection.handle_entry(Ok(Some(entry("key", vec![b'v'; 60_000], 1, Revision::new(10)))));
        }
        let held = asked * put_bytes("key", 60_000);
        assert!(held < limits.max_unsent + Put::OVERHEAD + Limits::MAX_PUT, "{held} bytes of answers");
        let mut sent = peer.shown(&history);
        while sent.len() < asked {
            let more = peer.shown(&history);
            assert!(!more.is_empty());
            sent.extend(more);
        }
        answered += asked;
    }
}

#[test]
fn a_get_is_not_stuck_for_room_that_only_answers_behind_it_take() {
    let history = History::new();
    for max_unsent in [1, 50, 100] {
        let mut peer = Peer::within(Limits { max_unsent, ..Limits::default() }, &history);
        // Refused at once, but not told before the GET is answered.
        peer.send(&[get(1, ""), error(2, "?"), error(3, "?"), error(4, "?")]);
        assert_eq!(peer.effects(), [read("")], "with room for {max_unsent} bytes");
        peer.connection.handle_entry(Ok(None));
        let mut answers = peer.shown(&history);
        peer.go_on();
        answers.extend(peer.shown(&history));
        assert_eq!(answers[0], error(1, "\"\": not found"));
        while answers.len() < 4 {
            peer.go_on();
            let more = peer.shown(&history);
            assert!(!more.is_empty(), "stuck");
            answers.extend(more);
        }
    }
}

#[test]
fn the_largest_frame_is_waited_for() {
    let history = History::new();
    let mut peer = Peer::following(&history);
    let mut frame = BytesMut::new();
    put(1, "key", vec![b'v'; MAX_STRING_LENGTH], 1).encode(&mut frame).unwrap();
    // The lengths are known; that a version follows is seen when it is missing.
    let expected = put_bytes("key", MAX_STRING_LENGTH) - 8;
    assert_eq!(peer.send_bytes(&frame[..20]), Input::Wanted { expected });
    assert_eq!(peer.send_bytes(&frame[20..]), ALL_TAKEN);
    let text = "too large: key and value of 65538 bytes together, expected at most 65525";
    assert_eq!(peer.shown(&history), [error(1, text)]);
}
