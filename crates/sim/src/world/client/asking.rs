//! What a client asks for and is answered, what it learns of that, and what its readers see.

use super::{Client, Link, MAX_OPEN, Open, Purpose, REQUEST_TIMEOUT};
use crate::frame;
use crate::history::{Asked, Key, Outcome, Sight, Step, Write};
use crate::world::agenda::SECOND;
use crate::world::socket::Context;
use crate::world::workload::Known;
use bytes::Bytes;
use syncline_core::Operation;
use syncline_core::client::{Request, Response, Views};
use syncline_wire::Version;

impl Client {
    /// Shows readers what the replicas are, where that is something else.
    pub(super) fn show(&mut self, context: &mut Context) {
        if std::mem::take(&mut self.is_stale)
            && let Link::Talking { connection, .. } = &self.link
        {
            let shown = connection.replicas().views();
            self.look(&shown, context);
        }
    }

    pub(super) fn look(&mut self, shown: &Views, context: &mut Context) {
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
                    self.known.insert(key.clone(), Known::At(state.version));
                }
                self.shown_first.entry(prefix.clone()).or_insert_with(|| sight.clone());
                self.shown.insert(prefix.clone(), sight);
            }
        }
    }

    /// Tells whoever has asked what the answer is.
    pub(super) fn tell(&mut self, token: u64, answer: Response, context: &mut Context) {
        // Who has waited too long does not want to know any more.
        let Some(open) = self.open.remove(&token) else { return };
        let store = open.sent_on.and_then(|socket| context.record.store_of_connection(socket));
        self.learn(&open.request, &answer);
        let outcome = outcome(&open.request, answer);
        match &open.purpose {
            Purpose::Watch if outcome == Outcome::Refused => self.unwatch(&open.request),
            Purpose::Watch => {}
            Purpose::Operation(place) => {
                let is_done = matches!(outcome, Outcome::Written | Outcome::Committed { .. });
                context.record.count("answers", 1);
                context.record.end(*place, store, outcome);
                if is_done {
                    self.look_again(&open.request, context);
                }
            }
            Purpose::BarrierThenRead { place, read, prefix } => {
                let is_passed = matches!(outcome, Outcome::Passed { .. });
                context.record.end(*place, store, outcome);
                // All that is shown is current when a barrier is passed: so it counts, whatever it says of itself.
                let sight = self.shown.get(prefix).filter(|_| is_passed);
                let entries = sight.map(|sight| {
                    // As LIST has it: strictly after the empty key.
                    let entries = sight.keys.iter().filter(|(key, _)| !key.is_empty());
                    entries.map(|(key, state)| Write { key: key.clone(), state: *state }).collect()
                });
                let outcome = entries.map_or(Outcome::Refused, |entries| Outcome::Listed { entries });
                context.record.count("reads behind a barrier", 1);
                context.record.end(*read, store, outcome);
            }
        }
    }

    /// Who was answered looks for what was written.
    fn look_again(&mut self, request: &Request, context: &mut Context) {
        let wrote = keys_of_write(request);
        for prefix in &self.watched {
            if wrote.iter().any(|key| key.starts_with(prefix.as_bytes()))
                && let Some(sight) = self.shown.get_mut(prefix)
            {
                *sight = context.record.sight_again(sight);
            }
        }
    }

    fn learn(&mut self, request: &Request, answer: &Response) {
        let now = |version: &Version| Known::At(version.get());
        match (request, answer) {
            (Request::Get { key }, Response::Value(found)) => self.known.insert(frame::key(key), now(&found.version)),
            (Request::Get { key }, Response::NotFound { deleted_at }) => {
                self.known.insert(frame::key(key), deleted_at.as_ref().map_or(Known::Absent, now))
            }
            (Request::Put { key, version, .. } | Request::Delete { key, version }, Response::Written) => {
                self.known.insert(frame::key(key), now(version))
            }
            (Request::Put { key, .. } | Request::Delete { key, .. }, Response::Stale) => {
                self.known.remove(&frame::key(key))
            }
            (Request::Txn { operations }, answer) => {
                for operation in operations {
                    match (operation, answer) {
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

    pub(super) fn stepped(&mut self, step: &syncline_core::client::Step, context: &mut Context) {
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

    pub(super) fn forget(&mut self, request: &Request) {
        for key in keys_of_write(request) {
            self.known.remove(&frame::key(key));
        }
    }

    /// Gives up what has waited too long.
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
            self.forget(&open.request);
            let outcome = if was_sent { Outcome::Unknown } else { Outcome::Refused };
            end(&open.purpose, None, outcome, context);
        }
    }

    /// There will be no replica of a prefix.
    fn unwatch(&mut self, request: &Request) {
        if let Request::Watch { prefix } = request {
            self.watched.retain(|watched| watched.as_bytes() != &prefix[..] || self.shown.contains_key(watched));
        }
    }

    /// Asks something, now or when there is a connection.
    pub(in crate::world) fn ask(&mut self, request: Request, purpose: Purpose, context: &Context) {
        self.tokens += 1;
        let patience = if matches!(purpose, Purpose::Watch) { 300 * SECOND } else { REQUEST_TIMEOUT };
        let open = Open { purpose, request, deadline: context.now() + patience, sent_on: None };
        self.open.insert(self.tokens, open);
        self.queue.push_back(self.tokens);
    }

    /// Reads all that there is, from the server.
    pub(in crate::world) fn read_all(&mut self, context: &mut Context) {
        let (prefix, after, limit) = (Bytes::new(), Bytes::new(), u32::MAX);
        let asked = Asked::List { prefix: "".into(), after: "".into(), limit };
        let place = context.record.ask(self.id(), asked);
        self.ask(Request::List { prefix, after, limit }, Purpose::Operation(place), context);
        self.wake(context);
    }

    /// Whether it may ask for so many things more.
    pub(in crate::world) fn has_room(&self) -> bool {
        self.open.len() < MAX_OPEN
    }

    /// What readers see of a prefix.
    pub(in crate::world) fn shown(&self, prefix: &Key) -> Option<&Sight> {
        self.shown.get(prefix)
    }
}

/// The keys of a write; of a transaction, also those that it checks.
fn keys_of_write(request: &Request) -> Vec<&Bytes> {
    match request {
        Request::Put { key, .. } | Request::Delete { key, .. } => vec![key],
        Request::Txn { operations } => operations.iter().map(Operation::key).collect(),
        _ => Vec::new(),
    }
}

pub(super) fn end(purpose: &Purpose, store: Option<usize>, outcome: Outcome, context: &mut Context) {
    match purpose {
        Purpose::Watch => {}
        Purpose::Operation(place) => context.record.end(*place, store, outcome),
        Purpose::BarrierThenRead { place, read, .. } => {
            context.record.end(*place, store, outcome.clone());
            context.record.end(*read, store, outcome);
        }
    }
}

/// An answer, as histories have it.
fn outcome(request: &Request, answer: Response) -> Outcome {
    let state =
        |key: &[u8], found: &syncline_core::client::Versioned| frame::write(key, Some(&found.value), found.version);
    match answer {
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
        // Of a WATCH nothing is to be known but that.
        Response::Watched => Outcome::Listed { entries: Vec::new() },
        Response::Status { .. }
        | Response::TooLarge { .. }
        | Response::NotPermitted { .. }
        | Response::Unavailable { .. }
        | Response::Refused { .. } => Outcome::Refused,
    }
}
