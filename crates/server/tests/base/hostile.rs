//! Bad input, broken connections and limits. Regardless of what one client does, the server continues to serve all others.

use crate::support::prelude::*;
use std::net::SocketAddr;
use std::time::Instant;
use syncline_wire::ReadError;

/// Returns a frame of each kind that a base client can send.
fn frames() -> [Message; 4] {
    [get(513, "key"), put(514, "key", "value", 1), error(515, "text"), auth(516, "password")]
}

/// Returns whether the server serves a connection. Otherwise it must refuse it.
fn is_served(client: &mut Client) -> bool {
    client.send(&get(1, "is this served?"));
    match client.receive() {
        refused if refused == error(0, "unavailable: too many connections") => {
            client.expect_end();
            false
        }
        response => {
            assert_eq!(response, error(1, "\"is this served?\": not found"));
            true
        }
    }
}

/// Connects until the server serves a connection. It may need time to notice that others have ended.
fn connect_until_served(addr: SocketAddr) -> Client {
    let timed_out = Instant::now() + TIMEOUT;
    while Instant::now() < timed_out {
        // If the server closes the connection at once, sending may fail.
        let mut client = Client::connect(addr);
        if client.try_send(&get(1, "is this served?")).is_ok()
            && matches!(client.try_receive(), Ok(Some(response)) if response.tag() == Tag::new(1))
        {
            return client;
        }
    }
    panic!("no connection was served");
}

// Bad input

#[test]
fn random_bytes_do_not_affect_other_connections() {
    let server = TestServer::start();
    let mut bystander = server.connected();
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut client = server.connect();
        let length = random.below(2_000) as usize;
        let mut bytes = random.bytes(length);
        if seed % 3 > 0 {
            // Known kinds and short lengths, so that some frames are complete.
            for at in (0..length.saturating_sub(8)).step_by(16) {
                bytes[at] = random.below(4) as u8;
                bytes[at + 3] = 11;
                bytes[at + 4] = 0;
            }
        }
        // The server may close the connection before everything is sent.
        let _ = client.try_send_bytes(&bytes);
        let _ = client.try_half_close();
        // The server sends only valid frames, and then closes the connection.
        loop {
            match client.try_receive() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(ReadError::Io(_)) => break,
                Err(other) => panic!("seed {seed}: {other}"),
            }
        }
        bystander.expect_service("bystander", seed + 1);
    }
}

#[test]
fn each_random_frame_gets_one_response_in_order() {
    let server = TestServer::start();
    let mut bystander = server.connected();
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let mut client = server.connected();
        let requests: Vec<Message> = (1..=100)
            .map(|tag| {
                let most = if random.below(20) == 0 { 65_536 } else { 50 };
                let length = random.below(most) as usize;
                let key = random.bytes(length);
                match random.below(4) {
                    0 => Message::get(Tag::new(tag), key),
                    1 => {
                        let length = random.below(most) as usize;
                        Message::put(Tag::new(tag), key, random.bytes(length), Version::new(random.next()))
                    }
                    2 => Message::error(Tag::new(tag), key),
                    _ => Message::auth(Tag::new(tag), key),
                }
            })
            .collect();
        thread::scope(|scope| {
            client.send_aside(scope, all_encoded(&requests));
            for request in &requests {
                let response = client.receive_response();
                assert_eq!(response.tag(), request.tag(), "seed {seed}");
            }
        });
        bystander.expect_service("bystander", seed + 1);
    }
}

#[test]
fn a_frame_that_is_cut_at_any_byte_is_no_request() {
    let server = TestServer::start();
    let mut bystander = server.connected();
    for frame in frames().map(|message| encoded(&message)) {
        for cut in 0..frame.len() {
            let mut closed = server.connect();
            closed.send_bytes(&frame[..cut]);
            drop(closed);

            let mut reset = server.connect();
            reset.send_bytes(&frame[..cut]);
            reset.reset();

            let mut ended = server.connect();
            ended.send_bytes(&frame[..cut]);
            ended.half_close();
            assert_eq!(ended.receive_to_end(), []);
        }
    }
    // Nothing was broadcast, and nothing written.
    bystander.expect(&get(1, "key"), &error(1, "\"key\": not found"));
    bystander.expect_silence();
}

