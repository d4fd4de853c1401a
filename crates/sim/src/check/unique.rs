//! Unique: no change is sent twice.

use super::report::{Findings, Promise, Report};
use super::transcript::{FrameEvent, TranscriptReader};
use super::truth::{KeyId, Truth, describe_state};
use crate::history::{History, Transcript};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// - A connection receives each write once: as a broadcast, or as the response to its own request. The pages of an
///   unanswered WATCH may repeat once what was sent before. After a MARK that resets a WATCH, everything may be sent
///   again.
/// - A cursor returns each write in one step, once, unless a later step is a reset.
pub fn unique(history: &History, truth: &Truth) -> Report {
    let mut findings = Findings::new(Promise::Unique);
    for transcript in &history.transcripts {
        check_connection(transcript, truth, &mut findings);
    }
    check_cursors(history, truth, &mut findings);
    findings.report()
}

/// How often a connection received a write, and where it may have come from: the WATCHes that were unanswered then,
/// and the stream of changes.
#[derive(Default)]
struct Deliveries {
    times: usize,
    watches: BTreeSet<u64>,
    is_followed: bool,
}

fn check_connection(transcript: &Transcript, truth: &Truth, findings: &mut Findings) {
    let mut reader = TranscriptReader::new(transcript, truth);
    let mut delivered: HashMap<(KeyId, u64), Deliveries> = HashMap::new();
    while let Some((at, event)) = reader.next() {
        match event {
            FrameEvent::Change { key, state, is_own } => {
                let name = truth.key(key);
                let pending =
                    reader.watches.iter().filter(|watch| watch.is_pending() && name.starts_with(&**watch.prefix));
                let pending: Vec<u64> = pending.map(|watch| watch.sequence).collect();
                let deliveries = delivered.entry((key, state.version)).or_default();
                deliveries.times += 1;
                deliveries.watches.extend(&pending);
                deliveries.is_followed |= is_own || reader.follows(key) || pending.is_empty();
                // The frames do not say which WATCH a page belongs to, so each of them may have sent the write once.
                let is_from_a_watch = !pending.is_empty()
                    && deliveries.times <= deliveries.watches.len() + usize::from(deliveries.is_followed);
                findings.expect(deliveries.times == 1 || is_from_a_watch, at, || {
                    format!(
                        "{}: {name:?}: expected each write once, found {} again",
                        reader.label(),
                        describe_state(&state)
                    )
                });
            }
            FrameEvent::Reset { prefix } => delivered.retain(|(key, _), _| !truth.key(*key).starts_with(&**prefix)),
            _ => {}
        }
    }
}

fn check_cursors(history: &History, truth: &Truth, findings: &mut Findings) {
    // By client: the prefix of its cursor, and the writes that its steps contained.
    let mut delivered: BTreeMap<u64, (&str, HashSet<_>)> = BTreeMap::new();
    for step in &history.steps {
        let (prefix, delivered) = delivered.entry(step.client).or_insert_with(|| (&step.prefix, HashSet::new()));
        if step.is_reset || **prefix != *step.prefix {
            delivered.clear();
            *prefix = &step.prefix;
        }
        for change in &step.changes {
            let Some(key) = truth.id(&change.key) else { continue };
            let is_first = delivered.insert((step.store, key, change.state.version));
            findings.expect(is_first, step.at, || {
                let (client, revision, found) = (step.client, step.revision, describe_state(&change.state));
                let key = &change.key;
                format!("the cursor of client {client} at {revision}: {key:?}: expected each write once, found {found} again")
            });
        }
    }
}
