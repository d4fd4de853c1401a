//! DELETE. Each test covers one sentence of the protocol.

use crate::support::prelude::*;

#[test]
fn a_delete_is_echoed_byte_for_byte() {
    on_each_engine(|lab| {
        let mut watcher = lab.server.watching("");
        let mut client = lab.server.extended();
        client.expect_echo(&put(1, "k", "v", 6));
        let request = b"\x05\x02\x01\x01\0k\x07\0\0\0\0\0\0\0";
        client.send_bytes(request);
        assert_eq!(client.receive_bytes(request.len()), request);
        watcher.expect_all(&[put(0, "k", "v", 6)]);
        // A MARK arrives between the two if the server served the watcher in between.
        let received = (0..).map(|_| watcher.receive()).find(|message| *message != mark(0, 1)).unwrap();
        assert_eq!(encoded(&received), b"\x05\0\0\x01\0k\x07\0\0\0\0\0\0\0", "the same with tag 0");
        assert_eq!(watcher.receive(), mark(0, 2));
    });
}

#[test]
fn a_delete_is_accepted_only_at_the_current_version_plus_1() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect_echo(&put(1, "k", "v", 5));
        for stale in [0, 1, 4, 5, 7, 100, u64::MAX] {
            client.expect(&delete(2, "k", stale), &error(2, "stale put"));
        }
        client.expect(&get(3, "k"), &put(3, "k", "v", 5));
        client.expect_echo(&delete(4, "k", 6));
        client.expect(&delete(5, "k", 6), &error(5, "stale put"));
        client.expect_echo(&delete(6, "k", 7));
    });
}

#[test]
fn an_unknown_key_may_be_deleted_at_any_version_from_1_on() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect(&delete(1, "none", 0), &error(1, "stale put"));
        client.expect(&get(1, "none"), &error(1, "\"none\": not found"));
        client.expect_echo(&delete(2, "none", 9));
        client.expect(&put(3, "none", "v", 9), &error(3, "stale put"));
        client.expect_echo(&put(3, "none", "v", 10));
    });
}

#[test]
fn versions_never_start_over() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        for version in (1..=20).step_by(2) {
            client.expect_echo(&put(1, "k", "v", version));
            client.expect_echo(&delete(2, "k", version + 1));
            for stale in [0, 1, version, version + 1] {
                client.expect(&put(3, "k", "v", stale), &error(3, "stale put"));
            }
        }
    });
}

#[test]
fn a_get_of_a_deleted_key_returns_the_deletion_after_hello() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect_echo(&put(1, "k", "v", 1));
        client.expect_echo(&delete(2, "k", 2));
        client.expect(&get(3, "k"), &delete(3, "k", 2));
        lab.server.extended().expect(&get(4, "k"), &delete(4, "k", 2));
    });
}

#[test]
fn a_get_of_a_deleted_key_returns_not_found_without_hello() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect_echo(&put(1, "k\"", "v", 6));
        client.expect_echo(&delete(2, "k\"", 7));
        let mut base = lab.server.connect();
        base.expect(&get(3, "k\""), &error(3, "\"k\\\"\": deleted at version 7, not found"));
        base.expect_echo(&put(4, "k\"", "again", 8));
    });
}

#[test]
fn base_connections_receive_a_deletion_as_an_empty_put() {
    on_each_engine(|lab| {
        let mut base = lab.server.connected();
        let mut client = lab.server.extended();
        client.expect_echo(&put(1, "k", "v", 1));
        client.expect_echo(&delete(2, "k", 2));
        client.expect_echo(&put(3, "k", "w", 3));
        base.expect_all(&[put(0, "k", "v", 1), put(0, "k", "", 2), put(0, "k", "w", 3)]);
        base.expect_silence();
    });
}

#[test]
fn only_a_deletion_may_have_the_last_version() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect_echo(&put(1, "k", "v", u64::MAX - 1));
        client.expect(&put(2, "k", "v", u64::MAX), &error(2, "version exhausted"));
        client.expect_echo(&delete(3, "k", u64::MAX));
        client.expect(&get(4, "k"), &delete(4, "k", u64::MAX));
        for version in [0, 1, u64::MAX - 1] {
            client.expect(&put(5, "k", "v", version), &error(5, "stale put"));
        }
    });
}

#[test]
fn deleted_keys_are_not_listed_and_forgotten_ones_not_found() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect_echo(&put(1, "k", "v", 1));
        client.expect_echo(&delete(2, "k", 2));
        client.expect(&list(3, "", "", 10), &mark(3, 2));
        client.expect(&watch(4, "", 0), &mark(4, 2));
        lab.store.forget_tombstones();
        client.expect(&get(5, "k"), &error(5, "\"k\": not found"));
    });
}

#[test]
fn a_key_over_the_limit_is_refused_and_the_connection_stays() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        let text = "too large: key of 4097 bytes, expected at most 4096";
        client.expect(&delete(1, &"k".repeat(4_097), 1), &error(1, text));
        client.expect_echo(&delete(2, &"k".repeat(4_096), 1));
    });
}
