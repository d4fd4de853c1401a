//! Each checker finds what breaks its promise, and finds nothing in a correct history.

mod broken;
pub(crate) mod build;
mod long;

use super::*;
use crate::history::{Moment, Trouble};
use build::HistoryBuilder;

/// A correct history in which every kind of event happens.
pub(crate) fn good() -> HistoryBuilder {
    let mut build = HistoryBuilder::new();
    let base = build.connect(1);
    build.own_put(base, "a/1");
    let watcher = build.connect(2);
    build.hello(watcher);
    build.put(3, "a/1");
    build.watch(watcher, "a/", 0, true);
    build.txn(3, &["a/1", "a/2", "b/1"]);
    build.sight(3, "a/");
    build.step(4, "a/", false);
    build.own_get(watcher, "a/1");
    build.own_txn(watcher, &["a/2", "a/3"]);
    build.own_txn(base, &["a/1", "b/2"]);
    build.own_barrier(watcher);
    build.delete(3, "a/2");
    build.step(4, "a/", false);
    build.get(3, "a/2");
    build.list(3, "");
    build.watch(watcher, "", 0, true);
    build.put_unanswered(3, "b/1");
    build.own_list(watcher, "a/");
    build.put_stale(2, "b/1");
    build.put(3, "a/2");
    build.barrier(2);
    let since = build.head;
    build.txn(3, &["a/1", "b/1"]);
    build.delete(3, "a/3");
    let resumed = build.connect(5);
    build.hello(resumed);
    build.watch(resumed, "a/", since, true);
    build.watch(resumed, "b/", since, false);
    build.own_put(resumed, "b/9");
    build.own_put(base, "b/9");
    build.sight(3, "");
    build.step(4, "a/", false);
    build.list(3, "");
    build.put(3, "a/9");
    build.drain(base);
    build.restore(since);
    build.put(3, "a/1");
    build.sight(3, "");
    build.step(4, "a/", true);
    build.put(3, "b/1");
    build.put(3, "a/1");
    let after = build.connect(3);
    build.hello(after);
    build.watch(after, "", 0, true);
    build.step(4, "a/", false);
    build.get(3, "a/9");
    build.list(3, "");
    build.history.gauge("log", Moment::default(), 3, 3);
    build.incident(Trouble::DirectoryMoved, Some("the data directory /d was moved, replaced or removed"));
    build.incident(Trouble::DiskFull, Some("the disk refuses: No space left on device (os error 28)"));
    build.incident(Trouble::DiskDead, Some("the disk has failed: Input/output error (os error 5)"));
    build.incident(Trouble::LogUnread, None);
    build
}

fn of(history: &History, promise: Promise) -> Report {
    check(history).into_iter().find(|report| report.promise == promise).unwrap()
}

fn assert_broken(history: &History, promise: Promise) {
    let report = of(history, promise);
    assert!(!report.violations.is_empty(), "{promise} is not broken: {:?}", check(history));
}

/// The checker must find the violation whether the commits are known or inferred.
fn assert_broken_anyway(history: &History, promise: Promise) {
    assert_broken(history, promise);
    assert_broken(&real(history), promise);
}

#[test]
fn no_violation_in_a_correct_history_with_every_event() {
    for report in check(&good().history) {
        assert_eq!(report.violations, [], "{}", report.promise);
        assert!(report.compared > 0, "{}", report.promise);
    }
}

/// The same history as a real run would record it: without the commits.
fn real(history: &History) -> History {
    History { commits: Vec::new(), ..history.clone() }
}

#[test]
fn no_violation_in_a_correct_history_with_inferred_commits() {
    for report in check(&real(&good().history)) {
        assert_eq!(report.violations, [], "{}", report.promise);
        assert!(report.compared > 0, "{}", report.promise);
    }
}
