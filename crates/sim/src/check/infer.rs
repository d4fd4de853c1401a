//! Infers what the stores of a real run held at each revision.
//!
//! Every write that was received, shown, or answered has happened. Its range of revisions follows from:
//!
//! - The response to a TXN, which contains its revision.
//! - MARKs. A change that arrives on a connection is not after the next MARK. If it arrives as it is committed, it is
//!   after the previous MARK. Replicas and cursors show nothing later than their revision.
//! - Time. A write is after every revision that any client knew before the write was requested. It is not after the
//!   revision of a barrier that was invoked after any client had seen the write.
//! - The order of versions: the revisions of a key's writes grow with their versions, and the writes of a transaction
//!   share one revision.
//!
//! If the range is empty, two observations contradict each other. The violation names both.

use super::report::{MAX_VIOLATIONS, Promise, Violation};
use super::transcript::{FrameEvent, MarkKind, TranscriptReader};
use super::truth::{KeyId, KeyTruth, KnownWrite, Truth, describe_state};
use crate::history::{Direction, Frame, History, Invocation, Moment, Operation, Outcome, Stamp, State, Write};
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Where a bound comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Default,
    /// An operation of a client.
    Client(u64),
    /// A frame on a connection.
    Connection(u64),
    Replica(u64),
    Cursor(u64),
    /// Some client knew a later revision when the write was requested, or some client invoked a barrier after the
    /// write was seen.
    Time(Moment),
    /// Another version of the key, or another write of the same transaction.
    Neighbours,
    Backup,
}

/// One end of a range of revisions.
#[derive(Clone, Copy, Debug)]
struct Bound {
    revision: u64,
    source: Source,
}

/// A write that has happened.
#[derive(Clone, Copy, Debug)]
struct ObservedWrite {
    state: State,
    asked_at: Moment,
    seen_at: Moment,
    after: Bound,
    through: Bound,
    is_inherited: bool,
}

/// What identifies a requested write: a key, a version, and the value.
type WriteId = (KeyId, u64, Option<Stamp>);

#[derive(Default)]
struct RequestedWrites {
    at: HashMap<WriteId, Moment>,
    /// The writes of each transaction, and the store that is known to have accepted it.
    together: HashMap<Vec<WriteId>, Option<usize>>,
    /// Deletions whose outcome is unknown.
    open_deletions: Vec<(usize, KeyId, State, Moment)>,
}

#[derive(Default)]
struct StoreEvidence {
    keys: Vec<BTreeMap<u64, ObservedWrite>>,
    /// Revisions that were known at a moment.
    heads: Vec<(Moment, u64)>,
    /// For each moment of a barrier's invocation, the revision at which it was passed.
    barriers: Vec<(Moment, u64)>,
}

struct Inference<'a> {
    truth: &'a Truth,
    requested: RequestedWrites,
    stores: Vec<StoreEvidence>,
    contradictions: Vec<Violation>,
}

/// Fills in the writes of a history without commits.
pub(super) fn infer(truth: &mut Truth, history: &History) {
    let mut inference = Inference {
        truth,
        requested: RequestedWrites::of(truth, history),
        stores: history.stores.iter().map(|_| StoreEvidence::new(truth.keys().len())).collect(),
        contradictions: Vec::new(),
    };
    inference.read_operations(history);
    inference.read_transcripts(history);
    inference.read_views(history);
    let Inference { requested, mut stores, mut contradictions, .. } = inference;
    for (store, received) in history.stores.iter().enumerate() {
        let Some(evidence) = stores.get_mut(store) else { continue };
        if let Some((parent, through)) = received.restored {
            evidence.inherit(truth, store, (parent, through, received.since));
        }
        let together = evidence.complete_transactions(store, &requested);
        evidence.bound_by_time();
        evidence.propagate(&together);
        evidence.publish(truth, store, &mut contradictions);
        for (_, key, state, at) in requested.open_deletions.iter().filter(|(of, ..)| *of == store) {
            let after = evidence.head_before(*at);
            truth.add_possible_deletion(store, *key, KnownWrite { state: *state, after, through: u64::MAX, at: *at });
        }
        for writes in together {
            truth.add_transaction(store, writes);
        }
    }
    truth.contradictions.extend(contradictions);
}

