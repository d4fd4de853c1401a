//! The server's binary.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::Command;

/// The server's binary, made of what is there now.
#[allow(unreachable_pub, reason = "tests share it")]
pub fn server() -> PathBuf {
    // DIRECTORY/deps/real-…: binaries are beside `deps`.
    let own = std::env::current_exe().unwrap();
    let directory = own.parent().unwrap().parent().unwrap();
    let profile = match directory.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", "syncline", "--profile", profile]);
    assert!(build.status().unwrap().success(), "the server can't be built");
    directory.join("syncline")
}
