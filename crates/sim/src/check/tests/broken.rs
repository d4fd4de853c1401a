//! Histories with a single deliberate error, each of which a checker must find.

use super::{HistoryBuilder, assert_broken, assert_broken_anyway, good, real};
use crate::check::{Promise, check};
use crate::history::{
    Direction, Frame, Gauge, Health, History, Incident, Invocation, Moment, Outcome, Probe, Stamp, State, Trouble,
    Write,
};

/// Returns the indices of the frames that a connection received and that `is` selects.
fn received(history: &History, connection: usize, is: impl Fn(&Frame) -> bool) -> Vec<usize> {
    let frames = history.transcripts[connection].frames.iter().enumerate();
    frames.filter(|(_, (_, direction, frame))| *direction == Direction::Received && is(frame)).map(|(n, _)| n).collect()
}

fn is_change(frame: &Frame) -> bool {
    matches!(frame, Frame::Write { tag: 0, .. })
}

fn is_mark(frame: &Frame) -> bool {
    matches!(frame, Frame::Mark { tag: 0, .. })
}

/// Moves the frame at index `from` to index `to`.
fn move_frame(history: &mut History, connection: usize, from: usize, to: usize) {
    let frames = &mut history.transcripts[connection].frames;
    let at = frames[to].0;
    let (_, direction, frame) = frames.remove(from);
    frames.insert(to, (at, direction, frame));
}

/// Connection 0 has not sent HELLO, 1 watches `a/`, 2 watches everything; client 3 writes.
fn watched() -> HistoryBuilder {
    let mut build = HistoryBuilder::new();
    build.connect(1);
    build.own_get(0, "a/1");
    for (connection, prefix) in [(1, "a/"), (2, "")] {
        build.connect(2);
        build.hello(connection);
        build.watch(connection, prefix, 0, true);
    }
    build.put(3, "a/1");
    build.put(3, "a/2");
    build.put(3, "a/1");
    build.txn(3, &["a/1", "a/2"]);
    build
}

#[test]
fn ordered_swapped_broadcasts() {
    for connection in [0, 1] {
        let mut history = watched().history;
        let changes = received(&history, connection, is_change);
        let frames = &mut history.transcripts[connection].frames;
        let (one, other) = (frames[changes[0]].2.clone(), frames[changes[1]].2.clone());
        (frames[changes[0]].2, frames[changes[1]].2) = (other, one);
        assert_broken(&history, Promise::Ordered);
    }
    // Between two MARKs of another connection, which reveal the order.
    let mut history = watched().history;
    let changes = received(&history, 1, is_change);
    move_frame(&mut history, 1, changes[2], changes[0]);
    assert_broken_anyway(&history, Promise::Ordered);
}

#[test]
fn ordered_a_get_response_before_the_broadcast() {
    let mut build = watched();
    build.own_get(0, "a/2");
    let mut history = build.history;
    let last = history.transcripts[0].frames.len() - 1;
    let changes = received(&history, 0, is_change);
    move_frame(&mut history, 0, last - 1, 0);
    move_frame(&mut history, 0, last, changes[3]);
    assert_broken_anyway(&history, Promise::Ordered);
}

#[test]
fn ordered_swapped_responses() {
    let not_found = |tag| Frame::Error { tag, text: "\"never\": not found".into() };
    for (first, second, is_broken) in [(21, 22, false), (22, 21, true)] {
        let mut build = watched();
        build.sent(0, Frame::Get { tag: 21, key: "never".into() });
        build.sent(0, Frame::Get { tag: 22, key: "never".into() });
        build.received(0, not_found(first));
        build.received(0, not_found(second));
        let reports = check(&build.history);
        let ordered = reports.iter().find(|report| report.promise == Promise::Ordered).unwrap();
        assert_eq!(!ordered.violations.is_empty(), is_broken, "{:?}", ordered.violations);
    }
}

