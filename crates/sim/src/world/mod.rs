//! The simulator: servers and clients with a network and a disk between them, in one process, under virtual time,
//! from one seed.
//!
//! The decisions are made by production code: both sides of a connection, the recent log, replicas and cursors of
//! `core`, and the memory engine of `store`. The drivers here replace the production drivers. Everything that those
//! leave to the network, the disk and the scheduler is decided by the seed.
//!
//! ```text
//!   clients ◀──▶ sockets: pipes ◀──▶ tasks ──▶ fronts: log, queue ──▶ engine: sync, crash, backup
//!      │              ▲                ▲                ▲                    ▲
//!      │              └────────────────┴──── faults ────┴────────────────────┘
//!      └──▶ record: the history
//! ```

mod agenda;
mod client;
mod context;
mod engine;
mod faults;
mod front;
mod mangle;
mod net;
mod pipe;
mod plan;
mod record;
mod socket;
mod workload;
mod wrong;

pub use wrong::Wrong;

use crate::Random;
use crate::history::History;
use agenda::{Agenda, Event, SECOND, Time};
use client::{Client, Kind};
use context::{Context, Written, half};
use engine::Engine;
use faults::Faults;
use net::Net;
use plan::Plan;
use record::Record;

/// The maximum time until everything has settled after the faults have ended.
const SETTLING: Time = 600 * SECOND;

/// The maximum number of steps for that.
const MAX_SETTLING_STEPS: u64 = 2_000_000;

/// The length of the calm phase at the end, in heartbeats.
const HEARTBEATS: Time = 3;

/// The number of steps between two measurements of bounded quantities.
const MEASURE_EVERY: u64 = 64;

/// A finished run.
#[derive(Debug)]
pub struct Run {
    /// The history of the run.
    pub history: History,
    /// The virtual time that passed, in microseconds.
    pub micros: u64,
    /// The number of steps.
    pub steps: u64,
}

/// All parts of the simulation.
struct World {
    context: Context,
    net: Net,
    clients: Vec<Client>,
    faults: Faults,
    steps: u64,
}

/// What differs from the plan of a seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Variation {
    /// The wrong variant to run, if any.
    pub wrong: Option<Wrong>,
    /// The number of clients with replicas.
    pub clients: Option<usize>,
}

/// Runs the world of a seed for `steps` steps, and then until it has settled. The same arguments make the same run.
pub fn run(seed: u64, steps: u64, variation: Variation) -> Run {
    let mut world = World::new(seed, variation);
    for _ in 0..steps {
        world.step();
    }
    world.settle();
    world.context.record.close();
    Run { history: world.context.record.history, micros: world.context.agenda.now(), steps: world.steps }
}

impl World {
    fn new(seed: u64, variation: Variation) -> Self {
        let mut random = Random::new(seed);
        let mut plan = Plan::new(&mut random);
        plan.replicas = variation.clients.unwrap_or(plan.replicas);
        let wrong = variation.wrong;
        let mut record = Record::default();
        let engine = Engine::new(&plan, &mut random, &mut record, wrong);
        record.note(format!("seed {seed}: {plan:?}"));
        let keys = workload::keys(plan.keys);
        let (fronts, kinds) = (plan.fronts, kinds(&plan));
        let has_faults = !plan.faults.is_empty();
        let agenda = Agenda::default();
        let mut context =
            Context { agenda, random, record, plan, wrong, written: Written::default(), keys, calm_since: None };
        let mut net = Net::new(engine, fronts);
        (0..fronts).for_each(|front| net.start(front, 0, &mut context));
        let mut clients = Vec::new();
        for (place, kind) in kinds.into_iter().enumerate() {
            let prefix = workload::prefix(&mut context);
            let mut client = Client::new(place, kind, &prefix);
            if kind == Kind::Cursor {
                client.watched.push(prefix);
            }
            client.wake(&mut context);
            clients.push(client);
        }
        if has_faults {
            context.agenda.after(context.plan.faults_every.1, Event::Fault);
        }
        Self { context, net, clients, faults: Faults::default(), steps: 0 }
    }

