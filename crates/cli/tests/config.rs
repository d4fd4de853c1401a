//! The configuration file: precedence of values, error messages, and the output of `--check-config`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};
use support::{Server, syncline};
use tempfile::TempDir;

/// The packaged example.
const EXAMPLE: &str = include_str!("../../../packaging/syncline.toml");

/// A directory with a configuration file in it.
struct ConfigDir {
    directory: TempDir,
    file: PathBuf,
}

impl ConfigDir {
    fn with(text: impl AsRef<[u8]>) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("syncline.toml");
        std::fs::write(&file, text).unwrap();
        Self { directory, file }
    }

    fn file(&self) -> &str {
        self.file.to_str().unwrap()
    }

    /// Runs `serve --check-config` with this file, and with further flags and variables.
    fn check(&self, args: &[&str], env: &[(&str, &str)]) -> Output {
        let mut command = syncline(&["serve", "--check-config", "--config", self.file()]);
        command.args(args).envs(env.iter().copied()).current_dir(self.directory.path()).output().unwrap()
    }

    /// Returns each key with its value and origin, as `--check-config` shows them.
    #[track_caller]
    fn settings(&self, args: &[&str], env: &[(&str, &str)]) -> BTreeMap<String, (String, String)> {
        shown(&self.check(args, env))
    }

    /// Checks that the file is refused, and returns the message without the name of the file.
    #[track_caller]
    fn refused(&self) -> String {
        let output = self.check(&[], &[]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let printed = String::from_utf8(output.stderr).unwrap();
        let start = format!("syncline: {}: ", self.file());
        printed.strip_prefix(&start).unwrap_or_else(|| panic!("{printed}")).to_owned()
    }
}

#[track_caller]
fn shown(output: &Output) -> BTreeMap<String, (String, String)> {
    assert!(output.status.success(), "{output:?}");
    let printed = std::str::from_utf8(&output.stdout).unwrap();
    let mut lines = printed.lines();
    assert_eq!(lines.next(), Some("# valid; these settings would apply:"));
    lines
        .map(|line| {
            let (assignment, origin) = line.rsplit_once("  # ").unwrap_or_else(|| panic!("{line}"));
            let (key, value) = assignment.split_once(" =").unwrap_or_else(|| panic!("{line}"));
            (key.to_owned(), (value.trim().to_owned(), origin.to_owned()))
        })
        .collect()
}

/// Returns the default settings.
fn defaults() -> BTreeMap<String, (String, String)> {
    shown(&syncline(&["serve", "--check-config"]).output().unwrap())
}

#[test]
fn command_line_overrides_environment_overrides_file_overrides_default() {
    let place =
        ConfigDir::with("listen = 'file:1'\nmax-connections = 20000\nmax-unsent = '2 MiB'\ndurability = \"os\"\n");
    let line = |number| format!("{}, line {number}", place.file());
    let env = [("SYNCLINE_LISTEN", "env:2")];
    let args = ["--listen", "flag:3", "--max-unsent=3MiB"];

    let found = place.settings(&[], &[]);
    assert_eq!(found["listen"], ("\"file:1\"".into(), line(1)));
    assert_eq!(found["max-connections"], ("20000".into(), line(2)));
    assert_eq!(found["max-unsent"], ("\"2 MiB\"".into(), line(3)));
    assert_eq!(found["durability"], ("\"os\"".into(), line(4)));
    assert_eq!(found["heartbeat"], ("\"2s\"".into(), "default".into()));

    assert_eq!(place.settings(&[], &env)["listen"], ("\"env:2\"".into(), "SYNCLINE_LISTEN".into()));

    let found = place.settings(&args, &env);
    assert_eq!(found["listen"], ("\"flag:3\"".into(), "command line".into()));
    assert_eq!(found["max-unsent"], ("\"3MiB\"".into(), "command line".into()));
    assert_eq!(found["max-connections"], ("20000".into(), line(2)), "the file sets what nothing else sets");
}

/// Returns each flag of `serve` with its variable, as `--help` shows them.
fn variables_in_help() -> Vec<(String, Option<String>)> {
    let help = String::from_utf8(syncline(&["serve", "--help"]).output().unwrap().stdout).unwrap();
    // Each flag begins a line, and the next flag ends its description.
    let flags = help.split("\n      --").skip(1).map(|text| {
        let name = text.split(|c: char| c.is_whitespace()).next().unwrap().to_owned();
        let variable = text.split_once("[env: ").and_then(|(_, rest)| rest.split_once('='));
        (name, variable.map(|(variable, _)| variable.to_owned()))
    });
    flags.collect()
}

