//! The simulator: servers and clients, a network and a disk between them, in one process, under virtual time, from one seed.
//!
//! What decides is the production code of `core` (both sides of a connection, the recent log, replicas, cursors) and the
//! production engine in memory of `store`. What drives it is here, and does as the production drivers do, but for what it
//! may do in another order: everything that they leave to the network, the disk and the scheduler is decided by the seed.
//!
//! ```text
//!   clients ◀──▶ sockets: pipes ◀──▶ tasks ──▶ fronts: log, queue ──▶ engine: sync, crash, backup
//!      │              ▲                ▲                ▲                    ▲
//!      │              └────────────────┴──── faults ────┴────────────────────┘
//!      └──▶ record: the history
//! ```

mod agenda;
mod client;
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
use engine::Engine;
use faults::Affliction;
use net::Net;
use plan::Plan;
use record::Record;
use socket::{Context, half};
use std::collections::BTreeMap;
use workload::Workload;

/// How long everything may take to settle when nothing goes wrong any more.
const SETTLING: Time = 600 * SECOND;

/// How many steps that may take at the most.
const MAX_SETTLING_STEPS: u64 = 2_000_000;

/// How many heartbeats of calm there are at the end.
const HEARTBEATS: Time = 3;

/// How many steps lie between two looks at what is bounded.
const LOOK_EVERY: u64 = 64;

/// A run of the simulator.
#[derive(Debug)]
pub struct Run {
    /// What was seen.
    pub history: History,
    /// How much time has passed in it, in microseconds.
    pub micros: u64,
    /// How many steps it has taken.
    pub steps: u64,
}

/// Servers and clients, and what is between them.
struct World {
    context: Context,
    net: Net,
    clients: Vec<Client>,
    afflictions: BTreeMap<u64, Affliction>,
    faults: u64,
    next_sync_fails: bool,
    steps: u64,
}

/// What is to be otherwise than a seed says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Variation {
    /// Something is deliberately wrong.
    pub wrong: Option<Wrong>,
    /// So many clients keep replicas.
    pub clients: Option<usize>,
}

/// Runs the world of a seed for so many steps, and until it has settled then. The same arguments make the same run.
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
            Context { agenda, random, record, plan, wrong, workload: Workload::default(), keys, calm_since: None };
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
        Self { context, net, clients, afflictions: BTreeMap::new(), faults: 0, next_sync_fails: false, steps: 0 }
    }

    /// What comes next happens; answers whether there was anything.
    fn step(&mut self) -> bool {
        let Some(event) = self.context.agenda.next() else { return false };
        self.context.record.set_now(self.context.agenda.now());
        self.steps += 1;
        match event {
            Event::Arrive { socket, at } => self.net.arrive(socket, at, &mut self.clients, &mut self.context),
            Event::TimeOut { socket } => self.net.time_out(socket, &mut self.context),
            Event::Serve { socket } => self.net.serve(socket, &mut self.clients, &mut self.context),
            Event::Beat { socket } => self.net.beat(socket, &mut self.context),
            Event::Commit { front } => self.net.commit(front, &mut self.context),
            Event::Synced { batch } => {
                let fails = std::mem::take(&mut self.next_sync_fails);
                self.net.synced(batch, fails, &mut self.context);
            }
            Event::Start { front, incarnation } => self.net.start(front, incarnation, &mut self.context),
            Event::Client { client } => {
                if let Some(client) = self.clients.get_mut(client) {
                    client.run(&mut self.net, &mut self.context);
                }
            }
            Event::Fault => self.fault(),
            Event::Heal { fault } => self.heal(fault),
        }
        if self.steps.is_multiple_of(LOOK_EVERY) {
            self.net.measure(&mut self.context);
        }
        true
    }

    /// Nothing goes wrong any more, and nobody asks for more: everything is answered, and all hold the latest.
    fn settle(&mut self) {
        self.context.plan.faults.clear();
        self.context.record.note("from here on all is well".into());
        self.heal_all();
        self.clients.iter_mut().for_each(|client| {
            client.be_quiet();
            client.wake(&mut self.context);
        });
        let seconds = self.wait();
        self.context.record.gauge("seconds until all had settled", seconds, plan::usize_of(SETTLING / SECOND));
        let live: Vec<_> = self.clients.iter().filter_map(Client::socket).collect();
        live.into_iter().for_each(|socket| self.context.record.drained(socket));
        // What there is in the end, by whoever can ask.
        for client in self.clients.iter_mut().filter(|client| client.kind == Kind::Replica) {
            client.read_all(&mut self.context);
        }
        self.wait();
        self.be_calm();
    }

    /// Lets some heartbeats pass: nobody who watches waits longer for a sign of life.
    fn be_calm(&mut self) {
        let calm_since = self.context.now();
        self.context.calm_since = Some(calm_since);
        let until = calm_since + HEARTBEATS * 2 * half(&self.context);
        while self.context.now() < until && self.step() {}
        for client in &self.clients {
            client.measure_silence(&mut self.context);
        }
    }

    /// Waits until nothing is to be done; answers how many seconds that took.
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
