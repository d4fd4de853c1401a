//! The network, the fronts, and the engine behind them.

use super::agenda::{Event, SECOND, Side, Time};
use super::context::{Context, half};
use super::engine::{Batch, Disk, Engine, of_another};
use super::front::Front;
use super::plan::{Fault, usize_of};
use super::socket::{Socket, Task};
use super::wrong::Wrong;
use std::collections::BTreeMap;
use syncline_core::server::ServerParameters;
use syncline_core::{CommitBatch, Committed, Outcome};
use syncline_wire::Revision;

/// How long a silent peer is kept before its connection is given up.
const PEER_TIMEOUT: Time = 120 * SECOND;

/// The network, the fronts, and the engine behind them.
pub(super) struct Net {
    pub(super) engine: Engine,
    pub(super) fronts: Vec<Front>,
    pub(super) sockets: BTreeMap<u64, Socket>,
    last_socket: u64,
    /// By client: the number of partitions that cut it off.
    partitioned: BTreeMap<usize, u64>,
}

impl Net {
    pub(super) fn new(engine: Engine, fronts: usize) -> Self {
        let fronts = (0..fronts).map(Front::new).collect();
        Self { engine, fronts, sockets: BTreeMap::new(), last_socket: 0, partitioned: BTreeMap::new() }
    }

    /// Connects a client to the first front that accepts it, starting with number `first`. Returns the connection and
    /// the front.
    pub(super) fn connect(&mut self, client: usize, first: usize, context: &mut Context) -> Option<(u64, usize)> {
        if self.partitioned.contains_key(&client) {
            return None;
        }
        let places = (first..first + self.fronts.len()).map(|place| place % self.fronts.len());
        let mut open =
            places.filter(|place| self.fronts.get(*place).is_some_and(|front| front.is_up && !front.is_shutting_down));
        let place = open.next()?;
        let parameters = ServerParameters {
            limits: context.plan.limits,
            store: self.engine.id(),
            heartbeat: context.plan.heartbeat,
        };
        self.last_socket += 1;
        let conn = self.fronts.get_mut(place)?.next_conn();
        let mut socket = Socket::new(self.last_socket, client, place, conn, parameters, context);
        socket.wake(context);
        self.sockets.insert(self.last_socket, socket);
        Some((self.last_socket, place))
    }

    /// Delivers what has arrived at one end of a connection. Returns the client to wake.
    pub(super) fn arrive(&mut self, id: u64, at: Side, context: &mut Context) -> Option<usize> {
        let socket = self.sockets.get_mut(&id)?;
        if socket.is_partitioned && !socket.is_reset {
            return None;
        }
        let pipe = match at {
            Side::Server => &mut socket.to_server,
            Side::Client => &mut socket.to_client,
        };
        let has_arrived = pipe.arrive(context.now());
        if at == Side::Server && has_arrived {
            socket.wake(context);
        }
        let woken = (at == Side::Client && (has_arrived || socket.is_reset)).then_some(socket.client);
        if socket.is_abandoned && socket.task.is_none() {
            self.sockets.remove(&id);
        }
        woken
    }

    /// Runs the server's task of a connection. Returns the client if it can send more on the connection.
    pub(super) fn serve(&mut self, id: u64, context: &mut Context) -> Option<usize> {
        let socket = self.sockets.get_mut(&id)?;
        let front = self.fronts.get_mut(socket.front)?;
        socket.serve(front, &self.engine, context);
        let writable = (socket.to_server.room() > 0).then_some(socket.client);
        if socket.is_abandoned && socket.task.is_none() {
            self.sockets.remove(&id);
        }
        writable
    }

    pub(super) fn beat(&mut self, id: u64, context: &mut Context) {
        if let Some(socket) = self.sockets.get_mut(&id)
            && socket.beat(context)
        {
            context.agenda.after(half(context), Event::Beat { socket: id });
        }
    }

    /// Lets the committer of a front take the queued transactions.
    pub(super) fn commit(&mut self, place: usize, context: &mut Context) {
        let Some(front) = self.fronts.get_mut(place) else { return };
        if !front.is_up || !front.is_committing {
            return;
        }
        if let Some(until) = front.paused_until(context.now()) {
            return context.agenda.at(until, Event::Commit { front: place });
        }
        let (batch, turned_away) = front.take();
        for socket in turned_away {
            if let Some(socket) = self.sockets.get_mut(&socket) {
                socket.wake(context);
            }
        }
        if batch.submissions.is_empty() {
            front.is_committing = false;
        } else if context.is_wrong(Wrong::AcknowledgedBeforeSynced) {
            let empty = Batch { front: batch.front, incarnation: batch.incarnation, submissions: Vec::new() };
            self.finish(batch, false, context);
            self.engine.submit(empty, &mut context.agenda, &mut context.random);
        } else {
            self.engine.submit(batch, &mut context.agenda, &mut context.random);
        }
    }

