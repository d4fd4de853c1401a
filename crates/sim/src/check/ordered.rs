//! Ordered: a connection receives changes in the order of the commits.

use super::report::{Findings, Promise, Report};
use super::transcript::{FrameEvent, MarkKind, PendingRequest, TranscriptReader};
use super::truth::{KeyId, Truth, describe_state};
use crate::history::{Frame, History, Moment, State, Transcript};
use std::collections::BTreeMap;

/// On each connection:
///
/// - Broadcasts and responses to accepted writes arrive in the order of their revisions. The writes of one
///   transaction may arrive in any order. Changes that may come from the pages of an unanswered WATCH are exempt.
/// - A change that arrives before a MARK is not after the MARK's revision. On a connection that watches, a change
///   that arrives after a MARK is after its revision.
/// - The response to a GET arrives after the broadcast of its value. `stale put` arrives after the broadcast of the
///   write that made it stale, if the client knew the preceding version when it sent the write.
/// - Responses arrive in the order of the requests, except for those to WATCH and LIST, which run concurrently.
/// - The keys of a LIST arrive in order.
/// - After HELLO, a connection receives only changes under its watched prefixes.
/// - Every frame with a tag answers a request, and every received state was written by a client.
pub fn ordered(history: &History, truth: &Truth) -> Report {
    let mut findings = Findings::new(Promise::Ordered);
    for transcript in &history.transcripts {
        OrderCheck::new(truth, transcript).check(transcript, &mut findings);
    }
    findings.report()
}

struct OrderCheck<'a> {
    truth: &'a Truth,
    store: usize,
    /// A lower bound of the highest revision received so far.
    delivered: u64,
    /// The change with that revision.
    latest: Option<(KeyId, State)>,
    /// The revision of the last MARK, on a connection that watches.
    marked: u64,
    /// By key: the latest version that the client has received.
    known: Vec<u64>,
    /// By key: the latest version in a response. Broadcasts of it and of earlier versions must not follow.
    answered: Vec<u64>,
    /// By the tag of a write: whether the client knew the version before it when it sent the write.
    informed: BTreeMap<u16, bool>,
    /// By the tag of a LIST: the last key that arrived.
    listed: BTreeMap<u16, KeyId>,
}

impl<'a> OrderCheck<'a> {
    fn new(truth: &'a Truth, transcript: &Transcript) -> Self {
        let by_key = vec![0; truth.keys().len()];
        Self {
            truth,
            store: transcript.store,
            delivered: 0,
            latest: None,
            marked: 0,
            known: by_key.clone(),
            answered: by_key,
            informed: BTreeMap::new(),
            listed: BTreeMap::new(),
        }
    }

    fn check(mut self, transcript: &'a Transcript, findings: &mut Findings) {
        let mut reader = TranscriptReader::new(transcript, self.truth);
        let mut last = 0;
        while let Some((at, event)) = reader.next() {
            if let Some(PendingRequest { frame, sequence, .. }) = reader.answered()
                && !matches!(frame, Frame::Watch { .. } | Frame::List { .. })
            {
                findings.expect(last < sequence, at, || {
                    let subject = reader.label();
                    format!("{subject}: expected responses in the order of the requests, found that to request {sequence} after that to {last}")
                });
                last = sequence;
            }
            match event {
                FrameEvent::Sent(Frame::Write { tag, write }) => {
                    let known = self.truth.id(&write.key).and_then(|key| self.known.get(key));
                    let is_informed = known.is_some_and(|known| *known > 0 && *known + 1 >= write.state.version);
                    self.informed.insert(*tag, is_informed);
                }
                FrameEvent::Change { key, state, is_own } => {
                    self.check_change(&reader, at, (key, state, is_own), findings);
                }
                FrameEvent::GetResult { key, state: Some(state) } => {
                    self.expect_written(&reader, at, (key, state), findings);
                    raise(&mut self.known, key, state.version);
                    raise(&mut self.answered, key, state.version);
                }
                FrameEvent::Stale { asked: PendingRequest { frame: Frame::Write { tag, write }, .. } } => {
                    if self.informed.get(tag) == Some(&true)
                        && let Some(key) = self.truth.id(&write.key)
                    {
                        raise(&mut self.answered, key, write.state.version);
                    }
                }
                FrameEvent::Listed { tag, key, state } => {
                    self.expect_written(&reader, at, (key, state), findings);
                    let before = self.listed.insert(tag, key);
                    findings.expect(before.is_none_or(|before| before < key), at, || {
                        let (before, found) = (self.truth.key(before.unwrap_or_default()), self.truth.key(key));
                        format!("{}: LIST {tag}: expected a key after {before:?}, found {found:?}", reader.label())
                    });
                }
                FrameEvent::Mark { revision, of } => self.check_mark(&reader, at, (revision, of), findings),
                FrameEvent::Unsolicited(frame) => findings.expect(false, at, || {
                    format!("{}: expected a response to a request, found {frame:?}", reader.label())
                }),
                _ => {}
            }
            if let Some(PendingRequest { frame: Frame::List { tag, .. }, .. }) = reader.answered() {
                self.listed.remove(tag);
            }
        }
    }

