//! Types every command that a document of the repository shows, and compares the output.
//!
//! The test finds all Markdown files and all their fenced blocks by itself. The info string of a fence says what the
//! block is:
//!
//! | info string | treatment |
//! |---|---|
//! | `console` | a transcript: its first line names a terminal (`# terminal 1`), `$ ` begins a command, `> ` continues it, `^C` is Ctrl-C, and all other lines are the exact output; `…` stands for any text |
//! | `sh` | a script in a terminal of its own: every command must succeed |
//! | `console not-tested`, `sh not-tested` | not typed. An HTML comment above the block, `<!-- not tested: REASON -->`, states the reason, and [`NOT_TESTED`] counts these blocks |
//! | one of [`NO_COMMANDS`] | not a command |
//!
//! Any other fence fails the test, so no command is skipped silently. All blocks of a document share a directory, which
//! contains copies of `examples/` and `packaging/`, as the root of the repository does. The test replaces only what a
//! test machine cannot have: port 6660 (by a free one), the address 0.0.0.0 (by 127.0.0.1) and the host `db.example.org`
//! (by `localhost`). It types a password when `syncline passwd` asks for one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The number of blocks in each document that are not typed.
const NOT_TESTED: [(&str, usize); 4] =
    [("README.md", 1), ("bench/README.md", 1), ("docs/hostile.md", 1), ("packaging/README.md", 2)];

/// The number of commands that must be typed at least. A parser that finds no blocks would pass otherwise.
const MIN_COMMANDS: usize = 80;

/// The info strings of blocks without commands.
const NO_COMMANDS: [&str; 6] = ["text", "toml", "json", "rust", "rust,ignore", "python"];

/// Directories without documents of the repository.
const SKIPPED_DIRECTORIES: [&str; 4] = ["target", "corpus", "regressions", "fixtures"];

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const DOCUMENTED_HOST: &str = "db.example.org";
const DOCUMENTED_PORT: &str = ":6660";

/// The time after which `timeout` closes a terminal, so that a command that waits for input fails the test.
const TIMEOUT: &str = "120";

/// The line that the terminal prints after each command, followed by the exit code.
const DONE: &str = "--done--";

/// A block of a document that is to be typed.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    /// The number of the line of the fence.
    line: usize,
    is_console: bool,
    lines: Vec<String>,
}

/// The blocks of a document.
#[derive(Debug, Default, PartialEq, Eq)]
struct Document {
    blocks: Vec<Block>,
    not_tested: usize,
}

impl Document {
    /// Finds the blocks of a document.
    ///
    /// # Errors
    /// The line and the reason if a fence has an unknown info string, or does not give the reason why it is not tested.
    fn parse(text: &str) -> Result<Self, String> {
        let mut document = Self::default();
        let mut lines = (1..).zip(text.lines());
        let mut reason = "";
        while let Some((number, line)) = lines.next() {
            let Some(info) = line.trim_start().strip_prefix("```") else {
                if !line.trim().is_empty() {
                    reason = line;
                }
                continue;
            };
            let block: Vec<_> =
                lines.by_ref().map(|(_, line)| line.to_owned()).take_while(|line| line.trim_start() != "```").collect();
            match info {
                "console" | "sh" => {
                    document.blocks.push(Block { line: number, is_console: info == "console", lines: block });
                }
                "console not-tested" | "sh not-tested" => {
                    if !(reason.starts_with("<!-- not tested: ") && reason.ends_with(" -->")) {
                        return Err(format!(
                            "line {number}: expected `<!-- not tested: REASON -->` above, found {reason:?}"
                        ));
                    }
                    document.not_tested += 1;
                }
                info if NO_COMMANDS.contains(&info) => {
                    if block.iter().any(|line| line.starts_with("$ ")) {
                        return Err(format!("line {number}: a block of commands must be `console`, not `{info}`"));
                    }
                }
                _ => return Err(format!("line {number}: unknown kind of block: {info:?}")),
            }
            reason = "";
        }
        Ok(document)
    }
}

/// A command of a block, with the output that the document shows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Step {
    /// The lines to type. Empty: more output of the command that is running.
    typed: Vec<String>,
    shown: Vec<String>,
}

impl Block {
    /// Returns the commands of the block.
    fn steps(&self) -> Vec<Step> {
        if self.is_console { console_steps(&self.lines[1..]) } else { script_steps(&self.lines) }
    }
}

fn console_steps(lines: &[String]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in lines {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { typed: vec![command.to_owned()], shown: Vec::new() });
        } else if line == "^C" {
            steps.push(Step { typed: vec![line.clone()], shown: Vec::new() });
        } else if let (Some(more), Some(step)) =
            (line.strip_prefix("> "), steps.last_mut().filter(|step| step.shown.is_empty()))
        {
            step.typed.push(more.to_owned());
        } else {
            if steps.is_empty() {
                steps.push(Step::default());
            }
            steps.last_mut().unwrap().shown.push(line.clone());
        }
    }
    steps
}

