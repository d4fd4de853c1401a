//! Durable: an accepted write is never lost, even after crashes.

use super::operations::{accepted, each_read, is_since};
use super::report::{Findings, Promise, Report};
use super::truth::{Held, KeyId, Truth, describe_held, describe_state};
use crate::history::{History, Moment, Outcome};

/// - Every write that was answered as accepted is in the history of the store, at the revision of the response. This
///   is checked if the commits are known.
/// - The last GET or LIST that covers a key finds every write of the key that was accepted before the read started:
///   it finds the version of the write, or a later one. In a store that was restored from a backup, this also holds
///   for the writes in the backup.
pub fn durable(history: &History, truth: &Truth) -> Report {
    let mut findings = Findings::new(Promise::Durable);
    if truth.is_exact() {
        in_the_history(history, truth, &mut findings);
    }
    at_the_end(history, truth, &mut findings);
    findings.report()
}

fn in_the_history(history: &History, truth: &Truth, findings: &mut Findings) {
    for operation in &history.operations {
        for write in accepted(operation) {
            let Some(key) = truth.id(&write.key) else { continue };
            let found = |store| truth.find(store, key, write.state.version).filter(|known| known.state == write.state);
            let known = operation.store.map_or_else(|| (0..truth.stores()).find_map(found), found);
            let (client, key, state) = (operation.client, &write.key, describe_state(&write.state));
            findings.expect(known.is_some(), operation.ended_at, || {
                format!("client {client}: {key:?}: {state} was answered as accepted: expected it in the history, found nothing")
            });
            if let (Some(known), Outcome::Committed { revision }) = (known, &operation.outcome) {
                findings.expect(known.after < *revision && *revision <= known.through, operation.ended_at, || {
                    let through = known.through;
                    format!(
                        "client {client}: {key:?}, {state}: expected revision {through}, found {revision} in the response"
                    )
                });
            }
        }
    }
}

fn at_the_end(history: &History, truth: &Truth, findings: &mut Findings) {
    let by_key = vec![None; truth.keys().len()];
    let mut last: Vec<Vec<Option<(Moment, Held)>>> = vec![by_key; truth.stores()];
    let index = |last: &mut Vec<Vec<Option<(Moment, Held)>>>, store: usize, key: KeyId, found: (Moment, Held)| {
        if let Some(index) = last.get_mut(store).and_then(|keys| keys.get_mut(key))
            && index.is_none_or(|(at, _)| at < found.0)
        {
            *index = Some(found);
        }
    };
    for operation in &history.operations {
        if let Some(store) = operation.store {
            each_read(operation, truth, |key, held| index(&mut last, store, key, (operation.asked_at, held)));
        }
    }
    let mut expect = |store: usize, key: KeyId, version: u64, answered_at: Option<Moment>, subject: &str| {
        let Some((asked_at, held)) = last.get(store).and_then(|keys| keys.get(key)).copied().flatten() else { return };
        if answered_at.is_none_or(|answered_at| answered_at < asked_at) {
            findings.expect(is_since(truth, store, key, held, version), asked_at, || {
                let (key, found) = (truth.key(key), describe_held(held));
                format!("the last read of {key:?} in store {store}: expected version {version} ({subject}) or a later one, found {found}")
            });
        }
    };
    for operation in &history.operations {
        let Some(store) = operation.store else { continue };
        for write in accepted(operation) {
            if let Some(key) = truth.id(&write.key) {
                expect(store, key, write.state.version, Some(operation.ended_at), "accepted");
            }
        }
    }
    for (store, told) in history.stores.iter().enumerate() {
        let Some((_, through)) = told.restored else { continue };
        for key in 0..truth.keys().len() {
            if let Some(known) = truth.certain_at(store, key, through) {
                expect(store, key, known.state.version, None, "in the backup");
            }
        }
    }
}