impl RequestedWrites {
    fn of(truth: &Truth, history: &History) -> Self {
        let mut requested = Self::default();
        for operation in &history.operations {
            let is_open = operation.outcome == Outcome::Unknown;
            let is_accepted = matches!(operation.outcome, Outcome::Written | Outcome::Committed { .. });
            let by = operation.store.filter(|_| is_accepted);
            match &operation.asked {
                Invocation::Write(write) => requested.take(truth, std::slice::from_ref(write), operation.asked_at, by),
                Invocation::Txn { writes, .. } => requested.take(truth, writes, operation.asked_at, by),
                _ => continue,
            }
            if is_open {
                requested.take_open(truth, history, operation);
            }
        }
        for transcript in &history.transcripts {
            for (at, direction, frame) in &transcript.frames {
                match frame {
                    Frame::Write { write, .. } if *direction == Direction::Sent => {
                        requested.take(truth, std::slice::from_ref(write), *at, None);
                    }
                    Frame::Txn { writes, .. } => requested.take(truth, writes, *at, None),
                    _ => {}
                }
            }
            let mut reader = TranscriptReader::new(transcript, truth);
            while reader.next().is_some() {}
            for request in reader.requests.values() {
                let writes = match request.frame {
                    Frame::Write { write, .. } => std::slice::from_ref(write),
                    Frame::Txn { writes, .. } => writes,
                    _ => &[],
                };
                requested.open(truth, transcript.store, writes, request.asked_at);
            }
        }
        requested
    }

    fn take(&mut self, truth: &Truth, writes: &[Write], at: Moment, accepted_by: Option<usize>) {
        let id = |write: &Write| Some((truth.id(&write.key)?, write.state.version, write.state.value));
        let ids: Vec<WriteId> = writes.iter().filter_map(id).collect();
        for id in &ids {
            let first = self.at.entry(*id).or_insert(at);
            *first = at.min(*first);
        }
        if ids.len() > 1 {
            let known = self.together.entry(ids).or_default();
            *known = known.or(accepted_by);
        }
    }

    fn take_open(&mut self, truth: &Truth, history: &History, operation: &Operation) {
        let writes = match &operation.asked {
            Invocation::Write(write) => std::slice::from_ref(write),
            Invocation::Txn { writes, .. } => writes,
            _ => &[],
        };
        let served = super::operations::served_between(history, operation.asked_at, operation.ended_at);
        let stores = operation.store.map_or(served.clone(), |store| store..store + 1);
        for store in stores {
            self.open(truth, store, writes, operation.asked_at);
        }
    }

    fn open(&mut self, truth: &Truth, store: usize, writes: &[Write], at: Moment) {
        for write in writes.iter().filter(|write| write.state.value.is_none()) {
            self.open_deletions.extend(truth.id(&write.key).map(|key| (store, key, write.state, at)));
        }
    }
}

