//! `syncline watch`: snapshots, changes, resuming, and `--exec`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use support::{Process, Server, greet, syncline};
use tempfile::TempDir;

/// The store id of a server.
fn store(server: &Server) -> String {
    let printed = server.fine(&["watch", "--once", "--json", "--marks", "nothing starts with this"]);
    let (_, behind) = printed.split_once(r#""store":""#).unwrap();
    behind.split('"').next().unwrap().to_owned()
}

#[test]
fn first_what_is_there_under_the_prefix_then_what_changes() {
    let server = Server::start();
    for (key, value) in [("b/2", "two"), ("a", "no"), ("b/1", "one"), ("c", "no")] {
        server.fine(&["put", key, value]);
    }
    let mut watch = server.watch(&["b/"]);
    assert_eq!([watch.line(), watch.line()], ["b/1 = one  (version 1)", "b/2 = two  (version 1)"]);
    server.fine(&["put", "a", "no", "--version", "2"]);
    server.fine(&["delete", "b/1"]);
    assert_eq!(watch.line(), "b/1 deleted  (version 2)");
    server.fine(&["put", "b/1", "again", "--version", "3"]);
    assert_eq!(watch.line(), "b/1 = again  (version 3)");
}

#[test]
fn once_tells_what_is_there_and_ends() {
    let server = Server::start();
    assert_eq!(server.fine(&["watch", "--once"]), "");
    server.fine(&["put", "k", "v"]);
    server.fine(&["put", "gone", "v"]);
    server.fine(&["delete", "gone"]);
    server.piped(&["put", ""], b"\xff");
    let expected = "{\"key\":\"\",\"revision\":4,\"value_hex\":\"ff\",\"version\":1}\n\
                    {\"key\":\"k\",\"revision\":4,\"value\":\"v\",\"version\":1}\n";
    assert_eq!(server.fine(&["watch", "--once", "--json"]), expected);
    assert_eq!(server.fine(&["watch", "--once"]), " = 0xff  (version 1)\nk = v  (version 1)\n");
}

#[test]
fn since_tells_only_what_has_changed_and_what_was_deleted() {
    let server = Server::start();
    server.fine(&["put", "old", "v"]);
    server.fine(&["put", "gone", "v"]);
    server.fine(&["delete", "gone"]);
    server.fine(&["put", "new", "v"]);
    let store = store(&server);
    let since = |at: &str| server.fine(&["watch", "--once", "--since", at]);
    for prefix in [String::new(), format!("{store}:")] {
        assert_eq!(since(&format!("{prefix}1")), "gone deleted  (version 2)\nnew = v  (version 1)\n");
        assert_eq!(since(&format!("{prefix}3")), "new = v  (version 1)\n");
        assert_eq!(since(&format!("{prefix}4")), "");
    }
    assert_eq!(
        since("0"),
        "new = v  (version 1)\nold = v  (version 1)\n",
        "0 is the start, where nothing was deleted yet"
    );
    let mut watch = server.watch(&["--since", "3"]);
    assert_eq!(watch.line(), "new = v  (version 1)");
    server.fine(&["delete", "new"]);
    assert_eq!(watch.line(), "new deleted  (version 2)");
    let printed = server.fails(2, &["watch", "--since", "yesterday"]);
    assert!(printed.contains("expected REVISION or STORE:REVISION"), "{printed}");
}

#[test]
fn a_watch_that_cannot_resume_prints_a_reset_and_then_everything() {
    let server = Server::start();
    server.fine(&["put", "k", "v"]);
    let store = store(&server);
    let other = "0".repeat(32);
    // A position in another store, and one in this store that was never reached.
    for at in [format!("{other}:1"), format!("{store}:7")] {
        let expected = format!(
            "{{\"reset\":true,\"revision\":1,\"store\":\"{store}\"}}\n\
             {{\"key\":\"k\",\"revision\":1,\"value\":\"v\",\"version\":1}}\n"
        );
        assert_eq!(server.fine(&["watch", "--once", "--json", "--since", &at]), expected);
        let output = server.run(&["watch", "--once", "--since", &at]);
        assert_eq!(output.stdout, b"k = v  (version 1)\n");
        assert_eq!(
            output.stderr,
            b"the history is another one: forget what was printed before, because the complete state follows\n"
        );
    }
}

#[test]
fn marks_tell_where_to_go_on_and_transactions_are_told_whole() {
    let server = Server::start();
    let store = store(&server);
    let mut watch = server.watch(&["--json", "--marks"]);
    assert_eq!(watch.line(), format!(r#"{{"revision":0,"store":"{store}"}}"#));
    assert!(server.piped(&["txn"], b"put b 2\nput a 1\n").status.success());
    assert_eq!(watch.line(), r#"{"key":"b","revision":1,"value":"2","version":1}"#);
    assert_eq!(watch.line(), r#"{"key":"a","revision":1,"value":"1","version":1}"#);
    assert_eq!(watch.line(), format!(r#"{{"revision":1,"store":"{store}"}}"#));
    let printed = server.fails(2, &["watch", "--marks"]);
    assert!(printed.contains("--json"), "{printed}");
}

/// Checks that the watch reports a lost connection, and the next one.
fn lost_and_back(watch: &mut Process) {
    let printed = watch.error_line();
    assert!(printed.starts_with("connection lost: ") && printed.ends_with("; connecting again"), "{printed}");
    assert_eq!(watch.error_line(), "connected again; no change was missed");
}

#[test]
fn a_watcher_misses_and_repeats_nothing_when_the_server_restarts() {
    let server = Server::start();
    server.fine(&["put", "k", "1"]);
    server.fine(&["put", "other", "1"]);
    let mut watch = server.watch(&[]);
    assert_eq!([watch.line(), watch.line()], ["k = 1  (version 1)", "other = 1  (version 1)"]);
    let (addr, data) = (server.addr.clone(), server.data.clone());
    server.process.signal("KILL");
    server.process.end();
    // Changes while the watch is not connected: this server has another address, which the watch does not know.
    let elsewhere = Server::start_on(&data, &["--listen", "127.0.0.1:0"], "off");
    elsewhere.fine(&["put", "k", "2", "--version", "2"]);
    elsewhere.fine(&["delete", "other"]);
    elsewhere.process.signal("TERM");
    elsewhere.process.end();
    let server = Server::start_on(&data, &["--listen", &addr], "off");
    lost_and_back(&mut watch);
    assert_eq!([watch.line(), watch.line()], ["k = 2  (version 2)", "other deleted  (version 2)"]);
    server.fine(&["put", "k", "3", "--version", "3"]);
    assert_eq!(watch.line(), "k = 3  (version 3)");
}

#[test]
fn a_watcher_whose_store_is_another_one_is_told_everything() {
    let server = Server::start();
    server.fine(&["put", "k", "1"]);
    let mut watch = server.watch(&["--json"]);
    assert_eq!(watch.line(), r#"{"key":"k","revision":1,"value":"1","version":1}"#);
    let addr = server.addr.clone();
    drop(server);
    let fresh = Arc::new(TempDir::new().unwrap());
    let server = Server::start_on(&fresh, &["--listen", "127.0.0.1:0"], "off");
    server.fine(&["put", "other", "2"]);
    server.process.signal("TERM");
    server.process.end();
    let server = Server::start_on(&fresh, &["--listen", &addr], "off");
    lost_and_back(&mut watch);
    let store = store(&server);
    assert_eq!(watch.line(), format!(r#"{{"reset":true,"revision":1,"store":"{store}"}}"#));
    assert_eq!(watch.line(), r#"{"key":"other","revision":1,"value":"2","version":1}"#);
}

#[test]
fn a_connection_lost_during_a_snapshot_is_exit_code_4() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    for command in [&["watch", "--once"][..], &["export"]] {
        let watch = Process::start(syncline(command).args(["--addr", &addr]));
        // The client gets a HELLO, sends its requests, and receives a part of the snapshot.
        let mut stream = greet(&listener);
        stream.write_all(b"\x01\0\0\x01\0k\x01\0v\x01\0\0\0\0\0\0\0").unwrap();
        stream.read_exact(&mut [0; 13]).unwrap();
        drop(stream);
        let (status, printed) = watch.end();
        assert_eq!(status.code(), Some(4), "{command:?}: {printed}");
        assert_eq!(printed, "syncline: the server closed the connection\n");
    }
}

#[test]
fn a_watch_ends_when_its_output_is_closed() {
    let server = Server::start();
    let mut watch = server.watch(&[]);
    server.fine(&["put", "k", "1"]);
    assert_eq!(watch.line(), "k = 1  (version 1)");
    watch.close_stdout();
    server.fine(&["put", "k", "2", "--force"]);
    let (status, printed) = watch.end();
    assert_eq!((status.code(), printed.as_str()), (Some(0), ""));
}

#[test]
fn exec_runs_a_command_for_each_change_one_after_the_other() {
    let server = Server::start();
    server.fine(&["put", "k", "it's \"v\" $HOME"]);
    let script = r#"printf '%s|%s|%s|%s|%s|' "$SYNCLINE_KEY" "$SYNCLINE_VALUE" "$SYNCLINE_VERSION" "$SYNCLINE_REVISION" \
        "$SYNCLINE_DELETED"; echo "${SYNCLINE_VALUE-unset}|$(cat)""#;
    let mut watch = server.watch(&["--exec", script]);
    assert_eq!(watch.line(), r#"k|it's "v" $HOME|1|1|false|it's "v" $HOME|it's "v" $HOME"#);
    server.fine(&["delete", "k"]);
    assert_eq!(watch.line(), "k||2|2|true|unset|");
    assert!(server.piped(&["txn"], b"put a 1\nput b 2\nput c 3\n").status.success());
    assert_eq!(
        [watch.line(), watch.line(), watch.line()].map(|line| line.split('|').next().unwrap().to_owned()),
        ["a", "b", "c"]
    );
}

#[test]
fn an_exec_command_gets_any_bytes_and_may_leave_them_unread() {
    let large = ["--listen", "127.0.0.1:0", "--max-entry-size", "1MiB"];
    let server = Server::start_with(&large, "off");
    let value: Vec<u8> = (1..=255).cycle().take(60_000).collect();
    server.piped(&["put", "binary"], &value);
    server.piped(&["put", "zero"], b"a\0b");
    let digest = r#"printf '%s' "$SYNCLINE_VALUE" | cksum; cksum; echo "${SYNCLINE_VALUE+set}""#;
    let printed = server.fine(&["watch", "binary", "--once", "--exec", digest]);
    let lines: Vec<_> = printed.lines().collect();
    let [from_variable, from_stdin, "set"] = lines[..] else { panic!("{printed}") };
    assert_eq!(from_variable, from_stdin);
    assert!(from_stdin.ends_with(" 60000"), "{printed}");
    let printed = server.fine(&["watch", "zero", "--once", "--exec", r#"echo "${SYNCLINE_VALUE-unset}"; od -An -c"#]);
    assert_eq!(printed, "unset\n   a  \\0   b\n");
    server.piped(&["put", "large"], &[b'v'; 70_000]);
    let printed = server.fine(&["watch", "large", "--once", "--exec", r#"echo "${SYNCLINE_VALUE-unset}"; wc -c"#]);
    assert_eq!(printed.split_whitespace().collect::<Vec<_>>(), ["unset", "70000"]);
    // The value exceeds the buffer of a pipe, and the command does not read it.
    assert_eq!(server.fine(&["watch", "large", "--once", "--exec", "echo done"]), "done\n");
    // The command does not inherit a variable of the watch as if it belonged to the change.
    let mut watch = server.command(&["watch", "zero", "--once", "--exec", r#"echo "${SYNCLINE_VALUE-unset}""#]);
    assert_eq!(watch.env("SYNCLINE_VALUE", "outer").output().unwrap().stdout, b"unset\n");
}

#[test]
fn exec_with_json_passes_the_json_line() {
    let server = Server::start();
    server.fine(&["put", "k", "v"]);
    let printed = server.fine(&["watch", "--once", "--json", "--exec", "cat"]);
    assert_eq!(printed, "{\"key\":\"k\",\"revision\":1,\"value\":\"v\",\"version\":1}\n");
}

#[test]
fn a_failed_exec_command_is_reported_and_the_watch_continues() {
    let server = Server::start();
    server.fine(&["put", "bad", "v"]);
    server.fine(&["put", "good", "v"]);
    let script = r#"test "$SYNCLINE_KEY" = good && echo fine"#;
    let output = server.run(&["watch", "--once", "--exec", script]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(output.stdout, b"fine\n");
    let expected = "syncline: --exec: exit status: 1, for bad at version 1\nsyncline: --exec: 1 of 2 runs failed\n";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
    let mut watch = server.watch(&["--exec", "kill -KILL $$"]);
    let printed = [watch.error_line(), watch.error_line()];
    assert!(printed.iter().all(|line| line.starts_with("syncline: --exec: signal: 9 (SIGKILL), for ")), "{printed:?}");
    server.fine(&["put", "new", "v"]);
    assert_eq!(watch.error_line(), "syncline: --exec: signal: 9 (SIGKILL), for new at version 1");
}

/// Returns a shell command that appends the key and the version of each run to a file, and waits while a file exists.
fn slow(log: &std::path::Path, hold: &std::path::Path) -> String {
    let (log, hold) = (log.display(), hold.display());
    format!("echo $SYNCLINE_KEY $SYNCLINE_VERSION >> {log}; while test -e {hold}; do sleep 0.01; done")
}

fn wait_for(path: &std::path::Path, expected: &str) {
    while std::fs::read_to_string(path).unwrap_or_default() != expected {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_slow_command_gets_the_latest_version_next() {
    let server = Server::start();
    let directory = TempDir::new().unwrap();
    let (log, hold) = (directory.path().join("log"), directory.path().join("hold"));
    std::fs::write(&hold, "").unwrap();
    server.fine(&["put", "a", "1"]);
    let _watch = server.watch(&["--exec", &slow(&log, &hold)]);
    wait_for(&log, "a 1\n");
    for version in 2..=30 {
        server.fine(&["put", "a", "value", "--version", &version.to_string()]);
    }
    server.fine(&["put", "b", "1"]);
    server.fine(&["put", "gone", "1"]);
    server.fine(&["delete", "gone"]);
    server.fine(&["put", "a", "value", "--version", "31"]);
    std::fs::remove_file(&hold).unwrap();
    let end = "a 31\n";
    while !std::fs::read_to_string(&log).unwrap().ends_with(end) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let printed = std::fs::read_to_string(&log).unwrap();
    let runs: Vec<_> = printed.lines().collect();
    assert!(runs.len() <= 6, "stale versions were run: {printed}");
    assert!(runs.contains(&"b 1") && runs.contains(&"gone 2"), "{printed}");
}

#[test]
fn a_signal_ends_the_watch_and_its_command_with_all_processes() {
    let server = Server::start();
    server.fine(&["put", "a", "1"]);
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let directory = TempDir::new().unwrap();
        let pids = directory.path().join("pids");
        // A shell, and a process of it that the shell does not wait for.
        let exec = format!("sleep 1000 & echo $$ $! > {0}.new; mv {0}.new {0}; sleep 1000", pids.display());
        let watch = server.watch(&["--exec", &exec]);
        while !pids.exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        watch.signal(signal);
        let (status, printed) = watch.end();
        assert_eq!(status.code(), Some(code), "{printed}");
        for pid in std::fs::read_to_string(&pids).unwrap().split_whitespace() {
            let is_gone = || {
                let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
                state.is_err() || state.unwrap().contains(") Z ")
            };
            while !is_gone() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
    }
}

#[test]
fn a_watch_ends_as_the_first_process_of_a_container() {
    let allowed = std::process::Command::new("unshare").args(["--pid", "--fork", "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        println!("skipped: this machine does not allow a process namespace");
        return;
    }
    let server = Server::start();
    server.fine(&["put", "a", "1"]);
    for (args, signal) in
        [("", "TERM"), ("", "INT"), ("--exec 'true & sleep 1000'", "TERM"), ("--exec 'sleep 1000'", "INT")]
    {
        let command = format!("exec {} watch --addr {} {args}", support::SYNCLINE, server.addr);
        let mut watch =
            Process::start(std::process::Command::new("unshare").args(["--pid", "--fork", "sh", "-c", &command]));
        assert!(watch.error_line().starts_with("watching"));
        let children = format!("/proc/{0}/task/{0}/children", watch.id());
        let inside = std::fs::read_to_string(children).unwrap();
        let sent = std::process::Command::new("kill").args([&format!("-{signal}"), inside.trim()]).status().unwrap();
        assert!(sent.success());
        let (status, printed) = watch.end();
        let expected = if signal == "TERM" { 143 } else { 130 };
        assert_eq!(status.code(), Some(expected), "{args} {signal}: {printed}");
    }
}
