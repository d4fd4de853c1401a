//! A server with TLS and users: rights, passwords from files and from the environment, and reloads. No output and no log
//! contains a secret.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::process::{Command, Output};
use std::sync::LazyLock;
use support::{SYNCLINE, Server, syncline};
use syncline_server::Hash;
use tempfile::TempDir;

/// The secrets that must not appear in any output.
const PASSWORD: &str = "correct-horse-battery";
const WRONG: &str = "wrong-horse-battery";
const VALUE: &str = "precious-value-of-mine";

static HASH: LazyLock<String> = LazyLock::new(|| Hash::make(PASSWORD.as_bytes()).unwrap().expose());

/// Certificates, a users file, and a server with both.
struct Lab {
    files: TempDir,
    server: Server,
}

impl Lab {
    fn start(log: &str) -> Self {
        let files = TempDir::new().unwrap();
        let lab = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
        make_certificates(&lab("certs"));
        write_users(&lab("users.toml"), &HASH);
        fs::write(lab("password"), format!("{PASSWORD}\n")).unwrap();
        fs::write(lab("wrong"), format!("{WRONG}\n")).unwrap();
        let (cert, key) = (lab("certs/server.pem"), lab("certs/server-key.pem"));
        let args = ["--listen", "127.0.0.1:0", "--durability", "memory", "--tls-cert", &cert, "--tls-key", &key];
        let server = Server::start_with(&[&args[..], &["--users", &lab("users.toml")]].concat(), log);
        Self { files, server }
    }

    fn path(&self, name: &str) -> String {
        self.files.path().join(name).to_str().unwrap().to_owned()
    }

    /// Returns a client command with the name and the password of a user.
    fn command(&self, user: &str, args: &[&str]) -> Command {
        let mut command = self.unauthenticated(args);
        command.args(["--user", user, "--password-file", &self.path("password")]);
        command
    }

    /// Returns a client command without a password.
    fn unauthenticated(&self, args: &[&str]) -> Command {
        let port = self.server.addr.rsplit_once(':').unwrap().1;
        let mut command = syncline(args);
        command.args(["--addr", &format!("synclines://localhost:{port}"), "--tls-ca", &self.path("certs/ca.pem")]);
        command
    }

