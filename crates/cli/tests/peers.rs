//! TLS with real peers: `syncline`, OpenSSL and Python. For each kind of failure, both sides report the reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use rcgen::{CertificateParams, Issuer, KeyPair};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use support::{Server, syncline};
use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/base_client.py");

/// A GET of a missing key in the base protocol, and its response.
const REQUEST: &[u8] = b"\x00\x07\x00\x01\x00k";
const RESPONSE: &[u8] = b"\x02\x07\x00\x0e\x00\"k\": not found";

/// A directory with certificates that `syncline cert` made.
struct Certs(TempDir);

impl Certs {
    fn new(args: &[&str]) -> Self {
        let certs = Self(TempDir::new().unwrap());
        certs.make(args);
        certs
    }

    #[track_caller]
    fn make(&self, args: &[&str]) -> String {
        let made = syncline(&["cert", "--dir"]).arg(self.0.path()).args(args).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        String::from_utf8(made.stdout).unwrap()
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Starts a server with these certificates.
    fn serve(&self, more: &[&str]) -> Server {
        let (cert, key) = (self.path("server.pem"), self.path("server-key.pem"));
        let args = ["--listen", "127.0.0.1:0", "--durability", "os", "--tls-cert", &cert, "--tls-key", &key];
        Server::start_with(&[&args[..], more].concat(), "syncline_server=info")
    }

    /// Starts a server that requires a client certificate.
    fn serve_known(&self) -> Server {
        self.serve(&["--tls-client-ca", &self.path("ca.pem")])
    }

    /// Makes a certificate that expired long ago.
    fn make_expired(&self, name: &str) {
        let read = |name: &str| std::fs::read_to_string(self.path(name)).unwrap();
        let ca = KeyPair::from_pem(&read("ca-key.pem")).unwrap();
        let ca = Issuer::from_ca_cert_pem(&read("ca.pem"), ca).unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2020, 1, 2);
        let key = KeyPair::generate().unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), params.signed_by(&key, &ca).unwrap().pem()).unwrap();
        std::fs::write(self.path(&format!("{name}-key.pem")), key.serialize_pem()).unwrap();
    }
}

fn port(server: &Server) -> &str {
    server.addr.rsplit_once(':').unwrap().1
}

fn localhost(server: &Server) -> String {
    format!("synclines://localhost:{}", port(server))
}

/// Checks that a client fails with one text on stderr, and that the server logs another one with the client's address.
#[track_caller]
fn expect_both_sides(server: &mut Server, args: &[&str], at_the_client: &str, at_the_server: &str) {
    let printed = server.fails(4, args);
    assert!(printed.contains(at_the_client), "{printed}\nexpected: {at_the_client}");
    // Other lines report that connections were authorized.
    let logged = loop {
        let line = server.process.error_line();
        assert!(!line.is_empty(), "the server has ended\nexpected: {at_the_server}");
        if line.contains("rejected") || line.contains(at_the_server) {
            break line;
        }
    };
    assert!(
        logged.contains(at_the_server) && logged.contains("peer=127.0.0.1:"),
        "{logged}\nexpected: {at_the_server}"
    );
}

