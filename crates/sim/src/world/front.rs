//! A front: a server process with its recent log and its committer's queue, before the engine.

use super::agenda::{Event, Time};
use super::engine::{Batch, Submission};
use super::socket::Context;
use super::wrong::Wrong;
use std::collections::{BTreeSet, VecDeque};
use syncline_core::{CommitBatch, ConnId, RecentLog, Transaction};
use syncline_wire::Revision;

/// What a waiting transaction takes beside its keys and values, so that empty ones count too.
const SUBMISSION_BYTES: usize = 256;

/// The longest wait of the committer for what comes at the same time.
const GATHERING: Time = 50;

/// A front.
pub(super) struct Front {
    place: usize,
    /// Which of its lives it is; none where it is not up.
    pub(super) is_up: bool,
    pub(super) incarnation: u64,
    pub(super) is_shutting_down: bool,
    paused_until: Time,
    pub(super) log: RecentLog,
    queue: VecDeque<Submission>,
    queue_bytes: usize,
    turned_away: BTreeSet<u64>,
    /// The engine has a batch of it.
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

    /// Starts, on an engine that is at `head`.
    pub(super) fn start(&mut self, head: Revision, context: &Context) {
        let recent_log = if context.is_wrong(Wrong::EndlessLog) { usize::MAX } else { context.plan.recent_log };
        let incarnation = self.incarnation;
        *self = Self { is_up: true, incarnation, log: RecentLog::new(head, recent_log), ..Self::new(self.place) };
    }

    /// Ends: what is in its memory is gone.
    pub(super) fn stop(&mut self) {
        *self = Self { incarnation: self.incarnation + 1, ..Self::new(self.place) };
    }

    /// Which of the fronts it is.
    pub(super) const fn place(&self) -> usize {
        self.place
    }

    /// Names the next connection.
    pub(super) const fn next_conn(&mut self) -> ConnId {
        self.next_conn += 1;
        ConnId::new(self.next_conn)
    }

    /// Does nothing until then.
    pub(super) const fn pause(&mut self, until: Time) {
        self.paused_until = until;
    }

    /// Until when it does nothing, if it does not.
    pub(super) fn paused_until(&self, now: Time) -> Option<Time> {
        (self.paused_until > now).then_some(self.paused_until)
    }

    /// Takes a transaction, or hands it back where there is no room: its connection is woken when there is.
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

    /// Has the committer look at the queue, if it is not at work.
    pub(super) fn look(&mut self, context: &mut Context) {
        if !self.is_committing && !self.queue.is_empty() {
            self.is_committing = true;
            let delay = context.random.between(1, GATHERING);
            context.agenda.after(delay, Event::Commit { front: self.place });
        }
    }

    /// All that waits, and the connections for whose transactions there is room now.
    pub(super) fn take(&mut self) -> (Batch, BTreeSet<u64>) {
        self.queue_bytes = 0;
        let submissions = std::mem::take(&mut self.queue).into();
        let batch = Batch { front: self.place, incarnation: self.incarnation, submissions };
        (batch, std::mem::take(&mut self.turned_away))
    }

    /// Whether nothing waits for the engine.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.is_committing
    }

    /// What was committed, as its connections are told.
    pub(super) fn append(&mut self, batch: CommitBatch) {
        self.log.append(batch);
    }
}
