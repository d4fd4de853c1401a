//! The requests of a client: sending them, learning from the responses, and recording what its readers see.

use super::{Client, KnownVersion, Link, MAX_OPEN, Open, Purpose, REQUEST_TIMEOUT};
use crate::frame;
use crate::history::{Invocation, Key, Outcome, Sight, Step, Write};
use crate::world::agenda::SECOND;
use crate::world::context::Context;
use bytes::Bytes;
use syncline_core::Operation;
use syncline_core::client::{Request, Response, Views};
use syncline_wire::Version;

impl Client {
    /// Records the contents of the replicas, if they may have changed.
    pub(super) fn publish(&mut self, context: &mut Context) {
        if std::mem::take(&mut self.is_stale)
            && let Link::Connected { connection, .. } = &self.link
        {
            let shown = connection.replicas().views();
            self.record_views(&shown, context);
        }
    }

    pub(super) fn record_views(&mut self, shown: &Views, context: &mut Context) {
        for prefix in &self.watched {
            let Some(view) = shown.view(prefix.as_bytes()) else { continue };
            let before = self.shown.get(prefix);
            let is_same = before.is_some_and(|before| {
                before.revision == view.revision().get()
                    && before.is_current == view.is_current()
                    && before.store == context.record.store_of(view.store())
            });
            if !is_same {
                let sight = context.record.sight(self.place as u64, prefix, view);
                for (key, state) in &sight.keys {
                    self.known.insert(key.clone(), KnownVersion::At(state.version));
                }
                self.shown_first.entry(prefix.clone()).or_insert_with(|| sight.clone());
                self.shown.insert(prefix.clone(), sight);
            }
        }
    }

    /// Handles the response to a request.
    pub(super) fn complete(&mut self, token: u64, response: Response, context: &mut Context) {
        // The request has timed out, so its caller no longer waits.
        let Some(open) = self.open.remove(&token) else { return };
        let store = open.sent_on.and_then(|socket| context.record.store_of_connection(socket));
        self.update_known(&open.request, &response);
        let outcome = outcome(&open.request, response);
        match &open.purpose {
            Purpose::Watch if outcome == Outcome::Refused => self.unwatch(&open.request),
            Purpose::Watch => {}
            Purpose::Operation(place) => {
                let is_done = matches!(outcome, Outcome::Written | Outcome::Committed { .. });
                context.record.count("answers", 1);
                context.record.end(*place, store, outcome);
                if is_done {
                    self.record_views_again(&open.request, context);
                }
            }
            Purpose::BarrierThenRead { place, read, prefix } => {
                let is_passed = matches!(outcome, Outcome::Passed { .. });
                context.record.end(*place, store, outcome);
                // When a barrier is passed, all visible contents include it, even those of a replica that reports
                // itself as not current.
                let sight = self.shown.get(prefix).filter(|_| is_passed);
                let entries = sight.map(|sight| {
                    // Like a LIST, which starts strictly after the empty key.
                    let entries = sight.keys.iter().filter(|(key, _)| !key.is_empty());
                    entries.map(|(key, state)| Write { key: key.clone(), state: *state }).collect()
                });
                let outcome = entries.map_or(Outcome::Refused, |entries| Outcome::Listed { entries });
                context.record.count("reads behind a barrier", 1);
                context.record.end(*read, store, outcome);
            }
        }
    }

    /// Records the contents again after a response, so that the checkers see that they include the write.
    fn record_views_again(&mut self, request: &Request, context: &mut Context) {
        let wrote = keys_of_write(request);
        for prefix in &self.watched {
            if wrote.iter().any(|key| key.starts_with(prefix.as_bytes()))
                && let Some(sight) = self.shown.get_mut(prefix)
            {
                *sight = context.record.sight_again(sight);
            }
        }
    }

    fn update_known(&mut self, request: &Request, response: &Response) {
        let now = |version: &Version| KnownVersion::At(version.get());
        match (request, response) {
            (Request::Get { key }, Response::Value(found)) => self.known.insert(frame::key(key), now(&found.version)),
            (Request::Get { key }, Response::NotFound { deleted_at }) => {
                self.known.insert(frame::key(key), deleted_at.as_ref().map_or(KnownVersion::Absent, now))
            }
            (Request::Put { key, version, .. } | Request::Delete { key, version }, Response::Written) => {
                self.known.insert(frame::key(key), now(version))
            }
            (Request::Put { key, .. } | Request::Delete { key, .. }, Response::Stale) => {
                self.known.remove(&frame::key(key))
            }
            (Request::Txn { operations }, response) => {
                for operation in operations {
                    match (operation, response) {
                        (Operation::Check { .. }, Response::Committed { .. }) => None,
                        (
                            Operation::Put { key, version, .. } | Operation::Delete { key, version },
                            Response::Committed { .. },
                        ) => self.known.insert(frame::key(key), now(version)),
                        (operation, _) => self.known.remove(&frame::key(operation.key())),
                    };
                }
                None
            }
            _ => None,
        };
    }

