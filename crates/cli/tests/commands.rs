//! `syncline delete`, `list`, `txn` and `status`: their output and exit codes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write, pipe};
use std::net::TcpListener;
use std::process::Stdio;
use std::thread;
use support::{Process, Server, greet, syncline};
use syncline_wire::{Decoder, Message};

#[test]
fn delete_accepts_a_version_or_deletes_the_current_one() {
    let server = Server::start();
    server.fine(&["put", "k", "1"]);
    server.fine(&["put", "k", "2", "--version", "2"]);
    assert_eq!(server.fine(&["delete", "k"]), "k deleted  (version 3)\n");
    let gone = "syncline: k: not found (deleted at version 3)\n";
    assert_eq!(server.fails(1, &["get", "k"]), gone);
    assert_eq!(server.fails(1, &["delete", "k"]), gone);
    assert_eq!(server.fails(1, &["delete", "never"]), "syncline: never: not found\n");
    server.fine(&["put", "k", "4", "--version", "4"]);
    let printed = server.fails(3, &["delete", "k", "--version", "4"]);
    let expected = "syncline: stale delete: k is at version 4, so the next write has version 5, not 4\n\
                    To delete what is there: --version 5, or no --version.\n";
    assert_eq!(printed, expected);
    let printed = server.fine(&["delete", "k", "--version", "5", "--json"]);
    assert_eq!(printed, "{\"deleted\":true,\"key\":\"k\",\"version\":5}\n");
    let printed = server.fails(3, &["put", "k", "6"]);
    assert!(printed.contains("k is deleted at version 5, so the next write has version 6, not 1"), "{printed}");
}

#[test]
fn list_obeys_prefix_limit_and_after() {
    let server = Server::start();
    assert_eq!(server.fine(&["list"]), "");
    for key in ["", "a", "b/1", "b/2", "b/3", "c"] {
        server.fine(&["put", key, "v"]);
    }
    server.fine(&["delete", "c"]);
    let keys = |args: &[&str]| server.fine(&[&["list", "--keys"], args].concat());
    assert_eq!(keys(&[]), "\na\nb/1\nb/2\nb/3\n");
    assert_eq!(keys(&["b/"]), "b/1\nb/2\nb/3\n");
    assert_eq!(keys(&["b/", "--limit", "2"]), "b/1\nb/2\n");
    assert_eq!(keys(&["b/", "--limit", "2", "--after", "b/2"]), "b/3\n");
    assert_eq!(keys(&["--after", "a", "--limit", "1"]), "b/1\n");
    assert_eq!(keys(&["--limit", "0"]), "");
    assert_eq!(keys(&["--limit", "1"]), "\n", "the empty key is one");
    assert_eq!(keys(&["--after", ""]), "a\nb/1\nb/2\nb/3\n");
    assert_eq!(keys(&["--json", "b/1"]), "{\"key\":\"b/1\",\"version\":1}\n");
    assert_eq!(server.fine(&["list", "b/1"]), "b/1 = v  (version 1)\n");
    assert_eq!(server.fine(&["list", "b/1", "--json"]), "{\"key\":\"b/1\",\"value\":\"v\",\"version\":1}\n");
}

#[test]
fn keys_and_values_are_any_bytes() {
    let server = Server::start();
    assert!(
        server.piped(&["import"], b"{\"key_hex\":\"ff0a00\",\"value_hex\":\"80\",\"version\":3}\n").status.success()
    );
    assert_eq!(server.fine(&["list"]), "0xff0a00 = 0x80  (version 3)\n");
    assert_eq!(server.fine(&["list", "--json"]), "{\"key_hex\":\"ff0a00\",\"value_hex\":\"80\",\"version\":3}\n");
    assert_eq!(server.fine(&["list", "--keys"]), "0xff0a00\n", "one line for each key");
    assert_eq!(server.run(&["get", "--hex", "0xff0a00"]).stdout, b"\x80");
}

#[test]
fn more_than_a_page_is_listed_whole_and_in_order() {
    let server = Server::start_with(&["--listen", "127.0.0.1:0", "--durability", "os"], "off");
    let lines: String = (0..2500).map(|n| format!("{{\"key\":\"k{n:05}\",\"value\":\"\",\"version\":1}}\n")).collect();
    assert!(server.piped(&["import"], lines.as_bytes()).status.success());
    let expected: String = (0..2500).map(|n| format!("k{n:05}\n")).collect();
    assert_eq!(server.fine(&["list", "--keys"]), expected);
    assert_eq!(server.fine(&["list", "--keys", "--limit", "1000"]).lines().count(), 1000);
    assert_eq!(server.fine(&["list", "--keys", "--limit", "1001"]).lines().last(), Some("k01000"));
    assert_eq!(server.fine(&["list", "--json"]), lines);
}