    fn check_change(
        &mut self,
        reader: &TranscriptReader<'_>,
        at: Moment,
        (key, state, is_own): (KeyId, State, bool),
        findings: &mut Findings,
    ) {
        self.expect_written(reader, at, (key, state), findings);
        findings.expect(is_own || reader.is_subscribed_to(key), at, || {
            let (subject, key, found) = (reader.label(), self.truth.key(key), describe_state(&state));
            format!("{subject}: expected only keys that it watches, found {key:?}, {found}")
        });
        let Some(known) = self.truth.find(self.store, key, state.version) else { return };
        let name = || (reader.label(), self.truth.key(key), describe_state(&state));
        if is_own || !reader.may_be_paged(key) {
            let (through, marked) = (known.through, self.marked);
            findings.expect(through >= self.delivered, at, || {
                let (subject, key, found) = name();
                let (delivered, latest) = (self.delivered, self.latest());
                format!("{subject}: after {latest}, of revision {delivered}: expected no earlier change, found {key:?}, {found}, of {through}")
            });
            findings.expect(marked == 0 || through > marked, at, || {
                let (subject, key, found) = name();
                format!(
                    "{subject}: after the MARK of {marked}: expected later changes, found {key:?}, {found}, of {through}"
                )
            });
        }
        if !is_own && !reader.may_be_paged(key) {
            let answered = self.answered.get(key).copied().unwrap_or_default();
            findings.expect(answered < state.version, at, || {
                let (subject, key, found) = name();
                format!("{subject}: {key:?}: after a response with version {answered}: expected a later broadcast, found {found}")
            });
        }
        raise(&mut self.known, key, state.version);
        if known.after >= self.delivered {
            (self.delivered, self.latest) = (known.after + 1, Some((key, state)));
        }
    }

    fn latest(&self) -> String {
        self.latest
            .map_or_else(String::new, |(key, state)| format!("{:?}, {}", self.truth.key(key), describe_state(&state)))
    }

    fn check_mark(
        &mut self,
        reader: &TranscriptReader<'_>,
        at: Moment,
        (revision, of): (u64, MarkKind<'_>),
        findings: &mut Findings,
    ) {
        if of == MarkKind::Txn {
            return;
        }
        findings.expect(self.delivered <= revision, at, || {
            let (subject, delivered, latest) = (reader.label(), self.delivered, self.latest());
            format!("{subject}: after {latest}: expected a MARK of {delivered} or later, found {revision}")
        });
        if reader.watches.iter().any(|watch| watch.is_answered) {
            self.marked = revision.max(self.marked);
        }
    }

    fn expect_written(
        &self,
        reader: &TranscriptReader<'_>,
        at: Moment,
        (key, state): (KeyId, State),
        findings: &mut Findings,
    ) {
        let known = self.truth.find(self.store, key, state.version);
        findings.expect(known.is_some_and(|known| known.state == state), at, || {
            let expected =
                known.map_or_else(|| "a state that a client has written".into(), |known| describe_state(&known.state));
            let (subject, key, found) = (reader.label(), self.truth.key(key), describe_state(&state));
            format!("{subject}: {key:?}: expected {expected}, found {found}")
        });
    }
}

fn raise(by_key: &mut [u64], key: KeyId, version: u64) {
    if let Some(known) = by_key.get_mut(key) {
        *known = version.max(*known);
    }
}
