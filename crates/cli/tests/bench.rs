//! `syncline bench`: the counts of the load generator are true.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use support::{Process, Server};

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
    // There is one key, so its version is the number of writes, and one more for its removal at the end.
    let found = measure(&server, &["fanout", "--connections", "7", "--depth", "4", "--keys", "1"]);
    let printed = server.fails(1, &["get", "syncline-bench/000000000"]);
    let version = printed.split_once("deleted at version ").unwrap().1.trim_end_matches(")\n");
    assert_eq!(found["count"].as_u64().unwrap(), 7 * (version.parse::<u64>().unwrap() - 1), "{found}");
}

#[test]
fn bench_removes_the_keys_that_it_has_written() {
    let server = Server::start_with(&["--listen", "127.0.0.1:0", "--durability", "memory"], "off");
    server.fine(&["put", "syncline-benchmark", "not a key of it"]);
    // Each run begins with the tombstones that the one before has left.
    for args in [&["put"][..], &["put", "--base"], &["get"], &["put", "--keys", "2500"], &["snapshot"]] {
        measure(&server, args);
        assert_eq!(server.fine(&["list", "--keys"]), "syncline-benchmark\n", "{args:?}");
    }
}

#[test]
fn an_interrupted_bench_removes_its_keys() {
    let server = Server::start_with(&["--listen", "127.0.0.1:0", "--durability", "memory"], "off");
    for signal in ["INT", "TERM"] {
        let bench = Process::start(&mut server.command(&["bench", "put", "--keys", "100", "--time", "1h"]));
        while server.fine(&["list", "--keys"]).is_empty() {}
        bench.signal(signal);
        let (status, printed) = bench.end();
        assert_eq!(status.code(), Some(if signal == "INT" { 130 } else { 143 }), "{printed}");
        assert_eq!(server.fine(&["list", "--keys"]), "", "{printed}");
    }
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