/// A value of each flag that is valid and is not the default.
const VALUES: [(&str, &str); 18] = [
    ("config", ""),
    ("check-config", "true"),
    ("listen", "127.0.0.1:1"),
    ("data", "elsewhere"),
    ("durability", "os"),
    ("tombstones", "1h"),
    ("threads", "3"),
    ("max-key", "5KiB"),
    ("max-entry-size", "9KiB"),
    ("max-connections", "7"),
    ("max-unauthenticated", "8"),
    ("max-requests", "9"),
    ("max-unsent", "10KiB"),
    ("max-queue", "11KiB"),
    ("max-input", "1GiB"),
    ("recent-log", "13KiB"),
    ("heartbeat", "14s"),
    ("authorize-within", "15s"),
];

#[test]
fn every_flag_has_a_variable_that_takes_effect_and_names_itself() {
    let place = ConfigDir::with("");
    let files = ["tls-cert", "tls-key", "tls-client-ca", "auth-hash-file", "users"];
    let variables = variables_in_help();
    assert!(variables.len() >= VALUES.len() + files.len(), "{variables:?}");
    for (flag, variable) in variables {
        let variable = variable.unwrap_or_else(|| panic!("--{flag} has no variable"));
        let prefix = if ["tls-cert", "tls-key"].contains(&&*flag) { "SYNCLINE_SERVER_" } else { "SYNCLINE_" };
        assert_eq!(variable, format!("{prefix}{}", flag.to_uppercase().replace('-', "_")));

        let output = place.check(&[], &[(&variable, "")]);
        assert!(output.status.success(), "an empty {variable} counts as not set: {output:?}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains(&variable), "{output:?}");

        let valid = VALUES.iter().find(|(name, _)| *name == flag).map(|(_, value)| *value);
        if let Some(value) = valid.filter(|_| !["config", "check-config"].contains(&&*flag)) {
            let (found, origin) = &place.settings(&[], &[(&variable, value)])[&flag];
            assert_eq!((found.trim_matches('"'), origin.as_str()), (value, &*variable));
        }
        let takes_any_text = ["data", "config", "check-config"].contains(&&*flag) || files.contains(&&*flag);
        if !takes_any_text {
            let output = place.check(&[], &[(&variable, "no such value")]);
            let printed = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{variable}: {printed}");
            assert!(printed.starts_with(&format!("syncline: {variable}: ")), "{printed}");
            assert!(!printed.contains("--help"), "{printed}");
        }
    }
}

#[test]
fn variables_of_the_server_are_not_those_of_other_commands() {
    let variables: Vec<_> = variables_in_help().into_iter().filter_map(|(_, variable)| variable).collect();
    for command in ["get", "put", "watch", "status", "backup", "restore", "check", "bench", "passwd", "cert"] {
        let help = String::from_utf8(syncline(&[command, "--help"]).output().unwrap().stdout).unwrap();
        for variable in &variables {
            let is_shared = help.contains(&format!("[env: {variable}="));
            assert!(!is_shared || variable == "SYNCLINE_DATA", "{variable} also belongs to {command}");
        }
    }
}

#[test]
fn check_config_may_be_asked_for_by_its_variable() {
    let output = syncline(&["serve"]).env("SYNCLINE_CHECK_CONFIG", "true").output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"# valid; "), "{output:?}");
    let output = syncline(&["serve"]).env("SYNCLINE_CHECK_CONFIG", "maybe").output().unwrap();
    let printed = String::from_utf8(output.stderr).unwrap();
    assert!(printed.starts_with("syncline: SYNCLINE_CHECK_CONFIG: invalid value 'maybe'"), "{printed}");
}

