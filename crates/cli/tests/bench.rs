//! `syncline bench`: the counts of the load generator are true.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use support::Server;

fn measure(server: &Server, args: &[&str]) -> Value {
    let common = ["bench", "--json", "--time", "200ms"];
    let keys = if args.contains(&"--keys") { &[][..] } else { &["--keys", "100"] };
    serde_json::from_str(&server.fine(&[&common[..], keys, args].concat())).unwrap()
}

#[test]
fn every_workload_counts_what_it_has_done() {
    let server = Server::start_with(&["--listen", "127.0.0.1:0", "--durability", "memory"], "off");
    for (workload, connections, depth) in
        [("put", "4", "8"), ("get", "4", "8"), ("fanout", "5", "16"), ("put", "1", "1")]
    {
        let found = measure(&server, &[workload, "--connections", connections, "--depth", depth]);
        let number = |name: &str| found[name].as_f64().unwrap_or_else(|| panic!("{found} has no {name}"));
        assert!(number("count") > 0.0 && number("per_second") > 0.0, "{found}");
        assert!(number("p50_us") > 0.0 && number("p50_us") <= number("p99_us"), "{found}");
        assert!(number("p99_us") <= number("p999_us") && number("p999_us") <= number("max_us") * 1.01, "{found}");
        assert_eq!(found["workload"], workload);
    }
}

#[test]
fn only_base_connections_are_sent_what_the_others_put() {
    let server = Server::start_with(&["--listen", "127.0.0.1:0", "--durability", "memory"], "off");
    let put = ["put", "--connections", "4", "--depth", "8"];
    let found = measure(&server, &[&put[..], &["--base"]].concat());
    assert!(found["broadcasts"].as_u64() > Some(0), "{found}");
    let found = measure(&server, &put);
    assert_eq!(found["broadcasts"], 0, "{found}");
}

#[test]
fn every_delivery_of_a_fanout_is_counted_once() {
    let server = Server::start_with(&["--listen", "127.0.0.1:0", "--durability", "memory"], "off");
    let head = |server: &Server| {
        let json: Value = serde_json::from_str(&server.fine(&["get", "syncline-bench/000000000", "--json"])).unwrap();
        json["version"].as_u64().unwrap()
    };
    // There is one key, so its version is the number of writes.
    let found = measure(&server, &["fanout", "--connections", "7", "--depth", "4", "--keys", "1"]);
    assert_eq!(found["count"].as_u64().unwrap(), 7 * head(&server), "{found}");
}

#[test]
fn what_cannot_be_measured_is_told() {
    let server = Server::start_with(&["--listen", "127.0.0.1:0", "--durability", "memory"], "off");
    let printed = server.fails(2, &["bench", "put", "--value-size", "7"]);
    assert_eq!(printed, "syncline: --value-size: expected at least 8 bytes, found 7\n");
    let printed = server.fails(2, &["bench", "put", "--connections", "0"]);
    assert!(printed.contains("0 is not in 1..=100000"), "{printed}");
    let printed = server.fails(4, &["bench", "put", "--addr", "127.0.0.1:1"]);
    assert!(printed.starts_with("syncline: can't connect to 127.0.0.1:1: "), "{printed}");
}
