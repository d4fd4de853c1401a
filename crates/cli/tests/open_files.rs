//! A server with a low limit of open files: connections leave files for the store, and further clients are sent the reason.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::Read;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;
use support::{Process, SYNCLINE, syncline};
use tempfile::TempDir;

/// The limit of open files, and the connections that it allows: 128 files stay free.
const OPEN_FILES: usize = 300;
const CONNECTIONS: usize = OPEN_FILES - 128;

/// The time after which a read fails. Only a broken server reaches it.
const TIMEOUT: Duration = Duration::from_secs(30);

#[test]
fn a_low_limit_of_open_files_keeps_files_for_the_store() {
    let data = TempDir::new().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {OPEN_FILES} && exec \"$0\" \"$@\""), SYNCLINE, "serve"]);
    command.args(["--listen", "127.0.0.1:0", "--data"]).arg(data.path().join("data"));
    let mut server = Process::start(command.env("RUST_LOG", "warn").env_remove("SYNCLINE_CONFIG"));
    let first = server.line();
    let addr = first.strip_prefix("listening on ").unwrap();

    let mut connections: Vec<_> = (0..CONNECTIONS).map(|_| TcpStream::connect(addr).unwrap()).collect();
    for _ in 0..3 {
        let mut refused = Vec::new();
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.read_to_end(&mut refused).unwrap();
        assert!(refused.ends_with(b"unavailable: too many connections"), "{refused:?}");
    }
    // As soon as a connection ends, another one is accepted, and the store has the files to write.
    drop(connections.pop());
    let put = |key: &str| syncline(&["put", key, "value", "--addr", addr]).output().unwrap();
    while !put("k").status.success() {}
    drop(connections);
    while !put("other").status.success() {}
    server.signal("TERM");
    let (status, printed) = server.end();
    assert_eq!(status.code(), Some(0), "{printed}");
    let expected = format!("open_files={OPEN_FILES} configured=10000 allowed={CONNECTIONS}");
    assert!(printed.contains(&expected), "{printed}");
    assert!(!printed.contains("can't accept connections"), "{printed}");
}
