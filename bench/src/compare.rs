//! The comparison: starts the servers, and does each run on all systems in alternating rounds.

use crate::error::BenchError;
use crate::million;
use crate::plan::{Plan, PreparedServer, alternate};
use crate::rows::Run;
use crate::sample::Sample;
use crate::server::{Profile, ServerKind};
use crate::target::Workload;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use syncline_load::Keys;

/// The most rounds of a run that takes half a minute.
const MAX_STALL_ROUNDS: usize = 3;

/// Does all planned runs, and reports each sample as it is measured.
pub(crate) async fn compare(plan: &Plan, report: &mut impl FnMut(&Sample)) -> Result<(), BenchError> {
    for run in plan.runs(Profile::Fresh) {
        run_on_fresh_servers(plan, run, report).await?;
    }
    for profile in [Profile::Durable, Profile::Memory, Profile::Stalled] {
        let mut servers = BTreeMap::new();
        for run in plan.runs(profile) {
            for system in plan.systems(run) {
                let key = (system.kind(), system.profile(profile));
                if let Entry::Vacant(entry) = servers.entry(key) {
                    entry.insert(plan.start(system, key.1, plan.new_keys(key.1)).await?);
                }
            }
            run_rounds(plan, run, &servers, report).await?;
        }
        for prepared in servers.into_values() {
            prepared.server.kill_and_remove().await?;
        }
    }
    million::compare(plan, report).await
}

async fn run_rounds(
    plan: &Plan,
    run: &Run,
    servers: &BTreeMap<(ServerKind, Profile), PreparedServer>,
    report: &mut impl FnMut(&Sample),
) -> Result<(), BenchError> {
    let is_slow = matches!(run.work, Workload::Stall { .. });
    let rounds = if is_slow { plan.rounds.min(MAX_STALL_ROUNDS) } else { plan.rounds };
    for system in alternate(&plan.systems(run), rounds) {
        if let Some(prepared) = servers.get(&(system.kind(), system.profile(run.profile))) {
            report(&plan.run(run, *system, prepared).await?);
        }
    }
    Ok(())
}

/// Does a run on newly started servers only. A server that has freed memory before would hide what a connection needs.
async fn run_on_fresh_servers(plan: &Plan, run: &Run, report: &mut impl FnMut(&Sample)) -> Result<(), BenchError> {
    for system in alternate(&plan.systems(run), plan.rounds) {
        let keys = Keys::new(1, plan.value_size);
        let prepared = plan.start(*system, system.profile(run.profile), keys).await?;
        report(&plan.run(run, *system, &prepared).await?);
        prepared.server.kill_and_remove().await?;
    }
    Ok(())
}