#[test]
fn ordered_stale_put_before_the_faster_write() {
    let mut build = watched();
    build.put(3, "a/1");
    let mut history = build.history;
    let put = *received(&history, 0, is_change).last().unwrap();
    let (at, _, told) = history.transcripts[0].frames[put].clone();
    let Frame::Write { mut write, .. } = told else { panic!() };
    write.state.value = Some(Stamp(999));
    let error = Frame::Error { tag: 9, text: "stale put".into() };
    history.transcripts[0].frames.insert(put, (at, Direction::Received, error));
    history.transcripts[0].frames.insert(put, (at, Direction::Sent, Frame::Write { tag: 9, write }));
    assert_broken_anyway(&history, Promise::Ordered);
}

#[test]
fn ordered_an_unsorted_list_an_unsolicited_frame_an_unwritten_value() {
    let mut build = watched();
    build.own_list(0, "");
    let tag = received(&build.history, 0, |frame| matches!(frame, Frame::Write { tag, .. } if *tag > 0));
    let mut history = build.history.clone();
    move_frame(&mut history, 0, tag[1], tag[0]);
    assert_broken_anyway(&history, Promise::Ordered);

    let mut build = watched();
    build.received(1, Frame::Mark { tag: 77, revision: 5 });
    assert_broken_anyway(&build.history, Promise::Ordered);

    let mut history = watched().history;
    let change = received(&history, 1, is_change)[0];
    if let Frame::Write { write, .. } = &mut history.transcripts[1].frames[change].2 {
        write.state.value = Some(Stamp::TORN);
    }
    assert_broken_anyway(&history, Promise::Ordered);
}

#[test]
fn unique_a_repeated_broadcast() {
    for connection in [0, 1] {
        let mut history = watched().history;
        let change = received(&history, connection, is_change)[1];
        let frame = history.transcripts[connection].frames[change].clone();
        history.transcripts[connection].frames.insert(change, frame);
        assert_broken_anyway(&history, Promise::Unique);
    }
}

#[test]
fn unique_an_own_write_that_is_broadcast_as_well() {
    let mut build = watched();
    build.own_put(1, "a/3");
    let write = build.history.commits.last().unwrap().writes[0].clone();
    build.received(1, Frame::Write { tag: 0, write });
    assert_broken_anyway(&build.history, Promise::Unique);
}

#[test]
fn unique_a_page_and_a_cursor_that_repeat_a_write() {
    let mut build = watched();
    build.connect(9);
    build.hello(3);
    build.watch(3, "a/", 0, true);
    let mut history = build.history.clone();
    let change = received(&history, 3, is_change)[0];
    let frame = history.transcripts[3].frames[change].clone();
    history.transcripts[3].frames.insert(change, frame);
    assert_broken_anyway(&history, Promise::Unique);

    build.step(4, "a/", false);
    build.put(3, "a/1");
    build.step(4, "a/", false);
    let told = build.history.steps[0].changes[1].clone();
    build.history.steps[1].changes.push(told);
    assert_broken_anyway(&build.history, Promise::Unique);
}

#[test]
fn atomic_half_of_a_transaction_is_shown() {
    let mut build = watched();
    build.sight(2, "a/");
    build.step(4, "a/", false);
    let (before, of) = (build.history.commits[1].writes[0].clone(), build.history.commits.len() - 1);
    assert_eq!(build.history.commits[of].writes[1].key, before.key);
    let mut history = build.history.clone();
    history.sights[0].keys.insert(before.key.clone(), before.state);
    assert_broken_anyway(&history, Promise::Atomic);

    let mut history = build.history.clone();
    history.sights[0].keys.remove(&before.key);
    assert_broken_anyway(&history, Promise::Atomic);

    let mut history = build.history;
    history.steps[0].changes[1] = before;
    assert_broken_anyway(&history, Promise::Atomic);
}

#[test]
fn atomic_a_mark_between_the_writes_of_a_transaction() {
    let mut history = watched().history;
    let (changes, marks) = (received(&history, 1, is_change), received(&history, 1, is_mark));
    let (at, direction, mark) = history.transcripts[1].frames[marks[2]].clone();
    history.transcripts[1].frames.insert(*changes.last().unwrap(), (at, direction, mark));
    assert_broken_anyway(&history, Promise::Atomic);
}

