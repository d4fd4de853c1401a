//! What all clients of a round share: the proxy, the recorder, the keys, and the phase of the round.

use super::proxy::Proxy;
use super::recorder::Recorder;
use crate::Random;
use crate::history::{Key, Stamp, State};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use syncline_client::Options;
use tokio::sync::{mpsc, watch};

/// The prefixes of replicas and cursors. They overlap.
pub(super) const PREFIXES: [&str; 6] = ["", "a/", "a", "a/b/", "b/", "hot/"];

/// The key that is written last. A connection that has received it has received everything.
pub(super) const LAST_KEY: &str = "last";

/// The number of keys under each prefix that has keys of its own.
const KEYS: u64 = 7;

/// The phase of a round.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// Clients send requests.
    Load,
    /// Clients send no new requests.
    Quiet,
    /// The last write was accepted. Clients wait until they see the final state.
    Settle(Arc<FinalState>),
    /// Clients stop.
    Done,
}

/// The content of a store at the end of a round.
#[derive(Clone, Debug)]
pub(super) struct FinalState {
    /// The revision of the last write.
    pub(super) revision: u64,
    pub(super) keys: BTreeMap<Key, State>,
}

/// What all clients of a round share.
#[derive(Clone, Debug)]
pub(super) struct ClientContext {
    pub(super) recorder: Arc<Recorder>,
    pub(super) proxy: Arc<Proxy>,
    pub(super) phase: watch::Receiver<Phase>,
}

/// Held by a client for as long as the round must wait for it. The round waits until all tokens are dropped.
pub(super) type WaitToken = mpsc::Sender<()>;

impl ClientContext {
    /// Returns whether clients may send new requests.
    pub(super) fn is_loading(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Load)
    }

    /// Returns whether clients must stop.
    pub(super) fn is_done(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Done)
    }

    /// Waits until clients must not send new requests.
    pub(super) async fn wait_until_quiet(&mut self) {
        // An error means that the round is gone.
        let _ = self.phase.wait_for(|phase| !matches!(phase, Phase::Load)).await;
    }

    /// Waits until the last write was accepted. Returns `None` if the round ends without it.
    pub(super) async fn wait_for_final_state(&mut self) -> Option<Arc<FinalState>> {
        let reached = self.phase.wait_for(|phase| matches!(phase, Phase::Settle(_) | Phase::Done)).await.ok()?;
        if let Phase::Settle(final_state) = &*reached { Some(final_state.clone()) } else { None }
    }

    /// Waits until clients must stop.
    pub(super) async fn wait_until_done(&mut self) {
        let _ = self.phase.wait_for(|phase| matches!(phase, Phase::Done)).await;
    }
}

/// Returns a random key. A few keys are hot.
pub(super) fn random_key(random: &mut Random) -> String {
    if random.chance(25) {
        return format!("hot/{}", random.below(3));
    }
    let prefix = *random.pick(&["a/", "a/b/", "b/", "c"]).unwrap_or(&"");
    format!("{prefix}{}", random.below(KEYS))
}

/// Returns a random length for a value. Most are short.
pub(super) fn random_length(random: &mut Random) -> usize {
    let least = Stamp::LENGTH as u64;
    let length = match random.below(100) {
        0..60 => random.between(least, 40),
        60..98 => random.spread(40, 4000),
        _ => random.between(50_000, 60_000),
    };
    usize::try_from(length).unwrap_or(Stamp::LENGTH)
}

/// Returns a random pause between two requests of a client.
pub(super) fn random_pause(random: &mut Random) -> Duration {
    Duration::from_millis(random.spread(1, 60))
}

/// Returns client options with timeouts so short that half-open connections do not block a client for long.
pub(super) fn client_options() -> Options {
    let mut options = Options::default();
    options.connect_timeout = Duration::from_secs(1);
    options.request_timeout = Duration::from_secs(2);
    options.watch_timeout = Duration::from_secs(10);
    options.min_pause = Duration::from_millis(10);
    options.max_pause = Duration::from_millis(300);
    options
}
