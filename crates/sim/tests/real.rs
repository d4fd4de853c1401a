//! Runs the real server under faults for a short time: the promises hold, and the checkers had enough data.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::time::Duration;
use syncline_sim::check::Promise;
use syncline_sim::torture::{self, Options};
use tempfile::TempDir;

#[tokio::test(flavor = "multi_thread")]
async fn the_real_server_keeps_its_promises_under_torture() {
    let kept = TempDir::new().unwrap();
    let options = Options {
        server: support::server(),
        seed: 1,
        clients: 4,
        round: Duration::from_secs(8),
        minutes: Duration::ZERO,
        netns: false,
        keep: kept.path().to_owned(),
    };
    let report = |line: &str| {
        if line.starts_with("skipped: ") {
            // Not `eprintln`, whose output the test harness hides when the test passes.
            let _ = writeln!(std::io::stderr(), "{line}");
        } else {
            println!("{line}");
        }
    };
    let run = torture::run(&options, report).await.unwrap();
    if let Some(failure) = run.failure {
        // Keep the temporary directory for examination.
        panic!("{}\nkept in {}", failure.text, kept.keep().join(failure.directory).display());
    }
    // A round with too little load fails by itself. Each checker must have had data as well.
    for promise in Promise::ALL {
        let compared = run.summary.compared.get(&promise).copied().unwrap_or(0);
        assert!(compared > 0, "{promise}: nothing was compared");
    }
    assert_eq!(run.summary.runs, 1);
}