#[test]
fn a_closed_output_pipe_is_no_failure() {
    let server = Server::start_with(&["--listen", "127.0.0.1:0", "--durability", "os"], "off");
    let value = "v".repeat(1000);
    let lines: String =
        (0..2000).map(|n| format!("{{\"key\":\"{n}\",\"value\":\"{value}\",\"version\":1}}\n")).collect();
    assert!(server.piped(&["import"], lines.as_bytes()).status.success());
    for command in [&["list"][..], &["list", "--json"], &["export"], &["watch", "--once"]] {
        // The output exceeds the buffer of a pipe, so the command is still writing when the pipe is closed.
        let mut process = Process::start(&mut server.command(command));
        assert!(!process.line().is_empty());
        process.close_stdout();
        let (status, printed) = process.end();
        assert_eq!((status.code(), printed.as_str()), (Some(0), ""), "{command:?}");
    }
}

#[test]
fn a_transaction_is_committed_as_a_whole_with_one_revision() {
    let server = Server::start();
    server.fine(&["put", "dir", "1"]);
    server.fine(&["put", "old", "v"]);
    let script = b"# move it\ncheck dir 1\n\nput 'new key' \"it's v\" 7  # as it was\ndelete old 2\ncheck never 0\n";
    let output = server.piped(&["txn"], script);
    assert_eq!(output.stdout, b"committed  (revision 3)\n", "{output:?}");
    assert_eq!(server.fine(&["list"]), "dir = 1  (version 1)\nnew key = it's v  (version 7)\n");
    let output = server.piped(&["txn", "--json"], b"delete dir\nput old back 3\n");
    assert_eq!(output.stdout, b"{\"revision\":4}\n", "{output:?}");
    assert_eq!(server.fine(&["list"]), "new key = it's v  (version 7)\nold = back  (version 3)\n");
}

#[test]
fn a_stale_transaction_names_the_line_and_writes_nothing() {
    let server = Server::start();
    server.fine(&["put", "here", "v"]);
    server.fine(&["put", "gone", "v"]);
    server.fine(&["delete", "gone"]);
    for (script, expected) in [
        ("check here 2", "line 2: stale: here is at version 1, expected version 2"),
        ("check here 0", "line 2: stale: here is at version 1, expected an absent key"),
        ("check new 1", "line 2: stale: new is absent, expected version 1"),
        ("put here w", "line 2: stale: here is at version 1, expected a new key"),
        ("put here w 3", "line 2: stale: here is at version 1, expected version 2"),
        ("put gone w", "line 2: stale: gone is deleted at version 2, expected a new key"),
        ("delete here 3", "line 2: stale: here is at version 1, expected version 2"),
    ] {
        let output = server.piped(&["txn"], format!("put other v\n{script}\n").as_bytes());
        assert_eq!(output.status.code(), Some(3), "{script}: {output:?}");
        let printed = String::from_utf8(output.stderr).unwrap();
        assert_eq!(printed, format!("syncline: {expected}; nothing was written\n"));
    }
    // The command notices that the key does not exist before it sends the transaction.
    let output = server.piped(&["txn"], b"put other v\ndelete gone\n");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "syncline: line 2: gone: not found (deleted at version 2)\n");
    assert_eq!(server.fine(&["list"]), "here = v  (version 1)\n");
}

#[test]
fn an_invalid_transaction_is_exit_code_2() {
    let server = Server::start();
    let many: String = (0..1025).map(|n| format!("put {n} v\n")).collect();
    let large = format!("put k {}\n", "v".repeat(70_000));
    for (script, expected) in [
        ("", "expected operations on stdin, found none"),
        ("put a b\nput c\n", "line 2: expected put KEY VALUE [VERSION], found 2 words"),
        ("put a b\nput a c\n", "line 2: expected each key once, found a in line 1 as well"),
        (&many, "1024"),
        (&large, "expected at most 65525"),
        ("put k v 18446744073709551615", "version exhausted"),
    ] {
        let output = server.piped(&["txn"], script.as_bytes());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let printed = String::from_utf8(output.stderr).unwrap();
        assert!(printed.starts_with("syncline: ") && printed.contains(expected), "{printed}");
    }
    assert_eq!(server.fine(&["list"]), "");
}

