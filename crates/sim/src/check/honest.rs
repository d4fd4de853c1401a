//! Honest: what STATUS, health checks and the log say about writes is what happens to writes.

use super::report::{Findings, Promise, Report};
use super::truth::Truth;
use crate::history::{Examination, Health, History, Incident, Moment, Probe, Trouble};

/// An examination is a write, a STATUS, a health check, and a write, in this order. It is *settled* if all its writes
/// and all those of the examination before it, in the same phase of the same trouble, had the same result. So the server
/// has the time between two examinations to notice what has happened.
///
/// - The trouble has its effect: the last write is refused while the data directory is not at its path and while the
///   disk is dead. It is accepted while only the log is not read, and after the end of every trouble. A server restarts
///   only after the death of its disk.
/// - In a settled examination with refused writes, STATUS says that writes are not accepted, its reason and those of the
///   refusals name the trouble, and the health check fails.
/// - In a settled examination with accepted writes, STATUS says that writes are accepted, without a reason, and the
///   health check succeeds.
/// - If there was a settled examination with refused writes, the log has an ERROR that names the trouble. If writes are
///   accepted afterwards without a restart, the log says that too.
/// - If lines of the log were dropped, STATUS counts them, and the log says so once it is read again.
/// - Nothing was written to what stood at the path of the data directory in its place.
///
/// The promise Durable is that accepted writes are still there after a restart.
pub fn honest(history: &History, _: &Truth) -> Report {
    let mut findings = Findings::new(Promise::Honest);
    for incident in &history.incidents {
        check_effect(incident, &mut findings);
        check_words(incident, &incident.during, &mut findings);
        check_words(incident, &incident.after, &mut findings);
        check_log(incident, &mut findings);
        findings.expect(incident.strays.is_empty(), incident.ended_at, || {
            format!(
                "{}: expected nothing written to the other directory, found {:?}",
                subject(incident),
                incident.strays
            )
        });
    }
    findings.report()
}

/// What all writes around an examination had in common.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Settled {
    Accepted,
    Refused,
}

fn subject(incident: &Incident) -> String {
    format!("{:?} at {} µs", incident.trouble, incident.began_at.micros)
}

/// Returns words of which at least one occurs in every description of a trouble.
const fn words(trouble: Trouble) -> &'static [&'static str] {
    match trouble {
        Trouble::DirectoryMoved | Trouble::DirectoryReplaced | Trouble::DirectoryCovered => &["data directory"],
        Trouble::DiskFull => &["No space left", "is full"],
        Trouble::DiskDead => &["error 5", "Input/output error", "os error 5", "Read-only file system", "error 117"],
        Trouble::LogUnread => &["log"],
    }
}

fn names(trouble: Trouble, text: &str) -> bool {
    words(trouble).iter().any(|word| text.contains(word))
}

/// Returns the settled examinations of a phase.
fn settled(examinations: &[Examination]) -> impl Iterator<Item = (Settled, &Examination)> {
    examinations.windows(2).filter_map(|pair| {
        let [before, now] = pair else { return None };
        let probes = [&before.before, &before.after, &now.before, &now.after];
        if probes.iter().all(|probe| matches!(probe, Probe::Accepted)) {
            Some((Settled::Accepted, now))
        } else if probes.iter().all(|probe| matches!(probe, Probe::Refused { .. })) {
            Some((Settled::Refused, now))
        } else {
            None
        }
    })
}

