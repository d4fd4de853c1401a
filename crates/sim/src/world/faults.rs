//! Injects the faults of a run, and ends those that last for a while.
//!
//! The plan of a seed says which kinds of faults occur and how often. A fault either happens at one moment (a crash, a
//! reset connection) or stays active until its [`Event::Heal`].

use super::agenda::{Event, MILLISECOND, SECOND, Time};
use super::client::Client;
use super::context::Context;
use super::net::Net;
use super::plan::Fault;
use std::collections::BTreeMap;

/// A fault that lasts for a while.
#[derive(Clone, Copy, Debug)]
enum ActiveFault {
    /// The engine has a full or slow disk, or fails to read.
    Engine(Fault),
    /// A client can reach no front.
    Partition { client: usize },
    /// Bytes to and from a client take long.
    Delay { client: usize },
    /// A front is shutting down. It stops at the end.
    Shutdown { front: usize, incarnation: u64 },
    /// A sync of the engine fails. The engine restarts at the end.
    FailedSync,
}

/// How long a fault lasts at most: longer than the timeout of a silent peer, so that such timeouts occur.
const LONGEST: Time = 200 * SECOND;

/// The faults of a run.
#[derive(Debug, Default)]
pub(super) struct Faults {
    active: BTreeMap<u64, ActiveFault>,
    last_id: u64,
    next_sync_fails: bool,
}

impl Faults {
    /// Returns whether the sync that ends now fails. One failed sync is requested at a time.
    pub(super) const fn take_failed_sync(&mut self) -> bool {
        std::mem::replace(&mut self.next_sync_fails, false)
    }

    /// Injects the next fault, and schedules the one after it.
    pub(super) fn inject_next(&mut self, net: &mut Net, clients: &mut [Client], context: &mut Context) {
        let (min, max) = context.plan.faults_every;
        let pause = context.random.between(min, max);
        context.agenda.after(pause, Event::Fault);
        let weights: Vec<_> = context.plan.faults.iter().map(|(_, weight)| *weight).collect();
        let index = context.random.weighted(&weights);
        let Some((fault, _)) = context.plan.faults.get(index).copied() else { return };
        if let Some(text) = self.inject(fault, net, clients, context) {
            context.record.count(fault.name(), 1);
            context.record.note(format!("{fault:?}: {text}"));
        }
    }

    /// Keeps a fault active for a random time, which it returns.
    fn activate(&mut self, fault: ActiveFault, longest: Time, context: &mut Context) -> Time {
        let duration = context.random.spread(MILLISECOND, longest);
        self.last_id += 1;
        self.active.insert(self.last_id, fault);
        context.agenda.after(duration, Event::Heal { fault: self.last_id });
        duration
    }