impl Inference<'_> {
    /// Notes that a write was seen, and the bounds that follow: it is after one revision, and not after another.
    fn observe(
        &mut self,
        store: usize,
        (key, state): (KeyId, State),
        at: Moment,
        (after, through): (Option<u64>, Option<u64>),
        source: Source,
    ) {
        let Some(by_version) = self.stores.get_mut(store).and_then(|store| store.keys.get_mut(key)) else { return };
        let id = (key, state.version, state.value);
        let known = by_version.get(&state.version).map(|observed| observed.state);
        let asked = self.requested.at.get(&id).copied();
        if known.is_some_and(|known| known != state) || asked.is_none() {
            let as_before = |known| format!("{}, as seen before", describe_state(known));
            let expected = known.as_ref().map_or_else(|| "a state that a client has requested".into(), as_before);
            let text =
                format!("{source} shows {:?} {}: expected {expected}", self.truth.key(key), describe_state(&state));
            if self.contradictions.len() < MAX_VIOLATIONS {
                self.contradictions.push(Violation { promise: source.promise(), text, at });
            }
            return;
        }
        let observed =
            by_version.entry(state.version).or_insert_with(|| ObservedWrite::new(state, asked.unwrap_or(at), at));
        observed.seen_at = observed.seen_at.min(at);
        if let Some(revision) = after {
            observed.raise(revision, source);
        }
        if let Some(revision) = through {
            observed.lower(revision, source);
        }
    }

    fn read_operations(&mut self, history: &History) {
        for operation in &history.operations {
            let Some(store) = operation.store else { continue };
            let (at, source) = (operation.ended_at, Source::Client(operation.client));
            let exact = match operation.outcome {
                Outcome::Committed { revision } => (Some(revision.saturating_sub(1)), Some(revision)),
                _ => (None, None),
            };
            if let (Outcome::Committed { revision } | Outcome::Passed { revision }, Some(evidence)) =
                (&operation.outcome, self.stores.get_mut(store))
            {
                evidence.heads.push((at, *revision));
                if operation.asked == Invocation::Barrier {
                    evidence.barriers.push((operation.asked_at, *revision));
                }
            }
            for write in super::operations::accepted(operation) {
                if let Some(key) = self.truth.id(&write.key) {
                    self.observe(store, (key, write.state), at, exact, source);
                }
            }
            let mut seen = Vec::new();
            match (&operation.asked, &operation.outcome) {
                (Invocation::Get { key }, Outcome::Found(state)) => seen.push((self.truth.id(key), *state)),
                (Invocation::Get { key }, Outcome::NotFound { deleted_at: Some(version) }) => {
                    seen.push((self.truth.id(key), State { version: *version, value: None }));
                }
                (_, Outcome::Listed { entries }) => {
                    seen.extend(entries.iter().map(|entry| (self.truth.id(&entry.key), entry.state)));
                }
                _ => {}
            }
            for (key, state) in seen {
                if let Some(key) = key {
                    self.observe(store, (key, state), at, (None, None), source);
                }
            }
        }
    }

    fn read_transcripts(&mut self, history: &History) {
        for transcript in &history.transcripts {
            let (store, source) = (transcript.store, Source::Connection(transcript.connection));
            let mut reader = TranscriptReader::new(transcript, self.truth);
            // The changes since the last MARK, including the keys of LISTs.
            let mut received: Vec<(KeyId, State)> = Vec::new();
            let mut own: Vec<(KeyId, State)> = Vec::new();
            let mut marked = None;
            while let Some((at, event)) = reader.next() {
                match event {
                    FrameEvent::Change { key, state, is_own } => {
                        let follows = reader.watches.iter().any(|watch| watch.is_answered);
                        let is_ordered = follows && (is_own || !reader.may_be_paged(key));
                        self.observe(store, (key, state), at, (marked.filter(|_| is_ordered), None), source);
                        received.push((key, state));
                        if is_own {
                            own.push((key, state));
                        }
                    }
                    FrameEvent::GetResult { key, state: Some(state) } | FrameEvent::Listed { key, state, .. } => {
                        self.observe(store, (key, state), at, (None, None), source);
                        received.push((key, state));
                    }
                    FrameEvent::Mark { revision, of } => {
                        if let Some(evidence) = self.stores.get_mut(store) {
                            evidence.heads.push((at, revision));
                            if let MarkKind::Barrier { asked_at } = of {
                                evidence.barriers.push((asked_at, revision));
                            }
                        }
                        if of == MarkKind::Txn {
                            let exact = (Some(revision.saturating_sub(1)), Some(revision));
                            let writes = reader.answered().map(|request| request.frame);
                            let Some(Frame::Txn { writes, .. }) = writes else { continue };
                            for (key, state) in own.drain(..) {
                                if writes.iter().any(|write| write.state == state && *write.key == *self.truth.key(key))
                                {
                                    self.observe(store, (key, state), at, exact, source);
                                }
                            }
                            continue;
                        }
                        own.clear();
                        for (key, state) in received.drain(..) {
                            self.observe(store, (key, state), at, (None, Some(revision)), source);
                        }
                        marked = Some(revision);
                    }
                    _ => {}
                }
                if let Some(request) = reader.answered()
                    && let Some((_, _, Frame::Hello { server: Some((_, head)), .. })) =
                        reader.last().filter(|_| matches!(request.frame, Frame::Hello { .. }))
                    && let Some(evidence) = self.stores.get_mut(store)
                {
                    evidence.heads.push((at, *head));
                    evidence.barriers.push((request.asked_at, *head));
                }
            }
        }
    }

    fn read_views(&mut self, history: &History) {
        for sight in &history.sights {
            if let Some(evidence) = self.stores.get_mut(sight.store) {
                evidence.heads.push((sight.at, sight.revision));
            }
            let source = Source::Replica(sight.client);
            for (key, state) in &sight.keys {
                if let Some(key) = self.truth.id(key) {
                    self.observe(sight.store, (key, *state), sight.at, (None, Some(sight.revision)), source);
                }
            }
        }
        for step in &history.steps {
            if let Some(evidence) = self.stores.get_mut(step.store) {
                evidence.heads.push((step.at, step.revision));
            }
            let source = Source::Cursor(step.client);
            for change in &step.changes {
                if let Some(key) = self.truth.id(&change.key) {
                    self.observe(step.store, (key, change.state), step.at, (None, Some(step.revision)), source);
                }
            }
        }
    }
}

