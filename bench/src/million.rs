//! Stores with a million keys: what a key takes, how long it is from the start of a process to its first answer, and what
//! watchers of such a store that come back cost.

use crate::compare::{Plan, Ready, answers, directory, fill, turns};
use crate::contender::Contender;
use crate::failure::Failure;
use crate::run::{Sample, Workload, figures};
use crate::server::{Running, Setting};
use std::time::Duration;
use syncline_load::Keys;
use syncline_load::process::usage;

/// How long a server is given to settle until its memory is looked at.
const SETTLING: Duration = Duration::from_secs(1);

pub(crate) async fn compare(plan: &Plan, told: &mut impl FnMut(&Sample)) -> Result<(), Failure> {
    for run in plan.runs(Setting::Filled) {
        let contenders = plan.contenders(run);
        let mut stores = Vec::new();
        for contender in contenders {
            stores.push(Store::fill(plan, contender).await?);
        }
        if run.work == Workload::Start {
            for store in turns(&stores, plan.rounds) {
                told(&Sample {
                    run: run.id.into(),
                    contender: store.contender.id().into(),
                    figures: store.start_again(plan).await?,
                });
            }
        } else {
            for store in &stores {
                let ready = store.open(plan).await?;
                for _ in 0..plan.rounds {
                    told(&plan.run(run, store.contender, &ready).await?);
                }
                ready.server.stop().await?;
            }
        }
        for store in stores {
            std::fs::remove_dir_all(store.directory)?;
        }
    }
    Ok(())
}

/// What a server has left on disk.
struct Store {
    contender: Contender,
    directory: std::path::PathBuf,
    keys: Keys,
    /// What its process took before there were keys, and with all of them just written.
    empty: u64,
    written: u64,
}

impl Store {
    async fn fill(plan: &Plan, contender: Contender) -> Result<Self, Failure> {
        let mut server = Self::start(plan, contender).await?;
        answers(&mut server, contender).await?;
        let empty = resident(&server)?;
        let keys = Keys::new(plan.many_keys, plan.value_size);
        fill(&server, contender, &keys).await?;
        tokio::time::sleep(SETTLING).await;
        let written = resident(&server)?;
        Ok(Self { contender, directory: server.stop().await?, keys, empty, written })
    }

    async fn start(plan: &Plan, contender: Contender) -> Result<Running, Failure> {
        Running::start(&plan.places, contender.kind(), Setting::Filled, &directory(Setting::Filled)).await
    }

    async fn open(&self, plan: &Plan) -> Result<Ready, Failure> {
        let mut server = Self::start(plan, self.contender).await?;
        answers(&mut server, self.contender).await?;
        Ok(Ready { server, keys: self.keys.clone() })
    }

    /// Starts the server once more, and ends it.
    async fn start_again(&self, plan: &Plan) -> Result<crate::run::Figures, Failure> {
        let mut server = Self::start(plan, self.contender).await?;
        let took = answers(&mut server, self.contender).await?;
        tokio::time::sleep(SETTLING).await;
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

fn resident(server: &Running) -> Result<u64, Failure> {
    let pid = server.place.pid.ok_or(Failure::Ended(server.kind.name()))?;
    Ok(usage(pid)?.resident)
}
