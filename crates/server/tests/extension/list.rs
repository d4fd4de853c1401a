//! LIST: which keys, in which order, and how many. Each test covers one sentence of the protocol.

use crate::support::prelude::*;

/// Sends a LIST, checks its response, and returns the keys.
#[track_caller]
fn listed(client: &mut Client, request: &Message, revision: u64) -> Vec<String> {
    client.send(request);
    let mut keys = Vec::new();
    loop {
        match client.receive() {
            Message::Put(put) => {
                assert_eq!((put.tag, put.version, put.value), (request.tag(), Version::new(1), "v".into()));
                keys.push(String::from_utf8(put.key.to_vec()).unwrap());
            }
            response => {
                assert_eq!(response, mark(request.tag().get(), revision));
                return keys;
            }
        }
    }
}

#[test]
fn the_keys_under_the_prefix_come_in_key_order_and_then_a_mark() {
    on_each_engine(|lab| {
        let mut client = lab.put_keys(&["b/2", "a/2", "a/10", "a", "", "a/1", "b/1", "a/", "c"]);
        assert_eq!(listed(&mut client, &list(7, "a/", "", 100), 9), ["a/", "a/1", "a/10", "a/2"]);
        assert_eq!(listed(&mut client, &list(8, "", "", 100), 9).len(), 8, "the empty key is not after itself");
        assert_eq!(listed(&mut client, &list(9, "b/2", "", 100), 9), ["b/2"]);
        assert_eq!(listed(&mut client, &list(10, "d", "", 100), 9), Vec::<String>::new());
        client.expect_silence();
    });
}

#[test]
fn a_list_starts_strictly_after_a_key_even_if_it_is_missing() {
    on_each_engine(|lab| {
        let mut client = lab.put_keys(&["a/1", "a/2", "a/3", "b"]);
        for (after, expected) in [
            ("a/1", &["a/2", "a/3"][..]),
            ("a/1x", &["a/2", "a/3"]),
            ("a/", &["a/1", "a/2", "a/3"]),
            ("", &["a/1", "a/2", "a/3"]),
            ("a/3", &[]),
            ("zzz", &[]),
        ] {
            assert_eq!(listed(&mut client, &list(7, "a/", after, 100), 4), expected, "after {after:?}");
        }
    });
}

#[test]
fn a_list_has_at_most_limit_keys() {
    on_each_engine(|lab| {
        let mut client = lab.put_keys(&["1", "2", "3"]);
        for (limit, expected) in [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (u32::MAX, 3)] {
            assert_eq!(listed(&mut client, &list(7, "", "", limit), 3).len(), expected, "limit {limit}");
        }
    });
}

#[test]
fn deleted_keys_are_not_listed_and_do_not_count() {
    on_each_engine(|lab| {
        let mut client = lab.put_keys(&["1", "2", "3", "4"]);
        for key in ["1", "3"] {
            client.expect_echo(&delete(1, key, 2));
        }
        assert_eq!(listed(&mut client, &list(7, "", "", 2), 6), ["2", "4"]);
    });
}

#[test]
fn many_keys_are_listed_at_once_and_page_by_page() {
    on_each_engine(|lab| {
        const KEYS: usize = 5_000;
        let mut client = lab.server.extended();
        let keys: Vec<String> = (0..KEYS).map(|number| format!("k/{number:05}")).collect();
        let puts: Vec<Message> = keys.iter().map(|key| put(1, key, "v", 1)).collect();
        thread::scope(|scope| {
            client.send_aside(scope, all_encoded(&puts));
            puts.iter().for_each(|put| assert_eq!(client.receive(), *put));
        });
        assert_eq!(listed(&mut client, &list(7, "k/", "", u32::MAX), KEYS as u64), keys);
        assert_eq!(listed(&mut client, &list(7, "k/", "", 4_321), KEYS as u64), keys[..4_321]);
        let (mut after, mut found) = (String::new(), Vec::new());
        loop {
            let page = listed(&mut client, &list(7, "k/", &after, 999), KEYS as u64);
            let is_last = page.len() < 999;
            after = page.last().cloned().unwrap_or(after);
            found.extend(page);
            if is_last {
                break;
            }
        }
        assert_eq!(found, keys);
    });
}

