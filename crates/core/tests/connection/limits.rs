//! Limits: what one connection may request, and how much memory it may take.

use crate::support::{
    ALL_DECODED, Harness, History, MAX_UNSENT_OUTPUT, OTHER, accepted, commit_effect, entry, error, get, get_effect,
    put, put_bytes, watch,
};
use bytes::{Buf, BytesMut};
use syncline_core::server::{Input, Limits};
use syncline_wire::{MAX_STRING_LENGTH, Message, Operation, Put, Revision, Tag, Version};

#[test]
fn requests_over_a_limit_are_refused_and_the_connection_stays() {
    let history = History::new();
    let limits = Limits { max_key: 4, max_entry: 10, ..Limits::default() };
    let mut harness = Harness::within(limits, &history);
    let requests = [
        get(1, "12345"),
        put(2, "12345", "", 1),
        put(3, "1234", "1234567", 1),
        put(4, "1234", "123456", u64::MAX),
        get(5, "1234"),
        put(6, "1234", "123456", u64::MAX - 1),
        put(7, "", "1234567890", 1),
    ];
    assert_eq!(harness.send(&requests), ALL_DECODED);
    let expected = [
        error(1, "too large: key of 5 bytes, expected at most 4"),
        error(2, "too large: key of 5 bytes, expected at most 4"),
        error(3, "too large: key and value of 11 bytes together, expected at most 10"),
        error(4, "version exhausted"),
    ];
    assert_eq!(harness.show_log(&history), expected);
    assert_eq!(harness.effects(), [get_effect("1234")]);
    harness.connection.handle_entry(Ok(None));
    assert_eq!(harness.effects(), [commit_effect("1234", "123456", u64::MAX - 1), commit_effect("", "1234567890", 1)]);
}

#[test]
fn the_default_limits_are_those_of_the_protocol() {
    let history = History::new();
    let mut harness = Harness::following(&history);
    let key = vec![b'k'; 4096];
    let refused = [
        Message::get(Tag::new(1), [&key[..], b"k"].concat()),
        put(2, "key", vec![b'v'; 65_525 - 2], 1),
        Message::get(Tag::new(3), key),
        put(4, "key", vec![b'v'; 65_525 - 3], 1),
    ];
    assert_eq!(harness.send(&refused), ALL_DECODED);
    let expected = [
        error(1, "too large: key of 4097 bytes, expected at most 4096"),
        error(2, "too large: key and value of 65526 bytes together, expected at most 65525"),
    ];
    assert_eq!(harness.show_log(&history), expected);
    assert_eq!(harness.effects().len(), 1);
    harness.connection.handle_entry(Ok(None));
    assert_eq!(harness.effects().len(), 1);
}

#[test]
fn input_is_paused_at_the_most_requests_in_flight() {
    let history = History::new();
    let mut harness = Harness::within(Limits { max_requests: 2, ..Limits::default() }, &history);
    assert_eq!(harness.send(&[get(1, "a"), error(2, "?"), get(3, "b"), get(4, "c")]), Input::Paused);
    assert_eq!(harness.effects(), [get_effect("a")]);
    assert_eq!(harness.decode_rest(), Input::Paused);
    harness.connection.handle_entry(Ok(None));
    assert_eq!(harness.decode_rest(), Input::Paused, "completed but not sent");
    let sent = [error(1, "\"a\": not found"), error(2, "messages of kind ERROR cannot be applied")];
    assert_eq!(harness.show_log(&history), sent);
    assert_eq!(harness.decode_rest(), Input::Paused);
    assert_eq!(harness.effects(), [get_effect("b"), get_effect("c")]);
    harness.connection.handle_entry(Ok(None));
    harness.connection.handle_entry(Ok(None));
    assert_eq!(harness.show_log(&history).len(), 2);
    assert_eq!(harness.decode_rest(), ALL_DECODED);
}

#[test]
fn input_is_paused_at_the_most_bytes_in_flight() {
    let history = History::new();
    let limits = Limits { max_unsent: 2 * put_bytes("key", 10), ..Limits::default() };
    let mut harness = Harness::within(limits, &history);
    let requests = [1, 2, 3, 4].map(|tag| put(tag, "key", "0123456789", tag.into()));
    assert_eq!(harness.send(&requests), Input::Paused);
    assert_eq!(harness.effects().len(), 2, "no more requests were decoded");
    for _ in 0..2 {
        harness.connection.handle_outcome(accepted(Revision::new(10)));
    }
    harness.decode_rest();
    assert_eq!(harness.effects(), [], "the responses are as large");
    harness.connection.handle_log(&history.log);
    harness.decode_rest();
    assert_eq!(harness.effects(), [], "the client has not read the responses");
    assert_eq!(harness.read_all(), requests[..2]);
    assert_eq!(harness.decode_rest(), Input::Paused);
    assert_eq!(harness.effects().len(), 2);
}

#[test]
fn requests_that_wait_share_no_memory_with_the_input() {
    let history = History::new();
    let mut harness = Harness::extended(&history);
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
        assert_eq!(harness.connection.handle_input(&mut input), ALL_DECODED);
        let is_kept = !input.try_reclaim(length);
        assert_eq!(
            is_kept,
            matches!(request, Message::Get(_)),
            "{request:?}: a GET shares memory until its driver waits"
        );
        harness.connection.own_keys();
        assert!(input.try_reclaim(length), "{request:?}");
    }
    assert_eq!(harness.effects(), [commit_effect("k", "v", 1)]);
    harness.connection.handle_outcome(accepted(Revision::new(10)));
    assert_eq!(harness.effects(), [get_effect("k"), get_effect("k")], "the keys are unchanged");
}