#[test]
fn a_transaction_whose_connection_is_lost_is_exit_code_5() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let mut command = syncline(&["txn", "--addr", &addr]);
    let (reader, mut writer) = pipe().unwrap();
    writer.write_all(b"put k v\n").unwrap();
    drop(writer);
    let txn = Process::start(command.stdin(Stdio::from(reader)));
    let mut stream = greet(&listener);
    stream.read_exact(&mut [0; 10]).unwrap();
    drop(stream);
    let (status, printed) = txn.end();
    assert_eq!(status.code(), Some(5), "{printed}");
    assert!(printed.contains("all of it may have been accepted or none"), "{printed}");
}

/// Serves the STATUS of one client with this text, and returns how `syncline status` with these arguments ends.
fn status_of(text: &'static str, args: &[&str]) -> (Option<i32>, String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let mut client = greet(&listener);
        let request = Decoder::new(client.try_clone().unwrap()).read().unwrap().unwrap();
        let mut response = Vec::new();
        Message::status(request.tag(), text).encode(&mut response).unwrap();
        client.write_all(&response).unwrap();
        // Open until the command has ended.
        client
    });
    let output = syncline(&[&["status", "--addr", &addr], args].concat()).output().unwrap();
    drop(server.join().unwrap());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn status_check_fails_with_the_reason_if_writes_are_refused() {
    let nothing = String::new();
    let healthy = r#"{"accepts_writes":true,"reason":null}"#;
    assert_eq!(status_of(healthy, &["--check"]), (Some(0), nothing.clone(), nothing.clone()));
    let unhealthy = r#"{"accepts_writes":false,"reason":"the disk has failed","keys":7}"#;
    let expected = "syncline: the server refuses writes: the disk has failed\n";
    assert_eq!(status_of(unhealthy, &["--check"]), (Some(4), nothing.clone(), expected.to_owned()));
    let expected = "writes  REFUSED: the disk has failed\nkeys    7\n";
    assert_eq!(status_of(unhealthy, &[]), (Some(0), expected.to_owned(), nothing.clone()));
    let expected =
        "syncline: expected \"accepts_writes\" in the status, found none: the server is of an earlier version\n";
    assert_eq!(status_of(r#"{"keys":7}"#, &["--check"]), (Some(4), nothing, expected.to_owned()));
}

#[test]
fn status_check_fails_if_the_server_is_silent_or_absent() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap().to_string();
    let output = syncline(&["status", "--check", "--timeout", "300ms", "--addr", &addr]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "syncline: no status within 300ms (--timeout)\n");
    drop(silent);
    let output = syncline(&["status", "--check", "--addr", &addr]).output().unwrap();
    assert!(output.status.code() == Some(4) && output.stdout.is_empty() && !output.stderr.is_empty(), "{output:?}");
}

#[test]
fn status_check_of_a_healthy_server_prints_nothing() {
    let server = Server::start();
    assert_eq!(server.fine(&["status", "--check"]), "");
    let printed = server.fails(2, &["status", "--check", "--json"]);
    assert!(printed.contains("--json"), "{printed}");
}

#[test]
fn status_prints_rows_or_json() {
    let server = Server::start();
    server.fine(&["put", "k", "v"]);
    server.fine(&["put", "gone", "v"]);
    server.fine(&["delete", "gone"]);
    let printed = server.fine(&["status"]);
    let row = |name: &str| printed.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).map(str::to_owned);
    assert!(printed.starts_with("writes             accepted\n"), "{printed}");
    assert_eq!(row("version").as_deref(), Some(env!("CARGO_PKG_VERSION")), "{printed}");
    assert_eq!(row("head").as_deref(), Some("revision 3"), "{printed}");
    assert_eq!(row("keys").as_deref(), Some("1"), "{printed}");
    assert_eq!(row("durability").as_deref(), Some("fsync"), "{printed}");
    let json = server.fine(&["status", "--json"]);
    assert!(json.starts_with('{') && json.ends_with("}\n") && json.contains("\"head\":3,"), "{json}");
}
