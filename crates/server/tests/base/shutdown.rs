//! Shutdown: requests in flight complete, every connection is sent the reason, and no client can delay it forever.

use crate::support::prelude::*;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use syncline_server::{ServeError, Server};
use tokio::runtime::Runtime;

fn farewell() -> Message {
    error(0, "unavailable: shutting down")
}

#[test]
fn a_server_without_connections_shuts_down() {
    TestServer::start().shut_down().unwrap();
}

#[test]
fn a_server_releases_its_store_before_run_returns() {
    // Otherwise the process could end before the store is closed, and a clean shutdown would be like a kill. Repeated under
    // load, because the race is rare.
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let held: Vec<usize> = (0..200)
            .map(|_| {
                let store = TestStore::new();
                Runtime::new().unwrap().block_on(async {
                    let config = Config { listen: "127.0.0.1:0".into(), ..Config::default() };
                    Server::bind(config, store.clone()).await.unwrap().run(async {}).await.unwrap();
                    store.handles()
                })
            })
            .collect();
        is_over.store(true, Ordering::Relaxed);
        assert!(held.iter().all(|handles| *handles == 1), "{held:?}");
    });
}

#[test]
fn every_connection_is_sent_the_reason_and_closed() {
    let mut server = TestServer::start();
    let mut clients: Vec<Client> = (0..50).map(|_| server.connected()).collect();
    server.start_shutdown();
    for client in &mut clients {
        assert_eq!(client.receive_to_end(), [farewell()]);
    }
    drop(clients);
    server.shut_down().unwrap();
}

#[test]
fn a_connection_in_the_middle_of_a_frame_is_closed() {
    let mut server = TestServer::start();
    let mut client = server.connected();
    client.send_bytes(&encoded(&put(1, "k", "v", 1))[..10]);
    server.start_shutdown();
    assert_eq!(client.receive_to_end(), [farewell()]);
    drop(client);
    server.shut_down().unwrap();
}

#[test]
fn requests_in_flight_complete_and_new_connections_are_refused() {
    let (store, mut server) = TestServer::with_test_store(|_| {});
    let mut idle = server.connected();
    let mut writer = server.connected();
    let mut half_closed = server.connected();
    store.close_gate();
    let requests = [put(1, "k", "a", 1), get(2, "k"), put(3, "k", "b", 2), put(4, "k", "b", 2), get(5, "none")];
    writer.send_bytes(&all_encoded(&requests));
    store.wait_for_commit();
    // Sent at once: when the first has its response, the server has read the second.
    half_closed.send_bytes(&all_encoded(&[error(1, ""), put(2, "l", "v", 1)]));
    half_closed.half_close();
    assert_eq!(half_closed.receive(), error(1, "messages of kind ERROR cannot be applied"));
    server.start_shutdown();
    assert_eq!(idle.receive_to_end(), [farewell()], "an idle connection does not wait for the others");
    let refused = TcpStream::connect(server.addr).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    store.open_gate();
    let responses: Vec<Message> =
        writer.receive_to_end().into_iter().filter(|other| *other != put(0, "l", "v", 1)).collect();
    let expected = [
        put(1, "k", "a", 1),
        put(2, "k", "a", 1),
        put(3, "k", "b", 2),
        error(4, "stale put"),
        error(5, "\"none\": not found"),
        farewell(),
    ];
    assert_eq!(responses, expected);
    let responses = half_closed.receive_to_end();
    assert!(responses.contains(&put(2, "l", "v", 1)), "{responses:?}");
    drop((idle, writer, half_closed));
    server.shut_down().unwrap();
}