#[test]
fn unsent_broadcasts_pause_the_input() {
    let mut history = History::new();
    let mut harness = Harness::within(Limits { max_unsent: 1000, ..Limits::default() }, &history);
    harness.send(&[get(1, "a")]);
    history.put(OTHER, "key", vec![b'v'; 1000], 1);
    harness.connection.handle_log(&history.log);
    assert_eq!(harness.effects(), [], "no room for the response");
    assert_eq!(harness.send(&[get(2, "b")]), Input::Paused);
    assert_eq!(harness.read_all().len(), 1);
    assert_eq!(harness.decode_rest(), ALL_DECODED);
    assert_eq!(harness.effects(), [get_effect("a")], "one at a time, because each response may be large");
    harness.connection.handle_entry(Ok(None));
    assert_eq!(harness.effects(), [get_effect("b")]);
}

/// Sends many GETs of a large value, and reads `read_bytes` bytes of output at a time.
fn send_many_gets(max_unsent: usize, read_bytes: usize) {
    const GETS: u16 = 300;
    let history = History::new();
    let mut harness = Harness::within(Limits { max_unsent, ..Limits::default() }, &history);
    let large = put_bytes("key", 60_000);
    let requests: Vec<_> = (1..=GETS).map(|tag| get(tag, "key")).collect();
    harness.send(&requests);
    let mut received = Vec::new();
    while received.len() < requests.len() {
        harness.decode_rest();
        let mut reads = 0;
        while let Some(effect) = harness.connection.poll_effect() {
            assert_eq!(effect, get_effect("key"));
            harness.connection.handle_entry(Ok(Some(entry("key", vec![b'v'; 60_000], 1, Revision::new(10)))));
            reads += 1;
        }
        assert!(reads * large < max_unsent + large, "{reads} large responses at once");
        harness.connection.handle_log(&history.log);
        let unsent = harness.connection.output().remaining();
        assert!(unsent < MAX_UNSENT_OUTPUT + large, "{unsent} bytes of output");
        assert!(harness.read(read_bytes) > 0, "stuck after {} responses", received.len());
        received.extend(harness.frames());
    }
    let tags: Vec<_> = received.iter().map(|message| message.tag().get()).collect();
    assert_eq!(tags, (1..=GETS).collect::<Vec<_>>());
}

#[test]
fn many_gets_of_large_values_hold_bounded_memory() {
    for (max_unsent, read_bytes) in [(1, 30_000), (1, usize::MAX), (100_000, 10_000), (1024 * 1024, 50_000)] {
        send_many_gets(max_unsent, read_bytes);
    }
}

#[test]
fn reads_in_flight_count_as_responses_of_the_largest_size() {
    let history = History::new();
    let limits = Limits { max_unsent: 300_000, ..Limits::default() };
    let mut harness = Harness::within(limits, &history);
    let requests: Vec<_> = (1..=100).map(|tag| get(tag, "key")).collect();
    assert_eq!(harness.send(&requests), ALL_DECODED);
    let mut completed = 0;
    while completed < 100 {
        // All reads that start before the first completes.
        let reads = harness.effects().len();
        assert!(reads > 0, "stuck after {completed} responses");
        for _ in 0..reads {
            harness.connection.handle_entry(Ok(Some(entry("key", vec![b'v'; 60_000], 1, Revision::new(10)))));
        }
        let held = reads * put_bytes("key", 60_000);
        assert!(held < limits.max_unsent + Put::OVERHEAD + Limits::MAX_PUT, "{held} bytes of responses");
        let mut sent = harness.show_log(&history);
        while sent.len() < reads {
            let more = harness.show_log(&history);
            assert!(!more.is_empty());
            sent.extend(more);
        }
        completed += reads;
    }
}

#[test]
fn a_get_at_the_front_starts_although_later_responses_fill_the_limit() {
    let history = History::new();
    for max_unsent in [1, 50, 100] {
        let mut harness = Harness::within(Limits { max_unsent, ..Limits::default() }, &history);
        // The ERRORs are refused on arrival, but their responses wait for that of the GET.
        harness.send(&[get(1, ""), error(2, "?"), error(3, "?"), error(4, "?")]);
        assert_eq!(harness.effects(), [get_effect("")], "with room for {max_unsent} bytes");
        harness.connection.handle_entry(Ok(None));
        let mut responses = harness.show_log(&history);
        harness.decode_rest();
        responses.extend(harness.show_log(&history));
        assert_eq!(responses[0], error(1, "\"\": not found"));
        while responses.len() < 4 {
            harness.decode_rest();
            let more = harness.show_log(&history);
            assert!(!more.is_empty(), "stuck");
            responses.extend(more);
        }
    }
}

#[test]
fn a_frame_of_the_largest_size_is_accepted_for_decoding() {
    let history = History::new();
    let mut harness = Harness::following(&history);
    let mut frame = BytesMut::new();
    put(1, "key", vec![b'v'; MAX_STRING_LENGTH], 1).encode(&mut frame).unwrap();
    // Only the lengths are known yet: the version behind them is not counted.
    let expected = put_bytes("key", MAX_STRING_LENGTH) - 8;
    assert_eq!(harness.send_bytes(&frame[..20]), Input::Wanted { expected });
    assert_eq!(harness.send_bytes(&frame[20..]), ALL_DECODED);
    let text = "too large: key and value of 65538 bytes together, expected at most 65525";
    assert_eq!(harness.show_log(&history), [error(1, text)]);
}
