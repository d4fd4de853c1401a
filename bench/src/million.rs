//! Stores with a million keys: the memory of a key, the time from the start of a process to its first response, and the
//! cost of watchers that reconnect.

use crate::error::BenchError;
use crate::plan::{Plan, PreparedServer, alternate, directory, fill, wait_until_ready};
use crate::sample::{Figures, Sample, figures};
use crate::server::{Profile, Server};
use crate::system::System;
use crate::target::Workload;
use std::time::Duration;
use syncline_load::Keys;
use syncline_load::process::usage;

/// The pause before the memory of a server is measured.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// Does all planned runs on full stores.
pub(crate) async fn compare(plan: &Plan, report: &mut impl FnMut(&Sample)) -> Result<(), BenchError> {
    for run in plan.runs(Profile::Filled) {
        let systems = plan.systems(run);
        let mut stores = Vec::new();
        for system in systems {
            stores.push(Store::fill(plan, system).await?);
        }
        if run.work == Workload::Start {
            for store in alternate(&stores, plan.rounds) {
                report(&Sample {
                    run: run.id.into(),
                    system: store.system.id().into(),
                    figures: store.measure_start(plan).await?,
                });
            }
        } else {
            for store in &stores {
                let prepared = store.open(plan).await?;
                for _ in 0..plan.rounds {
                    report(&plan.run(run, store.system, &prepared).await?);
                }
                prepared.server.stop().await?;
            }
        }
        for store in stores {
            std::fs::remove_dir_all(store.directory)?;
        }
    }
    Ok(())
}

/// A full store on disk, without a running server.
struct Store {
    system: System,
    directory: std::path::PathBuf,
    keys: Keys,
    /// The memory of the server's process before it had keys, and just after all keys were written.
    empty: u64,
    written: u64,
}

impl Store {
    async fn fill(plan: &Plan, system: System) -> Result<Self, BenchError> {
        let mut server = Self::start(plan, system).await?;
        wait_until_ready(&mut server, system).await?;
        let empty = resident(&server)?;
        let keys = Keys::new(plan.many_keys, plan.value_size);
        fill(&server, system, &keys).await?;
        tokio::time::sleep(SETTLE_TIME).await;
        let written = resident(&server)?;
        Ok(Self { system, directory: server.stop().await?, keys, empty, written })
    }

    async fn start(plan: &Plan, system: System) -> Result<Server, BenchError> {
        Server::start(&plan.paths, system.kind(), Profile::Filled, &directory(Profile::Filled)).await
    }

    async fn open(&self, plan: &Plan) -> Result<PreparedServer, BenchError> {
        let mut server = Self::start(plan, self.system).await?;
        wait_until_ready(&mut server, self.system).await?;
        Ok(PreparedServer { server, keys: self.keys.clone() })
    }

    /// Measures one start of the server on this store.
    async fn measure_start(&self, plan: &Plan) -> Result<Figures, BenchError> {
        let mut server = Self::start(plan, self.system).await?;
        let took = wait_until_ready(&mut server, self.system).await?;
        tokio::time::sleep(SETTLE_TIME).await;
        let full = resident(&server)?;
        server.stop().await?;
        let each = |bytes: u64| bytes.saturating_sub(self.empty) as f64 / self.keys.count() as f64;
        Ok(figures([
            ("start_s", took.as_secs_f64()),
            ("bytes_each", each(full)),
            ("bytes_each_written", each(self.written)),
            ("server_bytes", full as f64),
        ]))
    }
}

fn resident(server: &Server) -> Result<u64, BenchError> {
    let pid = server.info.pid.ok_or(BenchError::Exited(server.kind.name()))?;
    Ok(usage(pid)?.resident)
}
