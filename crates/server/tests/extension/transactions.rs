//! TXN: transactions are atomic and have one revision. Each test covers one sentence of the protocol.

use crate::support::prelude::*;

/// Expects a transaction to be refused because of this key, and to change nothing.
#[track_caller]
fn expect_refused(lab: &Lab, request: &Message, at_fault: &str) {
    let before = lab.history().head();
    let mut client = lab.server.extended();
    client.expect(request, &error(request.tag().get(), &format!("stale put: \"{at_fault}\"")));
    client.expect(&mark(2, 0), &mark(2, before));
}

#[test]
fn an_accepted_transaction_returns_its_writes_and_a_mark() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect_echo(&put(1, "old", "v", 4));
        client.send(&txn(7, [puts("a", "1", 1), checks("none", 0), deletes("old", 5), puts("b", "", 9)]));
        client.expect_all(&[put(7, "a", "1", 1), delete(7, "old", 5), put(7, "b", "", 9), mark(7, 2)]);
        client.expect_silence();
        client.expect(&get(1, "a"), &put(1, "a", "1", 1));
        client.expect(&get(1, "old"), &delete(1, "old", 5));
        client.expect(&get(1, "b"), &put(1, "b", "", 9));
    });
}

#[test]
fn the_worked_example_byte_for_byte() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        for request in [put(1, "dir", "", 4), put(1, "b", "", 7)] {
            client.expect_echo(&request);
        }
        let frame = b"\x09\x07\0\x03\0\0\x03\0dir\x04\0\0\0\0\0\0\0\x01\x01\0a\x01\x001\x01\0\0\0\0\0\0\0\x05\x01\0b\x08\0\0\0\0\0\0\0";
        client.send_bytes(frame);
        let response = b"\x01\x07\0\x01\0a\x01\x001\x01\0\0\0\0\0\0\0\x05\x07\0\x01\0b\x08\0\0\0\0\0\0\0\x07\x07\0\x03\0\0\0\0\0\0\0";
        assert_eq!(client.receive_bytes(response.len()), response);
        client.send_bytes(frame);
        let refusal = b"\x02\x07\0\x0e\0stale put: \"a\"";
        assert_eq!(client.receive_bytes(refusal.len()), refusal);
    });
}

#[test]
fn a_transaction_has_one_revision_and_the_next_one_follows() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        for revision in 1..=20 {
            client.send(&txn(7, [puts("a", "v", revision), puts("b", "v", revision)]));
            client.expect_all(&[put(7, "a", "v", revision), put(7, "b", "v", revision), mark(7, revision)]);
        }
        client.expect_echo(&put(1, "a", "v", 21));
        client.expect_echo(&delete(1, "b", 21));
        client.send(&txn(7, [checks("a", 21)]));
        assert_eq!(client.receive(), mark(7, 23), "PUT, DELETE and a TXN with only a CHECK each take one revision");
    });
}

#[test]
fn a_refused_transaction_names_the_first_conflict_and_writes_nothing() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect_echo(&put(1, "k", "v", 3));
        client.expect_echo(&put(1, "gone", "v", 1));
        client.expect_echo(&delete(1, "gone", 2));
        for (operations, at_fault) in [
            (vec![puts("new", "v", 1), checks("k", 2)], "k"),
            (vec![puts("new", "v", 1), checks("k", 0)], "k"),
            (vec![checks("none", 1), puts("k", "v", 4)], "none"),
            (vec![puts("k", "v", 4), puts("new", "v", 0), checks("none", 1)], "new"),
            (vec![puts("k", "v", 3), puts("new", "v", 0)], "k"),
            (vec![deletes("k", 3)], "k"),
            (vec![deletes("none", 0)], "none"),
            (vec![deletes("k", 4), checks("gone", 0)], "gone"),
            (vec![deletes("k", 4), checks("gone", 1)], "gone"),
            (vec![puts("new", "v", 1), puts("gone", "v", 1)], "gone"),
        ] {
            expect_refused(lab, &txn(7, operations), at_fault);
        }
        for key in ["new", "none"] {
            client.expect(&get(1, key), &error(1, &format!("\"{key}\": not found")));
        }
        client.send(&txn(7, [checks("gone", 2), checks("k", 3), checks("none", 0)]));
        assert_eq!(client.receive(), mark(7, 4));
    });
}

