//! The state of all replicas of a client: what the server sent, and which of it readers see.
//!
//! # The rule
//! Readers see only states that the store held at one revision. Changes are collected between two MARKs, and a MARK shows
//! them all at once. While a prefix is new or catches up, its keys are collected in a separate map. That map replaces what
//! is shown when it is complete.

use super::view::{Map, Versioned, View, Views};
use crate::StoreId;
use bytes::Bytes;
use syncline_wire::Revision;

/// The state of all replicas of a client. It outlives the connections of the client.
#[derive(Debug, Default)]
pub struct Replicas {
    /// The store of the current connection, or of the last one while there is none.
    store: Option<StoreId>,
    /// Shown prefixes do not overlap.
    replicas: Vec<PrefixReplica>,
}

/// The replica of one watched prefix. Watches of longer prefixes use it too.
///
/// ```text
///                  WATCH            it starts            MARK of the WATCH       a MARK not before the shown revision
///  Disconnected ──────────▶ Requested ─────▶ CatchingUp ─────────────────▶ CaughtUp ────────────────────────▶ Current
///    ▲                          │                 │                            │                                 │
///    └──────────────────────────┴─────────────────┴─── connection lost ────────┴─────────────────────────────────┘
/// ```
#[derive(Debug)]
struct PrefixReplica {
    prefix: Bytes,
    /// The state as of the last MARK, which readers see. `None` until the replica is complete for the first time.
    view: Option<View>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// There is no connection.
    Disconnected,
    /// The WATCH was sent, but the server is still processing earlier requests.
    ///
    /// Changes received in this state belong to other prefixes, or are own writes, and are ignored. Another client may
    /// overwrite them before the WATCH starts, and the server would not send that to this replica.
    Requested {
        /// The sequence number of the WATCH.
        sequence: u64,
    },
    /// The server is sending the keys, or what changed since the shown revision. `next` is the state under construction.
    CatchingUp { next: Map },
    /// The server has sent everything, but only up to a revision before the shown one. Showing `next` now would take
    /// readers back in time.
    CaughtUp { next: Map },
    /// The server sends changes as they are committed.
    Current {
        /// The changes since the last MARK.
        pending: Vec<(Bytes, Option<Versioned>)>,
    },
}

impl Replicas {
    /// Creates a state without replicas.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns what readers see: the state as of the last MARK.
    pub fn views(&self) -> Views {
        let views = self.replicas.iter().filter_map(|replica| {
            let view = replica.view.clone()?;
            Some(View { is_current: matches!(replica.state, State::Current { .. }), ..view })
        });
        Views { views: views.collect() }
    }

    /// Returns whether there is no replica.
    pub const fn is_empty(&self) -> bool {
        self.replicas.is_empty()
    }

    /// Returns whether readers see this key in a replica.
    pub(super) fn shows_key(&self, key: &[u8]) -> bool {
        self.replicas.iter().any(|replica| replica.view.is_some() && key.starts_with(&replica.prefix))
    }

    /// Returns whether a replica contains the keys under this prefix, or will without a further WATCH.
    pub(super) fn covers(&self, prefix: &[u8]) -> bool {
        self.replicas.iter().any(|replica| prefix.starts_with(&replica.prefix))
    }

    /// Returns whether the server keeps the keys under this prefix up to date.
    pub(super) fn is_current(&self, prefix: &[u8]) -> bool {
        let is_current = |replica: &PrefixReplica| matches!(replica.state, State::Current { .. });
        self.replicas.iter().any(|replica| prefix.starts_with(&replica.prefix) && is_current(replica))
    }

    /// Returns whether everything that readers see is current.
    pub(super) fn all_shown_are_current(&self) -> bool {
        self.replicas.iter().all(|replica| replica.view.is_none() || matches!(replica.state, State::Current { .. }))
    }

    /// Handles a new connection to this store. Returns the prefixes to watch, each with the revision to resume from.
    pub(super) fn connected(&mut self, store: StoreId) -> Vec<(Bytes, Revision)> {
        self.store = Some(store);
        let watches = self.replicas.iter_mut().map(|replica| {
            let known = replica.view.as_ref().filter(|view| view.store == store);
            let next = known.map_or_else(Map::new, |view| view.keys.clone());
            replica.state = State::CatchingUp { next };
            (replica.prefix.clone(), known.map_or(Revision::ZERO, |view| view.revision))
        });
        watches.collect()
    }

    /// Handles the loss of the connection. Readers keep what they see; the changes since the last MARK are discarded.
    pub(super) fn disconnected(&mut self) {
        self.replicas.iter_mut().for_each(|replica| replica.state = State::Disconnected);
    }

    /// Adds a replica for a prefix that no replica covers. `sequence` is the sequence number of its WATCH.
    pub(super) fn add(&mut self, prefix: Bytes, sequence: u64) {
        self.replicas.push(PrefixReplica { prefix, view: None, state: State::Requested { sequence } });
    }

