//! Replays the steps of cursors.

use super::truth::{KeyId, Truth};
use crate::history::{History, State, Step};
use std::collections::BTreeMap;

/// Calls `then` for each step, with the previous step of its cursor and the keys that exist after it. A cursor starts
/// empty, and so does a cursor that changes its prefix.
pub(super) fn walk(
    history: &History,
    truth: &Truth,
    mut then: impl FnMut(Option<&Step>, &Step, &BTreeMap<KeyId, State>),
) {
    let mut cursors: BTreeMap<u64, (Option<&Step>, BTreeMap<KeyId, State>)> = BTreeMap::new();
    for step in &history.steps {
        let (before, held) = cursors.entry(step.client).or_default();
        if before.is_some_and(|before| before.prefix != step.prefix) {
            *before = None;
        }
        if step.is_reset || before.is_none() {
            held.clear();
        }
        for change in &step.changes {
            let Some(key) = truth.id(&change.key) else { continue };
            match change.state.value {
                Some(_) => drop(held.insert(key, change.state)),
                None => drop(held.remove(&key)),
            }
        }
        then(before.replace(step), step, held);
    }
}
