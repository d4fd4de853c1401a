//! `syncline export` and `import`: files, conflicts, order and exit codes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use support::Server;
use tempfile::TempDir;

/// Runs `import` with lines on stdin, and returns the exit code, stdout and stderr.
fn import(server: &Server, args: &[&str], lines: &str) -> (i32, String, String) {
    let output = server.piped(&[&["import"], args].concat(), lines.as_bytes());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn an_export_is_imported_into_an_empty_server_with_its_versions() {
    let server = Server::start();
    server.fine(&["put", "name", "mark"]);
    server.fine(&["put", "name", "tony", "--version", "2"]);
    server.fine(&["put", "", "empty key"]);
    server.fine(&["put", "empty value", ""]);
    server.piped(&["put", "binary"], &(0..=255).collect::<Vec<u8>>());
    server.fine(&["put", "gone", "v"]);
    server.fine(&["delete", "gone"]);
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("all.jsonl");
    let file = file.to_str().unwrap();
    let output = server.run(&["export", "--file", file]);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("{file}: 4 keys as of revision 7\n"));
    let exported = std::fs::read_to_string(file).unwrap();
    assert_eq!(server.fine(&["export"]), exported, "stdout and file must be equal");
    assert_eq!(server.fine(&["export", "--file", "-"]), exported);
    assert_eq!(server.fine(&["list", "--json"]), exported, "export and list must print the same");

    let other = Server::start();
    assert_eq!(other.fine(&["import", file]), "4 written, 0 unchanged, 0 in conflict\n");
    assert_eq!(other.fine(&["export"]), exported);
    // A second import, from a pipe, changes nothing.
    assert_eq!(
        import(&other, &["--json"], &exported),
        (0, "{\"conflicts\":0,\"unchanged\":4,\"written\":0}\n".into(), String::new())
    );
    // The output of `watch` can be imported as well.
    let third = Server::start();
    let watched = server.fine(&["watch", "--once", "--json", "--marks"]);
    assert_eq!(import(&third, &["-"], &watched).1, "4 written, 0 unchanged, 0 in conflict\n");
    assert_eq!(third.fine(&["export"]), exported);
}

#[test]
fn an_export_has_a_prefix_and_never_writes_over_a_file() {
    let server = Server::start();
    server.fine(&["put", "a/1", "v"]);
    server.fine(&["put", "b/1", "v"]);
    assert_eq!(server.fine(&["export", "b/"]), "{\"key\":\"b/1\",\"value\":\"v\",\"version\":1}\n");
    assert_eq!(server.fine(&["export", "c/"]), "");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "precious").unwrap();
    let path = file.path().to_str().unwrap();
    let printed = server.fails(2, &["export", "--file", path]);
    assert!(printed.contains("expected a file that does not exist yet"), "{printed}");
    assert_eq!(std::fs::read(file.path()).unwrap(), b"precious");
}

#[test]
fn a_conflict_is_reported_and_leaves_the_key_unchanged() {
    let server = Server::start();
    server.fine(&["put", "same", "v"]);
    server.fine(&["put", "newer", "theirs"]);
    server.fine(&["put", "newer", "theirs", "--version", "2"]);
    server.fine(&["put", "other", "theirs"]);
    server.fine(&["put", "next", "v"]);
    server.fine(&["put", "later", "v"]);
    server.fine(&["put", "later", "v", "--version", "2"]);
    server.fine(&["put", "gone", "v"]);
    server.fine(&["delete", "gone"]);
    let lines = "{\"key\":\"same\",\"value\":\"v\",\"version\":1}\n\
                 {\"key\":\"newer\",\"value\":\"ours\",\"version\":1}\n\
                 \n\
                 {\"key\":\"other\",\"value\":\"ours\",\"version\":1}\n\
                 {\"key\":\"next\",\"value\":\"w\",\"version\":2}\n\
                 {\"key\":\"gone\",\"value\":\"v\",\"version\":1}\n\
                 {\"key\":\"later\",\"value\":\"v\",\"version\":1}\n\
                 {\"key\":\"new\",\"value\":\"v\",\"version\":9}";
    let (code, counts, printed) = import(&server, &[], lines);
    assert_eq!((code, counts.as_str()), (3, "2 written, 1 unchanged, 4 in conflict\n"), "{printed}");
    for line in [
        "line 2: conflict: newer is at version 2, the file has version 1",
        "line 4: conflict: other is at version 1, the file has version 1",
        "line 6: conflict: gone is deleted at version 2, the file has version 1",
        "line 7: conflict: later is at version 2, the file has version 1",
        "syncline: 4 lines are in conflict with the server; their keys were left unchanged",
    ] {
        assert!(printed.lines().any(|found| found == line), "{line:?} is not in {printed}");
    }
    let there = "later = v  (version 2)\nnew = v  (version 9)\nnewer = theirs  (version 2)\nnext = w  (version 2)\n\
                 other = theirs  (version 1)\nsame = v  (version 1)\n";
    assert_eq!(server.fine(&["list"]), there);

    let (code, counts, printed) = import(&server, &["--force"], lines);
    assert_eq!((code, counts.as_str(), printed.as_str()), (0, "3 written, 4 unchanged, 0 in conflict\n", ""));
    let there = "gone = v  (version 3)\nlater = v  (version 2)\nnew = v  (version 9)\nnewer = ours  (version 3)\nnext = w  (version 2)\n\
                 other = ours  (version 2)\nsame = v  (version 1)\n";
    assert_eq!(server.fine(&["list"]), there);
}