    /// Returns whether a WATCH has not started.
    pub(super) fn has_requested(&self) -> bool {
        self.replicas.iter().any(|replica| matches!(replica.state, State::Requested { .. }))
    }

    /// Returns whether the WATCH of exactly this prefix has started.
    pub(super) fn has_started(&self, prefix: &[u8]) -> bool {
        let is_requested =
            |replica: &PrefixReplica| replica.prefix == prefix && matches!(replica.state, State::Requested { .. });
        !self.replicas.iter().any(is_requested)
    }

    /// Starts all WATCHes before this sequence number: the server has responded to all requests before it.
    pub(super) fn start_before(&mut self, oldest: u64) {
        for replica in &mut self.replicas {
            if matches!(replica.state, State::Requested { sequence } if sequence < oldest) {
                replica.state = State::CatchingUp { next: Map::new() };
            }
        }
    }

    /// Removes the replica of a prefix after its WATCH was refused, unless it was shown before.
    pub(super) fn remove(&mut self, prefix: &[u8]) {
        self.replicas.retain(|replica| replica.prefix != prefix || replica.view.is_some());
    }

    /// Returns whether readers see a replica of exactly this prefix.
    pub(super) fn is_shown(&self, prefix: &[u8]) -> bool {
        self.replicas.iter().any(|replica| replica.prefix == prefix && replica.view.is_some())
    }

    /// Restarts catch-up with an empty map: the server sends all keys under this prefix instead of what changed. Readers
    /// keep what they see until that is complete.
    pub(super) fn reset(&mut self, prefix: &[u8]) {
        for replica in self.replicas.iter_mut().filter(|replica| replica.prefix == prefix) {
            replica.state = State::CatchingUp { next: Map::new() };
        }
    }

    /// Ends catch-up of this prefix: the server has responded to its WATCH.
    pub(super) fn caught_up(&mut self, prefix: &[u8]) {
        for replica in self.replicas.iter_mut().filter(|replica| replica.prefix == prefix) {
            if let State::CatchingUp { next } = &mut replica.state {
                replica.state = State::CaughtUp { next: std::mem::take(next) };
            }
        }
    }

    /// Records the new state of a key; `None` means that it was deleted. Readers see it at the next MARK.
    pub(super) fn change(&mut self, key: &Bytes, now: Option<&Versioned>) {
        let is_affected = |replica: &&mut PrefixReplica| {
            key.starts_with(&replica.prefix) && !matches!(replica.state, State::Disconnected | State::Requested { .. })
        };
        let mut affected = self.replicas.iter_mut().filter(is_affected).peekable();
        if affected.peek().is_none() {
            return;
        }
        let (key, now) = copied(key, now);
        for replica in affected {
            match &mut replica.state {
                State::Disconnected | State::Requested { .. } => {}
                State::CatchingUp { next } | State::CaughtUp { next } => apply(next, key.clone(), now.clone()),
                State::Current { pending } => pending.push((key.clone(), now.clone())),
            }
        }
    }

    /// Handles a MARK: readers see the collected changes, which are the state of the store at this revision.
    pub(super) fn mark(&mut self, revision: Revision) {
        let Some(store) = self.store else { return };
        let mut completed = Vec::new();
        for replica in &mut self.replicas {
            match (&mut replica.state, &mut replica.view) {
                (State::Current { pending }, Some(view)) => {
                    view.revision = revision;
                    pending.drain(..).for_each(|(key, now)| apply(&mut view.keys, key, now));
                }
                (State::CaughtUp { next }, view) => {
                    if view.as_ref().is_some_and(|view| view.store == store && view.revision > revision) {
                        continue;
                    }
                    let keys = std::mem::take(next);
                    *view = Some(View { prefix: replica.prefix.clone(), store, revision, is_current: true, keys });
                    replica.state = State::Current { pending: Vec::new() };
                    completed.push(replica.prefix.clone());
                }
                _ => {}
            }
        }
        // A replica that is now shown replaces the replicas of longer prefixes.
        for prefix in completed {
            self.replicas.retain(|replica| replica.prefix == prefix || !replica.prefix.starts_with(&prefix));
        }
    }
}

/// Copies a key and its value into memory of their own. The received bytes share the input buffer of the connection, which
/// a replica would otherwise keep alive.
fn copied(key: &[u8], now: Option<&Versioned>) -> (Bytes, Option<Versioned>) {
    let value = now.map_or(&[][..], |now| &now.value);
    let mut both = Bytes::from([key, value].concat());
    let key = both.split_to(key.len());
    (key, now.map(|now| Versioned { value: both, version: now.version }))
}

fn apply(keys: &mut Map, key: Bytes, now: Option<Versioned>) {
    match now {
        Some(now) => keys.insert(key, now),
        None => keys.remove(&key),
    };
}
