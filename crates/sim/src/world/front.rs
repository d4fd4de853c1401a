//! A front: a server process with its recent log and its commit queue, in front of the engine.

use super::agenda::{Event, Time};
use super::context::Context;
use super::engine::{Batch, Submission};
use super::wrong::Wrong;
use std::collections::{BTreeSet, VecDeque};
use syncline_core::{CommitBatch, ConnId, RecentLog, Transaction};
use syncline_wire::Revision;

/// The overhead of a queued transaction in bytes, so that empty transactions count too.
const SUBMISSION_BYTES: usize = 256;

/// The maximum time for which the committer collects transactions.
const GATHERING: Time = 50;

/// A server process.
pub(super) struct Front {
    place: usize,
    /// Whether it is running.
    pub(super) is_up: bool,
    pub(super) incarnation: u64,
    pub(super) is_shutting_down: bool,
    paused_until: Time,
    pub(super) log: RecentLog,
    queue: VecDeque<Submission>,
    queue_bytes: usize,
    turned_away: BTreeSet<u64>,
    /// Whether the engine has a batch of this front.
    pub(super) is_committing: bool,
    next_conn: u64,
}

impl Front {
    pub(super) fn new(place: usize) -> Self {
        Self {
            place,
            is_up: false,
            incarnation: 0,
            is_shutting_down: false,
            paused_until: 0,
            log: RecentLog::new(Revision::ZERO, 0),
            queue: VecDeque::new(),
            queue_bytes: 0,
            turned_away: BTreeSet::new(),
            is_committing: false,
            next_conn: 0,
        }
    }

    /// Starts on an engine whose head is `head`.
    pub(super) fn start(&mut self, head: Revision, context: &Context) {
        let recent_log = if context.is_wrong(Wrong::EndlessLog) { usize::MAX } else { context.plan.recent_log };
        let incarnation = self.incarnation;
        *self = Self { is_up: true, incarnation, log: RecentLog::new(head, recent_log), ..Self::new(self.place) };
    }

    /// Stops. Everything in its memory is lost.
    pub(super) fn stop(&mut self) {
        *self = Self { incarnation: self.incarnation + 1, ..Self::new(self.place) };
    }

    /// Returns the index of the front.
    pub(super) const fn place(&self) -> usize {
        self.place
    }

    /// Returns the id of the next connection.
    pub(super) const fn next_conn(&mut self) -> ConnId {
        self.next_conn += 1;
        ConnId::new(self.next_conn)
    }

    /// Pauses all work until a time.
    pub(super) const fn pause(&mut self, until: Time) {
        self.paused_until = until;
    }

    /// Returns the end of the current pause, or `None` if the front is not paused.
    pub(super) fn paused_until(&self, now: Time) -> Option<Time> {
        (self.paused_until > now).then_some(self.paused_until)
    }

    /// Queues a transaction, or returns it if the queue is full. In that case its connection is woken when there is
    /// room.
    pub(super) fn submit(&mut self, submission: Submission, context: &mut Context) -> Option<Transaction> {
        let bytes = SUBMISSION_BYTES + submission.transaction.bytes();
        if !self.queue.is_empty() && self.queue_bytes + bytes > context.plan.max_queue {
            context.record.count("turned away by a full queue", 1);
            self.turned_away.insert(submission.socket);
            return Some(submission.transaction);
        }
        self.queue_bytes += bytes;
        self.queue.push_back(submission);
        let most = context.plan.max_queue + SUBMISSION_BYTES + context.plan.limits.max_transaction();
        context.record.gauge("bytes of the commit queue", self.queue_bytes, most);
        self.look(context);
        None
    }

    /// Schedules the committer, if it is idle and the queue is not empty.
    pub(super) fn look(&mut self, context: &mut Context) {
        if !self.is_committing && !self.queue.is_empty() {
            self.is_committing = true;
            let delay = context.random.between(1, GATHERING);
            context.agenda.after(delay, Event::Commit { front: self.place });
        }
    }

    /// Removes all queued transactions. Also returns the connections that wait for room in the queue.
    pub(super) fn take(&mut self) -> (Batch, BTreeSet<u64>) {
        self.queue_bytes = 0;
        let submissions = std::mem::take(&mut self.queue).into();
        let batch = Batch { front: self.place, incarnation: self.incarnation, submissions };
        (batch, std::mem::take(&mut self.turned_away))
    }

    /// Returns whether no transaction is queued or being committed.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.is_committing
    }

    /// Appends committed transactions to the recent log.
    pub(super) fn append(&mut self, batch: CommitBatch) {
        self.log.append(batch);
    }
}