#[test]
fn hundreds_of_half_frames_do_not_block_other_connections() {
    let server = TestServer::start();
    let mut bystander = server.connected();
    let large = encoded(&put(9, "large", &"v".repeat(60_000), 1));
    let get_large = encoded(&get(9, &"k".repeat(4_000)));
    let mut held: Vec<(Client, &[u8])> = (0..400)
        .map(|number| {
            let frame = if number % 2 == 0 { &large } else { &get_large };
            let (first, rest) = frame.split_at(1 + number * 7 % (frame.len() - 1));
            let mut client = server.connect();
            client.send_bytes(first);
            (client, rest)
        })
        .collect();
    for version in 1..=50 {
        bystander.expect_service("bystander", version);
    }
    // The connections with half frames work once the frames are complete.
    for (client, rest) in &mut held {
        client.send_bytes(rest);
        assert_eq!(client.receive_response().tag(), Tag::new(9));
    }
}

// Broken connections

#[test]
fn a_reset_connection_with_requests_in_flight_frees_its_slot() {
    const PLACES: usize = 8;
    let server = TestServer::with(|config| config.max_connections = PLACES);
    let mut bystander = server.connected();
    let requests: Vec<Message> = (1..=200).map(|version| put(1, "k", "v", version)).collect();
    let bytes = all_encoded(&requests);
    for round in 0..100 {
        let mut client = connect_until_served(server.addr);
        client.send_bytes(&bytes[..bytes.len() - round]);
        client.reset();
        bystander.expect_service("bystander", round as u64 + 1);
    }
}

#[test]
fn a_put_before_a_reset_is_applied_completely_or_not_at_all() {
    let (store, server) = TestServer::with_test_store(|_| {});
    let mut bystander = server.connected();
    store.close_gate();
    let mut client = server.connected();
    client.send(&put(1, "k", "v", 1));
    store.wait_for_commit();
    client.reset();
    store.open_gate();
    assert_eq!(bystander.receive(), put(0, "k", "v", 1), "the committer had received it");
    bystander.expect(&get(1, "k"), &put(1, "k", "v", 1));
}

// Bounds

#[test]
fn a_connection_over_the_limit_is_refused_until_another_ends() {
    let server = TestServer::with(|config| config.max_connections = 3);
    let mut clients: Vec<Client> = (0..3).map(|_| server.connected()).collect();
    for _ in 0..5 {
        let mut refused = server.connect();
        assert_eq!(refused.receive_to_end(), [error(0, "unavailable: too many connections")]);
    }
    for client in &mut clients {
        client.expect_silence();
    }
    for _ in 0..5 {
        drop(clients.remove(0));
        clients.push(connect_until_served(server.addr));
        assert!(!is_served(&mut server.connect()), "only one connection ended");
    }
}

#[test]
fn refused_connections_that_stay_open_block_no_other() {
    let server = TestServer::with(|config| config.max_connections = 2);
    let mut bystander = server.connected();
    let other = server.connected();
    // More than the server refuses with a reason at once. The others may be closed without one.
    let mut refused: Vec<Client> = (0..300).map(|_| server.connect()).collect();
    for version in 1..=20 {
        bystander.expect_service("bystander", version);
    }
    for client in &mut refused {
        let farewell = client.receive_to_end();
        assert!(farewell.is_empty() || farewell == [error(0, "unavailable: too many connections")], "{farewell:?}");
    }
    drop((other, refused));
    connect_until_served(server.addr);
}

#[test]
fn a_connection_has_no_more_than_the_configured_requests_in_flight() {
    let (store, server) = TestServer::with_test_store(|config| config.limits.max_requests = 4);
    let mut bystander = server.connected();
    let mut client = server.connected();
    let requests: Vec<Message> = (1..=1_000).map(|version| put(version, "k", "v", u64::from(version))).collect();
    store.close_gate();
    client.send_bytes(&all_encoded(&requests));
    store.wait_for_commit();
    bystander.expect_silence();
    store.open_gate();
    for request in &requests {
        assert_eq!(client.receive(), *request);
    }
    let batches = store.batches();
    assert_eq!(batches.iter().sum::<usize>(), 1_000);
    // Without the limit, more than 4 others would have gathered while the first waited.
    assert!(batches.iter().all(|batch| *batch <= 4), "{batches:?}");
}