#[test]
fn reliable_a_missing_change() {
    let mut history = watched().history;
    let changes = received(&history, 1, is_change);
    // The latest change of its key.
    history.transcripts[1].frames.remove(*changes.last().unwrap());
    for promise in [Promise::Reliable, Promise::Marked] {
        assert_broken_anyway(&history, promise);
    }
    let mut build = watched();
    build.drain(0);
    let mut history = build.history;
    let changes = received(&history, 0, is_change);
    history.transcripts[0].frames.remove(*changes.last().unwrap());
    assert_broken_anyway(&history, Promise::Reliable);
    // A superseded change need not be sent.
    let mut build = watched();
    build.drain(0);
    let mut history = build.history;
    history.transcripts[0].frames.remove(changes[0]);
    for history in [&history, &real(&history)] {
        assert!(check(history).iter().all(|report| report.violations.is_empty()));
    }
}

#[test]
fn reliable_a_missing_response_and_an_early_barrier() {
    let mut build = watched();
    build.sent(0, Frame::Get { tag: 99, key: "a/1".into() });
    build.drain(0);
    assert_broken_anyway(&build.history, Promise::Reliable);

    let mut build = watched();
    build.barrier(3);
    build.history.operations.last_mut().unwrap().outcome = Outcome::Passed { revision: 3 };
    assert_broken(&build.history, Promise::Reliable);
    assert!(check(&real(&build.history)).iter().any(|report| !report.violations.is_empty()));
}

/// Returns a history in which a connection resumes after a key was deleted and another one was written.
fn resumed(is_known: bool) -> (HistoryBuilder, usize) {
    let mut build = watched();
    let since = build.head;
    build.delete(3, "a/1");
    build.put(3, "a/3");
    let connection = build.connect(8);
    build.hello(connection);
    build.watch(connection, "a/", since, is_known);
    build.sight(9, "");
    (build, connection)
}

#[test]
fn resumable_a_missing_deletion_or_change() {
    for missing in [0, 1] {
        let (HistoryBuilder { mut history, .. }, connection) = resumed(true);
        let change = received(&history, connection, is_change)[missing];
        history.transcripts[connection].frames.remove(change);
        assert_broken_anyway(&history, Promise::Resumable);
    }
}

#[test]
fn resumable_a_reset_followed_by_an_incomplete_state() {
    let (HistoryBuilder { mut history, .. }, connection) = resumed(false);
    let change = received(&history, connection, is_change)[0];
    history.transcripts[connection].frames.remove(change);
    assert_broken_anyway(&history, Promise::Resumable);
}

#[test]
fn resumable_a_skipped_step_and_a_store_change_without_reset() {
    let mut build = watched();
    for _ in 0..3 {
        build.step(4, "a/", false);
        build.put(3, "a/1");
        build.put(3, "a/4");
    }
    build.step(4, "a/", false);
    let mut history = build.history;
    history.steps[2].changes.clear();
    for promise in [Promise::Resumable, Promise::Reliable, Promise::Marked] {
        assert_broken_anyway(&history, promise);
    }
    let mut history = good().history;
    let reset = history.steps.iter().position(|step| step.is_reset).unwrap();
    history.steps[reset].is_reset = false;
    assert_broken_anyway(&history, Promise::Resumable);
}

#[test]
fn marked_a_mark_one_batch_too_early() {
    let mut history = watched().history;
    let (changes, marks) = (received(&history, 1, is_change), received(&history, 1, is_mark));
    assert_eq!(changes[1] + 1, marks[1]);
    move_frame(&mut history, 1, marks[1], changes[1]);
    assert_broken_anyway(&history, Promise::Marked);
    // A MARK with an earlier revision than the change before it.
    let mut history = watched().history;
    for (index, revision) in [(1, 1), (2, 2)] {
        history.transcripts[1].frames[marks[index]].2 = Frame::Mark { tag: 0, revision };
    }
    assert_broken_anyway(&history, Promise::Marked);
}

