//! Runs a small version of every attack: the bounds hold, and a well-behaved client is served.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;
use syncline_sim::hostile::{ATTACKS, FILES, Options, Scale, SecurityMode, row, run};

/// Runs the chosen attacks one after another. Concurrent attacks would disturb each other's measurements.
async fn attack_all(mode: SecurityMode, is_chosen: impl Fn(SecurityMode) -> bool) {
    rlimit::increase_nofile_limit(FILES).unwrap();
    let options =
        Options { server: support::server(), scale: Scale::Short, rounds: 1, time: Duration::from_millis(100), mode };
    let mut bad = Vec::new();
    for attack in ATTACKS.iter().filter(|attack| is_chosen(attack.requires)) {
        match run(&options, attack).await {
            Ok(report) if report.findings.is_empty() => {
                let is_active = report.traffic.connections > 0 && report.served > 0;
                assert!(is_active, "{}: the attack or the bystander did nothing", attack.name);
            }
            Ok(report) => bad.push(row(&report)),
            Err(error) => bad.push(format!("{}: {error}", attack.name)),
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[tokio::test]
async fn a_plain_server_keeps_its_bounds_and_serves_clients_under_attack() {
    attack_all(SecurityMode::Plain, |needs| needs == SecurityMode::Plain).await;
}

#[tokio::test]
async fn attacks_on_tls_and_passwords_break_no_bound_and_no_client() {
    attack_all(SecurityMode::Users, |needs| needs > SecurityMode::Plain).await;
}