fn script_steps(lines: &[String]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = lines.iter().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    while let Some(line) = lines.next() {
        let mut typed = vec![line.clone()];
        while typed.last().is_some_and(|line| line.ends_with('\\')) {
            typed.extend(lines.next().cloned());
        }
        if let Some((_, end)) = line.split_once("<<") {
            let end = end.trim().trim_matches('\'');
            while typed.last().is_some_and(|line| line != end) {
                typed.push(lines.next().unwrap_or_else(|| panic!("no {end} after {line}")).clone());
            }
        }
        steps.push(Step { typed, shown: Vec::new() });
    }
    steps
}

/// A shell in a terminal of its own.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: BufReader<ChildStdout>,
    /// Whether a command is running that only Ctrl-C ends.
    is_busy: bool,
    /// The place in the document of the command that was typed last, for error messages.
    place: String,
    /// The address in `SYNCLINE_ADDR`, or `None` if a command of the document set the variable.
    addr: Option<String>,
}

impl Terminal {
    fn open(directory: &Path) -> Self {
        let bin = Path::new(support::SYNCLINE).parent().unwrap().to_str().unwrap().to_owned();
        let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
        let mut command = Command::new("timeout");
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"SYNCLINE_") {
                command.env_remove(name);
            }
        }
        // `script`, which every Debian has, gives the shell a terminal, so that commands behave as they do for people.
        let mut child = command
            .args([TIMEOUT, "script", "-qec", "bash --noprofile --norc --noediting", "/dev/null"])
            .env("PATH", path)
            .env("TERM", "dumb")
            .env("RUST_LOG", "off")
            .env("SYNCLINE_LISTEN", "127.0.0.1:0")
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let (keyboard, screen) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut terminal =
            Self { child, keyboard, screen, is_busy: false, place: String::new(), addr: Some(String::new()) };
        // From here on, the screen shows only what commands print. The prompt precedes the line that ends the set-up.
        terminal.type_line(&format!("stty -echo noflsh; PS1=; PS2=; echo; echo {DONE}"));
        while terminal.line() != DONE {}
        terminal
    }

    fn type_line(&mut self, line: &str) {
        writeln!(self.keyboard, "{line}").unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.screen.read_line(&mut line).unwrap();
        assert_ne!(read, 0, "{}: the terminal was closed, after {TIMEOUT} s or earlier", self.place);
        line.trim_end_matches(['\r', '\n']).to_owned()
    }

    /// Waits for the end of a command. Returns its output and its exit code.
    fn output(&mut self) -> (Vec<String>, String) {
        self.type_line(&format!("echo \"{DONE}$?\""));
        let mut output = Vec::new();
        loop {
            let line = self.line();
            // The output may end without a newline.
            if let Some((last, code)) = line.split_once(DONE) {
                output.extend(Some(last.to_owned()).filter(|last| !last.is_empty()));
                return (output, code.to_owned());
            }
            output.push(line);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Ctrl-C for the command that is running, and the end of the shell. The shell must not block a failing test.
        let _ = self.keyboard.write_all(b"\x03\nexit\n");
        if std::thread::panicking() {
            let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]).status();
        }
        let _ = self.child.wait();
    }
}

/// The state of a simulated reader of a document.
struct Reader {
    name: String,
    directory: tempfile::TempDir,
    terminals: BTreeMap<String, Terminal>,
    /// The address of the server that was started last.
    addr: Option<String>,
    commands: usize,
}

impl Reader {
    fn new(name: &str) -> Self {
        let directory = tempfile::TempDir::new().unwrap();
        for shared in ["examples", "packaging"] {
            let copied = Command::new("cp").arg("-r").arg(Path::new(ROOT).join(shared)).arg(directory.path()).status();
            assert!(copied.unwrap().success());
        }
        Self { name: name.to_owned(), directory, terminals: BTreeMap::new(), addr: None, commands: 0 }
    }

    fn read(&mut self, block: &Block) {
        let terminal = if block.is_console {
            let name = block.lines.first().filter(|line| line.starts_with("# terminal "));
            name.unwrap_or_else(|| panic!("{}, line {}: a console that names no terminal", self.name, block.line))
                .clone()
        } else {
            format!("the script in line {}", block.line)
        };
        let directory = self.directory.path();
        let mut shell = self.terminals.remove(&terminal).unwrap_or_else(|| Terminal::open(directory));
        for step in block.steps() {
            let place = format!("{}, line {}, {terminal}, `{}`", self.name, block.line, step.typed.join("\n"));
            self.take(&mut shell, &step, block.is_console, &place);
        }
        self.terminals.insert(terminal, shell);
    }