    /// Handles the next event. Returns `false` if there is none.
    fn step(&mut self) -> bool {
        let Some(event) = self.context.agenda.next() else { return false };
        self.context.record.set_now(self.context.agenda.now());
        self.steps += 1;
        match event {
            Event::Arrive { socket, at } => {
                let woken = self.net.arrive(socket, at, &mut self.context);
                if let Some(client) = woken.and_then(|client| self.clients.get_mut(client)) {
                    client.wake(&mut self.context);
                }
            }
            Event::TimeOut { socket } => self.net.time_out(socket, &mut self.context),
            Event::Serve { socket } => {
                let writable = self.net.serve(socket, &mut self.context);
                if let Some(client) = writable.and_then(|client| self.clients.get_mut(client))
                    && client.socket() == Some(socket)
                    && client.has_output()
                {
                    client.wake(&mut self.context);
                }
            }
            Event::Beat { socket } => self.net.beat(socket, &mut self.context),
            Event::Commit { front } => self.net.commit(front, &mut self.context),
            Event::Synced { batch } => {
                let fails = self.faults.take_failed_sync();
                self.net.synced(batch, fails, &mut self.context);
            }
            Event::Start { front, incarnation } => self.net.start(front, incarnation, &mut self.context),
            Event::Client { client } => {
                if let Some(client) = self.clients.get_mut(client) {
                    client.run(&mut self.net, workload::think, &mut self.context);
                }
            }
            Event::Fault => self.faults.inject_next(&mut self.net, &mut self.clients, &mut self.context),
            Event::Heal { fault } => self.faults.heal(fault, &mut self.net, &mut self.context),
        }
        if self.steps.is_multiple_of(MEASURE_EVERY) {
            self.net.measure(&mut self.context);
        }
        true
    }

    /// Ends all faults and requests, and waits until every request is answered and every client holds the latest
    /// state.
    fn settle(&mut self) {
        self.context.plan.faults.clear();
        self.context.record.note("all faults are over from here on".into());
        self.faults.heal_all(&mut self.net, &mut self.context);
        self.clients.iter_mut().for_each(|client| {
            client.stop_asking();
            client.wake(&mut self.context);
        });
        let seconds = self.wait();
        self.context.record.gauge("seconds until all had settled", seconds, plan::usize_of(SETTLING / SECOND));
        let live: Vec<_> = self.clients.iter().filter_map(Client::socket).collect();
        live.into_iter().for_each(|socket| self.context.record.drained(socket));
        // Final reads of everything, by each client that can send a LIST.
        for client in self.clients.iter_mut().filter(|client| client.kind == Kind::Replica) {
            client.read_all(&mut self.context);
        }
        self.wait();
        self.run_calm_phase();
    }

    /// Lets some heartbeats pass, and checks that no watching client waits longer than that for a frame.
    fn run_calm_phase(&mut self) {
        let calm_since = self.context.now();
        self.context.calm_since = Some(calm_since);
        let until = calm_since + HEARTBEATS * 2 * half(&self.context);
        while self.context.now() < until && self.step() {}
        for client in &self.clients {
            client.measure_silence(&mut self.context);
        }
    }

    /// Waits until everything has settled. Returns how many seconds that took.
    fn wait(&mut self) -> usize {
        let begun = self.context.now();
        for _ in 0..MAX_SETTLING_STEPS {
            let passed = self.context.now() - begun;
            if self.is_settled() {
                return plan::usize_of(passed / SECOND);
            }
            if passed > SETTLING {
                break;
            }
            self.step();
        }
        let head = self.net.head();
        let unsettled = self.clients.iter().filter(|client| !client.is_settled(head.get()));
        let unsettled: Vec<_> = unsettled.map(Client::describe).collect();
        self.context.record.note(format!("not settled: the head is {head}, {unsettled:?}"));
        plan::usize_of(SETTLING / SECOND + 1)
    }

    fn is_settled(&mut self) -> bool {
        let head = self.net.head().get();
        let is_settled = |client: &Client| client.is_settled(head) && self.net.is_well(client.socket());
        self.clients.iter().all(is_settled) && self.net.is_idle()
    }
}

fn kinds(plan: &Plan) -> Vec<Kind> {
    let of = |kind, count| std::iter::repeat_n(kind, count);
    of(Kind::Replica, plan.replicas).chain(of(Kind::Base, plan.bases)).chain(of(Kind::Cursor, plan.cursors)).collect()
}
