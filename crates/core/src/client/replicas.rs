//! The state of all replicas of a client: what it was told, and what of it may be shown.
//!
//! # The rule
//! Only what stood together in the store at one revision is ever shown. Between two MARKs changes are gathered; a MARK
//! shows them, all at once. What fills a new prefix, or one that was away, is built beside what is shown, and takes its
//! place when it is whole.

use super::shown::{Map, Shown, Versioned, View};
use crate::StoreId;
use bytes::Bytes;
use syncline_wire::Revision;

/// The state of all replicas of a client. Outlives its connections.
#[derive(Debug, Default)]
pub struct Replicas {
    /// The store that the connection leads to; it stays while there is none.
    store: Option<StoreId>,
    /// No two of them that are shown share a key.
    roots: Vec<Root>,
}

/// One watched prefix; narrower ones share its keys.
///
/// ```text
///       WATCH          it begins           MARK of the WATCH       a MARK that is not before what is shown
///  Away ──────▶ Asked ───────────▶ Filling ─────────────────▶ Told ──────────────────────────────────────▶ Current
///    ▲            │                   │                         │                                             │
///    └────────────┴───────────────────┴──── connection lost ────┴─────────────────────────────────────────────┘
/// ```
#[derive(Debug)]
struct Root {
    prefix: Bytes,
    /// What is shown, as of the last MARK; nothing where it was never whole.
    view: Option<View>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// There is no connection.
    Away,
    /// A WATCH was sent, but the server answers what was asked before it. What it tells until it has is told of other
    /// prefixes, or is the client's own, and may be overtaken before the WATCH begins: then nobody would say so.
    Asked {
        /// The WATCH, as the connection counts requests.
        sequence: u64,
    },
    /// The server tells what was missed. `next` holds all that it has told.
    Filling { next: Map },
    /// All that was missed was told; but a MARK before what is shown would take readers back in time.
    Told { next: Map },
    /// What changes is told as it commits.
    Current {
        /// What has changed since the last MARK.
        gathered: Vec<(Bytes, Option<Versioned>)>,
    },
}

impl Replicas {
    /// No replica.
    pub fn new() -> Self {
        Self::default()
    }

