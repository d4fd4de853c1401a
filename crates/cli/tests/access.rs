//! `syncline passwd`, and the files that `syncline serve` accepts or refuses.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::syncline;
use syncline_server::{Hash, Users};
use tempfile::TempDir;

/// Runs a command with this text on stdin.
fn piped(args: &[&str], stdin: &str) -> Output {
    let mut command = syncline(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn fine(output: &Output) -> String {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn refused(output: &Output) -> String {
    assert!(output.status.code() == Some(2) && output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_password_on_stdin_is_hashed() {
    for (stdin, password) in [("secret\n", "secret"), ("s e:cret ", "s e:cret "), ("secret\r\nmore\n", "secret")] {
        let hash = fine(&piped(&["passwd"], stdin));
        assert!(hash.trim_end().parse::<Hash>().unwrap().verify(password.as_bytes()), "{stdin:?}");
    }
}

#[test]
fn an_empty_or_long_password_is_refused() {
    assert_eq!(refused(&piped(&["passwd"], "\n")), "syncline: expected a password, found none\n");
    assert_eq!(refused(&piped(&["passwd"], "")), "syncline: expected a password, found none\n");
    let long = "x".repeat(513);
    assert_eq!(
        refused(&piped(&["passwd"], &long)),
        "syncline: expected a password of at most 512 bytes, found a longer one\n"
    );
    fine(&piped(&["passwd"], &"x".repeat(512)));
}

#[test]
fn an_entry_without_rights_is_refused_by_a_server_and_says_so() {
    for name in ["ann", "a \"b\" \\ \u{7f}"] {
        let output = piped(&["passwd", "--user", name], "secret\n");
        let note = String::from_utf8(output.stderr.clone()).unwrap();
        assert!(output.status.success() && note.contains("has no rights yet"), "{output:?}");
        let entry = String::from_utf8(output.stdout).unwrap();
        let refused = Users::parse(&entry).unwrap_err().to_string();
        assert!(refused.ends_with("expected a right: read, write, or admin = true"), "{refused}");
        let users = Users::parse(&entry.replace("read = []", "read = [\"\"]")).unwrap();
        assert_eq!(users.names().collect::<Vec<_>>(), [name]);
    }
    for name in ["", "a:b"] {
        let refused = refused(&piped(&["passwd", "--user", name], "secret\n"));
        assert!(refused.starts_with("syncline: --user: name: expected 1 to"), "{refused}");
    }
}

#[test]
fn an_entry_with_rights_is_complete() {
    for rights in [&["--read", "a/", "--read", "b \"c\"", "--write", ""][..], &["--write", "a/"], &["--admin"]] {
        let entry = fine(&piped(&[&["passwd", "--user", "ann"], rights].concat(), "secret\n"));
        let users = Users::parse(&entry).unwrap_or_else(|error| panic!("{entry}: {error}"));
        assert_eq!(users.names().collect::<Vec<_>>(), ["ann"]);
    }
    for flags in [&["--read", "a/"][..], &["--user", "ann", "--admin", "--read", "a/"]] {
        assert!(refused(&piped(&[&["passwd"], flags].concat(), "secret\n")).starts_with("error: "), "{flags:?}");
    }
}

/// Runs a command in a terminal, and types a line at each prompt as soon as the terminal shows no typed text. Returns
/// everything that the terminal shows.
fn typed(command: &str, lines: &[(&str, &str)]) -> String {
    let mut child = Command::new("script")
        .args(["-qec", &format!("tty; {} {command}", support::SYNCLINE), "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut shown, mut byte) = (String::new(), [0]);
    let mut show_until = |shown: &mut String, end: &str| {
        while !shown.ends_with(end) {
            assert_ne!(screen.read(&mut byte).unwrap(), 0, "{shown}");
            shown.push(char::from(byte[0]));
        }
    };
    show_until(&mut shown, "\n");
    let terminal = shown.trim_end().to_owned();
    for (prompt, line) in lines {
        show_until(&mut shown, prompt);
        // The prompt appears before the terminal stops to show typed text.
        wait_until_silent(&terminal);
        writeln!(keyboard, "{line}").unwrap();
    }
    screen.read_to_string(&mut shown).unwrap();
    child.wait().unwrap();
    shown
}

/// Waits until a terminal shows no typed text.
fn wait_until_silent(terminal: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let settings = Command::new("stty").args(["-a", "-F", terminal]).output().unwrap();
        assert!(settings.status.success(), "{settings:?}");
        if String::from_utf8(settings.stdout).unwrap().split_whitespace().any(|word| word == "-echo") {
            return;
        }
    }
    panic!("{terminal} still shows typed text");
}

#[test]
fn a_terminal_asks_twice_and_shows_no_password() {
    let shown = typed("passwd", &[("Password: ", "s3cr3t"), ("Repeat the password: ", "s3cr3t")]);
    assert!(!shown.contains("s3cr3t"), "{shown}");
    let hash = shown.lines().find(|line| line.starts_with('$')).unwrap_or_else(|| panic!("{shown}"));
    assert!(hash.trim_end().parse::<Hash>().unwrap().verify(b"s3cr3t"));
}

#[test]
fn two_different_passwords_are_refused() {
    let shown = typed("passwd", &[("Password: ", "s3cr3t"), ("Repeat the password: ", "secret")]);
    assert!(shown.contains("syncline: expected the same password twice, found two different ones"), "{shown}");
    assert!(!shown.contains('$'), "{shown}");
    let shown = typed("passwd", &[("Password: ", "")]);
    assert!(shown.contains("syncline: expected a password, found none"), "{shown}");
}

#[test]
fn a_server_without_tls_refuses_to_require_passwords() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (hash, users, data) = (path("hash"), path("users.toml"), path("data"));
    std::fs::write(&hash, fine(&piped(&["passwd"], "secret\n"))).unwrap();
    std::fs::write(&users, "[[user]]\nname = \"ann\"\ncertificate = \"ann\"\nadmin = true\n").unwrap();
    for args in [["--auth-hash-file", &hash], ["--users", &users]] {
        let output = syncline(&["serve", "--listen", "127.0.0.1:0", "--data", &data])
            .args(args)
            .env("RUST_LOG", "error")
            .output();
        assert_eq!(refused(&output.unwrap()), "syncline: must use TLS if authorization is required\n");
        assert!(!directory.path().join("data").exists(), "no data directory may be created");
    }
    let both = syncline(&["serve", "--auth-hash-file", &hash, "--users", &users]).output().unwrap();
    assert!(refused(&both).contains("cannot be used with '--users"), "{both:?}");
}

#[test]
fn an_invalid_users_file_is_refused_with_its_line() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("file").to_str().unwrap().to_owned();
    let serve = |flag| {
        let output = syncline(&["serve", "--durability", "memory", flag, &path]).env("RUST_LOG", "error").output();
        refused(&output.unwrap()).replace(&path, "FILE")
    };
    assert!(serve("--users").starts_with("syncline: can't read FILE: "));
    std::fs::write(&path, "\n[[user]]\nnmae = \"ann\"\n").unwrap();
    assert_eq!(serve("--users"), "syncline: FILE, line 3: unknown key \"nmae\"; did you mean \"name\"?\n");
    assert!(serve("--auth-hash-file").starts_with("syncline: FILE: expected a hash of bcrypt ($2a$, $2b$, $2y$)"));
}
