//! The commands of the real binary: their output and exit codes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use support::{Process, Server, greet, syncline};

#[test]
fn put_get_and_a_watcher_that_sees_it_at_once() {
    let server = Server::start();
    let mut watch = server.watch(&[]);
    assert_eq!(server.fine(&["put", "name", "mark"]), "name  (version 1)\n");
    assert_eq!(watch.line(), "name = mark  (version 1)");
    assert_eq!(server.fine(&["get", "name"]), "mark", "into a pipe, exactly the value");
    assert_eq!(server.fine(&["put", "name", "tony", "--version", "2"]), "name  (version 2)\n");
    assert_eq!(watch.line(), "name = tony  (version 2)");
}

#[test]
fn json_for_programs() {
    let server = Server::start();
    let mut watch = server.watch(&["--json"]);
    assert_eq!(server.fine(&["put", "name", "mark", "--json"]), "{\"key\":\"name\",\"version\":1}\n");
    let expected = r#"{"key":"name","value":"mark","version":1}"#;
    assert_eq!(watch.line(), r#"{"key":"name","revision":1,"value":"mark","version":1}"#);
    assert_eq!(server.fine(&["get", "name", "--json"]), format!("{expected}\n"));
    server.piped(&["put", "bin"], b"\x00\xff");
    let expected = r#"{"key":"bin","value_hex":"00ff","version":1}"#;
    assert_eq!(watch.line(), r#"{"key":"bin","revision":2,"value_hex":"00ff","version":1}"#);
    assert_eq!(server.fine(&["get", "bin", "--json"]), format!("{expected}\n"));
}

#[test]
fn a_missing_key_is_exit_code_1() {
    let server = Server::start();
    assert_eq!(server.fails(1, &["get", "nothing"]), "syncline: nothing: not found\n");
}

#[test]
fn a_stale_put_is_exit_code_3_and_says_what_to_do() {
    let server = Server::start();
    server.fine(&["put", "name", "mark"]);
    let printed = server.fails(3, &["put", "name", "tony"]);
    let expected = "syncline: stale put: name is at version 1, so the next write has version 2, not 1\n\
                    To write over what is there: --version 2, or --force.\n";
    assert_eq!(printed, expected);
    assert_eq!(server.fails(3, &["put", "name", "tony", "--version", "9"]), expected.replace("not 1", "not 9"));
    assert_eq!(server.fine(&["get", "name"]), "mark");
    assert_eq!(server.fine(&["put", "name", "tony", "--force"]), "name  (version 2)\n");
    assert_eq!(server.fine(&["put", "new", "value", "--force"]), "new  (version 1)\n");
    assert_eq!(server.fine(&["get", "name"]), "tony");
}

#[test]
fn a_value_comes_from_an_argument_a_file_or_stdin_byte_for_byte() {
    let server = Server::start();
    let value: Vec<u8> = (0..=255).cycle().take(3000).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &value).unwrap();
    let path = file.path().to_str().unwrap();
    server.fine(&["put", "file", "--file", path]);
    assert!(server.piped(&["put", "stdin"], &value).status.success());
    assert!(server.piped(&["put", "dash", "--file", "-"], &value).status.success());
    for key in ["file", "stdin", "dash"] {
        assert_eq!(server.run(&["get", key]).stdout, value, "{key}");
    }
    server.fine(&["put", "empty", ""]);
    assert_eq!(server.fine(&["get", "empty"]), "");
    let printed = server.fails(2, &["put", "none", "--file", "/no/such/file"]);
    assert!(printed.starts_with("syncline: can't read the value from /no/such/file: "), "{printed}");
}

#[test]
fn a_value_may_be_as_large_as_the_server_allows() {
    let large = ["--listen", "127.0.0.1:0", "--max-entry-size", "16MiB"];
    let server = Server::start_with(&large, "off");
    let value: Vec<u8> = (0..=255).cycle().take((16 << 20) - 1).collect();
    assert!(server.piped(&["put", "k"], &value).status.success());
    assert!(server.run(&["get", "k"]).stdout == value);
    let output = server.piped(&["put", "k", "--force"], &[value, vec![0; 9]].concat());
    let printed = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), printed.contains("expected at most 16777216")), (Some(2), true), "{printed}");
}