#[test]
fn many_conflicts_are_counted_after_the_first_twenty() {
    let server = Server::start_with(&["--listen", "127.0.0.1:0", "--durability", "os"], "off");
    let lines = |value| -> String {
        (0..100).map(|n| format!("{{\"key\":\"{n}\",\"value\":\"{value}\",\"version\":1}}\n")).collect()
    };
    assert_eq!(import(&server, &[], &lines("a")).1, "100 written, 0 unchanged, 0 in conflict\n");
    let (code, counts, printed) = import(&server, &[], &lines("b"));
    assert_eq!((code, counts.as_str()), (3, "0 written, 0 unchanged, 100 in conflict\n"));
    assert_eq!(printed.lines().count(), 22, "{printed}");
    assert!(printed.contains("\nfurther conflicts are counted, but not listed\n"), "{printed}");
}

#[test]
fn lines_of_one_key_are_written_in_order_including_deletions() {
    let server = Server::start_with(&["--listen", "127.0.0.1:0", "--durability", "os"], "off");
    let mut lines: String =
        (1..=300).map(|n| format!("{{\"key\":\"k\",\"value\":\"{n}\",\"version\":{n}}}\n")).collect();
    lines += "{\"deleted\":true,\"key\":\"k\",\"version\":301}\n{\"key\":\"other\",\"value\":\"\",\"version\":1}\n";
    assert_eq!(import(&server, &[], &lines).1, "302 written, 0 unchanged, 0 in conflict\n");
    assert_eq!(server.fails(1, &["get", "k"]), "syncline: k: not found (deleted at version 301)\n");
    // The same with --force, when each line overwrites the key.
    let lines: String = (1..=300).map(|n| format!("{{\"key\":\"k\",\"value\":\"{n}\",\"version\":1}}\n")).collect();
    assert_eq!(import(&server, &["--force"], &lines).1, "300 written, 0 unchanged, 0 in conflict\n");
    assert_eq!(server.fine(&["get", "k", "--json"]), "{\"key\":\"k\",\"value\":\"300\",\"version\":601}\n");
}

#[test]
fn an_invalid_line_is_exit_code_2_and_earlier_lines_are_counted() {
    let server = Server::start();
    let (code, counts, printed) = import(&server, &[], "{\"key\":\"k\",\"value\":\"v\",\"version\":1}\nk = v\n");
    assert_eq!((code, counts.as_str()), (2, "1 written, 0 unchanged, 0 in conflict\n"));
    assert!(printed.starts_with("syncline: line 2: expected a JSON object: "), "{printed}");
    let printed = server.fails(2, &["import", "/no/such/file"]);
    assert!(printed.starts_with("syncline: can't read /no/such/file: "), "{printed}");
    let long = format!("{{\"key\":\"{}\",\"value\":\"v\",\"version\":1}}\n", "k".repeat(5000));
    let (code, _, printed) = import(&server, &[], &long);
    assert_eq!(
        (code, printed.as_str()),
        (2, "syncline: line 1: too large: key of 5000 bytes, expected at most 4096\n")
    );
}

#[test]
fn an_import_larger_than_the_limits_in_flight_is_complete() {
    let server = Server::start_with(&["--listen", "127.0.0.1:0", "--durability", "os"], "off");
    let value = "v".repeat(1000);
    let lines: String =
        (0..20_000).map(|n| format!("{{\"key\":\"{n:08}\",\"value\":\"{value}\",\"version\":1}}\n")).collect();
    let (code, counts, printed) = import(&server, &[], &lines);
    assert_eq!((code, counts.as_str()), (0, "20000 written, 0 unchanged, 0 in conflict\n"), "{printed}");
    assert_eq!(server.fine(&["export"]), lines);
}