#[test]
fn a_list_sees_every_earlier_write_of_its_connection_and_no_later_one() {
    on_each_gated_engine(|lab| {
        let mut client = lab.server.extended();
        lab.store.close_gate();
        client.send_bytes(&all_encoded(&[put(1, "a", "v", 1), put(2, "b", "v", 1), list(3, "", "", 10)]));
        lab.store.wait_for_commit();
        lab.store.open_gate();
        client.expect_all(&[
            put(1, "a", "v", 1),
            put(2, "b", "v", 1),
            put(3, "a", "v", 1),
            put(3, "b", "v", 1),
            mark(3, 2),
        ]);
    });
}

#[test]
fn a_list_agrees_with_the_changes_watched_before() {
    for recent_log in [64 << 20, 0] {
        on_each_engine_with(
            |config| config.recent_log = recent_log,
            |lab| {
                const PUTS: u64 = 1_000;
                thread::scope(|scope| {
                    scope.spawn(|| {
                        let mut writer = lab.server.extended();
                        for version in 1..=PUTS {
                            writer.expect_echo(&put(1, "k", "v", version));
                        }
                    });
                    let mut client = lab.server.watching("");
                    let sees_all = recent_log > 0;
                    let (mut received, mut responses) = (0, 0);
                    while received < PUTS {
                        client.send(&list(7, "", "", 10));
                        loop {
                            match client.receive() {
                                Message::Put(put) if put.tag == Tag::new(7) => {
                                    // LIST may return a version that catch-up skips later. The versions from the
                                    // first catch-up are not known here.
                                    let listed = put.version.get();
                                    assert!(received <= listed, "listed {put:?} after {received}");
                                    assert!(
                                        !sees_all || received == 0 || received == listed,
                                        "listed {put:?} after {received}"
                                    );
                                    (received, responses) = (listed, responses + 1);
                                }
                                Message::Put(put) => {
                                    assert!(put.version.get() > received, "{put:?} after {received}");
                                    received = put.version.get();
                                }
                                message if message.tag() == Tag::new(7) => break,
                                _ => {}
                            }
                        }
                    }
                    assert!(responses > 0);
                });
            },
        );
    }
}

#[test]
fn a_list_does_not_delay_other_requests() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        let value = "v".repeat(60_000);
        for number in 0..50 {
            let request = put(1, &format!("k/{number}"), &value, 1);
            client.expect_echo(&request);
        }
        client.send_bytes(&all_encoded(&[list(2, "k/", "", 1_000), get(3, "none"), list(4, "", "", 1)]));
        let mut tags = Vec::new();
        while tags.last() != Some(&2) {
            match client.receive() {
                Message::Put(_) => {}
                response => tags.push(response.tag().get()),
            }
        }
        assert_eq!(tags, [3, 4, 2], "the large list ends last");
    });
}

#[test]
fn a_prefix_or_a_key_over_the_limit_is_refused_and_the_connection_stays() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        let (longest, long) = ("p".repeat(4096), "p".repeat(4097));
        let refusal = error(2, "too large: key of 4097 bytes, expected at most 4096");
        client.expect(&list(2, &long, "", 1), &refusal);
        client.expect(&list(2, "", &long, 1), &refusal);
        client.expect(&list(2, &longest, &longest, 1), &mark(2, 0));
    });
}

#[test]
fn prefixes_are_bytes() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        let keys = [&b"\xff\xff\xff"[..], b"\xff\xff", b"\xff", b"\0", b"\xfe\xff"];
        for key in keys {
            let request = Message::put(Tag::new(1), Bytes::from_static(key), "v", Version::new(1));
            client.expect_echo(&request);
        }
        client.send(&Message::list(Tag::new(2), &b"\xff"[..], &b"\xff"[..], 10));
        for key in [&b"\xff\xff"[..], b"\xff\xff\xff"] {
            assert_eq!(client.receive(), Message::put(Tag::new(2), key, "v", Version::new(1)));
        }
        assert_eq!(client.receive(), mark(2, 5));
        client.expect(&watch(3, "none", 5), &mark(3, 5));
    });
}