    /// What readers may see now: the state as of the last MARK.
    pub fn shown(&self) -> Shown {
        let views = self.roots.iter().filter_map(|root| {
            let view = root.view.clone()?;
            Some(View { is_current: matches!(root.stage, Stage::Current { .. }), ..view })
        });
        Shown { views: views.collect() }
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Whether some replica shows this key.
    pub(super) fn shows(&self, key: &[u8]) -> bool {
        self.roots.iter().any(|root| root.view.is_some() && key.starts_with(&root.prefix))
    }

    /// Whether the keys under this prefix are shown, or will be without another WATCH.
    pub(super) fn covers(&self, prefix: &[u8]) -> bool {
        self.roots.iter().any(|root| prefix.starts_with(&root.prefix))
    }

    /// Whether the keys under this prefix are shown as the store that the connection leads to holds them.
    pub(super) fn is_current(&self, prefix: &[u8]) -> bool {
        self.roots.iter().any(|root| prefix.starts_with(&root.prefix) && matches!(root.stage, Stage::Current { .. }))
    }

    /// Whether nothing is shown that is not current.
    pub(super) fn is_settled(&self) -> bool {
        self.roots.iter().all(|root| root.view.is_none() || matches!(root.stage, Stage::Current { .. }))
    }

    /// A connection leads to this store: answers what to watch, and from where on.
    pub(super) fn connected(&mut self, store: StoreId) -> Vec<(Bytes, Revision)> {
        self.store = Some(store);
        let watched = self.roots.iter_mut().map(|root| {
            let known = root.view.as_ref().filter(|view| view.store == store);
            let next = known.map_or_else(Map::new, |view| view.keys.clone());
            root.stage = Stage::Filling { next };
            (root.prefix.clone(), known.map_or(Revision::ZERO, |view| view.revision))
        });
        watched.collect()
    }

    /// The connection is lost. What is shown stays, and what was gathered since the last MARK is forgotten.
    pub(super) fn lost(&mut self) {
        self.roots.iter_mut().for_each(|root| root.stage = Stage::Away);
    }

    /// A prefix that none covers is watched by this request.
    pub(super) fn add(&mut self, prefix: Bytes, sequence: u64) {
        self.roots.push(Root { prefix, view: None, stage: Stage::Asked { sequence } });
    }

    /// Whether some WATCH has not begun.
    pub(super) fn awaits_begin(&self) -> bool {
        self.roots.iter().any(|root| matches!(root.stage, Stage::Asked { .. }))
    }

    /// Whether what is told of this very prefix is kept.
    pub(super) fn has_begun(&self, prefix: &[u8]) -> bool {
        let is_asked = |root: &Root| root.prefix == prefix && matches!(root.stage, Stage::Asked { .. });
        !self.roots.iter().any(is_asked)
    }

    /// Everything is answered that was asked before this request: the server has begun with all WATCHes before it.
    pub(super) fn begin(&mut self, oldest: u64) {
        for root in &mut self.roots {
            if matches!(root.stage, Stage::Asked { sequence } if sequence < oldest) {
                root.stage = Stage::Filling { next: Map::new() };
            }
        }
    }

    /// A prefix that was never whole is not watched after all.
    pub(super) fn remove(&mut self, prefix: &[u8]) {
        self.roots.retain(|root| root.prefix != prefix || root.view.is_some());
    }

    /// Whether this very prefix is shown.
    pub(super) fn was_whole(&self, prefix: &[u8]) -> bool {
        self.roots.iter().any(|root| root.prefix == prefix && root.view.is_some())
    }

    /// The server can't tell what was missed under this prefix: it tells everything. What is shown stays until then.
    pub(super) fn forget(&mut self, prefix: &[u8]) {
        for root in self.roots.iter_mut().filter(|root| root.prefix == prefix) {
            root.stage = Stage::Filling { next: Map::new() };
        }
    }

    /// All that was missed under this prefix was told.
    pub(super) fn told(&mut self, prefix: &[u8]) {
        for root in self.roots.iter_mut().filter(|root| root.prefix == prefix) {
            if let Stage::Filling { next } = &mut root.stage {
                root.stage = Stage::Told { next: std::mem::take(next) };
            }
        }
    }

    /// A key has got this state; `None`: it was deleted.
    pub(super) fn change(&mut self, key: &Bytes, now: Option<&Versioned>) {
        let is_told = |root: &&mut Root| {
            key.starts_with(&root.prefix) && !matches!(root.stage, Stage::Away | Stage::Asked { .. })
        };
        let mut roots = self.roots.iter_mut().filter(is_told).peekable();
        if roots.peek().is_none() {
            return;
        }
        let (key, now) = kept(key, now);
        for root in roots {
            match &mut root.stage {
                Stage::Away | Stage::Asked { .. } => {}
                Stage::Filling { next } | Stage::Told { next } => apply(next, key.clone(), now.clone()),
                Stage::Current { gathered } => gathered.push((key.clone(), now.clone())),
            }
        }
    }

    /// What was told is what the store held at this revision: it may be shown.
    pub(super) fn mark(&mut self, revision: Revision) {
        let Some(store) = self.store else { return };
        let mut completed = Vec::new();
        for root in &mut self.roots {
            match (&mut root.stage, &mut root.view) {
                (Stage::Current { gathered }, Some(view)) => {
                    view.revision = revision;
                    gathered.drain(..).for_each(|(key, now)| apply(&mut view.keys, key, now));
                }
                (Stage::Told { next }, view) => {
                    if view.as_ref().is_some_and(|view| view.store == store && view.revision > revision) {
                        continue;
                    }
                    let keys = std::mem::take(next);
                    *view = Some(View { prefix: root.prefix.clone(), store, revision, is_current: true, keys });
                    root.stage = Stage::Current { gathered: Vec::new() };
                    completed.push(root.prefix.clone());
                }
                _ => {}
            }
        }
        // What a wider one shows now, narrower ones need not.
        for wider in completed {
            self.roots.retain(|root| root.prefix == wider || !root.prefix.starts_with(&wider));
        }
    }
}

/// Key and value as they are kept: in memory of their own, for what was received shares the buffer of its connection.
fn kept(key: &[u8], now: Option<&Versioned>) -> (Bytes, Option<Versioned>) {
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