#[test]
fn marked_a_replica_with_a_wrong_state() {
    let mut build = watched();
    build.sight(2, "a/");
    build.put(3, "a/1");
    build.put(3, "a/5");
    build.sight(5, "a/");
    let key = || "a/1".into();
    // A later state, an earlier one, one that no client wrote, a superfluous key, and a missing key.
    let later = build.history.commits[4].writes[0].state;
    let before = build.history.commits[0].writes[0].state;
    let torn = State { value: Some(Stamp::TORN), ..build.history.commits[3].writes[0].state };
    for wrong in [later, before, torn] {
        let mut history = build.history.clone();
        history.sights[0].keys.insert(key(), wrong);
        assert_broken_anyway(&history, Promise::Marked);
    }
    let mut history = build.history.clone();
    history.sights[0].keys.insert("a/5".into(), build.history.commits[5].writes[0].state);
    assert_broken_anyway(&history, Promise::Marked);
    let mut history = build.history;
    history.sights[1].keys.remove("a/5");
    assert_broken_anyway(&history, Promise::Marked);
}

#[test]
fn bounded_an_exceeded_bound() {
    let mut history = good().history;
    history.gauge("queue", Moment::default(), 1, 2);
    history.gauge("queue", Moment::default(), 3, 2);
    assert_broken_anyway(&history, Promise::Bounded);
    let mut history = good().history;
    history.gauges.insert("silence".into(), Gauge { bound: 5, highest: 6, at: Moment::default(), samples: 1 });
    assert_broken_anyway(&history, Promise::Bounded);
}

#[test]
fn read_your_writes_an_own_write_that_is_not_read() {
    let mut build = watched();
    build.sight(3, "a/");
    build.get(3, "a/1");
    build.list(3, "a/");
    let (before, _) = (build.history.commits[2].writes[0].clone(), ());
    let mut history = build.history.clone();
    history.sights[0].keys.insert(before.key.clone(), before.state);
    assert_broken_anyway(&history, Promise::ReadYourWrites);
    let mut history = build.history.clone();
    history.sights[0].is_current = false;
    history.sights[0].keys.remove(&before.key);
    assert_broken_anyway(&history, Promise::ReadYourWrites);

    let operations = history.operations.len();
    let mut history = build.history.clone();
    history.operations[operations - 2].outcome = Outcome::Found(before.state);
    for promise in [Promise::ReadYourWrites, Promise::Linearizable, Promise::Durable] {
        // Durable compares only the last read, which here is the LIST.
        let ends = if promise == Promise::Durable { operations - 1 } else { operations };
        let mut history = history.clone();
        history.operations.truncate(ends);
        assert_broken_anyway(&history, promise);
    }
    let mut history = build.history;
    history.operations[operations - 1].outcome = Outcome::Listed { entries: Vec::new() };
    for promise in [Promise::ReadYourWrites, Promise::Linearizable, Promise::Durable] {
        assert_broken_anyway(&history, promise);
    }
}

#[test]
fn monotonic_back_in_time() {
    let mut build = watched();
    build.sight(2, "a/");
    build.step(4, "a/", false);
    build.put(3, "a/2");
    build.sight(2, "a/");
    build.step(4, "a/", false);
    let mut history = build.history.clone();
    history.sights.swap(0, 1);
    assert_broken_anyway(&history, Promise::Monotonic);
    let mut history = build.history.clone();
    history.steps[1].revision = 1;
    assert_broken_anyway(&history, Promise::Monotonic);
    let mut history = build.history.clone();
    let marks = received(&history, 1, is_mark);
    history.transcripts[1].frames[marks[1]].2 = Frame::Mark { tag: 0, revision: 0 };
    assert_broken_anyway(&history, Promise::Monotonic);
    let write = build.history.commits[0].writes[0].clone();
    build.sent(1, Frame::Get { tag: 50, key: write.key.clone() });
    build.received(1, Frame::Write { tag: 50, write });
    assert_broken_anyway(&build.history, Promise::Monotonic);
}

#[test]
fn monotonic_back_to_an_earlier_store() {
    let mut build = watched();
    build.restore(2);
    build.sight(2, "a/");
    build.history.sights.push(build.history.sights[0].clone());
    build.history.sights[1].store = 0;
    assert_broken_anyway(&build.history, Promise::Monotonic);
}