/// The maximum number of rounds over all versions. Only chains of transactions need more than a few.
const MAX_ROUNDS: usize = 8;

impl StoreEvidence {
    fn new(keys: usize) -> Self {
        Self { keys: vec![BTreeMap::new(); keys], ..Self::default() }
    }

    /// Adds the writes that a store has inherited from an earlier one up to the backup's revision: those that are
    /// certainly in the backup, and those that may be and were seen in this store.
    fn inherit(&mut self, truth: &mut Truth, store: usize, (parent, through, since): (usize, u64, Moment)) {
        for (key, by_version) in self.keys.iter_mut().enumerate() {
            let mut maybe = Vec::new();
            for known in truth.writes(parent, key) {
                let is_certain = known.through <= through;
                let is_seen =
                    by_version.get(&known.state.version).is_some_and(|observed| observed.state == known.state);
                let is_possible = known.after < through;
                if is_possible && !is_certain && is_seen && known.state.value.is_none() {
                    // The deletion may have happened once more in this store, so no bounds follow.
                    by_version.entry(known.state.version).and_modify(|observed| observed.is_inherited = true);
                } else if is_possible && (is_certain || is_seen) {
                    let new = || ObservedWrite::new(known.state, known.at, known.at);
                    let observed = by_version.entry(known.state.version).or_insert_with(new);
                    observed.is_inherited = true;
                    observed.raise(known.after, Source::Backup);
                    observed.lower(known.through.min(through), Source::Backup);
                } else if is_possible && known.state.value.is_none() {
                    maybe.push(*known);
                }
            }
            maybe.extend(
                truth
                    .key_truth(parent, key)
                    .into_iter()
                    .flat_map(|key_truth| key_truth.possible_deletions.iter().copied()),
            );
            // A write that was requested before the restore may be in the backup, even if no client saw it in the
            // earlier store.
            for observed in
                by_version.values_mut().filter(|observed| !observed.is_inherited && observed.asked_at > since)
            {
                observed.raise(through, Source::Backup);
            }
            maybe.into_iter().for_each(|known| truth.add_possible_deletion(store, key, known));
        }
    }

