//! The README and `docs/cli.md`, as a reader would follow them: their commands in real terminals, and what they show.
//!
//! Every ```` ```console ```` block is played. Its first line names the terminal (`# terminal 1`), a line that starts with
//! `$ ` is typed there, and the other lines must be shown, exactly; `…` stands for anything. A block without a command
//! waits for more of what an earlier one has started. The only thing that is exchanged is the port: any that is free.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const README: &str = include_str!("../../../README.md");
const CLI: &str = include_str!("../../../docs/cli.md");
const DOCUMENTED_ADDR: &str = "127.0.0.1:6660";

/// What ends the output of a command: typed behind it, and shown when it is done.
const DONE: &str = "--done--";

/// A shell in a terminal of its own.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: BufReader<ChildStdout>,
}

impl Terminal {
    fn open(addr: &str, directory: &Path) -> Self {
        let bin = Path::new(support::SYNCLINE).parent().unwrap().to_str().unwrap().to_owned();
        let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
        // `script`, which is on every Debian, gives the shell a terminal, so that commands behave as they do for people.
        let mut child = Command::new("script")
            .args(["-qec", "bash --noprofile --norc --noediting", "/dev/null"])
            .env("PATH", path)
            .env("TERM", "dumb")
            .env("RUST_LOG", "off")
            .env("SYNCLINE_ADDR", addr)
            .env("SYNCLINE_LISTEN", "127.0.0.1:0")
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let (keyboard, screen) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut terminal = Self { child, keyboard, screen };
        // From here on the screen shows only what commands print. What was typed before is shown, with a prompt.
        terminal.type_line(&format!("stty -echo noflsh; PS1=; echo; echo {DONE}"));
        while terminal.line() != DONE {}
        terminal
    }

    fn type_line(&mut self, line: &str) {
        writeln!(self.keyboard, "{line}").unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.screen.read_line(&mut line).unwrap(), 0, "the terminal is gone");
        line.trim_end_matches(['\r', '\n']).to_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Ctrl-C for what runs in it, and the end of the shell, which must not hang a failing test.
        let _ = self.keyboard.write_all(b"\x03\nexit\n");
        if std::thread::panicking() {
            let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]).status();
        }
        let _ = self.child.wait();
    }
}

/// Whether a command goes on until it is ended.
fn goes_on(command: &str) -> bool {
    command.starts_with("syncline serve") && !command.contains("--config")
        || command.starts_with("syncline watch") && !command.contains("--once")
}

/// Whether this is what is documented, where `…` stands for anything.
fn is_shown(documented: &str, shown: &str) -> bool {
    match documented.split_once('…') {
        None => documented == shown,
        Some((before, documented)) => shown.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| is_shown(documented, &rest[at..]))
        }),
    }
}

#[test]
fn dots_stand_for_anything() {
    for (documented, shown) in
        [("a", "a"), ("…", ""), ("a…", "abc"), ("a…c", "abbc"), ("…b…d", "abcd"), ("a…c", "acac")]
    {
        assert!(is_shown(documented, shown), "{documented} {shown}");
    }
    for (documented, shown) in [("a", "b"), ("a", "ab"), ("…b", "a"), ("a…c", "abb"), ("a…b", "abc"), ("b…", "ab")]
    {
        assert!(!is_shown(documented, shown), "{documented} {shown}");
    }
}

#[test]
fn every_command_of_the_readme_shows_what_the_readme_says() {
    let commands = play(README);
    assert!(commands >= 12, "the tour has shrunk to {commands} commands");
}

#[test]
fn every_command_of_the_documentation_shows_what_it_says() {
    let commands = play(CLI);
    assert!(commands >= 40, "the documentation has shrunk to {commands} commands");
}

/// Plays all blocks of a document, and answers how many commands there were.
fn play(document: &str) -> usize {
    let directory = tempfile::TempDir::new().unwrap();
    let mut terminals: BTreeMap<String, Terminal> = BTreeMap::new();
    let mut addr = DOCUMENTED_ADDR.to_owned();
    let mut commands = 0;
    for block in document.split("```console\n").skip(1) {
        let mut lines = block[..block.find("```").unwrap()].lines().peekable();
        let name = lines.next().unwrap();
        assert!(name.starts_with("# terminal "), "a block that names no terminal: {name}");
        let terminal = terminals.entry(name.to_owned()).or_insert_with(|| Terminal::open(&addr, directory.path()));
        while let Some(line) = lines.next() {
            let Some(command) = line.strip_prefix("$ ") else {
                // More of what an earlier block has started.
                check(&[terminal.line()], &[line], &addr, name);
                continue;
            };
            commands += 1;
            let ends = !goes_on(command);
            terminal.type_line(&if ends { format!("{command}; echo {DONE}") } else { command.to_owned() });
            let expected: Vec<_> = std::iter::from_fn(|| lines.next_if(|line| !line.starts_with("$ "))).collect();
            let shown: Vec<_> = if ends {
                std::iter::from_fn(|| Some(terminal.line()).filter(|line| line != DONE)).collect()
            } else {
                expected.iter().map(|_| terminal.line()).collect()
            };
            if let Some(found) = shown.first().and_then(|line| line.strip_prefix("listening on ")) {
                addr = found.to_owned();
            }
            check(&shown, &expected, &addr, &format!("{name}, after `{command}`"));
        }
    }
    commands
}

#[track_caller]
fn check(shown: &[String], documented: &[&str], addr: &str, place: &str) {
    let expected: Vec<_> = documented.iter().map(|line| line.replace(DOCUMENTED_ADDR, addr)).collect();
    let is_so = shown.len() == expected.len() && expected.iter().zip(shown).all(|(line, shown)| is_shown(line, shown));
    assert!(is_so, "in {place}: expected\n{}\nfound\n{}", expected.join("\n"), shown.join("\n"));
}
