//! PUTL: values that are too large for a PUT, if the operator allows them. Each test covers one sentence of the protocol.

use crate::support::prelude::*;

const MAX: usize = 16 << 20;

fn allowed(config: &mut Config) {
    config.limits.max_entry = MAX;
}

/// Runs a test with readers that are served from the recent log, and with readers that are served from the store.
fn near_and_behind_the_log(test: impl Fn(&Lab)) {
    for recent_log in [64 << 20, 0] {
        on_each_engine_with(
            |config| {
                allowed(config);
                config.recent_log = recent_log;
            },
            &test,
        );
    }
}

fn value(bytes: usize) -> String {
    "v".repeat(bytes)
}

#[test]
fn the_default_limits_refuse_every_putl() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        for bytes in [65_525, 1 << 20] {
            let text = format!("too large: key and value of {} bytes together, expected at most 65525", bytes + 1);
            client.expect(&put_large(1, "k", &value(bytes), 1), &error(1, &text));
        }
        client.expect(&get(2, "k"), &error(2, "\"k\": not found"));
    });
}

#[test]
fn an_allowed_putl_is_echoed_and_can_be_read() {
    on_each_engine_with(allowed, |lab| {
        let mut client = lab.server.extended();
        for (bytes, version) in [(65_525, 1), (65_536, 2), (1_000_000, 3)] {
            let (request, stored) =
                (put_large(1, "k", &value(bytes), version), put_large(2, "k", &value(bytes), version));
            client.send_bytes(&encoded(&request));
            assert!(client.receive_bytes(request.encoded_length()) == encoded(&request), "the same frame");
            client.send_bytes(&encoded(&get(2, "k")));
            assert!(client.receive_bytes(stored.encoded_length()) == encoded(&stored), "what was put");
            client.expect(&request, &error(1, "stale put"));
        }
    });
}

#[test]
fn up_to_16_mib_and_not_one_byte_more() {
    on_each_engine_with(allowed, |lab| {
        let mut watcher = lab.server.watching("");
        let mut client = lab.server.extended();
        let largest = put_large(1, "k", &value(MAX - 1), 1);
        thread::scope(|scope| {
            client.send_aside(scope, encoded(&largest));
            assert!(client.receive() == largest, "the same frame");
        });
        assert!(watcher.receive() == put_large(0, "k", &value(MAX - 1), 1), "the watcher receives it");
        assert_eq!(watcher.receive(), mark(0, 1));
        let text = "too large: key and value of 16777217 bytes together, expected at most 16777216";
        thread::scope(|scope| {
            client.send_aside(scope, encoded(&put_large(2, "k", &value(MAX), 2)));
            assert_eq!(client.receive(), error(2, text));
        });
        client.expect(&mark(3, 0), &mark(3, 1));
    });
}

#[test]
fn a_small_entry_must_be_a_put() {
    on_each_engine_with(allowed, |lab| {
        let mut client = lab.server.extended();
        for bytes in [0, 1, 65_524] {
            let text = format!(
                "key and value of {} bytes together: expected a PUT, and PUTL only above 65525 bytes",
                bytes + 1
            );
            client.expect(&put_large(1, "k", &value(bytes), 1), &error(1, &text));
        }
        // A PUT may not carry a large entry, although its length fields could.
        let text = "too large: key and value of 65526 bytes together, expected at most 65525";
        client.expect(&put(1, "k", &value(65_525), 1), &error(1, text));
        client.expect_echo(&put(2, "k", &value(65_524), 1));
        client.expect_echo(&put_large(3, "k", &value(65_525), 2));
        client.expect_echo(&put(4, "k", "small", 3));
        client.expect(&get(5, "k"), &put(5, "k", "small", 3));
    });
}