#[test]
fn an_invalid_command_key_or_value_is_exit_code_2() {
    let server = Server::start();
    for args in [&["put"][..], &["get"], &["nonsense"], &["put", "k", "v", "--version", "one"], &["get", "k", "--nope"]]
    {
        let printed = server.fails(2, args);
        assert!(printed.contains("error: ") && printed.contains("--help"), "{args:?}: {printed}");
    }
    let printed = server.fails(2, &["put", "k", "v", "--version", "2", "--force"]);
    assert!(printed.contains("cannot be used with"), "{printed}");
    let printed = server.fails(2, &["put", "k", "v", "--file", "f"]);
    assert!(printed.contains("cannot be used with"), "{printed}");
    let output = server.piped(&["put", "k"], &[0; 100_000]);
    assert_eq!(output.status.code(), Some(2));
    let printed = String::from_utf8(output.stderr).unwrap();
    assert_eq!(printed, "syncline: too large: key and value of 100001 bytes together, expected at most 65525\n");
    let printed = server.fails(2, &["get", &"k".repeat(4097)]);
    assert_eq!(printed, "syncline: too large: key of 4097 bytes, expected at most 4096\n");
    let printed = server.fails(2, &["put", "k", "v", "--version", "18446744073709551615"]);
    assert_eq!(printed, "syncline: the server refused: version exhausted\n");
}

#[test]
fn an_unreachable_server_is_exit_code_4() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let commands: [&[&str]; 9] = [
        &["get", "k"],
        &["put", "k", "v"],
        &["watch"],
        &["watch", "--once"],
        &["delete", "k"],
        &["list"],
        &["status"],
        &["export"],
        &["import"],
    ];
    for args in commands {
        let output = syncline(args).args(["--addr", &unused]).output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        let printed = String::from_utf8(output.stderr).unwrap();
        assert!(printed.starts_with(&format!("syncline: can't connect to {unused}: ")), "{printed}");
        assert!(printed.contains("syncline serve"), "{printed}");
    }
}

#[test]
fn of_several_addresses_the_first_that_answers_is_taken() {
    let server = Server::start();
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let fine = |command: &mut std::process::Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let both = format!("{unused},{}", server.addr);
    fine(syncline(&["put", "k", "v"]).env("SYNCLINE_ADDR", &both));
    fine(&mut syncline(&["get", "k", "--addr", &both]));
    fine(&mut syncline(&["list", "--addr", &unused, "--addr", &server.addr]));
    let mut watch = Process::start(&mut syncline(&["watch", "--addr", &both]));
    assert_eq!(watch.error_line(), format!("watching {unused}, {} (Ctrl-C to end)", server.addr));
    assert_eq!(watch.line(), "k = v  (version 1)");
}

#[test]
fn a_command_that_needs_the_extension_is_exit_code_2_without_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    for args in [&["watch"][..], &["list"], &["status"], &["export"], &["delete", "k", "--version", "2"]] {
        let command = Process::start(syncline(args).args(["--addr", &addr]));
        let (mut first, _) = listener.accept().unwrap();
        first.read_exact(&mut [0; 5]).unwrap();
        first.write_all(b"\x02\x01\0\x14\0unknown message kind").unwrap();
        let (mut second, _) = listener.accept().unwrap();
        if args == ["list"] {
            // The command reads the empty key first, which a LIST never returns.
            second.read_exact(&mut [0; 5]).unwrap();
            second.write_all(b"\x02\x01\0\x0d\0\"\": not found").unwrap();
        }
        let (status, printed) = command.end();
        let expected =
            "syncline: expected a server that speaks the extension, found one that speaks only the base protocol\n";
        assert_eq!((status.code(), printed.as_str()), (Some(2), expected), "{args:?}");
    }
}

