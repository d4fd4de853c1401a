//! Framing: TCP may split and join frames, and each side may close the stream before the other.

use crate::support::prelude::*;

/// Returns requests of each kind, and the responses of an empty server.
fn conversation() -> (Vec<Message>, Vec<Message>) {
    let large = "v".repeat(20_000);
    [
        (get(1, "k"), error(1, "\"k\": not found")),
        (put(2, "k", "v", 1), put(2, "k", "v", 1)),
        (put(3, "k", "v", 1), error(3, "stale put")),
        (get(4, "k"), put(4, "k", "v", 1)),
        (put(5, "", "", 1), put(5, "", "", 1)),
        (get(6, ""), put(6, "", "", 1)),
        (error(7, "text"), error(7, "messages of kind ERROR cannot be applied")),
        (auth(8, "password"), error(8, "messages of kind AUTH cannot be applied")),
        (put(9, "large", &large, 1), put(9, "large", &large, 1)),
        (get(10, "large"), put(10, "large", &large, 1)),
        (put(11, "k", "w", 2), put(11, "k", "w", 2)),
    ]
    .into_iter()
    .unzip()
}

#[test]
fn one_byte_at_a_time() {
    let server = TestServer::start();
    let mut client = server.connect();
    let (requests, responses) = conversation();
    for (request, response) in requests.iter().zip(&responses) {
        let bytes = encoded(request);
        // Large frames are split only at the beginning and the end.
        let (middle, end) = (bytes.len().min(30), bytes.len().saturating_sub(30));
        for byte in &bytes[..middle] {
            client.send_bytes(&[*byte]);
        }
        if middle < end {
            client.send_bytes(&bytes[middle..end]);
        }
        for byte in &bytes[end.max(middle)..] {
            client.send_bytes(&[*byte]);
        }
        assert_eq!(client.receive(), *response);
    }
}

#[test]
fn cut_anywhere() {
    let (requests, responses) = conversation();
    let bytes = all_encoded(&requests);
    for seed in 0..50 {
        let server = TestServer::start();
        let mut client = server.connect();
        let mut random = Random::new(seed);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let most = if random.below(4) == 0 { 10_000 } else { 20 };
            let (piece, later) = rest.split_at(rest.len().min(1 + random.below(most) as usize));
            client.send_bytes(piece);
            rest = later;
        }
        client.half_close();
        assert_eq!(client.receive_to_end(), responses, "seed {seed}");
    }
}

#[test]
fn many_frames_in_one_segment() {
    let server = TestServer::start();
    let mut client = server.connect();
    let writes: Vec<Message> = (1..=1_000).map(|version| put(1, "k", "v", version)).collect();
    client.send_bytes(&all_encoded(&writes));
    for write in &writes {
        assert_eq!(client.receive(), *write);
    }
    let (requests, responses) = conversation();
    let server = TestServer::start();
    let mut client = server.connect();
    client.send_bytes(&all_encoded(&requests));
    for response in &responses {
        assert_eq!(client.receive(), *response);
    }
}

#[test]
fn requests_before_a_half_close_get_their_responses() {
    let (store, server) = TestServer::with_test_store(|_| {});
    let mut client = server.connect();
    let (requests, responses) = conversation();
    store.close_gate();
    client.send_bytes(&all_encoded(&requests));
    client.half_close();
    store.wait_for_commit();
    // The half-close arrives long before the responses are sent.
    server.connect().expect_silence();
    store.open_gate();
    assert_eq!(client.receive_to_end(), responses);
}

#[test]
fn every_request_before_a_half_close_gets_a_response_under_small_limits() {
    let server = TestServer::with(|config| {
        config.limits.max_requests = 2;
        config.limits.max_unsent = 100;
    });
    let mut client = server.connect();
    let writes: Vec<Message> = (1..=500).map(|version| put(1, "k", "v", version)).collect();
    client.send_bytes(&all_encoded(&writes));
    client.half_close();
    assert_eq!(client.receive_to_end(), writes);
}

#[test]
fn a_half_frame_before_a_half_close_is_no_request() {
    let server = TestServer::start();
    let mut client = server.connect();
    let frame = encoded(&put(2, "k", "half", 2));
    client.send(&put(1, "k", "whole", 1));
    client.send_bytes(&frame[..frame.len() - 1]);
    client.half_close();
    assert_eq!(client.receive_to_end(), [put(1, "k", "whole", 1)]);
    server.connect().expect(&get(1, "k"), &put(1, "k", "whole", 1));
}

#[test]
fn a_silent_connection_that_half_closes_is_closed() {
    let server = TestServer::start();
    for _ in 0..100 {
        let mut client = server.connect();
        client.half_close();
        client.expect_end();
    }
}