#[test]
fn during_a_shutdown_exactly_the_committed_writes_get_responses() {
    const PUTS: u64 = 10_000;
    let (store, mut server) = TestServer::with_test_store(|_| {});
    let mut clients: Vec<Client> = (0..4).map(|_| server.connected()).collect();
    let (halfway, is_halfway) = std::sync::mpsc::channel();
    let answered: Vec<u64> = thread::scope(|scope| {
        let clients: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(number, client)| {
                let halfway = halfway.clone();
                scope.spawn(move || {
                    let key = format!("of {number}");
                    let message = |version: u64| put(version as u16, &key, "v", version);
                    let requests: Vec<Message> = (1..=PUTS).map(message).collect();
                    let mut stream = client.stream.try_clone().unwrap();
                    let bytes = all_encoded(&requests);
                    thread::scope(|scope| {
                        // The server may close the connection before it has read everything.
                        scope.spawn(move || std::io::Write::write_all(&mut stream, &bytes));
                        let mut answered = 0;
                        loop {
                            match client.receive() {
                                broadcast @ Message::Put(_) if broadcast.tag() == Tag::BROADCAST => {}
                                end if end == farewell() => {
                                    client.expect_end();
                                    // Ends the thread that still sends.
                                    let _ = client.stream.shutdown(std::net::Shutdown::Both);
                                    return answered;
                                }
                                response => {
                                    assert_eq!(response, message(answered + 1));
                                    answered += 1;
                                    if answered == PUTS / 100 {
                                        halfway.send(()).unwrap();
                                    }
                                }
                            }
                        }
                    })
                })
            })
            .collect();
        is_halfway.recv_timeout(TIMEOUT).unwrap();
        server.start_shutdown();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    drop(clients);
    server.shut_down().unwrap();
    let history = store.history();
    for (number, answered) in answered.into_iter().enumerate() {
        let key = format!("of {number}");
        let committed = history.iter().filter(|write| write.0 == key.as_bytes()).count() as u64;
        assert_eq!(answered, committed, "{key}");
    }
}

#[test]
fn a_client_that_never_reads_does_not_delay_the_shutdown_forever() {
    let server = TestServer::start();
    let mut client = server.connected();
    let value = "v".repeat(60_000);
    assert_eq!(client.put(1, "k", &value, 1), put(1, "k", &value, 1));
    let mut never_reads: Vec<Client> = (0..3).map(|_| Client::with_small_buffer(server.addr)).collect();
    for client in &mut never_reads {
        let requests: Vec<Message> = (1..=1_000).map(|tag| get(tag, "k")).collect();
        client.send_bytes(&all_encoded(&requests));
    }
    // This one half-closes, and never reads its responses.
    never_reads[0].half_close();
    client.expect(&get(2, "k"), &put(2, "k", &value, 1));
    drop(client);
    server.shut_down().unwrap();
}

#[test]
fn connections_that_stay_open_do_not_delay_the_shutdown() {
    let server = TestServer::start();
    let _idle: Vec<Client> = (0..20).map(|_| server.connected()).collect();
    server.shut_down().unwrap();
}

#[test]
fn a_panic_of_the_committer_ends_the_server_and_all_connections() {
    // The committer of the first store is a thread, that of the second a task.
    for store in [TestStore::new(), TestStore::over(Engine::memory(), History::default())] {
        let server = TestServer::on(store.clone(), |_| {});
        let mut other = server.connected();
        let mut client = server.connected();
        client.expect_echo(&put(1, "k", "v", 1));
        assert_eq!(other.receive(), put(0, "k", "v", 1));
        store.panic_on_commit();
        client.send_bytes(&all_encoded(&[get(2, "k"), put(3, "k", "w", 2), get(4, "k")]));
        assert_eq!(other.receive_to_end(), [farewell()]);
        // The outcome of the write is unknown. So neither it nor any later request gets a response.
        assert_eq!(client.receive_to_end(), [put(2, "k", "v", 1), farewell()]);
        drop((client, other));
        assert!(matches!(server.wait(), Err(ServeError::CommitterPanicked)));
    }
}

#[test]
fn a_shutdown_waits_for_the_batch_that_is_being_committed() {
    let (store, mut server) = TestServer::with_test_store(|_| {});
    let mut idle = server.connected();
    let mut writer = server.connected();
    store.close_gate();
    writer.send(&put(1, "k", "v", 1));
    store.wait_for_commit();
    server.start_shutdown();
    assert_eq!(idle.receive_to_end(), [farewell()]);
    // The client leaves without reading the response. The write is committed anyway.
    drop((idle, writer));
    store.open_gate();
    server.shut_down().unwrap();
    assert_eq!(store.history(), [("k".into(), "v".into(), 1)]);
}

#[test]
fn a_server_that_never_runs_releases_its_store() {
    let store = TestStore::new();
    let config = Config { listen: "127.0.0.1:0".into(), ..Config::default() };
    let server = Runtime::new().unwrap().block_on(Server::bind(config, store.clone())).unwrap();
    assert!(store.handles() > 1);
    drop(server);
    // Waits for the thread of the committer to end.
    while store.handles() > 1 {
        thread::yield_now();
    }
}