    /// Handles the end of a sync.
    pub(super) fn synced(&mut self, number: u64, fails: bool, context: &mut Context) {
        let Some(batch) = self.engine.synced(number) else { return };
        let (place, incarnation) = (batch.front, batch.incarnation);
        if batch.submissions.is_empty() {
            self.engine.note_synced();
        }
        self.finish(batch, fails, context);
        if let Some(front) = self.fronts.get_mut(place)
            && front.incarnation == incarnation
        {
            front.is_committing = false;
            front.look(context);
        }
        self.engine.go_on(&mut context.agenda, &mut context.random);
    }

    /// Commits a batch, appends it to the log of every front, and delivers the outcomes, in this order.
    fn finish(&mut self, batch: Batch, fails: bool, context: &mut Context) {
        let Batch { front: place, incarnation, submissions } = batch;
        let (whose, transactions): (Vec<_>, Vec<_>) =
            submissions.into_iter().map(|submission| (submission.socket, submission.transaction)).unzip();
        context.record.count("batches", 1);
        context.record.count("batches of several transactions", u64::from(transactions.len() > 1));
        let outcomes = if fails {
            self.engine.fail(transactions.clone())
        } else {
            self.engine.commit(transactions.clone(), &mut context.record)
        };
        for front in self.fronts.iter_mut().filter(|front| front.is_up) {
            let is_its = front.place() == place && front.incarnation == incarnation;
            let seen =
                transactions.iter().map(|transaction| of_another(transaction, transaction.origin.filter(|_| is_its)));
            front.append(CommitBatch::encode(&Committed::accepted(seen, &outcomes)));
        }
        for socket in self.sockets.values_mut() {
            let waits = socket.task.as_ref().is_some_and(|task| task.waits_for_log);
            if waits && !(context.is_wrong(Wrong::LostWakeup) && context.random.chance(5)) {
                socket.wake(context);
            }
        }
        let is_alive = self.fronts.get(place).is_some_and(|front| front.is_up && front.incarnation == incarnation);
        for (socket, outcome) in whose.iter().zip(outcomes) {
            match &outcome {
                Outcome::Accepted { .. } => context.record.count("accepted", 1),
                Outcome::Stale { .. } => context.record.count("stale", 1),
                Outcome::Unavailable { .. } => context.record.count("unavailable", 1),
                Outcome::Unknown { .. } => context.record.count("unknown", 1),
            }
            if is_alive && let Some(socket) = self.sockets.get_mut(socket) {
                socket.deliver(outcome, context);
            }
        }
    }

    /// Starts a front on the current state of the engine.
    pub(super) fn start(&mut self, place: usize, incarnation: u64, context: &mut Context) {
        let head = self.engine.head();
        if let Some(front) = self.fronts.get_mut(place)
            && !front.is_up
            && front.incarnation == incarnation
        {
            front.start(head, context);
            context.record.note(format!("front {place} starts at revision {head}"));
        }
    }

    /// Stops a front at once, and schedules its restart.
    pub(super) fn stop(&mut self, place: usize, down: Time, context: &mut Context) {
        let Some(front) = self.fronts.get_mut(place) else { return };
        front.stop();
        context.agenda.after(down, Event::Start { front: place, incarnation: front.incarnation });
        let its: Vec<_> =
            self.sockets.values().filter(|socket| socket.front == place).map(|socket| socket.id).collect();
        its.into_iter().for_each(|socket| self.reset(socket, context));
    }

    /// Stops all fronts and the engine at once.
    pub(super) fn crash(&mut self, down: Time, context: &mut Context) {
        (0..self.fronts.len()).for_each(|place| self.stop(place, down, context));
        self.engine.crash(&mut context.random, &mut context.record);
    }

