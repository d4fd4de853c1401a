//! Unique: nothing is told twice.

use super::reader::{Reader, Seen};
use super::truth::{KeyId, Truth, shown};
use super::{Findings, Promise, Report};
use crate::history::{History, Transcript};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// - On a connection each write is told once, as a broadcast or as the answer to whoever asked for it. Only a WATCH that is
///   being answered may tell again what was told before it, also once; and after a MARK that says to forget, everything.
/// - A cursor tells each write in one step, once, unless it says to forget what it has told.
pub fn unique(history: &History, truth: &Truth) -> Report {
    let mut findings = Findings::new(Promise::Unique);
    for transcript in &history.transcripts {
        connection(transcript, truth, &mut findings);
    }
    cursors(history, truth, &mut findings);
    findings.report()
}

/// How often a write was told on a connection, and by whom it may have been: the WATCHes that were being answered then, and
/// whatever else tells of changes.
#[derive(Default)]
struct Telling {
    times: usize,
    watches: BTreeSet<u64>,
    is_followed: bool,
}

fn connection(transcript: &Transcript, truth: &Truth, findings: &mut Findings) {
    let mut reader = Reader::new(transcript, truth);
    let mut told: HashMap<(KeyId, u64), Telling> = HashMap::new();
    while let Some((at, seen)) = reader.next() {
        match seen {
            Seen::Told { key, state, is_own } => {
                let name = truth.key(key);
                let pending =
                    reader.watches.iter().filter(|watch| watch.is_pending() && name.starts_with(&**watch.prefix));
                let pending: Vec<u64> = pending.map(|watch| watch.sequence).collect();
                let telling = told.entry((key, state.version)).or_default();
                telling.times += 1;
                telling.watches.extend(&pending);
                telling.is_followed |= is_own || reader.follows(key) || pending.is_empty();
                // Nothing says for which of several WATCHes a page is: each may have told it once.
                let is_of_a_watch =
                    !pending.is_empty() && telling.times <= telling.watches.len() + usize::from(telling.is_followed);
                findings.expect(telling.times == 1 || is_of_a_watch, at, || {
                    format!("{}: {name:?}: expected each write once, found {} again", reader.who(), shown(&state))
                });
            }
            Seen::Forget { prefix } => told.retain(|(key, _), _| !truth.key(*key).starts_with(&**prefix)),
            _ => {}
        }
    }
}

fn cursors(history: &History, truth: &Truth, findings: &mut Findings) {
    // By client: the prefix of its cursor, and what was told of each store.
    let mut told: BTreeMap<u64, (&str, HashSet<_>)> = BTreeMap::new();
    for step in &history.steps {
        let (prefix, told) = told.entry(step.client).or_insert_with(|| (&step.prefix, HashSet::new()));
        if step.is_reset || **prefix != *step.prefix {
            told.clear();
            *prefix = &step.prefix;
        }
        for change in &step.changes {
            let Some(key) = truth.id(&change.key) else { continue };
            let is_first = told.insert((step.store, key, change.state.version));
            findings.expect(is_first, step.at, || {
                let (client, revision, found) = (step.client, step.revision, shown(&change.state));
                let key = &change.key;
                format!("the cursor of client {client} at {revision}: {key:?}: expected each write once, found {found} again")
            });
        }
    }
}
