//! Every attack once, in short: the bounds hold, and who behaves well is served.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;
use syncline_sim::hostile::{ATTACKS, FILES, Options, Scale, SecurityMode, row, run};

/// All attacks that there are before such a server, one after the other: side by side, they would measure each other.
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
            Err(fault) => bad.push(format!("{}: {fault}", attack.name)),
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[tokio::test]
async fn a_server_that_is_attacked_in_every_way_keeps_its_bounds_and_serves_who_behaves_well() {
    attack_all(SecurityMode::Plain, |needs| needs == SecurityMode::Plain).await;
}

#[tokio::test]
async fn a_server_whose_tls_and_passwords_are_attacked_keeps_its_bounds_and_serves_who_behaves_well() {
    attack_all(SecurityMode::Users, |needs| needs > SecurityMode::Plain).await;
}