#[test]
fn a_base_connection_gets_an_error_for_it_and_no_broadcast() {
    near_and_behind_the_log(|lab| {
        let mut base = lab.server.connected();
        let mut client = lab.server.extended();
        client.expect_echo(&put(1, "k", "small", 1));
        assert_eq!(base.receive(), put(0, "k", "small", 1));
        let large = put_large(1, "k", &value(70_000), 2);
        client.expect_echo(&large);
        client.expect_echo(&put(1, "l", "other", 1));
        assert_eq!(base.receive(), put(0, "l", "other", 1));
        let text = "too large: key and value of 70001 bytes together, expected at most 65525";
        base.expect(&get(2, "k"), &error(2, text));
        base.expect_silence();
        client.expect_echo(&delete(3, "k", 3));
        assert_eq!(base.receive(), put(0, "k", "", 3), "later changes are broadcast again");
    });
}

#[test]
fn watchers_receive_a_putl_at_first_and_as_it_commits() {
    near_and_behind_the_log(|lab| {
        let mut early = lab.server.watching("k");
        let mut client = lab.server.extended();
        let request = put_large(1, "k", &value(300_000), 1);
        client.expect_echo(&request);
        early.expect_all(&[put_large(0, "k", &value(300_000), 1), mark(0, 1)]);
        let mut late = lab.server.extended();
        late.send(&watch(2, "", 0));
        late.expect_all(&[put_large(0, "k", &value(300_000), 1), mark(2, 1)]);
    });
}

#[test]
fn a_frame_of_gigabytes_is_skipped_and_the_connection_stays() {
    on_each_engine_with(
        |config| config.limits.max_entry = 1 << 20,
        |lab| {
            let mut client = lab.server.extended();
            let mut frame = b"\x0a\x01\0\x01\0k".to_vec();
            frame.extend_from_slice(&(3_u32 << 20).to_le_bytes());
            frame.resize(frame.len() + (3 << 20) + 8, b'v');
            thread::scope(|scope| {
                client.send_aside(scope, frame);
                let response = client.receive();
                assert!(response.to_string().contains("too large: PUTL of 3145746 bytes"), "{response}");
            });
            client.expect_echo(&mark(2, 0));
            // The rest of this frame never arrives. Other connections are served meanwhile.
            client.send_bytes(b"\x0a\x01\0\x01\0k\xff\xff\xff\xff");
            assert_eq!(client.receive().tag().get(), 1);
            lab.server.connect().expect_service("k", 1);
        },
    );
}

#[test]
fn a_key_over_the_limit_is_refused() {
    on_each_engine_with(allowed, |lab| {
        let mut client = lab.server.extended();
        let text = "too large: key of 4097 bytes, expected at most 4096";
        client.expect(&put_large(1, &"k".repeat(4_097), &value(70_000), 1), &error(1, text));
        client.expect(&put_large(2, "k", &value(70_000), u64::MAX), &error(2, "version exhausted"));
        client.expect_echo(&mark(3, 0));
    });
}

#[test]
fn a_list_contains_large_values_as_putl() {
    on_each_engine_with(allowed, |lab| {
        let mut client = lab.server.extended();
        for request in [put_large(1, "b", &value(200_000), 1), put(1, "a", "v", 1)] {
            client.expect_echo(&request);
        }
        client.send(&list(2, "", "", 10));
        client.expect_all(&[put(2, "a", "v", 1), put_large(2, "b", &value(200_000), 1), mark(2, 2)]);
    });
}

#[test]
fn operation_10_of_a_txn_is_a_putl() {
    on_each_engine_with(
        |config| config.limits.max_entry = 2 << 20,
        |lab| {
            let mut base = lab.server.connected();
            let mut watcher = lab.server.watching("");
            let mut client = lab.server.extended();
            let value = value((2 << 20) - 6);
            client.send(&txn(7, [puts("large", &value, 1), checks("n", 0)]));
            client.expect_all(&[put_large(7, "large", &value, 1), mark(7, 1)]);
            watcher.expect_all(&[put_large(0, "large", &value, 1), mark(0, 1)]);
            base.expect_silence();
            let text = "too large: keys and values of 2097153 bytes in a transaction, expected at most 2097152";
            client.expect(&txn(8, [puts("large", &value, 2), checks("no", 0)]), &error(8, text));
        },
    );
}