    /// Resets a connection. Both ends learn of it.
    pub(super) fn reset(&mut self, id: u64, context: &mut Context) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        socket.task = None;
        if !socket.is_reset {
            socket.is_reset = true;
            let delay = socket.way(&mut context.random);
            context.agenda.after(delay, Event::Arrive { socket: id, at: Side::Client });
        }
    }

    /// Gives up a connection on which nothing can arrive.
    pub(super) fn time_out(&mut self, id: u64, context: &mut Context) {
        let is_dead =
            |socket: &Socket| socket.is_partitioned || socket.to_server.is_dead() || socket.to_client.is_dead();
        if self.sockets.get(&id).is_some_and(is_dead) {
            self.reset(id, context);
        }
    }

    /// Lets one or both directions of a connection die silently.
    pub(super) fn half_open(&mut self, id: u64, to_server: bool, to_client: bool, context: &mut Context) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            if to_server {
                socket.to_server.die();
            }
            if to_client {
                socket.to_client.die();
            }
            context.agenda.after(PEER_TIMEOUT, Event::TimeOut { socket: id });
        }
    }

    /// Cuts a client off from all fronts.
    pub(super) fn partition(&mut self, client: usize, context: &mut Context) {
        *self.partitioned.entry(client).or_default() += 1;
        for socket in self.sockets.values_mut().filter(|socket| socket.client == client) {
            socket.is_partitioned = true;
            context.agenda.after(PEER_TIMEOUT, Event::TimeOut { socket: socket.id });
        }
    }

    /// Ends a partition.
    pub(super) fn join(&mut self, client: usize, context: &mut Context) {
        let Some(partitions) = self.partitioned.get_mut(&client) else { return };
        *partitions -= 1;
        if *partitions > 0 {
            return;
        }
        self.partitioned.remove(&client);
        for socket in self.sockets.values_mut().filter(|socket| socket.client == client) {
            socket.is_partitioned = false;
            for at in [Side::Server, Side::Client] {
                context.agenda.after(1, Event::Arrive { socket: socket.id, at });
            }
        }
    }

    /// Sets the maximum latency of a client's connections.
    pub(super) fn delay(&mut self, client: usize, latency: Time) {
        for socket in self.sockets.values_mut().filter(|socket| socket.client == client) {
            socket.latency = latency;
        }
    }

    /// Resets all connections on which nothing can arrive, instead of waiting for their timeouts.
    pub(super) fn bury(&mut self, context: &mut Context) {
        let ids: Vec<_> = self.sockets.keys().copied().collect();
        ids.into_iter().for_each(|socket| self.time_out(socket, context));
    }

    /// Returns whether nothing is in flight.
    pub(super) fn is_idle(&mut self) -> bool {
        let is_idle = |socket: &mut Socket| {
            if socket.is_reset || socket.is_abandoned {
                return true;
            }
            let is_served = socket.task.as_mut().is_none_or(Task::is_idle);
            is_served && socket.to_server.is_empty() && socket.to_client.is_empty()
        };
        self.engine.is_idle() && self.fronts.iter().all(Front::is_idle) && self.sockets.values_mut().all(is_idle)
    }

    /// Returns whether a connection leads to a running front.
    pub(super) fn is_well(&self, socket: Option<u64>) -> bool {
        let socket = socket.and_then(|socket| self.sockets.get(&socket));
        socket.is_some_and(|socket| !socket.is_reset && socket.task.is_some())
    }

    /// Checks that an idle connection has been sent everything.
    pub(super) fn measure(&mut self, context: &mut Context) {
        for socket in self.sockets.values_mut().filter(|socket| !socket.is_reset) {
            let Some(front) = self.fronts.get(socket.front) else { continue };
            if let Some(task) = &mut socket.task
                && front.paused_until(context.now()).is_none()
            {
                let owed = task.is_owed(front.log.head());
                context.record.gauge("revisions that a waiting connection is not told", usize_of(owed), 0);
            }
        }
    }

    pub(super) fn head(&self) -> Revision {
        self.engine.head()
    }

    /// Returns the fronts that are running.
    pub(super) fn up(&self) -> Vec<usize> {
        self.fronts.iter().filter(|front| front.is_up).map(Front::place).collect()
    }

    /// Starts or ends a fault of the engine.
    pub(super) const fn afflict(&mut self, fault: Fault, is_on: bool, sync: Time) {
        match (fault, is_on) {
            (Fault::DiskFull, true) if matches!(self.engine.disk, Disk::Fine) => self.engine.disk = Disk::Full,
            (Fault::DiskFull, false) if matches!(self.engine.disk, Disk::Full) => self.engine.disk = Disk::Fine,
            (Fault::SlowDisk, _) => self.engine.sync = sync,
            (Fault::FailedReads, _) => self.engine.fails_reads = is_on,
            _ => {}
        }
    }
}
