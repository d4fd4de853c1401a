//! The network, the fronts, and the engine behind them.

use super::agenda::{Event, SECOND, Side, Time};
use super::client::Client;
use super::engine::{Batch, Disk, Engine, of_another};
use super::front::Front;
use super::plan::{Fault, usize_of};
use super::socket::{Context, Socket, half};
use super::wrong::Wrong;
use std::collections::BTreeMap;
use syncline_core::server::ServerParameters;
use syncline_core::{CommitBatch, Committed, Outcome};
use syncline_wire::Revision;

/// After how long a peer that is gone without a word is given up.
const PEER_TIMEOUT: Time = 120 * SECOND;

/// The network, the fronts, and the engine behind them.
pub(super) struct Net {
    pub(super) engine: Engine,
    pub(super) fronts: Vec<Front>,
    pub(super) sockets: BTreeMap<u64, Socket>,
    last_socket: u64,
    /// How many partitions cut a client off.
    partitioned: BTreeMap<usize, u64>,
}

impl Net {
    pub(super) fn new(engine: Engine, fronts: usize) -> Self {
        let fronts = (0..fronts).map(Front::new).collect();
        Self { engine, fronts, sockets: BTreeMap::new(), last_socket: 0, partitioned: BTreeMap::new() }
    }

    /// Connects a client to the first front that takes it, beginning with the `first`-th; answers also which.
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

    /// Something arrives at one end of a connection.
    pub(super) fn arrive(&mut self, id: u64, at: Side, clients: &mut [Client], context: &mut Context) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if socket.is_partitioned && !socket.is_reset {
            return;
        }
        let pipe = match at {
            Side::Server => &mut socket.to_server,
            Side::Client => &mut socket.to_client,
        };
        let has_arrived = pipe.arrive(context.now());
        match at {
            Side::Server if has_arrived => socket.wake(context),
            Side::Client if has_arrived || socket.is_reset => {
                if let Some(client) = clients.get_mut(socket.client) {
                    client.wake(context);
                }
            }
            _ => {}
        }
        if socket.is_abandoned && socket.task.is_none() {
            self.sockets.remove(&id);
        }
    }

    /// The server's task of a connection runs.
    pub(super) fn serve(&mut self, id: u64, clients: &mut [Client], context: &mut Context) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let Some(front) = self.fronts.get_mut(socket.front) else { return };
        socket.serve(front, &self.engine, context);
        // Room for what the client has to send.
        if socket.to_server.room() > 0
            && let Some(client) = clients.get_mut(socket.client)
            && client.socket() == Some(id)
            && client.has_output()
        {
            client.wake(context);
        }
        if socket.is_abandoned && socket.task.is_none() {
            self.sockets.remove(&id);
        }
    }

    pub(super) fn beat(&mut self, id: u64, context: &mut Context) {
        if let Some(socket) = self.sockets.get_mut(&id)
            && socket.beat(context)
        {
            context.agenda.after(half(context), Event::Beat { socket: id });
        }
    }

    /// The committer of a front takes what waits.
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

    /// The sync of a batch has ended.
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

    /// Visible, then fed, then answered.
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

    /// A front starts on what the engine holds.
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

    /// A front ends at once, and starts again so much later.
    pub(super) fn stop(&mut self, place: usize, down: Time, context: &mut Context) {
        let Some(front) = self.fronts.get_mut(place) else { return };
        front.stop();
        context.agenda.after(down, Event::Start { front: place, incarnation: front.incarnation });
        let its: Vec<_> =
            self.sockets.values().filter(|socket| socket.front == place).map(|socket| socket.id).collect();
        its.into_iter().for_each(|socket| self.reset(socket, context));
    }

    /// All fronts and the engine end at once.
    pub(super) fn crash(&mut self, down: Time, context: &mut Context) {
        (0..self.fronts.len()).for_each(|place| self.stop(place, down, context));
        self.engine.crash(&mut context.random, &mut context.record);
    }

    /// Both ends of a connection learn that it is no more.
    pub(super) fn reset(&mut self, id: u64, context: &mut Context) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        socket.task = None;
        if !socket.is_reset {
            socket.is_reset = true;
            let delay = socket.way(&mut context.random);
            context.agenda.after(delay, Event::Arrive { socket: id, at: Side::Client });
        }
    }

    /// Nothing was heard of a connection for a long time.
    pub(super) fn time_out(&mut self, id: u64, context: &mut Context) {
        let is_dead =
            |socket: &Socket| socket.is_partitioned || socket.to_server.is_dead() || socket.to_client.is_dead();
        if self.sockets.get(&id).is_some_and(is_dead) {
            self.reset(id, context);
        }
    }

    /// One or both directions of a connection die.
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

    /// A client reaches nobody.
    pub(super) fn partition(&mut self, client: usize, context: &mut Context) {
        *self.partitioned.entry(client).or_default() += 1;
        for socket in self.sockets.values_mut().filter(|socket| socket.client == client) {
            socket.is_partitioned = true;
            context.agenda.after(PEER_TIMEOUT, Event::TimeOut { socket: socket.id });
        }
    }

    /// A partition is over.
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

    /// All that a client sends and is sent takes so long from now on.
    pub(super) fn delay(&mut self, client: usize, latency: Time) {
        for socket in self.sockets.values_mut().filter(|socket| socket.client == client) {
            socket.latency = latency;
        }
    }

    /// Ends what only time would end: connections that are dead.
    pub(super) fn bury(&mut self, context: &mut Context) {
        let ids: Vec<_> = self.sockets.keys().copied().collect();
        ids.into_iter().for_each(|socket| self.time_out(socket, context));
    }

    /// Whether nothing is on the way.
    pub(super) fn is_idle(&mut self) -> bool {
        let is_idle = |socket: &mut Socket| {
            if socket.is_reset || socket.is_abandoned {
                return true;
            }
            let is_served = socket.task.as_mut().is_none_or(super::socket::Task::is_idle);
            is_served && socket.to_server.is_empty() && socket.to_client.is_empty()
        };
        self.engine.is_idle() && self.fronts.iter().all(Front::is_idle) && self.sockets.values_mut().all(is_idle)
    }

    /// Whether a connection leads to a front that goes on.
    pub(super) fn is_well(&self, socket: Option<u64>) -> bool {
        let socket = socket.and_then(|socket| self.sockets.get(&socket));
        socket.is_some_and(|socket| !socket.is_reset && socket.task.is_some())
    }

    /// Looks at whether somebody who takes everything is told everything.
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

    /// Which fronts are up.
    pub(super) fn up(&self) -> Vec<usize> {
        self.fronts.iter().filter(|front| front.is_up).map(Front::place).collect()
    }

    /// What is wrong for a while, with the engine, is so from now on, or is well again.
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
