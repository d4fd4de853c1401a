//! Monotonic: no reader sees an older state after a newer one.

use super::report::{Findings, Promise, Report};
use super::transcript::{FrameEvent, MarkKind, TranscriptReader};
use super::truth::Truth;
use crate::history::{History, Moment, Transcript};
use std::collections::BTreeMap;

/// - A client's replica of a prefix never goes back to an earlier revision of its store, nor to an earlier store.
///   Replicas of different prefixes may show different stores until both are current again.
/// - A cursor never goes back. Each step with changes leads to a later revision.
/// - On a connection, the revisions of MARKs never go back, except for MARKs that reset a WATCH and MARKs that answer
///   a TXN. No GET returns an older version of a key than the connection has received before.
pub fn monotonic(history: &History, truth: &Truth) -> Report {
    let mut findings = Findings::new(Promise::Monotonic);
    check_replicas(history, &mut findings);
    check_cursors(history, &mut findings);
    for transcript in &history.transcripts {
        check_connection(transcript, truth, &mut findings);
    }
    findings.report()
}

fn check_replicas(history: &History, findings: &mut Findings) {
    let mut seen: BTreeMap<(u64, &str), (usize, u64, Moment)> = BTreeMap::new();
    for sight in &history.sights {
        let before = seen.insert((sight.client, &sight.prefix), (sight.store, sight.revision, sight.at));
        let Some((store, revision, at)) = before else { continue };
        findings.expect((store, revision) <= (sight.store, sight.revision), sight.at, || {
            let (client, prefix, found, found_store) = (sight.client, &sight.prefix, sight.revision, sight.store);
            let since = at.micros;
            format!("the replica {prefix:?} of client {client}: expected revision {revision} of store {store} (shown at {since} µs) or a later one, found {found} of store {found_store}")
        });
    }
}

fn check_cursors(history: &History, findings: &mut Findings) {
    let mut seen: BTreeMap<(u64, &str), (usize, u64)> = BTreeMap::new();
    for step in &history.steps {
        let Some((store, revision)) = seen.insert((step.client, &step.prefix), (step.store, step.revision)) else {
            continue;
        };
        let is_later =
            if step.is_reset || step.changes.is_empty() { revision <= step.revision } else { revision < step.revision };
        findings.expect(store < step.store || (store == step.store && is_later), step.at, || {
            let (client, found, found_store) = (step.client, step.revision, step.store);
            format!("the cursor of client {client}: expected more than revision {revision} of store {store}, found {found} of store {found_store}")
        });
    }
}

fn check_connection(transcript: &Transcript, truth: &Truth, findings: &mut Findings) {
    let mut reader = TranscriptReader::new(transcript, truth);
    let mut marked = 0;
    let mut known: Vec<u64> = vec![0; truth.keys().len()];
    while let Some((at, event)) = reader.next() {
        match event {
            FrameEvent::Mark { of: MarkKind::Txn, .. } => {}
            FrameEvent::Mark { revision, .. } => {
                findings.expect(marked <= revision, at, || {
                    format!("{}: expected a MARK of revision {marked} or a later one, found {revision}", reader.label())
                });
                marked = marked.max(revision);
            }
            FrameEvent::Change { key, state, .. } => {
                if let Some(known) = known.get_mut(key) {
                    *known = state.version.max(*known);
                }
            }
            FrameEvent::GetResult { key, state: Some(state) } => {
                let Some(known) = known.get_mut(key) else { continue };
                findings.expect(*known <= state.version, at, || {
                    let (subject, name, found) = (reader.label(), truth.key(key), state.version);
                    format!("{subject}: GET {name:?}: expected version {known} or a later one, found {found}")
                });
                *known = state.version.max(*known);
            }
            _ => {}
        }
    }
}
