//! What goes wrong, and when that is well again.

use super::World;
use super::agenda::{Event, MILLISECOND, SECOND, Time};
use super::plan::Fault;

/// What is wrong for a while.
#[derive(Clone, Copy, Debug)]
pub(super) enum Affliction {
    /// The engine is afflicted.
    Engine(Fault),
    /// A client reaches nobody.
    Partition { client: usize },
    /// What a client sends and is sent takes long.
    Delay { client: usize },
    /// A front that is shutting down ends.
    Shutdown { front: usize, incarnation: u64 },
    /// An engine whose sync has failed is started again.
    FailedSync,
}

/// The longest that something is wrong for a while. Longer than a peer is waited for, so that this is seen too.
const LONGEST: Time = 200 * SECOND;

impl World {
    /// Something goes wrong.
    pub(super) fn fault(&mut self) {
        let (least, most) = self.context.plan.faults_every;
        let pause = self.context.random.between(least, most);
        self.context.agenda.after(pause, Event::Fault);
        let weights: Vec<_> = self.context.plan.faults.iter().map(|(_, weight)| *weight).collect();
        let place = self.context.random.weighted(&weights);
        let Some((fault, _)) = self.context.plan.faults.get(place).copied() else { return };
        if let Some(what) = self.begin(fault) {
            self.context.record.count(fault.name(), 1);
            self.context.record.note(format!("{fault:?}: {what}"));
        }
    }

    fn while_(&mut self, affliction: Affliction, longest: Time) -> Time {
        let for_ = self.context.random.spread(MILLISECOND, longest);
        self.faults += 1;
        self.afflictions.insert(self.faults, affliction);
        self.context.agenda.after(for_, Event::Heal { fault: self.faults });
        for_
    }

    fn any_socket(&mut self) -> Option<u64> {
        let sockets: Vec<_> = self.net.sockets.keys().copied().collect();
        self.context.random.pick(&sockets).copied()
    }

    /// What is about to happen, for people; nothing where it can't.
    fn begin(&mut self, fault: Fault) -> Option<String> {
        let random = &mut self.context.random;
        let client = usize::try_from(random.below(self.clients.len() as u64)).unwrap_or(0);
        let down = random.spread(10 * MILLISECOND, 60 * SECOND);
        let up = self.net.up();
        Some(match fault {
            Fault::Crash => {
                self.net.crash(down, &mut self.context);
                format!("all end at once; the engine is at revision {}", self.net.head())
            }
            Fault::CrashFront => {
                let front = *random.pick(&up).filter(|_| self.net.fronts.len() > 1)?;
                self.net.stop(front, down, &mut self.context);
                format!("front {front} ends at once")
            }
            Fault::Shutdown => {
                let front = *random.pick(&up)?;
                let incarnation = self.net.fronts.get(front)?.incarnation;
                self.net.fronts.get_mut(front)?.is_shutting_down = true;
                for socket in self.net.sockets.values_mut().filter(|socket| socket.front == front) {
                    socket.wake(&mut self.context);
                }
                self.while_(Affliction::Shutdown { front, incarnation }, 10 * SECOND);
                format!("front {front} tells its connections, and ends")
            }
            Fault::Cut => {
                let socket = self.any_socket()?;
                self.net.reset(socket, &mut self.context);
                format!("connection {socket}")
            }
            Fault::HalfOpen => {
                let socket = self.any_socket()?;
                let random = &mut self.context.random;
                let ways = [(true, false), (false, true), (true, true)];
                let (to_server, to_client) = *random.pick(&ways)?;
                self.net.half_open(socket, to_server, to_client, &mut self.context);
                format!("connection {socket}: nothing arrives at the server {to_server}, at the client {to_client}")
            }
            Fault::Partition => {
                self.net.partition(client, &mut self.context);
                let for_ = self.while_(Affliction::Partition { client }, LONGEST);
                format!("client {client} reaches nobody for {for_} us")
            }
            Fault::Stall => {
                let for_ = random.spread(MILLISECOND, LONGEST);
                let until = self.context.now() + for_;
                self.clients.get_mut(client)?.stall(until);
                format!("client {client} reads nothing for {for_} us")
            }
            Fault::Delay => {
                self.net.delay(client, down);
                let for_ = self.while_(Affliction::Delay { client }, LONGEST);
                format!("what client {client} sends or is sent takes up to {down} us for {for_} us")
            }
            Fault::Pause => {
                let front = *random.pick(&up)?;
                let for_ = random.spread(MILLISECOND, 30 * SECOND);
                let until = self.context.now() + for_;
                self.net.fronts.get_mut(front)?.pause(until);
                format!("front {front} does nothing for {for_} us")
            }
            Fault::SlowDisk => {
                let sync = random.spread(10 * MILLISECOND, 5 * SECOND);
                self.net.afflict(fault, true, sync);
                let for_ = self.while_(Affliction::Engine(fault), LONGEST);
                format!("syncs take up to {sync} us for {for_} us")
            }
            Fault::DiskFull | Fault::FailedReads => {
                self.net.afflict(fault, true, 0);
                let for_ = self.while_(Affliction::Engine(fault), 20 * SECOND);
                format!("for {for_} us")
            }
            Fault::FailedSync => {
                self.next_sync_fails = true;
                self.while_(Affliction::FailedSync, 20 * SECOND);
                "the next sync fails".into()
            }
            Fault::Backup => {
                self.net.engine.back_up();
                format!("at revision {}", self.net.head())
            }
            Fault::Restore => {
                // Stopped in order or not: what is in the backup counts.
                self.net.crash(down, &mut self.context);
                if !self.net.engine.restore(&mut self.context.random, &mut self.context.record) {
                    return None;
                }
                format!("a backup of revision {}", self.net.head())
            }
            Fault::Clock => {
                let by = i64::try_from(random.spread(1, 10_000_000)).unwrap_or(0);
                let by = if random.chance(50) { by } else { -by };
                self.net.engine.step_clock(by);
                format!("by {by} ms")
            }
        })
    }

    /// What was wrong for a while is well again.
    pub(super) fn heal(&mut self, fault: u64) {
        let Some(affliction) = self.afflictions.remove(&fault) else { return };
        match affliction {
            Affliction::Engine(fault) => {
                let sync = self.context.plan.sync;
                self.net.afflict(fault, false, sync);
            }
            Affliction::Partition { client } => self.net.join(client, &mut self.context),
            Affliction::Delay { client } => {
                let latency = self.context.plan.latency;
                self.net.delay(client, latency);
            }
            Affliction::Shutdown { front, incarnation } => {
                if self.net.fronts.get(front).is_some_and(|front| front.is_up && front.incarnation == incarnation) {
                    self.net.stop(front, SECOND, &mut self.context);
                    if self.net.fronts.len() == 1 {
                        // What it had taken is committed before it ends; what is left has failed.
                        self.net.engine.crash(&mut self.context.random, &mut self.context.record);
                    }
                }
            }
            Affliction::FailedSync => {
                self.next_sync_fails = false;
                self.net.crash(SECOND, &mut self.context);
            }
        }
        self.context.record.note(format!("well again: {affliction:?}"));
    }

    /// Everything is well again.
    pub(super) fn heal_all(&mut self) {
        let all: Vec<_> = self.afflictions.keys().copied().collect();
        all.into_iter().for_each(|fault| self.heal(fault));
        for front in &mut self.net.fronts {
            front.pause(0);
        }
        for socket in self.net.sockets.values_mut() {
            socket.wake(&mut self.context);
        }
        self.net.bury(&mut self.context);
    }
}