    /// Injects a fault. Returns a note about it for readers of the history, or `None` if the fault cannot happen now.
    fn inject(&mut self, fault: Fault, net: &mut Net, clients: &mut [Client], context: &mut Context) -> Option<String> {
        let random = &mut context.random;
        let client = usize::try_from(random.below(clients.len() as u64)).unwrap_or(0);
        let down = random.spread(10 * MILLISECOND, 60 * SECOND);
        let up = net.up();
        Some(match fault {
            Fault::Crash => {
                net.crash(down, context);
                format!("all fronts and the engine stop at once; the engine is at revision {}", net.head())
            }
            Fault::CrashFront => {
                let front = *random.pick(&up).filter(|_| net.fronts.len() > 1)?;
                net.stop(front, down, context);
                format!("front {front} stops at once")
            }
            Fault::Shutdown => {
                let front = *random.pick(&up)?;
                let incarnation = net.fronts.get(front)?.incarnation;
                net.fronts.get_mut(front)?.is_shutting_down = true;
                for socket in net.sockets.values_mut().filter(|socket| socket.front == front) {
                    socket.wake(context);
                }
                self.activate(ActiveFault::Shutdown { front, incarnation }, 10 * SECOND, context);
                format!("front {front} notifies its connections, and stops")
            }
            Fault::Cut => {
                let socket = any_socket(net, context)?;
                net.reset(socket, context);
                format!("connection {socket}")
            }
            Fault::HalfOpen => {
                let socket = any_socket(net, context)?;
                let directions = [(true, false), (false, true), (true, true)];
                let (to_server, to_client) = *context.random.pick(&directions)?;
                net.half_open(socket, to_server, to_client, context);
                format!("connection {socket}: dead to the server: {to_server}, dead to the client: {to_client}")
            }
            Fault::Partition => {
                net.partition(client, context);
                let duration = self.activate(ActiveFault::Partition { client }, LONGEST, context);
                format!("client {client} reaches no front for {duration} us")
            }
            Fault::Stall => {
                let duration = random.spread(MILLISECOND, LONGEST);
                let until = context.now() + duration;
                clients.get_mut(client)?.stall(until);
                format!("client {client} reads nothing for {duration} us")
            }
            Fault::Delay => {
                net.delay(client, down);
                let duration = self.activate(ActiveFault::Delay { client }, LONGEST, context);
                format!("bytes to and from client {client} take up to {down} us for {duration} us")
            }
            Fault::Pause => {
                let front = *random.pick(&up)?;
                let duration = random.spread(MILLISECOND, 30 * SECOND);
                let until = context.now() + duration;
                net.fronts.get_mut(front)?.pause(until);
                format!("front {front} pauses for {duration} us")
            }
            Fault::SlowDisk => {
                let sync = random.spread(10 * MILLISECOND, 5 * SECOND);
                net.afflict(fault, true, sync);
                let duration = self.activate(ActiveFault::Engine(fault), LONGEST, context);
                format!("syncs take up to {sync} us for {duration} us")
            }
            Fault::DiskFull | Fault::FailedReads => {
                net.afflict(fault, true, 0);
                let duration = self.activate(ActiveFault::Engine(fault), 20 * SECOND, context);
                format!("for {duration} us")
            }
            Fault::FailedSync => {
                self.next_sync_fails = true;
                self.activate(ActiveFault::FailedSync, 20 * SECOND, context);
                "the next sync fails".into()
            }
            Fault::Backup => {
                net.engine.back_up();
                format!("at revision {}", net.head())
            }
            Fault::Restore => {
                // A crash will do: only the backup counts.
                net.crash(down, context);
                if !net.engine.restore(&mut context.random, &mut context.record) {
                    return None;
                }
                format!("a backup of revision {}", net.head())
            }
            Fault::Clock => {
                let by = i64::try_from(random.spread(1, 10_000_000)).unwrap_or(0);
                let by = if random.chance(50) { by } else { -by };
                net.engine.step_clock(by);
                format!("by {by} ms")
            }
        })
    }

    /// Ends an active fault.
    pub(super) fn heal(&mut self, id: u64, net: &mut Net, context: &mut Context) {
        let Some(fault) = self.active.remove(&id) else { return };
        match fault {
            ActiveFault::Engine(fault) => {
                let sync = context.plan.sync;
                net.afflict(fault, false, sync);
            }
            ActiveFault::Partition { client } => net.join(client, context),
            ActiveFault::Delay { client } => {
                let latency = context.plan.latency;
                net.delay(client, latency);
            }
            ActiveFault::Shutdown { front, incarnation } => {
                if net.fronts.get(front).is_some_and(|front| front.is_up && front.incarnation == incarnation) {
                    net.stop(front, SECOND, context);
                    if net.fronts.len() == 1 {
                        // The engine was part of this process. Batches that it has synced by now stay; the others fail.
                        net.engine.crash(&mut context.random, &mut context.record);
                    }
                }
            }
            ActiveFault::FailedSync => {
                self.next_sync_fails = false;
                net.crash(SECOND, context);
            }
        }
        context.record.note(format!("over: {fault:?}"));
    }

    /// Ends all active faults.
    pub(super) fn heal_all(&mut self, net: &mut Net, context: &mut Context) {
        let ids: Vec<_> = self.active.keys().copied().collect();
        ids.into_iter().for_each(|id| self.heal(id, net, context));
        for front in &mut net.fronts {
            front.pause(0);
        }
        for socket in net.sockets.values_mut() {
            socket.wake(context);
        }
        net.bury(context);
    }
}

fn any_socket(net: &Net, context: &mut Context) -> Option<u64> {
    let sockets: Vec<_> = net.sockets.keys().copied().collect();
    context.random.pick(&sockets).copied()
}