#[test]
fn a_key_in_a_response_is_escaped_and_truncated() {
    on_each_engine(|lab| {
        expect_refused(lab, &txn(7, [puts("a\"\n", "v", 0)]), "a\\\"\\n");
        expect_refused(lab, &txn(7, [puts(&"k".repeat(41), "v", 0)]), &format!("{}…", "k".repeat(40)));
    });
}

#[test]
fn a_transaction_may_contain_a_key_only_once() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        let refusal = error(7, "\"k\": expected once in a transaction, found twice");
        for second in [checks("k", 0), checks("k", 1), puts("k", "v", 2), deletes("k", 2)] {
            client.expect(&txn(7, [puts("k", "v", 1), puts("l", "v", 1), second]), &refusal);
        }
        client.expect_echo(&mark(1, 0));
    });
}

#[test]
fn a_transaction_may_be_empty() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect(&txn(7, []), &mark(7, 1));
    });
}

#[test]
fn the_last_version_is_reserved_for_a_deletion() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect_echo(&put(1, "k", "v", u64::MAX - 1));
        client.expect(&txn(7, [puts("l", "v", 1), puts("k", "v", u64::MAX)]), &error(7, "version exhausted"));
        client.send(&txn(7, [deletes("k", u64::MAX)]));
        client.expect_all(&[delete(7, "k", u64::MAX), mark(7, 2)]);
    });
}

#[test]
fn at_most_1024_operations_and_not_one_more() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        let operations = |count: usize| (0..count).map(|number| puts(&number.to_string(), "v", 1));
        client.send(&txn(7, operations(1_024)));
        for number in 0..1_024 {
            assert_eq!(client.receive(), put(7, &number.to_string(), "v", 1));
        }
        assert_eq!(client.receive(), mark(7, 1));
        // No encoder produces this frame, so it is built by hand: the count, and then the operations.
        let mut frame = b"\x09\x08\0\x01\x04".to_vec();
        for _ in 0..1_025 {
            frame.extend_from_slice(b"\0\x01\0k\0\0\0\0\0\0\0\0");
        }
        client.send_bytes(&frame);
        assert_eq!(client.receive(), error(8, "too large: TXN of 1025 operations, expected at most 1024"));
        client.expect(&mark(9, 0), &mark(9, 1));
    });
}

#[test]
fn at_most_1_mib_in_all_and_not_one_byte_more() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        // 16 entries of 65,525 bytes, and one that fills the rest.
        let full = |number| puts(&format!("key {number:04}"), &"v".repeat(65_517), 1);
        let rest = (1 << 20) - 16 * 65_525 - "the rest".len();
        let filled = |last: usize| (0..16).map(full).chain([puts("the rest", &"v".repeat(last), 1)]);
        let text = "too large: keys and values of 1048577 bytes in a transaction, expected at most 1048576";
        client.expect(&txn(7, filled(rest + 1)), &error(7, text));
        client.send(&txn(8, filled(rest)));
        for _ in 0..17 {
            assert_eq!(client.receive().tag(), Tag::new(8));
        }
        assert_eq!(client.receive(), mark(8, 1));
    });
}

#[test]
fn a_huge_transaction_is_skipped_and_the_connection_stays() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        let value = vec![b'v'; 4 << 20];
        let mut frame = b"\x09\x08\0\x01\0\x0a\x01\0k".to_vec();
        frame.extend_from_slice(&(value.len() as u32).to_le_bytes());
        frame.extend_from_slice(&value);
        frame.extend_from_slice(&1_u64.to_le_bytes());
        thread::scope(|scope| {
            client.send_aside(scope, frame);
            let Message::Error(error) = client.receive() else { panic!("an ERROR") };
            assert_eq!(error.tag, Tag::new(8));
            assert!(error.text.starts_with(b"too large: TXN of "), "{error:?}");
        });
        client.expect_echo(&mark(9, 0));
    });
}

#[test]
fn keys_and_values_over_the_limits_are_refused_and_nothing_is_written() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        let (key, value) = ("k".repeat(4_097), "v".repeat(65_525));
        let refusal = error(7, "too large: key of 4097 bytes, expected at most 4096");
        for operation in [checks(&key, 0), puts(&key, "v", 1), deletes(&key, 1)] {
            client.expect(&txn(7, [puts("l", "v", 1), operation]), &refusal);
        }
        let refusal = error(7, "too large: key and value of 65526 bytes together, expected at most 65525");
        client.expect(&txn(7, [puts("k", &value, 1)]), &refusal);
        client.expect_echo(&mark(9, 0));
    });
}