#[test]
fn empty_variables_count_as_not_set_for_clients() {
    let server = Server::start_with(&["--listen", "127.0.0.1:0", "--durability", "memory"], "off");
    let mut put = syncline(&["put", "k", "v", "--addr", &server.addr]);
    let empty = ["ADDR", "TLS_CA", "TLS_CERT", "TLS_KEY", "USER", "PASSWORD_FILE", "PASSWORD", "DATA"];
    put.envs(empty.map(|name| (format!("SYNCLINE_{name}"), ""))).env("RUST_LOG", "");
    let output = put.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_wrong_value_names_the_variable_unless_the_flag_is_wrong() {
    let mut status = syncline(&["status"]);
    let printed = String::from_utf8(status.env("SYNCLINE_ADDR", "a b").output().unwrap().stderr).unwrap();
    assert!(printed.starts_with("syncline: SYNCLINE_ADDR: invalid value 'a b'"), "{printed}");
    let place = ConfigDir::with("");
    let output = place.check(&["--threads", "0"], &[("SYNCLINE_THREADS", "0")]);
    let printed = String::from_utf8(output.stderr).unwrap();
    assert!(printed.starts_with("error: invalid value '0' for '--threads <N>'"), "{printed}");
}

#[test]
fn an_open_server_on_a_network_is_warned_about() {
    let directory = TempDir::new().unwrap();
    let made = syncline(&["cert", "--host", "localhost", "--dir"]).arg(directory.path()).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (cert, key, ca) = (path("server.pem"), path("server-key.pem"), path("ca.pem"));
    let tls = ["--tls-cert", &cert, "--tls-key", &key];
    let with_ca = [&tls[..], &["--tls-client-ca", &ca]].concat();

    let plain = "because the server has neither TLS nor users: set --tls-cert and --tls-key with --users, ";
    let encrypted = "because the server has TLS but no users: set --users, ";
    let loopback = ["127.0.0.1:0", "localhost:0", "[::ffff:127.0.0.1]:0"];
    let all = ["0.0.0.0:0"];
    for (listens, flags, expected) in [
        (&all[..], &[][..], Some(plain)),
        (&all, &tls, Some(encrypted)),
        (&all, &with_ca, None),
        (&loopback, &[], None),
        (&loopback, &tls, None),
    ] {
        for listen in listens {
            let mut check = syncline(&["serve", "--check-config", "--listen", listen]);
            let output = check.args(flags).output().unwrap();
            let printed = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{printed}");
            match expected {
                None => assert_eq!(printed, "", "{listen} {flags:?}"),
                Some(expected) => {
                    let start = format!(
                        "syncline: warning: anyone who can reach {listen} can read, change and delete all data, "
                    );
                    assert!(printed.starts_with(&start) && printed.contains(expected), "{listen} {flags:?}: {printed}");
                    assert_eq!(printed.lines().count(), 1, "{printed}");
                }
            }
            let args = [&["--listen", listen, "--durability", "memory"][..], flags].concat();
            let server = Server::start_with(&args, "syncline=warn");
            server.process.signal("TERM");
            let (_, log) = server.process.end();
            let warning = log.lines().find(|line| line.contains(" WARN ") && line.contains("anyone who can reach "));
            assert_eq!(warning.is_some(), expected.is_some(), "{listen} {flags:?}: {log}");
            assert!(warning.is_none_or(|line| line.contains(expected.unwrap())), "{log}");
        }
    }
}

#[test]
fn a_flag_overrides_the_file_even_with_the_default_value() {
    let place = ConfigDir::with("durability = 'os'");
    assert_eq!(place.settings(&["--durability", "fsync"], &[])["durability"].1, "command line");
}

#[test]
fn a_server_obeys_its_file_which_the_environment_may_name() {
    let place = ConfigDir::with("listen = '127.0.0.1:0'\nmax-key = 3\n");
    let server = Server::start_with(&["--config", place.file()], "off");
    server.fine(&["put", "abc", "value"]);
    assert!(server.fails(2, &["put", "abcd", "value"]).contains("key of 4 bytes, expected at most 3"));

    let output = syncline(&["serve", "--check-config"]).env("SYNCLINE_CONFIG", place.file()).output().unwrap();
    assert_eq!(shown(&output)["max-key"], ("3".into(), format!("{}, line 2", place.file())));
}

#[test]
fn relative_paths_in_a_file_are_relative_to_the_working_directory() {
    let place = ConfigDir::with("listen = '127.0.0.1:0'\ndata = 'here'\n");
    let elsewhere = TempDir::new().unwrap();
    let mut command = syncline(&["serve", "--config", place.file()]);
    let mut process = support::Process::start(command.current_dir(elsewhere.path()));
    assert!(process.line().starts_with("listening on "));
    assert!(elsewhere.path().join("here").is_dir());
}

/// One processor is left for the thread that commits.
#[test]
#[cfg(target_os = "linux")]
fn the_default_number_of_threads_is_that_of_processors_minus_one() {
    let default = std::thread::available_parallelism().unwrap().get() - 1;
    for (text, expected) in [("", default.max(1)), ("threads = 3", 3)] {
        let place = ConfigDir::with(format!("listen = '127.0.0.1:0'\n{text}"));
        let mut command = syncline(&["serve", "--config", place.file()]);
        let mut process = support::Process::start(command.current_dir(place.directory.path()));
        assert!(process.line().starts_with("listening on "));
        let tasks = format!("/proc/{}/task", process.id());
        let serving = || {
            let names = std::fs::read_dir(&tasks).unwrap().filter_map(|thread| {
                // A thread that has just ended has no name.
                std::fs::read_to_string(thread.unwrap().path().join("comm")).ok()
            });
            names.filter(|name| name.starts_with("tokio-rt-worker")).count()
        };
        // A new thread has the name of its parent until it sets its own.
        let late = Instant::now() + Duration::from_secs(60);
        while serving() != expected {
            assert!(Instant::now() < late, "{text}: {} threads, expected {expected}", serving());
            std::thread::yield_now();
        }
    }
}

#[test]
fn check_config_opens_neither_the_data_nor_the_port() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = ConfigDir::with(format!("listen = '{}'\ndata = 'here'\n", taken.local_addr().unwrap()));
    assert_eq!(place.settings(&[], &[])["data"].0, "\"here\"");
    assert!(!place.directory.path().join("here").exists());
}

