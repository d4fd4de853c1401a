//! What all clients of a round have in common: where they connect to, which keys they use, and when they are to stop.

use super::proxy::Proxy;
use super::recorder::Recorder;
use crate::Random;
use crate::history::{Key, Stamp, State};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use syncline_client::Options;
use tokio::sync::{mpsc, watch};

/// What replicas and cursors start with: they overlap.
pub(super) const PREFIXES: [&str; 6] = ["", "a/", "a", "a/b/", "b/", "hot/"];

/// The key that is written last: who is told of it was told everything.
pub(super) const LAST: &str = "last";

/// How many keys are under each prefix that has some.
const KEYS: u64 = 7;

/// Where a round is.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Clients ask and write.
    Load,
    /// They ask for nothing new.
    Quiet,
    /// The last write was accepted: they wait until they have seen it.
    Settle(Arc<Truth>),
    /// They end.
    Over,
}

/// What a store holds in the end.
#[derive(Clone, Debug)]
pub(super) struct Truth {
    /// When the last write was.
    pub(super) revision: u64,
    pub(super) keys: BTreeMap<Key, State>,
}

/// What all clients of a round have in common.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) recorder: Arc<Recorder>,
    pub(super) proxy: Arc<Proxy>,
    pub(super) phase: watch::Receiver<Phase>,
}

/// Held by who may still write.
pub(super) type Writing = mpsc::Sender<()>;

impl Load {
    pub(super) fn is_on(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Load)
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Over)
    }

    /// Waits until clients are to ask for nothing new.
    pub(super) async fn quiet(&mut self) {
        // Who has gone waits for nothing.
        let _ = self.phase.wait_for(|phase| !matches!(phase, Phase::Load)).await;
    }

    /// Waits until the last write was accepted; nothing where there will be none.
    pub(super) async fn settled(&mut self) -> Option<Arc<Truth>> {
        let reached = self.phase.wait_for(|phase| matches!(phase, Phase::Settle(_) | Phase::Over)).await.ok()?;
        if let Phase::Settle(truth) = &*reached { Some(truth.clone()) } else { None }
    }

    /// Waits until clients are to end.
    pub(super) async fn over(&mut self) {
        let _ = self.phase.wait_for(|phase| matches!(phase, Phase::Over)).await;
    }
}

/// A key to use: some are wanted by many.
pub(super) fn key(random: &mut Random) -> String {
    if random.chance(25) {
        return format!("hot/{}", random.below(3));
    }
    let prefix = *random.pick(&["a/", "a/b/", "b/", "c"]).unwrap_or(&"");
    format!("{prefix}{}", random.below(KEYS))
}

/// The length of a value: mostly short.
pub(super) fn length(random: &mut Random) -> usize {
    let least = Stamp::LENGTH as u64;
    let length = match random.below(100) {
        0..60 => random.between(least, 40),
        60..98 => random.spread(40, 4000),
        _ => random.between(50_000, 60_000),
    };
    usize::try_from(length).unwrap_or(Stamp::LENGTH)
}

/// How long a client waits before it asks for something else.
pub(super) fn pause(random: &mut Random) -> Duration {
    Duration::from_millis(random.spread(1, 60))
}

/// So short that connections that are half open hold up nobody for long.
pub(super) fn options() -> Options {
    let mut options = Options::default();
    options.connect_timeout = Duration::from_secs(1);
    options.request_timeout = Duration::from_secs(2);
    options.watch_timeout = Duration::from_secs(10);
    options.min_pause = Duration::from_millis(10);
    options.max_pause = Duration::from_millis(300);
    options
}