#[test]
fn an_unknown_operation_ends_the_connection() {
    on_each_engine(|lab| {
        for operation in [2, 3, 4, 6, 9, 11, 255] {
            let mut client = lab.server.extended();
            client.send_bytes(&[9, 7, 0, 1, 0, operation, 1, 0, b'k', 0, 0, 0, 0, 0, 0, 0, 0]);
            let text = format!("unknown operation {operation}: expected 0 (CHECK), 1 (PUT), 5 (DELETE) or 10 (PUTL)");
            assert_eq!(client.receive_to_end(), [error(7, &text)]);
        }
    });
}

#[test]
fn base_connections_receive_the_writes_of_a_transaction_one_by_one() {
    on_each_engine(|lab| {
        let mut base = lab.server.connected();
        let mut client = lab.server.extended();
        client.send(&txn(7, [puts("a", "v", 1), checks("c", 0), deletes("b", 1)]));
        base.expect_all(&[put(0, "a", "v", 1), put(0, "b", "", 1)]);
        client.send(&txn(8, [puts("a", "w", 2), checks("c", 1)]));
        assert_eq!(client.receive_response(), put(7, "a", "v", 1));
        base.expect_silence();
    });
}

#[test]
fn transactions_that_are_pipelined_see_those_before_them() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.send_bytes(&all_encoded(&[
            txn(1, [puts("a", "v", 1), puts("b", "v", 1)]),
            txn(2, [checks("a", 1), deletes("b", 2)]),
            txn(3, [checks("a", 1), checks("b", 1)]),
            put(4, "a", "v", 2),
            txn(5, [checks("b", 2), puts("a", "v", 3)]),
            get(6, "b"),
        ]));
        client.expect_all(&[put(1, "a", "v", 1), put(1, "b", "v", 1), mark(1, 1), delete(2, "b", 2), mark(2, 2)]);
        client.expect_all(&[error(3, "stale put: \"b\""), put(4, "a", "v", 2), put(5, "a", "v", 3), mark(5, 4)]);
        assert_eq!(client.receive(), delete(6, "b", 2));
    });
}

/// Transfers between accounts: no watcher ever sees a wrong total.
#[test]
fn a_watcher_never_sees_half_of_a_transaction() {
    const ACCOUNTS: usize = 8;
    const TRANSFERS: usize = 300;
    for recent_log in [64 << 20, 1_000, 0] {
        on_each_engine_with(
            |config| config.recent_log = recent_log,
            |lab| {
                let mut first = lab.server.extended();
                first.send(&txn(1, (0..ACCOUNTS).map(|account| puts(&account.to_string(), "100", 1))));
                while first.receive() != mark(1, 1) {}
                let total = |watcher: &Watcher| -> u64 {
                    watcher.values().map(|value| str::from_utf8(value).unwrap().parse::<u64>().unwrap()).sum()
                };
                thread::scope(|scope| {
                    let movers: Vec<_> = (0..2)
                        .map(|seed| {
                            scope.spawn(move || {
                                let mut random = Random::new(seed);
                                let mut mover = Watcher::of(lab.server.addr, lab.history(), "");
                                for _ in 0..TRANSFERS {
                                    let from = random.below(ACCOUNTS as u64) as usize;
                                    let to = (from + 1 + random.below(ACCOUNTS as u64 - 1) as usize) % ACCOUNTS;
                                    let step = |key: &str, change: i64| {
                                        let value = str::from_utf8(mover.value(key)).unwrap().parse::<i64>().unwrap();
                                        puts(key, &(value + change).to_string(), mover.version(key) + 1)
                                    };
                                    let (from, to) = (from.to_string(), to.to_string());
                                    let request = txn(7, [step(&from, -1), step(&to, 1)]);
                                    mover.send(&request);
                                    while mover.is_writing() {
                                        mover.receive();
                                    }
                                }
                            })
                        })
                        .collect();
                    let mut watcher = Watcher::of(lab.server.addr, lab.history(), "");
                    while !movers.iter().all(thread::ScopedJoinHandle::is_finished) {
                        watcher.send(&mark(2, 0));
                        watcher.until_response(2);
                        assert_eq!(total(&watcher), 100 * ACCOUNTS as u64);
                    }
                });
            },
        );
    }
}
