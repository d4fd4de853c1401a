//! Marked: at a MARK, a reader holds what the store held at its revision.

use super::reader::{Reader, Seen};
use super::truth::{Held, shown_held};
use super::{Findings, Promise, Report, Truth};
use crate::history::{History, Moment, Sight, State};

/// What somebody holds at a revision is what the store held then, neither more nor less:
///
/// - whoever reads a connection, at each MARK that promises it (not that of a TXN or LIST): the keys under the prefixes
///   whose WATCH is answered;
/// - each replica, whenever it is looked at;
/// - whoever applies the steps of a cursor, after each of them.
pub fn marked(history: &History, truth: &Truth) -> Report {
    let mut findings = Findings::new(Promise::Marked);
    for transcript in &history.transcripts {
        let mut reader = Reader::new(transcript, truth);
        while let Some((at, seen)) = reader.next() {
            if let Seen::Mark { revision, of } = seen
                && of.promises()
            {
                for key in reader.watched_keys().filter(|key| reader.is_promised(*key)) {
                    let place = Place { store: transcript.store, revision, at };
                    compare(&mut findings, truth, place, (key, reader.held(key)), || reader.who());
                }
            }
        }
    }
    for sight in &history.sights {
        let place = Place { store: sight.store, revision: sight.revision, at: sight.at };
        for (key, held) in held_by(sight, truth) {
            compare(&mut findings, truth, place, (key, held), || {
                format!("the replica {:?} of client {}", sight.prefix, sight.client)
            });
        }
    }
    super::cursor::walk(history, truth, |_, step, state| {
        let place = Place { store: step.store, revision: step.revision, at: step.at };
        for key in truth.under(&step.prefix) {
            let held = state.get(key).map_or(Held::Nothing, |state| Held::Told(*state));
            compare(&mut findings, truth, place, (*key, held), || format!("the cursor of client {}", step.client));
        }
    });
    findings.report()
}

/// When, and as of when.
#[derive(Clone, Copy)]
struct Place {
    store: usize,
    revision: u64,
    at: Moment,
}

fn compare(
    findings: &mut Findings,
    truth: &Truth,
    Place { store, revision, at }: Place,
    (key, held): (usize, Held),
    who: impl FnOnce() -> String,
) {
    let fault = truth.fault(store, key, held, revision);
    findings.expect(fault.is_none(), at, || {
        let (expected, found) = (truth.expected(store, key, revision), shown_held(held));
        format!("{} at revision {revision}: {:?}: expected {expected}, found {found}", who(), truth.key(key))
    });
}

/// What a replica shows of each key under its prefix.
pub(super) fn held_by<'a>(sight: &'a Sight, truth: &'a Truth) -> impl Iterator<Item = (usize, Held)> + 'a {
    let mut shown = sight.keys.iter().peekable();
    truth.under(&sight.prefix).iter().map(move |key| {
        // Both have the order of the keys.
        while shown.next_if(|(other, _)| ***other < *truth.key(*key)).is_some() {}
        let state = shown.next_if(|(other, _)| ***other == *truth.key(*key));
        (*key, state.map_or(Held::Nothing, |(_, state): (_, &State)| Held::Told(*state)))
    })
}