#[test]
fn linearizable_a_repeated_version_and_a_refusal_without_reason() {
    let mut build = watched();
    let refused = build.put(3, "a/1");
    build.put_stale(3, "a/2");
    let mut history = build.history.clone();
    let stale = history.operations.last_mut().unwrap();
    stale.outcome = Outcome::Written;
    assert_broken_anyway(&history, Promise::Linearizable);
    let mut history = build.history;
    let stale = history.operations.last_mut().unwrap();
    let next = State { version: refused.state.version + 1, value: Some(Stamp(1234)) };
    stale.asked = Invocation::Write(Write { key: refused.key, state: next });
    assert_broken_anyway(&history, Promise::Linearizable);
}

#[test]
fn durable_an_accepted_write_missing_in_the_history_or_the_backup() {
    let mut history = watched().history;
    history.commits[3].writes.pop();
    assert_broken(&history, Promise::Durable);
    let mut history = watched().history;
    history.operations.last_mut().unwrap().outcome = Outcome::Committed { revision: 3 };
    assert_broken(&history, Promise::Durable);
    assert!(check(&real(&history)).iter().any(|report| !report.violations.is_empty()));

    let mut build = watched();
    let since = build.head;
    build.sight(2, "a/");
    build.put(3, "a/1");
    build.restore(since);
    build.list(9, "");
    let backed = build.history.operations.last_mut().unwrap();
    let Outcome::Listed { entries } = &mut backed.outcome else { panic!() };
    entries.pop();
    assert_broken_anyway(&build.history, Promise::Durable);
}

#[test]
fn a_contradiction_names_the_source_of_the_observation() {
    let mut build = watched();
    build.sight(2, "a/");
    let last = build.history.commits.last().unwrap().writes[0].clone();
    let other = State { value: Some(Stamp(1)), ..last.state };
    build.history.sights[0].keys.insert(last.key, other);
    let reports = check(&real(&build.history));
    let texts: Vec<&str> =
        reports.iter().flat_map(|report| &report.violations).map(|violation| violation.text.as_str()).collect();
    assert!(texts.iter().any(|text| text.contains("a replica of client 2")), "{texts:?}");
}

const FULL: &str = "the disk refuses: No space left on device (os error 28)";
const MOVED: &str = "the data directory /d was moved, replaced or removed";

/// Returns a history with one honest incident, changed by `change`.
fn incident(trouble: Trouble, reason: Option<&str>, change: impl FnOnce(&mut Incident)) -> History {
    let mut build = watched();
    build.incident(trouble, reason);
    change(&mut build.history.incidents[0]);
    build.history
}

fn health(incident: &mut Incident, index: usize) -> &mut Health {
    incident.during[index].health.as_mut().unwrap()
}

#[test]
fn honest_status_hides_that_writes_are_refused() {
    for index in [1, 2] {
        let hides = |incident: &mut Incident| {
            *health(incident, index) = Health { accepts_writes: Some(true), ..Health::default() };
        };
        assert_broken_anyway(&incident(Trouble::DiskFull, Some(FULL), hides), Promise::Honest);
        let says_nothing = |incident: &mut Incident| *health(incident, index) = Health::default();
        assert_broken_anyway(&incident(Trouble::DiskFull, Some(FULL), says_nothing), Promise::Honest);
        let gives_no_reason = |incident: &mut Incident| health(incident, index).reason = None;
        assert_broken_anyway(&incident(Trouble::DiskFull, Some(FULL), gives_no_reason), Promise::Honest);
    }
    // The first examination may come before the server has noticed.
    let late = |incident: &mut Incident| health(incident, 0).accepts_writes = Some(true);
    let reports = check(&incident(Trouble::DiskFull, Some(FULL), late));
    assert!(reports.iter().all(|report| report.violations.is_empty()), "{reports:?}");
}

#[test]
fn honest_status_says_that_writes_are_refused_although_they_are_accepted() {
    let change = |incident: &mut Incident| {
        let health = incident.after[2].health.as_mut().unwrap();
        (health.accepts_writes, health.reason) = (Some(false), Some(FULL.into()));
    };
    assert_broken_anyway(&incident(Trouble::DiskFull, Some(FULL), change), Promise::Honest);
    let change = |incident: &mut Incident| incident.after[2].health.as_mut().unwrap().reason = Some(FULL.into());
    assert_broken_anyway(&incident(Trouble::DiskFull, Some(FULL), change), Promise::Honest);
}