#[test]
fn an_address_that_is_taken_is_exit_code_4() {
    let server = Server::start();
    let data = tempfile::TempDir::new().unwrap();
    let output = syncline(&["serve", "--listen", &server.addr]).env("SYNCLINE_DATA", data.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(output.stdout.is_empty(), "{output:?}");
    let printed = String::from_utf8(output.stderr).unwrap();
    assert!(printed.contains(&format!("syncline: can't listen on {}: ", server.addr)), "{printed}");
    assert!(printed.ends_with("end it, or choose another address with --listen.\n"), "{printed}");
}

#[test]
fn an_invalid_limit_is_exit_code_2() {
    for (args, expected) in [
        (&["--max-key", "65536"][..], "expected at most 65535 bytes, found 65536"),
        (&["--max-entry-size", "17MiB"], "expected at most 16777216 bytes, found 17825792"),
        (&["--max-requests", "0"], "expected at least 1, found 0"),
        (&["--max-unsent", "lots"], "expected a size such as 65525, 4KiB or 64MiB, found lots"),
        (&["--durability", "paper"], "invalid value 'paper'"),
        (&["--tombstones", "soon"], "invalid value 'soon'"),
    ] {
        let data = tempfile::TempDir::new().unwrap();
        let mut serve = syncline(&["serve", "--listen", "127.0.0.1:0"]);
        let output = serve.args(args).env("SYNCLINE_DATA", data.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        let printed = String::from_utf8(output.stderr).unwrap();
        assert!(printed.contains(expected), "{args:?}: {printed}");
    }
}

#[test]
fn a_write_whose_connection_is_lost_is_exit_code_5() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let put = Process::start(&mut syncline(&["put", "k", "v", "--addr", &addr]));
    let mut stream = greet(&listener);
    stream.read_exact(&mut [0; 17]).unwrap();
    drop(stream);
    let (status, printed) = put.end();
    assert_eq!(status.code(), Some(5), "{printed}");
    assert!(printed.contains("the write may have been accepted or not"), "{printed}");
}

#[test]
fn serve_logs_its_durability_and_shuts_down_in_order() {
    for (signal, durability, promise) in [
        ("TERM", "fsync", "survives a power cut"),
        ("INT", "os", "survives a killed process, not a power cut"),
        ("TERM", "memory", "everything is lost when this process ends"),
    ] {
        let server = Server::start_with(&["--listen", "127.0.0.1:0", "--durability", durability], "");
        let mut connection = TcpStream::connect(&server.addr).unwrap();
        assert_eq!(server.fine(&["put", "k", "v"]), "k  (version 1)\n");
        server.process.signal(signal);
        let mut printed = Vec::new();
        connection.read_to_end(&mut printed).unwrap();
        assert!(printed.ends_with(b"\x02\0\0\x1a\0unavailable: shutting down"), "{printed:?}");
        let (status, printed) = server.process.end();
        assert_eq!(status.code(), Some(0), "{printed}");
        for expected in [promise, "shutting down", "shut down"] {
            assert!(printed.contains(expected), "{expected:?} is not in {printed}");
        }
    }
}

#[test]
fn acknowledged_writes_survive_a_restart() {
    for end in ["TERM", "KILL"] {
        let server = Server::start();
        server.fine(&["put", "name", "mark"]);
        server.fine(&["put", "name", "tony", "--version", "2"]);
        server.process.signal(end);
        let data = server.data.clone();
        let (_, _) = server.process.end();
        let server = Server::start_on(&data, &["--listen", "127.0.0.1:0"], "off");
        let expected = "{\"key\":\"name\",\"value\":\"tony\",\"version\":2}\n";
        assert_eq!(server.fine(&["get", "name", "--json"]), expected, "after SIG{end}");
    }
}

#[test]
fn a_data_directory_in_use_is_exit_code_4_and_names_the_holder() {
    let server = Server::start();
    let data = server.data.path().to_str().unwrap();
    let output = syncline(&["serve", "--listen", "127.0.0.1:0", "--data", data]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let printed = String::from_utf8(output.stderr).unwrap();
    let expected = format!("syncline: {data} is in use by process {}: ", server.process.id());
    assert!(printed.starts_with(&expected), "{printed}");
}

#[test]
fn a_directory_with_foreign_files_is_exit_code_6_and_unchanged() {
    let data = tempfile::TempDir::new().unwrap();
    std::fs::write(data.path().join("letter.txt"), "dear").unwrap();
    let mut serve = syncline(&["serve", "--listen", "127.0.0.1:0"]);
    let output = serve.env("SYNCLINE_DATA", data.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    let printed = String::from_utf8(output.stderr).unwrap();
    assert!(printed.contains("found `letter.txt`; choose another directory"), "{printed}");
    assert_eq!(std::fs::read(data.path().join("letter.txt")).unwrap(), b"dear");
}

#[test]
fn logs_hold_no_values() {
    let server = Server::start_with(&["--listen", "127.0.0.1:0"], "trace");
    server.fine(&["put", "key", "TopSecretValue"]);
    server.fine(&["get", "key"]);
    let output = server.command(&["put", "key", "TopSecretValue"]).env("RUST_LOG", "trace").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    server.process.signal("TERM");
    let (_, mut printed) = server.process.end();
    assert!(printed.contains("connected"), "the log says something: {printed}");
    printed += &String::from_utf8(output.stderr).unwrap();
    assert!(!printed.contains("TopSecret"), "{printed}");
}

#[test]
fn help_is_there_for_every_command() {
    let commands = ["serve", "get", "put", "watch", "delete", "list", "txn", "status", "export", "import"];
    for command in commands {
        let output = syncline(&[command, "--help"]).output().unwrap();
        assert!(output.status.success(), "{command}");
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(printed.contains(&format!("Usage: syncline {command}")), "{printed}");
        let has_example = printed.contains("Example") && printed.contains(&format!("  syncline {command}"));
        assert!(has_example || command == "serve", "no example in the help of {command}");
    }
    let output = syncline(&["--help"]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("Exit codes:"), "{printed}");
    assert!(commands.iter().all(|command| printed.contains(&format!("\n  {command} "))), "{printed}");
}