    /// Types the command of a step, and compares its output with that in the document.
    fn take(&mut self, shell: &mut Terminal, step: &Step, is_console: bool, place: &str) {
        let command = step.typed.join("\n");
        place.clone_into(&mut shell.place);
        if command.is_empty() {
            return self.compare(&step.shown.iter().map(|_| shell.line()).collect::<Vec<_>>(), &step.shown, place);
        }
        if command == "^C" {
            assert!(shell.is_busy, "{place}: no command is running");
            shell.keyboard.write_all(b"\x03").unwrap();
            shell.output();
            shell.is_busy = false;
            return;
        }
        assert!(!shell.is_busy, "{place}: a command is still running in this terminal");
        self.commands += 1;
        self.set_addr(shell, &command);
        for line in self.replaced(&command).lines() {
            shell.type_line(line);
        }
        if command.contains("syncline passwd") && !command.contains(['|', '<']) {
            (0..2).for_each(|_| shell.type_line("correct horse battery staple"));
        }
        if runs_on(&command, &step.shown, is_console) {
            shell.is_busy = true;
            let count = if is_console { step.shown.len() } else { 1 };
            let lines: Vec<_> = (0..count).map(|_| shell.line()).collect();
            match lines.first().and_then(|line| line.strip_prefix("listening on ")) {
                Some(addr) => self.addr = Some(addr.to_owned()),
                None => assert!(is_console, "{place}: expected a server that listens, found {lines:?}"),
            }
            if is_console {
                self.compare(&lines, &step.shown, place);
            }
            return;
        }
        let (output, exit_code) = shell.output();
        if is_console {
            self.compare(&output, &step.shown, place);
        } else {
            assert_eq!(exit_code, "0", "{place}: {}", output.join("\n"));
        }
    }

    /// Lets the clients in a terminal find the server, unless a command of the document says where it is.
    fn set_addr(&self, shell: &mut Terminal, command: &str) {
        if command.contains("SYNCLINE_ADDR=") {
            shell.addr = None;
        }
        if let (Some(addr), Some(known)) = (&self.addr, &mut shell.addr)
            && addr != known
        {
            known.clone_from(addr);
            shell.type_line(&format!("export SYNCLINE_ADDR={addr}"));
        }
    }

    /// Replaces in a command what a test machine cannot have.
    fn replaced(&self, command: &str) -> String {
        // It opens no port.
        if command.contains("--check-config") {
            return command.to_owned();
        }
        let command = command.replace(DOCUMENTED_HOST, "localhost").replace("0.0.0.0:", "127.0.0.1:");
        if command.contains("syncline serve") {
            return command.replace(DOCUMENTED_PORT, ":0");
        }
        self.with_port(&command)
    }

    fn with_port(&self, text: &str) -> String {
        let port = self.addr.as_ref().and_then(|addr| addr.rsplit_once(':')).map_or("6660", |(_, port)| port);
        text.replace(DOCUMENTED_PORT, &format!(":{port}"))
    }

    #[track_caller]
    fn compare(&self, output: &[String], documented: &[String], place: &str) {
        let matches = |documented: &String, line: &String| {
            let local = documented.replace(DOCUMENTED_HOST, "localhost").replace("0.0.0.0:", "127.0.0.1:");
            // `syncline cert` prints the documented port in any case, and `--check-config` the documented address.
            is_shown(documented, line) || is_shown(&local, line) || is_shown(&self.with_port(&local), line)
        };
        let is_same = output.len() == documented.len() && documented.iter().zip(output).all(|(a, b)| matches(a, b));
        assert!(is_same, "{place}: the document shows\n{}\nfound\n{}", documented.join("\n"), output.join("\n"));
    }
}

/// Returns whether a command runs until Ctrl-C.
fn runs_on(command: &str, shown: &[String], is_console: bool) -> bool {
    let begins = |text: &str| !is_console || shown.first().is_some_and(|line| line.starts_with(text));
    command.contains("syncline serve") && !command.contains("--check-config") && begins("listening on ")
        || is_console && command.contains("syncline watch") && begins("watching ")
}

/// Returns whether an output is the documented one, in which `…` stands for any text.
fn is_shown(documented: &str, output: &str) -> bool {
    match documented.split_once('…') {
        None => documented == output,
        Some((before, documented)) => output.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| is_shown(documented, &rest[at..]))
        }),
    }
}