    /// If one write of a transaction has happened, all of them have. A deletion does not prove that, because another
    /// client may have requested the same one.
    fn complete_transactions(&mut self, store: usize, requested: &RequestedWrites) -> Vec<Vec<(KeyId, u64)>> {
        let mut all = Vec::new();
        for (ids, accepted_by) in &requested.together {
            let is_accepted = *accepted_by == Some(store);
            let observed = |id: &WriteId| {
                let observed = self.keys.get(id.0)?.get(&id.1)?;
                (observed.state.value == id.2 && (id.2.is_some() || is_accepted)).then_some(observed)
            };
            let Some(observed) = ids.iter().find_map(observed).copied() else { continue };
            for (key, version, value) in ids {
                if let Some(by_version) = self.keys.get_mut(*key) {
                    let state = State { version: *version, value: *value };
                    by_version.entry(*version).or_insert_with(|| ObservedWrite { state, ..observed });
                }
            }
            all.push(ids.iter().map(|(key, version, _)| (*key, *version)).collect());
        }
        all.sort_unstable();
        all
    }

    /// Returns the latest revision that any client knew before a moment.
    fn head_before(&self, at: Moment) -> u64 {
        let before = self.heads.partition_point(|(known_at, _)| *known_at < at);
        before.checked_sub(1).and_then(|last| self.heads.get(last)).map_or(0, |(_, revision)| *revision)
    }

    fn bound_by_time(&mut self) {
        self.heads.sort_unstable();
        let mut highest = 0;
        for (_, revision) in &mut self.heads {
            highest = highest.max(*revision);
            *revision = highest;
        }
        self.barriers.sort_unstable();
        let mut lowest = u64::MAX;
        for (_, revision) in self.barriers.iter_mut().rev() {
            lowest = lowest.min(*revision);
            *revision = lowest;
        }
        let mut keys = std::mem::take(&mut self.keys);
        for observed in keys.iter_mut().flat_map(BTreeMap::values_mut).filter(|observed| !observed.is_inherited) {
            observed.raise(self.head_before(observed.asked_at), Source::Time(observed.asked_at));
            let later = self.barriers.partition_point(|(asked_at, _)| *asked_at <= observed.seen_at);
            if let Some((asked_at, revision)) = self.barriers.get(later) {
                observed.lower(*revision, Source::Time(*asked_at));
            }
        }
        self.keys = keys;
    }

    fn propagate(&mut self, together: &[Vec<(KeyId, u64)>]) {
        for _ in 0..MAX_ROUNDS {
            let mut is_changed = false;
            for by_version in &mut self.keys {
                let mut before = None;
                for observed in by_version.values_mut() {
                    if let Some(after) = before {
                        is_changed |= observed.raise(after, Source::Neighbours);
                    }
                    before = Some(observed.after.revision + 1);
                }
                let mut behind = None;
                for observed in by_version.values_mut().rev() {
                    if let Some(through) = behind {
                        is_changed |= observed.lower(through, Source::Neighbours);
                    }
                    behind =
                        (observed.through.revision < u64::MAX).then(|| observed.through.revision.saturating_sub(1));
                }
            }
            for writes in together {
                let by_version = writes.iter().filter_map(|(key, version)| self.keys.get(*key)?.get(version));
                let (mut after, mut through) = (0, u64::MAX);
                for observed in by_version {
                    after = after.max(observed.after.revision);
                    through = through.min(observed.through.revision);
                }
                for (key, version) in writes {
                    if let Some(observed) = self.keys.get_mut(*key).and_then(|by_version| by_version.get_mut(version)) {
                        is_changed |= observed.raise(after, Source::Neighbours);
                        is_changed |= observed.lower(through, Source::Neighbours);
                    }
                }
            }
            if !is_changed {
                return;
            }
        }
    }