#[test]
fn the_output_of_check_config_is_an_equivalent_file() {
    let place = ConfigDir::with("data = 'a \"b\" \\ #c'\nmax-connections = 0x10\n");
    let first = place.check(&["--heartbeat", "1s 500ms"], &[]);
    let again = ConfigDir::with(&first.stdout).settings(&[], &[]);
    let values = |found: &BTreeMap<String, (String, String)>| -> Vec<_> {
        found.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect()
    };
    let first = shown(&first);
    assert_eq!((&*first["data"].0, &*first["max-connections"].0), (r#"'a "b" \ #c'"#, "16"));
    assert_eq!(values(&again), values(&first));
    assert!(again.iter().all(|(key, (_, origin))| key.starts_with('#') || origin.contains("syncline.toml, line ")));
}

#[test]
fn an_unknown_key_is_refused_with_a_similar_name() {
    let printed = ConfigDir::with("# mine\nmax_conections = 5\n").refused();
    assert_eq!(printed, "line 2: unknown key max_conections; did you mean max-connections?\n");
    assert_eq!(ConfigDir::with("colour = 'red'").refused(), "line 1: unknown key colour\n");
}

#[test]
fn flags_for_the_command_line_only_are_refused_in_a_file() {
    for flag in ["config", "check-config", "help"] {
        let expected = format!("line 1: {flag} cannot be set in a file, only on the command line\n");
        assert_eq!(ConfigDir::with(format!("{flag} = 'x'")).refused(), expected);
    }
}

#[test]
fn a_value_of_another_type_is_refused() {
    for (value, found) in [("[1]", "an array"), ("1.5", "a float"), ("12:00:00", "a date or time")] {
        let expected = format!("line 1: max-key: expected a string, an integer, true or false, found {found}\n");
        assert_eq!(ConfigDir::with(format!("max-key = {value}")).refused(), expected);
    }
    let printed = ConfigDir::with("listen = true").refused();
    assert_eq!(printed, "line 1: listen: expected a string or an integer, found a boolean\n");
    assert!(
        ConfigDir::with("[limits]\nmax-key = 1\n")
            .refused()
            .contains("found a table; all keys belong to the top level")
    );
}

#[test]
fn an_invalid_value_is_refused_with_file_line_and_key() {
    for (text, expected) in [
        ("\nmax-key = 'long'", "line 2: max-key: invalid value 'long'"),
        ("max-key = 'long'", "expected a size such as 65525, 4KiB or 64MiB, found long"),
        ("max-connections = -1", "line 1: max-connections: invalid value '-1'"),
        ("threads = 0", "line 1: threads: invalid value '0'"),
        ("threads = 0", "0 is not in 1..=1024"),
        ("max-connections = -1", "expected a whole number, at most 18446744073709551615, found -1"),
        ("durability = 'oss'", "[possible values: fsync, os, memory]"),
        ("heartbeat = 'often'", "line 1: heartbeat: invalid value 'often'"),
        ("data = ''", "line 1: data: a value is required"),
        ("max-connections = 0", "line 1: max-connections: expected at least 1, found 0\n"),
        ("max-unauthenticated = 0", "line 1: max-unauthenticated: expected at least 1, found 0\n"),
        ("heartbeat = '0s'", "line 1: heartbeat: expected a time from 10ms to 1h, found 0s\n"),
        ("authorize-within = '9ms'", "line 1: authorize-within: expected a time from 10ms to 1h, found 9ms\n"),
        ("tombstones = '101years'", "line 1: tombstones: expected a time from 0s to "),
        ("data = 'syncline.toml'", "line 1: data: expected a directory, found a file: syncline.toml\n"),
        (
            "data = 'syncline.toml/d'",
            "line 1: data: expected a directory, found a path through a file: syncline.toml/d\n",
        ),
        ("listen = 'here'", "line 1: listen: expected HOST:PORT, found \"here\"\n"),
        ("listen = ':1'", "line 1: listen: expected HOST:PORT, found \":1\"\n"),
        ("\n\nmax-key = 65536", "line 3: max-key: the longest key: expected at most 65535 bytes, found 65536\n"),
        ("max-entry-size = '17MiB'", "line 1: max-entry-size: key and value together: expected at most 16777216 bytes"),
        ("max-requests = 0", "line 1: max-requests: requests in flight: expected at least 1, found 0\n"),
        ("max-unsent = 0", "line 1: max-unsent: bytes of unsent answers: expected at least 1, found 0\n"),
    ] {
        let printed = ConfigDir::with(text).refused();
        assert!(printed.contains(expected), "{text:?}: {printed}");
        assert!(!printed.contains("--help"), "{printed}");
    }
}

#[test]
fn an_unknown_key_is_refused_even_if_a_flag_would_override_it() {
    let place = ConfigDir::with("max-keys = 3");
    let output = place.check(&["--max-key", "4"], &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn an_invalid_flag_is_reported_as_a_flag_or_variable() {
    let place = ConfigDir::with("max-connections = 5");
    for (args, expected) in [
        (&["--max-connections", "many"][..], "error: invalid value 'many' for '--max-connections <N>'"),
        (&["--nonsense"], "error: unexpected argument '--nonsense'"),
        (&["--max-key", "65536"], "syncline: --max-key: the longest key: expected at most 65535 bytes"),
    ] {
        let output = place.check(args, &[]);
        let printed = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), printed.starts_with(expected)), (Some(2), true), "{printed}");
    }
    let output = place.check(&[], &[("SYNCLINE_LISTEN", "nowhere")]);
    let printed = String::from_utf8(output.stderr).unwrap();
    assert_eq!(printed, "syncline: SYNCLINE_LISTEN: expected HOST:PORT, found \"nowhere\"\n");
}

#[test]
fn a_duplicate_key_is_refused_at_its_second_line() {
    let printed = ConfigDir::with("max-key = 1\n\nmax-key = 1\n").refused();
    assert_eq!(printed, "line 3: not TOML: duplicate key\n");
}

#[test]
fn an_unreadable_file_is_refused_with_its_name() {
    let cannot = |place: &ConfigDir| {
        let output = place.check(&[], &[]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let printed = String::from_utf8(output.stderr).unwrap();
        let start = format!("syncline: can't read the configuration file {}: ", place.file());
        printed.strip_prefix(&start).unwrap_or_else(|| panic!("{printed}")).to_owned()
    };
    let directory = ConfigDir::with("");
    std::fs::remove_file(&directory.file).unwrap();
    std::fs::create_dir(&directory.file).unwrap();
    assert!(cannot(&directory).starts_with("Is a directory"));
    let missing = ConfigDir::with("");
    std::fs::remove_file(&missing.file).unwrap();
    assert!(cannot(&missing).starts_with("No such file"));
    assert_eq!(cannot(&ConfigDir::with(b"max-key = 1\n# \xff\n")), "line 2: expected UTF-8, found other bytes\n");
    let comment = |bytes: usize| "#".repeat(bytes);
    assert_eq!(cannot(&ConfigDir::with(comment((1 << 20) + 1))), "expected at most 1048576 bytes, found more\n");
    assert_eq!(ConfigDir::with(comment(1 << 20)).settings(&[], &[]), defaults());
}

#[test]
fn the_packaged_example_has_every_flag_with_its_default() {
    let defaults = defaults();
    assert_eq!(ConfigDir::with(EXAMPLE).settings(&[], &[]), defaults, "all keys of the example are commented out");

    // A commented key has no space after `#`; a comment has one.
    let keys: Vec<_> = EXAMPLE.lines().filter_map(|line| line.strip_prefix('#')?.split_once(" = ")).collect();
    let keys: Vec<_> = keys.into_iter().filter(|(key, _)| !key.starts_with(' ')).collect();
    for (name, (value, origin)) in &defaults {
        let found: Vec<_> = keys.iter().filter(|(key, _)| *key == name.trim_start_matches('#')).collect();
        assert_eq!(found.len(), 1, "{name} must occur once in the example");
        assert!(origin == "not set" || found[0].1 == value, "{name}: {found:?}, {value}");
    }
    assert_eq!(keys.len(), defaults.len(), "the example has other keys as well");
}