    #[track_caller]
    fn fine(&self, user: &str, args: &[&str]) -> String {
        let output = self.command(user, args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Makes the server reload its files, and returns the line that it logs.
    fn reload(&mut self) -> String {
        self.server.process.signal("HUP");
        loop {
            let line = self.server.process.error_line();
            assert!(!line.is_empty(), "the server has ended");
            if line.contains("reloaded certificates") || line.contains("reload failed") {
                return line;
            }
        }
    }
}

fn make_certificates(directory: &str) {
    let made = syncline(&["cert", "--host", "localhost", "--dir", directory]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
}

fn write_users(file: &str, hash: &str) {
    let users = format!(
        "[[user]]\nname = \"ann\"\nhash = \"{hash}\"\nread = [\"config/\"]\nwrite = [\"config/ann/\"]\n\n\
         [[user]]\nname = \"operator\"\nhash = \"{hash}\"\nadmin = true\n"
    );
    fs::write(file, users).unwrap();
}

/// Checks that a command was refused because of a missing right, with this text on stderr.
#[track_caller]
fn not_permitted(output: &Output, text: &str) {
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(8) && printed.contains(text), "{output:?}\nexpected: {text}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

#[test]
fn users_have_their_rights_and_refusals_name_the_missing_one() {
    let lab = Lab::start("off");
    let refused = |args: &[&str], text: &str| not_permitted(&lab.command("ann", args).output().unwrap(), text);
    lab.fine("operator", &["put", "config/theme", "dark"]);
    lab.fine("operator", &["put", "secret", "1"]);
    lab.fine("ann", &["put", "config/ann/name", "Ann"]);
    assert_eq!(lab.fine("ann", &["get", "config/theme"]), "dark");
    assert_eq!(lab.fine("ann", &["list", "config/", "--keys"]), "config/ann/name\nconfig/theme\n");
    assert_eq!(lab.fine("ann", &["watch", "config/", "--once"]).lines().count(), 2);
    refused(&["get", "secret"], "not permitted: expected the right to read \"secret\"");
    refused(&["get", "nothing"], "not permitted: expected the right to read \"nothing\"");
    refused(&["put", "config/theme", "light", "--version", "2"], "expected the right to write \"config/theme\"");
    refused(&["delete", "config/theme", "--version", "2"], "expected the right to write \"config/theme\"");
    refused(&["list"], "expected the right to read \"\"");
    refused(&["list", "conf"], "expected the right to read everything under \"conf\"");
    refused(&["watch", "--once"], "expected the right to read everything under \"\"");
    refused(&["export"], "expected the right to read everything under \"\"");
    assert_eq!(lab.fine("ann", &["status"]), "writes  accepted\n", "health alone");
    assert_eq!(lab.fine("ann", &["status", "--check"]), "");
    assert_eq!(lab.fine("operator", &["get", "config/theme"]), "dark");
    assert!(lab.fine("operator", &["status"]).contains("keys"));
}

#[test]
fn a_missing_or_wrong_password_is_refused_with_the_reason() {
    let lab = Lab::start("off");
    not_permitted(&lab.unauthenticated(&["get", "k"]).output().unwrap(), "requires a password, and none is set");
    for (user, password) in [("ann", "wrong"), ("nobody", "password")] {
        let mut command = lab.unauthenticated(&["get", "k"]);
        let output = command.args(["--user", user, "--password-file", &lab.path(password)]).output().unwrap();
        not_permitted(&output, "refuses: the name or the password is wrong");
    }
    // The environment may contain the password. Without TLS, it is not sent.
    let by_environment = |args: &[&str]| {
        let mut command = lab.unauthenticated(args);
        command.env("SYNCLINE_USER", "operator").env("SYNCLINE_PASSWORD", PASSWORD).output().unwrap()
    };
    assert!(by_environment(&["put", "k", "v"]).status.success());
    let mut plain = syncline(&["get", "k", "--addr", &lab.server.addr]);
    let output = plain.env("SYNCLINE_PASSWORD", PASSWORD).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && printed.contains("passwords are sent over TLS only"), "{printed}");
    let output = lab.unauthenticated(&["get", "k"]).args(["--user", "ann"]).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(2) && printed.contains("expected the password of ann, found none"),
        "{printed}"
    );
}

#[test]
fn a_reload_applies_new_users_and_certificates_or_nothing() {
    let mut lab = Lab::start("syncline=info");
    lab.fine("operator", &["put", "config/theme", "dark"]);
    let (users, wrong) = (lab.path("users.toml"), lab.path("wrong"));
    // A connection whose user does not change.
    let mut watcher = support::Process::start(&mut lab.command("operator", &["watch", "config/"]));
    assert_eq!(watcher.line(), "config/theme = dark  (version 1)");

    let before = fs::read_to_string(&users).unwrap();
    fs::write(&users, before.replace("admin = true", "admin = maybe")).unwrap();
    let printed = lab.reload();
    assert!(
        printed.contains("reload failed, the previous certificates and users stay in force: ")
            && printed.contains("users.toml"),
        "{printed}"
    );
    assert_eq!(lab.fine("ann", &["get", "config/theme"]), "dark");

    // Ann gets another password; the operator does not.
    let other = Hash::make(WRONG.as_bytes()).unwrap().expose();
    fs::write(&users, before.replacen(&*HASH, &other, 1)).unwrap();
    assert!(lab.reload().contains("reloaded certificates and users"));
    not_permitted(&lab.command("ann", &["get", "config/theme"]).output().unwrap(), "the name or the password is wrong");
    let mut by_new = lab.unauthenticated(&["get", "config/theme"]);
    assert!(by_new.args(["--user", "ann", "--password-file", &wrong]).output().unwrap().status.success());

    // A certificate of another CA: a client that trusts only the old CA refuses it.
    for file in ["server.pem", "server-key.pem"] {
        make_certificates_once(&lab.path("others"));
        fs::copy(lab.path(&format!("others/{file}")), lab.path(&format!("certs/{file}"))).unwrap();
    }
    assert!(lab.reload().contains("reloaded certificates and users"));
    let output = lab.command("operator", &["get", "config/theme"]).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(4) && printed.contains("expected a certificate that is signed by a CA"),
        "{printed}"
    );
    fs::copy(lab.path("others/ca.pem"), lab.path("certs/ca.pem")).unwrap();
    lab.fine("operator", &["put", "config/theme", "light", "--version", "2"]);
    // The reloads did not disturb this connection.
    assert_eq!(watcher.line(), "config/theme = light  (version 2)");
}

fn make_certificates_once(directory: &str) {
    if !fs::exists(directory).unwrap() {
        make_certificates(directory);
    }
}

#[test]
fn a_server_without_files_to_reload_survives_a_hangup() {
    let mut server = Server::start_with(&["--listen", "127.0.0.1:0", "--durability", "memory"], "syncline=info");
    server.process.signal("HUP");
    while !server.process.error_line().contains("nothing to reload: neither certificates nor users are configured") {}
    server.fine(&["put", "k", "v"]);
}

#[test]
fn a_reload_says_what_was_read_and_what_was_not() {
    let files = TempDir::new().unwrap();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    make_certificates(&path("certs"));
    fs::write(path("hash"), format!("{}\n", *HASH)).unwrap();
    let (cert, key) = (path("certs/server.pem"), path("certs/server-key.pem"));
    let tls = ["--listen", "127.0.0.1:0", "--durability", "memory", "--tls-cert", &cert, "--tls-key", &key];
    for (flags, read) in
        [(&[][..], "certificates"), (&["--auth-hash-file", &path("hash")], "certificates and password hash")]
    {
        let server = Server::start_with(&[&tls[..], flags].concat(), "syncline=info");
        let mut lab = Lab { files: TempDir::new().unwrap(), server };
        let printed = lab.reload();
        let expected =
            format!(" reloaded {read}; other settings, also those in the configuration file, need a restart");
        assert!(printed.contains(" INFO ") && printed.contains(&expected), "{printed}");

        let before = fs::read(&key).unwrap();
        fs::write(&key, "no key").unwrap();
        let printed = lab.reload();
        let expected = format!("reload failed, the previous {read} stay in force: ");
        assert!(printed.contains(" ERROR ") && printed.contains(&expected) && printed.contains(&key), "{printed}");
        fs::write(&key, before).unwrap();
        assert!(lab.reload().contains(" reloaded "));
    }
}

#[test]
fn a_server_whose_log_nobody_reads_any_more_serves_on() {
    let mut server = Server::start_with(&["--listen", "127.0.0.1:0", "--durability", "memory"], "syncline=debug");
    server.process.close_stderr();
    server.fine(&["put", "k", "v"]);
    assert_eq!(server.fine(&["get", "k"]), "v");
}

#[test]
fn a_server_whose_terminal_is_closed_ends_in_order() {
    let data = TempDir::new().unwrap();
    // Start the server as the leader of a terminal of its own, wait until it listens, and close the terminal.
    let script = "
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
printed = b''
while b'listening on' not in printed:
    printed += os.read(terminal, 1000)
os.close(terminal)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)
";
    let mut python = Command::new("python3");
    python.args(["-c", script, SYNCLINE, "serve", "--listen", "127.0.0.1:0", "--data"]).arg(data.path());
    let output = python.env_remove("SYNCLINE_CONFIG").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn no_password_and_no_value_is_shown_anywhere() {
    let mut lab = Lab::start("trace");
    let mut shown = Vec::new();
    let mut run = |command: &mut Command| {
        let output = command.env("RUST_LOG", "trace").output().unwrap();
        shown.push(("stderr of a client", String::from_utf8_lossy(&output.stderr).into_owned()));
        output
    };
    assert!(run(&mut lab.command("operator", &["put", "k", VALUE])).status.success());
    assert!(run(&mut lab.command("operator", &["get", "k"])).status.success());
    assert!(run(&mut lab.command("operator", &["watch", "--once"])).status.success());
    // Errors of every kind: stale, not permitted, a wrong password, too large.
    assert_eq!(run(&mut lab.command("operator", &["put", "k", VALUE, "--version", "9"])).status.code(), Some(3));
    assert_eq!(run(&mut lab.command("ann", &["put", "k", VALUE])).status.code(), Some(8));
    let mut wrong = lab.unauthenticated(&["get", "k"]);
    assert_eq!(run(wrong.env("SYNCLINE_USER", "ann").env("SYNCLINE_PASSWORD", WRONG)).status.code(), Some(8));
    assert_eq!(run(&mut lab.command("operator", &["put", "k", &VALUE.repeat(4000)])).status.code(), Some(2));
    let status = run(&mut lab.command("operator", &["status", "--json"]));
    shown.push(("STATUS", String::from_utf8(status.stdout).unwrap()));

    // The list of processes shows the command line and the environment of running processes.
    let mut watcher = support::Process::start(&mut lab.command("operator", &["watch", "k"]));
    assert_eq!(watcher.line(), format!("k = {VALUE}  (version 1)"));
    for (whose, id) in [("arguments of the server", lab.server.process.id()), ("arguments of a client", watcher.id())] {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap();
        assert!(!line.is_empty());
        shown.push((whose, String::from_utf8_lossy(&line).into_owned()));
    }
    assert!(lab.reload().contains("reloaded certificates and users"));
    lab.server.process.signal("TERM");
    let Lab { server, .. } = lab;
    let (status, log) = server.process.end();
    assert!(status.success() && log.contains("shut down"));
    shown.push(("the server's log", log));
    for (place, text) in shown {
        for secret in [PASSWORD, WRONG, VALUE, HASH.rsplit('$').next().unwrap()] {
            assert!(!text.contains(secret), "{secret} in {place}: {text}");
        }
    }
}