    /// Moves the result into `truth`, and reports empty ranges.
    fn publish(&self, truth: &mut Truth, store: usize, contradictions: &mut Vec<Violation>) {
        for (key, by_version) in self.keys.iter().enumerate() {
            for observed in by_version.values() {
                let ObservedWrite { state, after, through, .. } = observed;
                if through.revision <= after.revision && contradictions.len() < MAX_VIOLATIONS {
                    let text = format!(
                        "{:?}, {}: not after revision {} according to {}, but after {} according to {}: expected a revision that both allow, found none",
                        truth.key(key),
                        describe_state(state),
                        through.revision,
                        through.source,
                        after.revision,
                        after.source
                    );
                    let first = if through.source == Source::Neighbours { after.source } else { through.source };
                    contradictions.push(Violation { promise: first.promise(), text, at: observed.seen_at });
                }
            }
            let known = by_version.values().map(|observed| KnownWrite {
                state: observed.state,
                after: observed.after.revision,
                through: observed.through.revision,
                at: observed.asked_at,
            });
            let writes = known.collect();
            truth.set_writes(store, key, writes);
        }
    }
}

impl ObservedWrite {
    const fn new(state: State, asked_at: Moment, seen_at: Moment) -> Self {
        let after = Bound { revision: 0, source: Source::Default };
        let through = Bound { revision: u64::MAX, source: Source::Default };
        Self { state, asked_at, seen_at, after, through, is_inherited: false }
    }

    /// Notes that the write is after a revision. Returns whether that narrows the range.
    const fn raise(&mut self, revision: u64, source: Source) -> bool {
        let is_news = revision > self.after.revision && self.is_possible();
        if is_news {
            self.after = Bound { revision, source };
        }
        is_news
    }

    /// Notes that the write is not after a revision. Returns whether that narrows the range.
    const fn lower(&mut self, revision: u64, source: Source) -> bool {
        let is_news = revision < self.through.revision && self.is_possible();
        if is_news {
            self.through = Bound { revision, source };
        }
        is_news
    }

    /// An empty range stays as it is: nothing follows from a contradiction.
    const fn is_possible(&self) -> bool {
        self.after.revision < self.through.revision
    }
}

impl Source {
    /// Returns the promise that is broken if this source is wrong.
    const fn promise(self) -> Promise {
        match self {
            Self::Connection(_) | Self::Replica(_) | Self::Cursor(_) => Promise::Marked,
            Self::Backup => Promise::Durable,
            Self::Default | Self::Client(_) | Self::Time(_) | Self::Neighbours => Promise::Linearizable,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::Client(client) => write!(f, "client {client}"),
            Self::Connection(connection) => write!(f, "connection {connection}"),
            Self::Replica(client) => write!(f, "a replica of client {client}"),
            Self::Cursor(client) => write!(f, "the cursor of client {client}"),
            Self::Time(at) => write!(f, "the revisions known at {} µs", at.micros),
            Self::Neighbours => f.write_str("its neighbours"),
            Self::Backup => f.write_str("the backup"),
        }
    }
}

impl KeyTruth {
    fn add_possible_deletion(&mut self, known: KnownWrite) {
        let version = known.state.version;
        let is_known = self.writes.iter().any(|write| write.state == known.state);
        if !is_known && !self.possible_deletions.iter().any(|other| other.state.version == version) {
            let index = self.possible_deletions.partition_point(|other| other.state.version < version);
            self.possible_deletions.insert(index, known);
        }
    }
}

impl Truth {
    fn add_possible_deletion(&mut self, store: usize, key: KeyId, known: KnownWrite) {
        if let Some(key_truth) = self.stores.get_mut(store).and_then(|keys| keys.get_mut(key)) {
            key_truth.add_possible_deletion(known);
        }
    }

    fn set_writes(&mut self, store: usize, key: KeyId, writes: Vec<KnownWrite>) {
        if let Some(key_truth) = self.stores.get_mut(store).and_then(|keys| keys.get_mut(key)) {
            key_truth.writes = writes;
        }
    }
}