fn check_effect(incident: &Incident, findings: &mut Findings) {
    let last = |phase: &[Examination]| phase.last().map(|examination| (examination.at, examination.after.clone()));
    let none = |at: Moment| (at, Probe::Unanswered { why: "nothing was examined".into() });
    let (at, found) = last(&incident.during).unwrap_or_else(|| none(incident.began_at));
    let (holds, expected) = match incident.trouble {
        // Small writes may still fit on a full disk.
        Trouble::DiskFull => (!matches!(found, Probe::Unanswered { .. }), "a response to a write"),
        Trouble::LogUnread => (found == Probe::Accepted, "accepted writes"),
        _ => (matches!(found, Probe::Refused { .. }), "refused writes"),
    };
    findings.expect(holds, at, || format!("{}: expected {expected}, found {found:?}", subject(incident)));
    let (at, found) = last(&incident.after).unwrap_or_else(|| none(incident.ended_at));
    findings.expect(found == Probe::Accepted, at, || {
        format!("{}: expected accepted writes after its end, found {found:?}", subject(incident))
    });
    let may_restart = incident.trouble == Trouble::DiskDead;
    findings.expect(may_restart || !incident.is_restarted, incident.ended_at, || {
        format!("{}: expected the server to continue without a restart", subject(incident))
    });
}

fn check_words(incident: &Incident, phase: &[Examination], findings: &mut Findings) {
    let trouble = incident.trouble;
    for (state, examination) in settled(phase) {
        let Examination { at, before, health, exit_code, after } = examination;
        let Health { accepts_writes, reason, .. } = health.clone().unwrap_or_default();
        let is_accepted = state == Settled::Accepted;
        let writes = if is_accepted { "accepted" } else { "refused" };
        findings.expect(accepts_writes == Some(is_accepted), *at, || {
            format!("{}: writes are {writes}: expected STATUS to say so, found {health:?}", subject(incident))
        });
        findings.expect(exit_code.is_some_and(|code| (code == 0) == is_accepted), *at, || {
            let expected = if is_accepted { "0" } else { "not 0" };
            format!(
                "{}: writes are {writes}: expected exit code {expected} of the health check, found {exit_code:?}",
                subject(incident)
            )
        });
        let refusals = [before, after].into_iter().filter_map(|probe| match probe {
            Probe::Refused { reason } => Some(reason),
            _ => None,
        });
        for reason in refusals {
            findings.expect(names(trouble, reason), *at, || {
                format!("{}: expected a refusal that names {:?}, found {reason:?}", subject(incident), words(trouble))
            });
        }
        let fits = reason.as_ref().map_or(is_accepted, |reason| !is_accepted && names(trouble, reason));
        findings.expect(fits, *at, || {
            let expected = if is_accepted { "no reason" } else { "a reason that names the trouble" };
            format!("{}: writes are {writes}: expected {expected} in STATUS, found {reason:?}", subject(incident))
        });
    }
}

fn check_log(incident: &Incident, findings: &mut Findings) {
    let was_refused = settled(&incident.during).any(|(state, _)| state == Settled::Refused);
    let is_accepted = settled(&incident.after).any(|(state, _)| state == Settled::Accepted);
    if was_refused {
        let is_logged = |line: &String| line.contains("ERROR") && names(incident.trouble, line);
        findings.expect(incident.log_during.iter().any(is_logged), incident.ended_at, || {
            let words = words(incident.trouble);
            format!(
                "{}: expected an ERROR with {words:?} in the log, found {:?}",
                subject(incident),
                incident.log_during
            )
        });
    }
    if was_refused && is_accepted && !incident.is_restarted {
        let is_logged = |line: &String| line.contains("accepted again");
        findings.expect(incident.log_after.iter().any(is_logged), incident.ended_at, || {
            let found = &incident.log_after;
            format!("{}: expected a log line with \"accepted again\" after its end, found {found:?}", subject(incident))
        });
    }
    if incident.trouble == Trouble::LogUnread {
        let counted = incident.during.iter().filter_map(|examination| examination.health.as_ref()?.log_lines_dropped);
        let dropped = counted.max().unwrap_or(0);
        findings.expect(dropped > 0, incident.ended_at, || {
            format!("{}: expected STATUS to count dropped lines of the log, found {dropped}", subject(incident))
        });
        let is_logged = |line: &String| line.contains("dropped");
        findings.expect(incident.log_after.iter().any(is_logged), incident.ended_at, || {
            let found = &incident.log_after;
            format!("{}: expected a log line about the dropped ones, found {found:?}", subject(incident))
        });
    }
}
