//! The choice of the engine: the one place that turns the flags of `serve` into a [`Store`].
//!
//! A further engine is one more variant of [`Engine`]: [`Engine::choose`] selects it, and [`Engine::open`] opens it. Each
//! engine states which flags it ignores, so that no flag is ignored silently.

use crate::args::{Durability, Serve};
use crate::failure::Failure;
use crate::settings::{Origin, Settings};
use crate::signals::Stop;
use std::path::PathBuf;
use std::time::Duration;
use syncline_store::{self as store, DiskOptions, DiskStore, MemoryStore, Store};
use tracing::{info, warn};

/// The flags that the memory engine ignores, each with the reason.
const IGNORED_BY_MEMORY: &[(&str, &str)] = &[
    ("data", "with durability \"memory\", nothing is kept on disk"),
    ("reserve", "with durability \"memory\", nothing is kept on disk"),
];

/// An engine and its options.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// Keeps the state in memory until the process ends.
    Memory { tombstones: Duration },
    /// Keeps the history in a directory, and the latest state in memory as well.
    Disk { data: PathBuf, durability: store::Durability, tombstones: Duration, reserve: u64 },
}

/// What runs on a store, whichever engine keeps it.
pub(crate) trait RunOnStore {
    /// Runs until it ends by itself or by a signal.
    fn run(self, store: impl Store) -> impl Future<Output = Result<(), Failure>> + Send;
}

impl Engine {
    /// Chooses the engine that the flags ask for.
    ///
    /// # Errors
    /// [`Failure::Usage`] if a flag is set that has no effect with this engine.
    pub(crate) fn choose(args: &Serve) -> Result<Self, Failure> {
        let tombstones = args.tombstones;
        let reserve = u64::try_from(args.reserve.0).unwrap_or(u64::MAX);
        let disk = |durability| Self::Disk { data: args.data.clone(), durability, tombstones, reserve };
        let engine = match args.durability {
            Durability::Fsync => disk(store::Durability::Fsync),
            Durability::Os => disk(store::Durability::Os),
            Durability::Memory => Self::Memory { tombstones },
        };
        for (flag, reason) in engine.ignored_flags() {
            if contradicts_durability(&args.settings, flag) {
                return Err(args.settings.invalid(flag, &format!("{reason}; remove {flag}, or choose fsync or os")));
            }
        }
        Ok(engine)
    }

    /// Returns the flags that have no effect with this engine, each with the reason.
    pub(crate) fn ignored_flags(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Memory { .. } => IGNORED_BY_MEMORY,
            Self::Disk { .. } => &[],
        }
    }

    /// Opens the store, logs what an acknowledged write survives, and runs `work` on the store.
    ///
    /// Returns early if the server must end before the store is open. Opening a store may take long, and may be
    /// interrupted at any point.
    pub(crate) async fn open(self, mut stop: Stop, work: impl RunOnStore) -> Result<(), Failure> {
        match self {
            Self::Memory { tombstones } => {
                let store = MemoryStore::with_tombstones(tombstones);
                let store = store.map_err(|error| Failure::Unavailable(error.to_string()))?;
                warn!("durability is memory: everything is lost when this process ends");
                work.run(store).await
            }
            Self::Disk { data, durability, tombstones, reserve } => {
                let options = DiskOptions { durability, tombstones, reserve, ..DiskOptions::default() };
                let directory = data.clone();
                let Some(store) = stop.unless_requested_blocking(move || DiskStore::open(&directory, options)).await?
                else {
                    return Ok(());
                };
                let store = store?;
                let promise = match durability {
                    store::Durability::Fsync => "an acknowledged write is on disk: it survives a power cut",
                    store::Durability::Os => "an acknowledged write survives a killed process, not a power cut",
                };
                info!(data = %data.display(), store = %store.id(), "{promise}");
                work.run(store).await
            }
        }
    }
}

/// Returns whether an ignored flag contradicts the durability that was chosen.
///
/// It does on the command line, and in a file that chooses the durability as well. It does not in the environment,
/// which other commands read too, nor in a file whose durability the command line overrides.
fn contradicts_durability(settings: &Settings, flag: &str) -> bool {
    match (settings.origin(flag), settings.origin("durability")) {
        (Origin::CommandLine, _) | (Origin::File { .. }, Origin::File { .. }) => true,
        (Origin::File { .. } | Origin::Environment(_) | Origin::Default, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use clap::Parser;

    fn engine(flags: &[&str]) -> Engine {
        let args = Args::parse_from(["syncline", "serve"].iter().chain(flags));
        let Command::Serve(serve) = args.command else { panic!("another command") };
        Engine::choose(&serve).unwrap()
    }

    #[test]
    fn every_engine_gets_the_lifetime_of_tombstones() {
        let tombstones = Duration::from_secs(3);
        let disk = |durability| Engine::Disk {
            data: "d".into(),
            durability,
            tombstones,
            reserve: DiskOptions::default().reserve,
        };
        assert_eq!(engine(&["--tombstones", "3s", "--data", "d"]), disk(store::Durability::Fsync));
        assert_eq!(engine(&["--tombstones", "3s", "--data", "d", "--durability", "os"]), disk(store::Durability::Os));
        assert_eq!(engine(&["--tombstones", "3s", "--durability", "memory"]), Engine::Memory { tombstones });
    }
}