    pub(super) fn record_step(&mut self, step: &syncline_core::client::Step, context: &mut Context) {
        let changes =
            step.changes.iter().map(|change| frame::write(&change.key, change.value.as_ref(), change.version));
        context.record.count("steps of cursors", 1);
        context.record.count("steps that begin afresh", u64::from(step.is_reset));
        let store = step.at.store.map_or(0, |store| context.record.store_of(store));
        context.record.step(Step {
            client: self.place as u64,
            at: Default::default(),
            prefix: self.watched.first().cloned().unwrap_or_else(|| "".into()),
            store,
            revision: step.at.revision.get(),
            is_reset: step.is_reset,
            changes: changes.collect(),
        });
    }

    pub(super) fn forget_keys(&mut self, request: &Request) {
        for key in keys_of_write(request) {
            self.known.remove(&frame::key(key));
        }
    }

    /// Gives up requests that have timed out.
    pub(super) fn expire(&mut self, context: &mut Context) {
        let now = context.now();
        let late: Vec<_> = self.open.iter().filter(|(_, open)| open.deadline <= now).map(|(token, _)| *token).collect();
        for token in late {
            let Some(open) = self.open.remove(&token) else { continue };
            context.record.count("requests given up", 1);
            let was_sent = open.sent_on.is_some() && !open.request.is_read();
            if open.sent_on.is_none() {
                self.unwatch(&open.request);
            }
            self.forget_keys(&open.request);
            let outcome = if was_sent { Outcome::Unknown } else { Outcome::Refused };
            open.purpose.finish(None, outcome, context);
        }
    }

    /// Forgets a prefix that gets no replica.
    fn unwatch(&mut self, request: &Request) {
        if let Request::Watch { prefix } = request {
            self.watched.retain(|watched| watched.as_bytes() != &prefix[..] || self.shown.contains_key(watched));
        }
    }

    /// Queues a request. It is sent as soon as there is a connection.
    pub(in crate::world) fn ask(&mut self, request: Request, purpose: Purpose, context: &Context) {
        self.tokens += 1;
        let patience = if matches!(purpose, Purpose::Watch) { 300 * SECOND } else { REQUEST_TIMEOUT };
        let open = Open { purpose, request, deadline: context.now() + patience, sent_on: None };
        self.open.insert(self.tokens, open);
        self.queue.push_back(self.tokens);
    }

    /// Reads all keys from the server.
    pub(in crate::world) fn read_all(&mut self, context: &mut Context) {
        let (prefix, after, limit) = (Bytes::new(), Bytes::new(), u32::MAX);
        let asked = Invocation::List { prefix: "".into(), after: "".into(), limit };
        let place = context.record.ask(self.id(), asked);
        self.ask(Request::List { prefix, after, limit }, Purpose::Operation(place), context);
        self.wake(context);
    }

    /// Returns whether the client may have another open request.
    pub(in crate::world) fn has_room(&self) -> bool {
        self.open.len() < MAX_OPEN
    }

    /// Returns the contents of a prefix that readers saw last.
    pub(in crate::world) fn shown(&self, prefix: &Key) -> Option<&Sight> {
        self.shown.get(prefix)
    }
}

/// Returns the keys of a write. For a transaction this includes the keys that it checks.
fn keys_of_write(request: &Request) -> Vec<&Bytes> {
    match request {
        Request::Put { key, .. } | Request::Delete { key, .. } => vec![key],
        Request::Txn { operations } => operations.iter().map(Operation::key).collect(),
        _ => Vec::new(),
    }
}

impl Purpose {
    pub(super) fn finish(&self, store: Option<usize>, outcome: Outcome, context: &mut Context) {
        match self {
            Self::Watch => {}
            Self::Operation(place) => context.record.end(*place, store, outcome),
            Self::BarrierThenRead { place, read, .. } => {
                context.record.end(*place, store, outcome.clone());
                context.record.end(*read, store, outcome);
            }
        }
    }
}

/// Returns the outcome of a response, as histories record it.
fn outcome(request: &Request, response: Response) -> Outcome {
    let state =
        |key: &[u8], found: &syncline_core::client::Versioned| frame::write(key, Some(&found.value), found.version);
    match response {
        Response::Value(found) => Outcome::Found(state(b"", &found).state),
        Response::NotFound { deleted_at } => Outcome::NotFound { deleted_at: deleted_at.map(Version::get) },
        Response::Written => Outcome::Written,
        Response::Committed { revision } => Outcome::Committed { revision: revision.get() },
        Response::Stale => match request {
            Request::Put { key, .. } | Request::Delete { key, .. } => Outcome::Stale { key: frame::key(key) },
            _ => Outcome::Refused,
        },
        Response::StaleKey { key } => Outcome::Stale { key: key.trim_matches('"').into() },
        Response::Passed { revision } => Outcome::Passed { revision: revision.get() },
        Response::Listed { entries } => {
            Outcome::Listed { entries: entries.iter().map(|(key, found)| state(key, found)).collect() }
        }
        // The outcome of a WATCH is not recorded.
        Response::Watched => Outcome::Listed { entries: Vec::new() },
        Response::Status { .. }
        | Response::TooLarge { .. }
        | Response::NotPermitted { .. }
        | Response::Unavailable { .. }
        | Response::Refused { .. } => Outcome::Refused,
    }
}
