//! What every part of the world uses: virtual time, random decisions, the record of the run, and its plan.

use super::agenda::{Agenda, MILLISECOND, Time};
use super::plan::{Plan, usize_of};
use super::record::Record;
use super::wrong::Wrong;
use crate::Random;
use crate::history::Key;
use std::collections::BTreeMap;

/// What all clients of a run have written so far.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) stamps: u64,
    /// By key: the highest version that any client has requested.
    pub(super) highest: BTreeMap<Key, u64>,
}

/// The shared state of the simulation.
pub(super) struct Context {
    pub(super) agenda: Agenda,
    pub(super) random: Random,
    pub(super) record: Record,
    pub(super) plan: Plan,
    pub(super) wrong: Option<Wrong>,
    pub(super) written: Written,
    pub(super) keys: Vec<Key>,
    /// The start of the calm phase at the end, in which nothing fails and no client sends requests.
    pub(super) calm_since: Option<Time>,
}

impl Context {
    pub(super) const fn now(&self) -> Time {
        self.agenda.now()
    }

    /// Measures the silence on a connection that watches, which last received something at `heard`. Before the calm
    /// phase it does nothing.
    pub(super) fn measure_silence(&mut self, heard: Time) {
        if let Some(since) = self.calm_since {
            let silence = self.now() - heard.max(since);
            // A heartbeat is due once the last MARK is one heartbeat old. After that, the MARK travels to the client.
            let most = 2 * half(self) + self.plan.latency + 2 * self.plan.turn + MILLISECOND;
            self.record.gauge(
                "microseconds of silence on a connection that watches",
                usize_of(silence),
                usize_of(most),
            );
        }
    }

    pub(super) fn is_wrong(&self, wrong: Wrong) -> bool {
        self.wrong == Some(wrong)
    }
}

/// Returns half a heartbeat interval.
pub(super) fn half(context: &Context) -> Time {
    Time::try_from(context.plan.heartbeat.as_micros() / 2).unwrap_or(Time::MAX).max(1)
}
