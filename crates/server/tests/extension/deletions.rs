//! DELETE: as a PUT is, and versions never start over. One sentence of the protocol a test.

use crate::support::{delete, encoded, error, get, list, mark, on_each_engine, put, watch};

#[test]
fn a_delete_is_answered_with_the_same_frame_byte_for_byte() {
    on_each_engine(|lab| {
        let mut watcher = lab.server.watching("");
        let mut client = lab.server.extended();
        client.expect(&put(1, "k", "v", 6), &put(1, "k", "v", 6));
        let request = b"\x05\x02\x01\x01\0k\x07\0\0\0\0\0\0\0";
        client.send_bytes(request);
        assert_eq!(client.receive_bytes(request.len()), request);
        watcher.expect_all(&[put(0, "k", "v", 6)]);
        // A MARK stands between the two where the watcher was looked at in between.
        let told = (0..).map(|_| watcher.receive()).find(|message| *message != mark(0, 1)).unwrap();
        assert_eq!(encoded(&told), b"\x05\0\0\x01\0k\x07\0\0\0\0\0\0\0", "the same with tag 0");
        assert_eq!(watcher.receive(), mark(0, 2));
    });
}

#[test]
fn a_delete_is_accepted_only_at_the_current_version_plus_1() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect(&put(1, "k", "v", 5), &put(1, "k", "v", 5));
        for stale in [0, 1, 4, 5, 7, 100, u64::MAX] {
            client.expect(&delete(2, "k", stale), &error(2, "stale put"));
        }
        client.expect(&get(3, "k"), &put(3, "k", "v", 5));
        client.expect(&delete(4, "k", 6), &delete(4, "k", 6));
        client.expect(&delete(5, "k", 6), &error(5, "stale put"));
        client.expect(&delete(6, "k", 7), &delete(6, "k", 7));
    });
}

#[test]
fn a_key_that_was_never_there_may_be_deleted_at_any_version_from_1_on() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect(&delete(1, "none", 0), &error(1, "stale put"));
        client.expect(&get(1, "none"), &error(1, "\"none\": not found"));
        client.expect(&delete(2, "none", 9), &delete(2, "none", 9));
        client.expect(&put(3, "none", "v", 9), &error(3, "stale put"));
        client.expect(&put(3, "none", "v", 10), &put(3, "none", "v", 10));
    });
}

#[test]
fn versions_never_start_over() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        for version in (1..=20).step_by(2) {
            client.expect(&put(1, "k", "v", version), &put(1, "k", "v", version));
            client.expect(&delete(2, "k", version + 1), &delete(2, "k", version + 1));
            for stale in [0, 1, version, version + 1] {
                client.expect(&put(3, "k", "v", stale), &error(3, "stale put"));
            }
        }
    });
}

#[test]
fn a_get_tells_an_extended_connection_the_version_of_the_deletion() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect(&put(1, "k", "v", 1), &put(1, "k", "v", 1));
        client.expect(&delete(2, "k", 2), &delete(2, "k", 2));
        client.expect(&get(3, "k"), &delete(3, "k", 2));
        lab.server.extended().expect(&get(4, "k"), &delete(4, "k", 2));
    });
}

#[test]
fn a_get_tells_a_base_connection_that_it_is_not_found() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect(&put(1, "k\"", "v", 6), &put(1, "k\"", "v", 6));
        client.expect(&delete(2, "k\"", 7), &delete(2, "k\"", 7));
        let mut base = lab.server.connect();
        base.expect(&get(3, "k\""), &error(3, "\"k\\\"\": deleted at version 7, not found"));
        base.expect(&put(4, "k\"", "again", 8), &put(4, "k\"", "again", 8));
    });
}

#[test]
fn base_connections_see_a_put_of_nothing() {
    on_each_engine(|lab| {
        let mut base = lab.server.connected();
        let mut client = lab.server.extended();
        client.expect(&put(1, "k", "v", 1), &put(1, "k", "v", 1));
        client.expect(&delete(2, "k", 2), &delete(2, "k", 2));
        client.expect(&put(3, "k", "w", 3), &put(3, "k", "w", 3));
        base.expect_all(&[put(0, "k", "v", 1), put(0, "k", "", 2), put(0, "k", "w", 3)]);
        base.expect_silence();
    });
}

#[test]
fn the_last_version_may_be_a_deletion_and_nothing_comes_after_it() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect(&put(1, "k", "v", u64::MAX - 1), &put(1, "k", "v", u64::MAX - 1));
        client.expect(&put(2, "k", "v", u64::MAX), &error(2, "version exhausted"));
        client.expect(&delete(3, "k", u64::MAX), &delete(3, "k", u64::MAX));
        client.expect(&get(4, "k"), &delete(4, "k", u64::MAX));
        for version in [0, 1, u64::MAX - 1] {
            client.expect(&put(5, "k", "v", version), &error(5, "stale put"));
        }
    });
}

#[test]
fn a_deleted_key_is_in_no_list_and_a_forgotten_one_was_never_there() {
    on_each_engine(|lab| {
        let mut client = lab.server.extended();
        client.expect(&put(1, "k", "v", 1), &put(1, "k", "v", 1));
        client.expect(&delete(2, "k", 2), &delete(2, "k", 2));
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
        client.expect(&delete(2, &"k".repeat(4_096), 1), &delete(2, &"k".repeat(4_096), 1));
    });
}