/// Finds all Markdown files below a directory.
fn markdown_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with('.') || SKIPPED_DIRECTORIES.contains(&name) {
            continue;
        } else if path.is_dir() {
            markdown_files(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// Returns all documents of the repository, each with its path.
fn documents() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    markdown_files(Path::new(ROOT), &mut paths);
    paths.sort();
    let document = |path: PathBuf| {
        let name = path.strip_prefix(ROOT).unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    paths.into_iter().map(document).collect()
}

#[test]
fn every_command_of_every_document_works_as_typed() {
    let documents = documents();
    let parsed = documents
        .iter()
        .map(|(name, text)| (name, Document::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"))));
    let parsed: Vec<_> = parsed.collect();
    let not_tested: Vec<_> = parsed.iter().filter(|(_, document)| document.not_tested > 0).collect();
    let not_tested: Vec<_> = not_tested.iter().map(|(name, document)| (name.as_str(), document.not_tested)).collect();
    assert_eq!(not_tested, NOT_TESTED, "the blocks that are not tested, by document");

    let commands: usize = std::thread::scope(|scope| {
        let readers: Vec<_> = parsed
            .iter()
            .filter(|(_, document)| !document.blocks.is_empty())
            .map(|(name, document)| {
                scope.spawn(move || {
                    let mut reader = Reader::new(name);
                    document.blocks.iter().for_each(|block| reader.read(block));
                    reader.commands
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    assert!(commands >= MIN_COMMANDS, "only {commands} commands were typed");
}

/// Returns the commands of `syncline` in the inline code of a document.
fn inline_commands(text: &str) -> Vec<&str> {
    let is_fence = |line: &&str| line.trim_start().starts_with("```");
    let mut is_inside = false;
    let prose = text.lines().filter(|line| {
        is_inside ^= is_fence(line);
        !is_inside && !is_fence(line)
    });
    let code = prose.flat_map(|line| line.split('`').skip(1).step_by(2));
    code.filter(|code| code.starts_with("syncline ")).collect()
}

#[test]
fn every_flag_in_inline_commands_exists() {
    let mut help = BTreeMap::new();
    for (name, text) in documents() {
        for code in inline_commands(&text) {
            // Of `syncline export … | syncline import …`, both.
            for command in code.split('|').filter_map(|part| part.trim().strip_prefix("syncline ")) {
                let mut words = command.split_whitespace();
                let Some(verb) = words.next().filter(|word| word.chars().all(|c| c.is_ascii_lowercase())) else {
                    continue;
                };
                let help = help.entry(verb.to_owned()).or_insert_with(|| {
                    let output = support::syncline(&[verb, "--help"]).output().unwrap();
                    assert!(output.status.success(), "{name}: `{code}`: no such command");
                    String::from_utf8(output.stdout).unwrap()
                });
                for flag in words.filter(|word| word.starts_with("--") && word.len() > 2) {
                    let flag = flag.split(['=', ',', ';']).next().unwrap();
                    assert!(help.contains(flag), "{name}: `{code}`: no flag {flag}");
                }
            }
        }
    }
    assert!(help.len() >= 5, "found commands in {help:?} only");
}

#[test]
fn dots_stand_for_any_text() {
    for (documented, output) in
        [("a", "a"), ("…", ""), ("a…", "abc"), ("a…c", "abbc"), ("…b…d", "abcd"), ("a…c", "acac")]
    {
        assert!(is_shown(documented, output), "{documented} {output}");
    }
    for (documented, output) in [("a", "b"), ("a", "ab"), ("…b", "a"), ("a…c", "abb"), ("a…b", "abc"), ("b…", "ab")]
    {
        assert!(!is_shown(documented, output), "{documented} {output}");
    }
}

#[test]
fn a_block_is_typed_or_gives_a_reason_or_fails() {
    let fence = "```";
    let parse = |before: &str, info: &str, line: &str| {
        Document::parse(&format!("{before}\n\n{fence}{info}\n{line}\n{fence}\n"))
    };
    let typed = parse("", "sh", "ls").unwrap();
    assert_eq!(typed.blocks, [Block { line: 3, is_console: false, lines: vec!["ls".into()] }]);
    assert_eq!(parse("<!-- not tested: needs Docker -->", "sh not-tested", "docker").unwrap().not_tested, 1);
    assert_eq!(parse("", "text", "no command").unwrap(), Document::default());
    assert!(parse("", "sh not-tested", "docker").is_err(), "no reason");
    assert!(parse("", "", "ls").is_err(), "no info string");
    assert!(parse("", "bash", "ls").is_err(), "an unknown kind");
    assert!(parse("", "text", "$ ls").is_err(), "a command in a text");
}

#[test]
fn a_script_has_commands_of_several_lines() {
    let lines = ["# a comment", "a \\", "  b", "", "cat > f <<'END'", "one", "END", "c"].map(str::to_owned);
    let typed: Vec<_> = script_steps(&lines).into_iter().map(|step| step.typed.join("|")).collect();
    assert_eq!(typed, ["a \\|  b", "cat > f <<'END'|one|END", "c"]);
}
