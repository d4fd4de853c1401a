//! `core` stays free of I/O: its dependency tree holds no runtime, no socket, no clock. (Its own code is kept from the
//! standard library's by `clippy.toml`.) Where the target is installed, `./test` also builds it for
//! `wasm32-unknown-unknown`, which has none of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::process::Command;

/// What `core` may be made of; docs/dependencies.md says what each is for. Macros that run at build time are not in it.
const ALLOWED: [&str; 14] = [
    "archery",
    "bytemuck",
    "bytes",
    "derive_more",
    "equivalent",
    "imbl",
    "imbl-sized-chunks",
    "rand_core",
    "rand_xoshiro",
    "safe_arch",
    "syncline-core",
    "syncline-wire",
    "thiserror",
    "wide",
];

#[test]
fn the_dependency_tree_holds_no_runtime_no_socket_no_clock() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-p", "syncline-core", "-e", "normal,no-proc-macro"])
        .args(["--prefix", "none", "--format", "{p}"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let found: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(found, ALLOWED.into_iter().collect(), "each of these must be free of I/O");
}