#[test]
fn honest_a_reason_that_names_another_trouble() {
    assert_broken_anyway(&incident(Trouble::DirectoryMoved, Some(FULL), |_| {}), Promise::Honest);
    assert_broken_anyway(&incident(Trouble::DiskFull, Some(MOVED), |_| {}), Promise::Honest);
    let change = |incident: &mut Incident| health(incident, 2).reason = Some("unknown".into());
    assert_broken_anyway(&incident(Trouble::DirectoryMoved, Some(MOVED), change), Promise::Honest);
}

#[test]
fn honest_a_health_check_that_tells_the_opposite() {
    for code in [Some(0), None] {
        let change = |incident: &mut Incident| incident.during[1].exit_code = code;
        assert_broken_anyway(&incident(Trouble::DirectoryCovered, Some(MOVED), change), Promise::Honest);
    }
    let change = |incident: &mut Incident| incident.after[1].exit_code = Some(5);
    assert_broken_anyway(&incident(Trouble::DirectoryCovered, Some(MOVED), change), Promise::Honest);
}

#[test]
fn honest_no_error_in_the_log_or_no_word_of_the_end() {
    let change = |incident: &mut Incident| incident.log_during.clear();
    assert_broken_anyway(&incident(Trouble::DiskDead, Some("os error 5"), change), Promise::Honest);
    let change = |incident: &mut Incident| incident.log_during = vec![" INFO the data directory".into()];
    assert_broken_anyway(&incident(Trouble::DirectoryMoved, Some(MOVED), change), Promise::Honest);
    let change = |incident: &mut Incident| incident.log_during = vec!["ERROR something".into()];
    assert_broken_anyway(&incident(Trouble::DirectoryMoved, Some(MOVED), change), Promise::Honest);
    let change = |incident: &mut Incident| incident.log_after.clear();
    assert_broken_anyway(&incident(Trouble::DirectoryMoved, Some(MOVED), change), Promise::Honest);
}

#[test]
fn honest_writes_accepted_without_a_directory_or_on_a_dead_disk() {
    for trouble in [Trouble::DirectoryMoved, Trouble::DirectoryReplaced, Trouble::DirectoryCovered, Trouble::DiskDead] {
        assert_broken_anyway(&incident(trouble, None, |_| {}), Promise::Honest);
    }
    let change = |incident: &mut Incident| incident.strays.push("log-2".into());
    assert_broken_anyway(&incident(Trouble::DirectoryCovered, Some(MOVED), change), Promise::Honest);
}

#[test]
fn honest_a_trouble_that_does_not_end_by_itself() {
    let refused = Probe::Refused { reason: FULL.into() };
    let change = |incident: &mut Incident| incident.after[2].after = refused.clone();
    assert_broken_anyway(&incident(Trouble::DiskFull, Some(FULL), change), Promise::Honest);
    let change = |incident: &mut Incident| incident.is_restarted = true;
    assert_broken_anyway(&incident(Trouble::DiskFull, Some(FULL), change), Promise::Honest);
    let change = |incident: &mut Incident| incident.after.clear();
    assert_broken_anyway(&incident(Trouble::DiskFull, Some(FULL), change), Promise::Honest);
}

#[test]
fn honest_a_log_that_stops_the_server_or_loses_lines_silently() {
    let unanswered = Probe::Unanswered { why: "no response within 2s".into() };
    let change = |incident: &mut Incident| incident.during[2].after = unanswered;
    assert_broken_anyway(&incident(Trouble::LogUnread, None, change), Promise::Honest);
    let change = |incident: &mut Incident| {
        (0..3).for_each(|index| health(incident, index).log_lines_dropped = Some(0));
    };
    assert_broken_anyway(&incident(Trouble::LogUnread, None, change), Promise::Honest);
    let change = |incident: &mut Incident| incident.log_after.clear();
    assert_broken_anyway(&incident(Trouble::LogUnread, None, change), Promise::Honest);
}