#[test]
fn a_connection_has_no_more_than_the_configured_bytes_in_flight() {
    let (store, server) = TestServer::with_test_store(|config| config.limits.max_unsent = 10_000);
    let mut bystander = server.connected();
    let mut client = server.connected();
    let value = "v".repeat(1_000);
    let requests: Vec<Message> = (1..=500).map(|version| put(version, "k", &value, u64::from(version))).collect();
    store.close_gate();
    thread::scope(|scope| {
        client.send_aside(scope, all_encoded(&requests));
        store.wait_for_commit();
        bystander.expect_silence();
        store.open_gate();
        for request in &requests {
            assert_eq!(client.receive(), *request);
        }
    });
    let batches = store.batches();
    // 10 of them have 10,160 bytes: the last one may exceed the limit.
    assert!(batches.iter().all(|batch| *batch <= 10), "{batches:?}");
}

/// Lets eight connections write as fast as they can, with a commit queue of `max_queue` bytes.
fn a_full_queue_loses_nothing(max_queue: usize, largest_batch: usize) {
    const WRITERS: usize = 8;
    const PUTS: u16 = 300;
    let (store, server) = TestServer::with_test_store(|config| config.max_queue = max_queue);
    let mut clients: Vec<Client> = (0..WRITERS).map(|_| server.connected()).collect();
    let mut bystander = server.connected();
    store.close_gate();
    thread::scope(|scope| {
        for (number, client) in clients.iter_mut().enumerate() {
            scope.spawn(move || {
                let key = format!("of {number}");
                // A read between the writes waits for the writes before it, and later writes wait for it.
                let requests: Vec<Message> = (1..=PUTS)
                    .map(|tag| match tag % 10 {
                        0 => get(tag, &key),
                        _ => put(tag, &key, "v", u64::from(tag - tag / 10)),
                    })
                    .collect();
                client.send_bytes(&all_encoded(&requests));
                for request in requests {
                    let response = client.receive_response();
                    match request {
                        Message::Get(get) => {
                            let tag = get.tag.get();
                            assert_eq!(response, put(tag, &key, "v", u64::from(tag - tag / 10)));
                        }
                        put => assert_eq!(response, put),
                    }
                }
            });
        }
        store.wait_for_commit();
        // The queue fills while commits are blocked. A client that only reads is still served.
        for tag in 1..=100 {
            bystander.expect(&get(tag, "none"), &error(tag, "\"none\": not found"));
        }
        store.open_gate();
    });
    let batches = store.batches();
    assert_eq!(batches.iter().sum::<usize>(), WRITERS * usize::from(PUTS - PUTS / 10));
    assert!(batches.iter().all(|batch| *batch <= largest_batch), "{batches:?}");
    let mut last = [0; WRITERS];
    for _ in 0..batches.iter().sum() {
        let Message::Put(put) = bystander.receive() else { panic!("a broadcast") };
        let number: usize = str::from_utf8(&put.key).unwrap().strip_prefix("of ").unwrap().parse().unwrap();
        assert_eq!(put.version.get(), last[number] + 1);
        last[number] += 1;
    }
}

#[test]
fn a_commit_queue_for_one_transaction_loses_nothing() {
    a_full_queue_loses_nothing(1, 1);
}

#[test]
fn a_commit_queue_for_few_transactions_loses_nothing() {
    // Each transaction counts 256 bytes, plus its key and value.
    a_full_queue_loses_nothing(2_000, 7);
}

#[test]
fn a_commit_queue_that_is_full_of_stale_puts_makes_progress() {
    let (store, server) = TestServer::with_test_store(|config| config.max_queue = 1);
    let mut clients: Vec<Client> = (0..20).map(|_| server.connected()).collect();
    store.close_gate();
    for client in &mut clients {
        // Nothing is written, so only free space in the queue can wake these connections.
        client.send_bytes(&all_encoded(&[put(1, "k", "v", 0), put(2, "k", "v", 0)]));
    }
    store.wait_for_commit();
    store.open_gate();
    for client in &mut clients {
        assert_eq!(client.receive(), error(1, "stale put"));
        assert_eq!(client.receive(), error(2, "stale put"));
    }
}

#[test]
fn a_connection_that_ends_at_a_full_commit_queue_blocks_no_other() {
    let (store, server) = TestServer::with_test_store(|config| config.max_queue = 1);
    let mut bystander = server.connected();
    store.close_gate();
    let mut first = server.connected();
    first.send(&put(1, "first", "v", 1));
    store.wait_for_commit();
    for number in 0..50 {
        let mut client = server.connected();
        client.send(&put(1, &format!("of {number}"), "v", 1));
        if number % 2 == 0 { client.reset() } else { drop(client) }
    }
    store.open_gate();
    assert_eq!(first.receive(), put(1, "first", "v", 1));
    bystander.expect_service("bystander", 1);
}