#[test]
fn every_command_speaks_tls() {
    let certs = Certs::new(&["--host", "localhost", "--client", "alice"]);
    let server = certs.serve_known();
    let addr = localhost(&server);
    let run = |args: &[&str]| {
        let mut command = syncline(args);
        command.env("SYNCLINE_ADDR", &addr).env("SYNCLINE_TLS_CA", certs.path("ca.pem"));
        command.env("SYNCLINE_TLS_CERT", certs.path("alice.pem")).env("SYNCLINE_TLS_KEY", certs.path("alice-key.pem"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let large = "v".repeat(60_000);
    run(&["put", "k", &large]);
    assert_eq!(run(&["get", "k"]), large);
    run(&["delete", "k"]);
    run(&["put", "a", "one"]);
    run(&["put", "b", "two"]);
    assert_eq!(run(&["list"]), "a = one  (version 1)\nb = two  (version 1)\n");
    assert_eq!(run(&["watch", "--once"]), "a = one  (version 1)\nb = two  (version 1)\n");
    assert!(run(&["export"]).contains(r#""value":"two""#));
    assert!(run(&["status"]).contains("connections"));
    for workload in ["put", "get", "fanout", "snapshot"] {
        let bench = ["bench", workload, "--time", "100ms", "--connections", "2", "--keys", "10", "--json"];
        let told: serde_json::Value = serde_json::from_str(&run(&bench)).unwrap();
        assert!(told["count"].as_u64() > Some(0), "{workload}: {told}");
    }
    // The same with flags.
    let [ca, cert, key] = ["ca.pem", "alice.pem", "alice-key.pem"].map(|name| certs.path(name));
    let flags = ["get", "a", "--addr", &addr, "--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key];
    assert_eq!(server.fine(&flags), "one");
}

#[test]
fn both_sides_report_an_unknown_ca() {
    let (certs, others) = (Certs::new(&["--host", "localhost"]), Certs::new(&["--host", "localhost"]));
    let mut server = certs.serve(&[]);
    let other = others.path("ca.pem");
    let args = ["get", "k", "--addr", &localhost(&server), "--tls-ca", &other];
    expect_both_sides(
        &mut server,
        &args,
        &format!(
            "expected a certificate that is signed by a CA of {other}, found another one; if it is your server, name the CA that has signed its certificate\nSet --tls-ca or SYNCLINE_TLS_CA to"
        ),
        "the client does not trust this server's certificate: it must know the CA that has signed it",
    );
}

#[test]
fn both_sides_report_a_wrong_host_name() {
    let certs = Certs::new(&["--host", "db.example", "--host", "10.0.0.7"]);
    let mut server = certs.serve(&[]);
    let args = ["get", "k", "--addr", &localhost(&server), "--tls-ca", &certs.path("ca.pem")];
    expect_both_sides(
        &mut server,
        &args,
        "expected a certificate for localhost, found one for db.example, 10.0.0.7; connect by that name",
        "the client refuses this server's certificate: is it for the host name by which the client connects?",
    );
}

#[test]
fn an_expired_certificate_is_reported_at_start_and_on_both_sides() {
    let certs = Certs::new(&["--host", "localhost"]);
    certs.make_expired("server");
    let mut server = certs.serve(&[]);
    let logged = server.process.error_line();
    assert!(logged.contains("WARN") && logged.contains("it was valid until Jan  2 00:00:00 2020 +00:00"), "{logged}");
    let args = ["get", "k", "--addr", &localhost(&server), "--tls-ca", &certs.path("ca.pem")];
    expect_both_sides(
        &mut server,
        &args,
        "expected a certificate that is valid now, found one until 2020-01-02T00:00:00Z, now is 20",
        "the client says that this server's certificate is not valid at this time",
    );
}

#[test]
fn both_sides_report_a_missing_foreign_or_expired_client_certificate() {
    let certs = Certs::new(&["--host", "localhost", "--client", "alice"]);
    certs.make_expired("late");
    let others = Certs::new(&["--client", "alice"]);
    let mut server = certs.serve_known();
    let (addr, ca) = (localhost(&server), certs.path("ca.pem"));
    let args = ["get", "k", "--addr", &addr, "--tls-ca", &ca];
    let shown = |cert: String, key: String| ["--tls-cert".to_owned(), cert, "--tls-key".to_owned(), key];
    expect_both_sides(
        &mut server,
        &args,
        "the server demands a certificate of the client, found none; set one, and its key\nSet --tls-cert and --tls-key",
        "the client has shown no certificate, and this server demands one (--tls-client-ca)",
    );
    let foreign = shown(others.path("alice.pem"), others.path("alice-key.pem"));
    expect_both_sides(
        &mut server,
        &[&args[..], &foreign.each_ref().map(String::as_str)].concat(),
        "the server does not accept this client's certificate: it says UnknownCA; one is needed that is signed by a CA which the server knows",
        "the client's certificate is not signed by a CA that this server knows (--tls-client-ca)",
    );
    let late = shown(certs.path("late.pem"), certs.path("late-key.pem"));
    expect_both_sides(
        &mut server,
        &[&args[..], &late.each_ref().map(String::as_str)].concat(),
        "the server does not accept this client's certificate: it says CertificateExpired; renew it",
        "the client's certificate is not valid at this time: ",
    );
    let crossed = shown(certs.path("alice.pem"), others.path("alice-key.pem"));
    let printed = server.fails(2, &[&args[..], &crossed.each_ref().map(String::as_str)].concat());
    assert!(printed.contains("alice-key.pem is not the key of the certificate in "), "{printed}");
    let right = shown(certs.path("alice.pem"), certs.path("alice-key.pem"));
    server.fails(1, &[&args[..], &right.each_ref().map(String::as_str)].concat());
}

#[test]
fn both_sides_report_a_mismatch_of_plain_and_tls() {
    let certs = Certs::new(&["--host", "localhost"]);
    let mut server = certs.serve(&[]);
    let args = ["get", "k", "--addr", &format!("syncline://{}", server.addr)];
    expect_both_sides(
        &mut server,
        &args,
        "expected a server that speaks no TLS, found one that speaks nothing else: synclines:// instead of syncline://",
        "the client speaks no TLS, and this server nothing else (synclines://HOST:PORT)",
    );
    let mut plain = Server::start_with(&["--listen", "127.0.0.1:0"], "syncline_server=info");
    let args = ["get", "k", "--addr", &localhost(&plain), "--tls-ca", &certs.path("ca.pem")];
    expect_both_sides(
        &mut plain,
        &args,
        "expected TLS, found something else; if that server speaks no TLS: syncline:// instead of synclines://",
        "the client speaks TLS, and this server does not (--tls-cert)",
    );
}

#[test]
fn a_server_that_cannot_speak_tls_does_not_start() {
    let certs = Certs::new(&["--host", "localhost"]);
    let (cert, key, none) = (certs.path("server.pem"), certs.path("server-key.pem"), certs.path("none.pem"));
    let data = certs.path("data");
    for (args, expected) in [
        (&["--tls-cert", &cert, "--tls-key", &none][..], "can't read "),
        (
            &["--tls-cert", &key, "--tls-key", &key],
            "expected a certificate (-----BEGIN CERTIFICATE-----), found PRIVATE KEY",
        ),
        (&["--tls-cert", &cert, "--tls-key", &certs.path("ca-key.pem")], "is not the key of the certificate in "),
        (&["--tls-cert", &cert], "--tls-key"),
        (&["--tls-client-ca", &cert], "--tls-cert"),
    ] {
        let output = syncline(&["serve", "--listen", "127.0.0.1:0", "--data", &data]).args(args).output().unwrap();
        let printed = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && printed.contains(expected), "{args:?}: {printed}");
        assert!(output.stdout.is_empty(), "it did not listen");
    }
}

#[test]
fn the_python_client_is_served_within_tls() {
    let certs = Certs::new(&["--host", "localhost"]);
    let mut server = certs.serve(&[]);
    let addr = localhost(&server);
    let python = |ca: &str| Command::new("python3").args([SCRIPT, &addr, ca]).output().unwrap();
    let output = python(&certs.path("ca.pem"));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(printed.lines().last(), Some("everything is as the protocol requires"));

    let output = python(&Certs::new(&["--host", "localhost"]).path("ca.pem"));
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && printed.contains("certificate verify failed"), "{printed}");
    let logged = server.process.error_line();
    assert!(logged.contains("the client does not trust this server's certificate"), "{logged}");
}

/// `openssl s_client`, ended when it is dropped.
struct OpenSsl(Child);

impl OpenSsl {
    fn connect(server: &Server, certs: &Certs, args: &[&str]) -> Self {
        let addr = format!("localhost:{}", port(server));
        let common = ["s_client", "-connect", &addr, "-CAfile", &certs.path("ca.pem"), "-verify_return_error"];
        let mut command = Command::new("openssl");
        command.args(common).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    fn say(&mut self, bytes: &[u8]) {
        let stdin = self.0.stdin.as_mut().unwrap();
        stdin.write_all(bytes).unwrap();
        stdin.flush().unwrap();
    }

    /// Reads stdout until it ends with the expected bytes.
    #[track_caller]
    fn expect(&mut self, expected: &[u8]) {
        let (mut printed, mut byte) = (Vec::new(), [0]);
        let stdout = self.0.stdout.as_mut().unwrap();
        while !printed.ends_with(expected) {
            let read = stdout.read(&mut byte).unwrap();
            assert_eq!(read, 1, "its end, behind {}", String::from_utf8_lossy(&printed));
            printed.extend(byte);
        }
    }

    /// Waits for the end of the process and returns its stderr.
    fn end(mut self) -> String {
        let mut printed = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut printed).unwrap();
        self.0.wait().unwrap();
        printed
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn openssl_is_served_by_both_versions() {
    let certs = Certs::new(&["--host", "localhost", "--client", "alice"]);
    let server = certs.serve_known();
    let [cert, key] = ["alice.pem", "alice-key.pem"].map(|name| certs.path(name));
    for version in ["-tls1_2", "-tls1_3"] {
        let mut peer = OpenSsl::connect(&server, &certs, &["-quiet", version, "-cert", &cert, "-key", &key]);
        peer.say(REQUEST);
        peer.expect(RESPONSE);
    }
}

#[test]
fn openssl_is_told_what_is_wrong_and_so_is_the_server() {
    let certs = Certs::new(&["--host", "localhost"]);
    let mut server = certs.serve_known();
    let printed = OpenSsl::connect(&server, &certs, &["-quiet"]).end();
    assert!(printed.contains("alert certificate required"), "{printed}");
    let logged = server.process.error_line();
    assert!(logged.contains("the client has shown no certificate"), "{logged}");
    let printed = OpenSsl::connect(&server, &certs, &["-quiet", "-tls1_1", "-cipher", "ALL@SECLEVEL=0"]).end();
    assert!(printed.contains("alert"), "{printed}");
    let logged = server.process.error_line();
    assert!(logged.contains("the client speaks no TLS that this server speaks (1.2 or 1.3)"), "{logged}");
}

#[test]
fn renegotiation_is_refused_and_harms_nobody() {
    let certs = Certs::new(&["--host", "localhost"]);
    let server = certs.serve(&[]);
    let mut peer = OpenSsl::connect(&server, &certs, &["-tls1_2"]);
    peer.say(REQUEST);
    peer.expect(RESPONSE);
    peer.say(b"R\n");
    let printed = peer.end();
    assert!(printed.contains("RENEGOTIATING") && printed.contains("no renegotiation"), "{printed}");
    server.fails(1, &["get", "k", "--addr", &localhost(&server), "--tls-ca", &certs.path("ca.pem")]);
}

#[test]
fn certificates_are_made_once_and_keys_are_for_their_owner_only() {
    let certs = Certs(TempDir::new().unwrap());
    let printed = certs.make(&["--host", "localhost", "--client", "alice"]);
    let [server, key, ca] = ["server.pem", "server-key.pem", "ca.pem"].map(|name| certs.path(name));
    let expected = format!(
        "syncline serve --tls-cert {server} --tls-key {key}\nsyncline status --addr synclines://localhost:6660 --tls-ca {ca} --tls-cert {} --tls-key {}\n",
        certs.path("alice.pem"),
        certs.path("alice-key.pem")
    );
    assert_eq!(printed, expected);
    let mode = |name: &str| std::fs::metadata(certs.path(name)).unwrap().permissions().mode() & 0o777;
    for (key, certificate) in
        [("ca-key.pem", "ca.pem"), ("server-key.pem", "server.pem"), ("alice-key.pem", "alice.pem")]
    {
        assert_eq!((mode(key), mode(certificate)), (0o600, 0o644));
    }
    let contents = |dir: &Path| {
        let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|file| (std::fs::read(&file).unwrap(), file)).collect::<Vec<_>>()
    };
    let before = contents(certs.0.path());
    let dir = certs.path("");
    let again = syncline(&["cert", "--dir", &dir, "--host", "localhost", "--client", "bob"]).output().unwrap();
    let printed = String::from_utf8(again.stderr).unwrap();
    assert!(again.status.code() == Some(2) && printed.contains("server.pem already exists"), "{printed}");
    assert!(contents(certs.0.path()) == before, "nothing was made, nothing overwritten");
    certs.make(&["--client", "bob"]);
    assert!(contents(certs.0.path()).len() == before.len() + 2, "signed by the CA that is there");
    for (args, expected) in [
        (["--host", "a:1"], "--host: expected a name or an address, without a port, found \"a:1\""),
        (
            ["--client", "../x"],
            "--client: expected letters, digits, - _ . @, and neither ca nor server nor an end in -key, found \"../x\"",
        ),
        (["--client", "ca"], "--client: expected letters"),
    ] {
        let output = syncline(&["cert", "--dir", &dir]).args(args).output().unwrap();
        let printed = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && printed.contains(expected), "{printed}");
    }
}
