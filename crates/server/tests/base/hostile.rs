//! Bad input, broken connections and every bound: whatever a client does, the others are served, and so is it again.

use crate::support::{Client, Random, TestServer, TestStore, all_encoded, encoded, error, get, put};
use std::net::SocketAddr;
use std::thread;
use std::time::Instant;
use syncline_wire::{Message, ReadError, Tag, Version};

/// One of each kind that a client can send.
fn frames() -> [Message; 4] {
    [get(513, "key"), put(514, "key", "value", 1), error(515, "text"), Message::auth(Tag::new(516), "password")]
}

/// Whether the server takes a connection in: it is served, not told that there is no place.
fn is_served(client: &mut Client) -> bool {
    client.send(&get(1, "is there a place?"));
    match client.receive() {
        refused if refused == error(0, "unavailable: too many connections") => {
            client.expect_end();
            false
        }
        answer => {
            assert_eq!(answer, error(1, "\"is there a place?\": not found"));
            true
        }
    }
}

/// A connection for which there will be a place: the server has yet to find that others have ended.
fn connect_until_served(addr: SocketAddr) -> Client {
    let patience_is_over = Instant::now() + crate::support::PATIENCE;
    while Instant::now() < patience_is_over {
        // Where it is closed at once, what is sent may find no reader.
        let mut client = Client::connect(addr);
        if client.try_send(&get(1, "is there a place?")).is_ok()
            && matches!(client.try_receive(), Ok(Some(answer)) if answer.tag() == Tag::new(1))
        {
            return client;
        }
    }
    panic!("no place was freed");
}

// Bad input

#[test]
fn random_bytes_harm_nobody_else() {
    let server = TestServer::start();
    let mut bystander = server.connected();
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut client = server.connect();
        let length = random.below(2_000) as usize;
        let mut bytes = random.bytes(length);
        if seed % 3 > 0 {
            // Kinds that are known, and lengths that end within the bytes, so that some frames are whole.
            for at in (0..length.saturating_sub(8)).step_by(16) {
                bytes[at] = random.below(4) as u8;
                bytes[at + 3] = 11;
                bytes[at + 4] = 0;
            }
        }
        // The server may have closed before all is sent.
        let _ = client.try_send_bytes(&bytes);
        let _ = client.try_half_close();
        // Whatever it answers are frames, and then it ends.
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
fn random_frames_are_answered_one_each_in_order() {
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
                let answer = client.receive_answer();
                assert_eq!(answer.tag(), request.tag(), "seed {seed}");
            }
        });
        bystander.expect_service("bystander", seed + 1);
    }
}

#[test]
fn a_connection_that_is_cut_at_any_byte_of_a_frame_has_asked_for_nothing() {
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
    // No broadcast, and nothing written.
    bystander.expect(&get(1, "key"), &error(1, "\"key\": not found"));
    bystander.expect_silence();
}

#[test]
fn half_frames_that_are_held_open_by_the_hundred_keep_nobody_from_being_served() {
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
    // And each is a connection like any other.
    for (client, rest) in &mut held {
        client.send_bytes(rest);
        assert_eq!(client.receive_answer().tag(), Tag::new(9));
    }
}

// Broken connections

#[test]
fn a_connection_that_is_reset_with_requests_in_flight_frees_its_place() {
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
fn what_a_connection_had_asked_before_it_was_reset_is_done_or_not_but_never_half() {
    let store = TestStore::new();
    let server = TestServer::on(store.clone(), |_| {});
    let mut bystander = server.connected();
    store.close_gate();
    let mut client = server.connected();
    client.send(&put(1, "k", "v", 1));
    store.wait_for_commit();
    client.reset();
    store.open_gate();
    assert_eq!(bystander.receive(), put(0, "k", "v", 1), "the committer had it already");
    bystander.expect(&get(1, "k"), &put(1, "k", "v", 1));
}

// Bounds

#[test]
fn one_connection_too_many_is_told_so_and_a_place_that_is_freed_can_be_taken() {
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
        assert!(!is_served(&mut server.connect()), "one place was freed, not two");
    }
}

#[test]
fn refused_connections_that_stay_keep_nobody_else_from_being_served() {
    let server = TestServer::with(|config| config.max_connections = 2);
    let mut bystander = server.connected();
    let other = server.connected();
    // More than are told at once; the others may be closed without a word.
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
    let store = TestStore::new();
    let server = TestServer::on(store.clone(), |config| config.limits.max_requests = 4);
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
    // While the first waited, more than 4 others would have gathered.
    assert!(batches.iter().all(|batch| *batch <= 4), "{batches:?}");
}

#[test]
fn a_connection_has_no_more_than_the_configured_bytes_in_flight() {
    let store = TestStore::new();
    let server = TestServer::on(store.clone(), |config| config.limits.max_unsent = 10_000);
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
    // 10 of them are 10,160 bytes: the last may stand above the bound.
    assert!(batches.iter().all(|batch| *batch <= 10), "{batches:?}");
}

/// Eight connections write as fast as they can; the queue holds `max_queue` bytes.
fn a_full_queue_loses_nothing(max_queue: usize, largest_batch: usize) {
    const WRITERS: usize = 8;
    const PUTS: u16 = 300;
    let store = TestStore::new();
    let server = TestServer::on(store.clone(), |config| config.max_queue = max_queue);
    let mut clients: Vec<Client> = (0..WRITERS).map(|_| server.connected()).collect();
    let mut bystander = server.connected();
    store.close_gate();
    thread::scope(|scope| {
        for (number, client) in clients.iter_mut().enumerate() {
            scope.spawn(move || {
                let key = format!("of {number}");
                // A read among the writes: it waits for those before it, and those behind it wait for it.
                let requests: Vec<Message> = (1..=PUTS)
                    .map(|tag| match tag % 10 {
                        0 => get(tag, &key),
                        _ => put(tag, &key, "v", u64::from(tag - tag / 10)),
                    })
                    .collect();
                client.send_bytes(&all_encoded(&requests));
                for request in requests {
                    let answer = client.receive_answer();
                    match request {
                        Message::Get(get) => {
                            let tag = get.tag.get();
                            assert_eq!(answer, put(tag, &key, "v", u64::from(tag - tag / 10)));
                        }
                        put => assert_eq!(answer, put),
                    }
                }
            });
        }
        store.wait_for_commit();
        // The queue fills while the store is held up. Whoever has nothing to write is served.
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
fn a_commit_queue_with_room_for_one_makes_progress_and_loses_nothing() {
    a_full_queue_loses_nothing(1, 1);
}

#[test]
fn a_commit_queue_with_room_for_a_few_makes_progress_and_loses_nothing() {
    // Each counts 256 bytes, and its key and value.
    a_full_queue_loses_nothing(2_000, 7);
}

#[test]
fn a_commit_queue_that_is_full_of_stale_puts_makes_progress() {
    let store = TestStore::new();
    let server = TestServer::on(store.clone(), |config| config.max_queue = 1);
    let mut clients: Vec<Client> = (0..20).map(|_| server.connected()).collect();
    store.close_gate();
    for client in &mut clients {
        // Nothing is written, so that nothing but the room in the queue has the server look at them again.
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
fn a_connection_that_ends_while_the_commit_queue_is_full_holds_up_nobody() {
    let store = TestStore::new();
    let server = TestServer::on(store.clone(), |config| config.max_queue = 1);
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
