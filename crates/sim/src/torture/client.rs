//! A production client: it asks for everything that there is, and has replicas.

use super::load::{self, Load, PREFIXES, Truth, Writing};
use crate::Random;
use crate::frame;
use crate::history::{Asked, Key, Outcome, Stamp, State, Write};
use std::collections::BTreeMap;
use std::time::Duration;
use syncline_client::{Client, GetError, PutError, Replica, RequestError, TxnError, Version, Versioned};
use tokio::time::{Instant, sleep, timeout_at};

/// How long a client may take in the end to see the last write.
const SETTLE: Duration = Duration::from_secs(30);

/// How many callers share a client.
const CALLERS: usize = 2;

/// The keys that a server is flooded with, each by a caller of its own, until so many writes of such values were refused.
const FLOOD: [&str; 4] = ["flood", "a/b/flood", "b/flood", "hot/flood"];
const ENOUGH: u64 = 20;
const LARGE: usize = 60_000;

/// How that is counted.
const FULL: &str = "writes refused by a full disk";

/// What a client and its callers share.
#[derive(Clone)]
struct Caller {
    id: u64,
    load: Load,
    client: Client,
    replicas: Vec<Replica>,
}

/// Asks and writes until it is quiet, and then waits for the end. One without replicas is a client that only asks.
pub(super) async fn run(mut load: Load, writing: Writing, settling: Writing, mut random: Random, replicas: usize) {
    let id = load.recorder.client();
    let Some((client, address)) = connect(&load, id).await else { return };
    let mut caller = Caller { id, load: load.clone(), client, replicas: Vec::new() };
    let first = usize::try_from(random.below(PREFIXES.len() as u64)).unwrap_or(0);
    let prefixes: Vec<_> = PREFIXES.iter().cycle().skip(first).take(replicas).copied().collect();
    let mut lookers = tokio::task::JoinSet::new();
    for prefix in prefixes {
        while !load.is_over() {
            match caller.client.watch(prefix).await {
                Ok(replica) => {
                    lookers.spawn(look(load.clone(), id, replica.clone(), random.fork()));
                    caller.replicas.push(replica);
                    break;
                }
                // A connection that is lost meanwhile is made again.
                Err(RequestError::Unavailable { .. }) => {}
                Err(other) => {
                    return load.recorder.find(format!("client {id} at {address}: a WATCH of {prefix:?}: {other}"));
                }
            }
        }
    }
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(caller.clone().calls(random.fork()));
    }
    while let Some(ended) = callers.join_next().await {
        if let Err(error) = ended {
            load.recorder.find(format!("client {id}: {error}"));
        }
    }
    // What was sent before is decided once this is answered.
    let _ = caller.barrier().await;
    drop(writing);
    caller.settle(load.clone()).await;
    drop(settling);
    load.over().await;
    lookers.shutdown().await;
}

/// Connects, as often as it takes.
pub(super) async fn connect(load: &Load, id: u64) -> Option<(Client, String)> {
    let address = match load.proxy.listen(id).await {
        Ok(address) => address,
        Err(error) => {
            load.recorder.find(format!("can't listen: {error}"));
            return None;
        }
    };
    while !load.is_over() {
        match Client::connect_with(address.clone(), load::options()).await {
            Ok(client) => return Some((client, address)),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
    None
}

/// Puts down what a replica shows, now and then when that has changed.
async fn look(mut load: Load, id: u64, mut replica: Replica, mut random: Random) {
    let prefix = String::from_utf8_lossy(replica.prefix()).into_owned();
    loop {
        tokio::select! {
            () = load.over() => return,
            _ = replica.changed() => {}
        }
        load.recorder.see(id, &prefix, || replica.snapshot());
        sleep(Duration::from_millis(random.spread(5, 300))).await;
    }
}

impl Caller {
    async fn calls(self, mut random: Random) {
        while self.load.is_on() {
            self.call(&mut random).await;
            sleep(load::pause(&mut random)).await;
        }
    }

    async fn call(&self, random: &mut Random) {
        let key = load::key(random);
        match random.weighted(&[20, 40, 12, 12, 5, 10, 4, 4]) {
            0 => drop(self.get(&key).await),
            1 => {
                let known = self.learn(&key, random).await;
                if let Some(known) = known {
                    self.put(&key, self.load.recorder.next_version(&key, known), random).await;
                }
            }
            2 => {
                if let Some(known) = self.learn(&key, random).await {
                    self.delete(&key, self.load.recorder.next_version(&key, known)).await;
                }
            }
            3 => self.txn(random).await,
            4 => drop(self.list(random.pick(&PREFIXES).unwrap_or(&""), &key, 10).await),
            5 => self.read_behind_barrier(random).await,
            6 => {
                let _ = self.barrier().await;
            }
            // As if nobody had looked.
            _ => self.put(&key, self.load.recorder.next_version(&key, None), random).await,
        }
    }

    /// The version of a key, as the server or a replica knows it: `None` inside where nothing is known of it; outside where
    /// nobody could be asked.
    async fn learn(&self, key: &str, random: &mut Random) -> Option<Option<u64>> {
        let from_replica = random.chance(40);
        let shown = random.pick(&self.replicas).filter(|_| from_replica);
        if let Some(known) = shown.and_then(|replica| replica.get(key)) {
            return Some(Some(known.version.get()));
        }
        match self.get(key).await {
            Outcome::Found(state) => Some(Some(state.version)),
            Outcome::NotFound { deleted_at } => Some(deleted_at),
            _ => None,
        }
    }

    async fn get(&self, key: &str) -> Outcome {
        let question = self.load.recorder.ask(self.id, Asked::Get { key: key.into() });
        let outcome = match self.client.get(key.to_owned()).await {
            Ok(Versioned { value, version }) => {
                Outcome::Found(State { version: version.get(), value: Some(Stamp::of(&value)) })
            }
            Err(GetError::NotFound { deleted_at }) => Outcome::NotFound { deleted_at: deleted_at.map(Version::get) },
            Err(GetError::Request(RequestError::Unavailable { .. })) => Outcome::Refused,
            Err(other) => self.unexpected("a GET", &other.to_string()),
        };
        question.ends(outcome.clone());
        outcome
    }

    async fn put(&self, key: &str, version: u64, random: &mut Random) {
        self.put_of(key, version, load::length(random)).await;
    }

    async fn put_of(&self, key: &str, version: u64, length: usize) {
        let stamp = self.load.recorder.stamp();
        let write = Write { key: key.into(), state: State { version, value: Some(stamp) } };
        let question = self.load.recorder.ask(self.id, Asked::Write(write));
        let answer = self.client.put(key.to_owned(), stamp.value(length), Version::new(version)).await;
        question.ends(self.written(key, answer));
    }

    async fn delete(&self, key: &str, version: u64) {
        let write = Write { key: key.into(), state: State { version, value: None } };
        let question = self.load.recorder.ask(self.id, Asked::Write(write));
        let answer = self.client.delete(key.to_owned(), Version::new(version)).await;
        question.ends(self.written(key, answer));
    }

    fn written(&self, key: &str, answer: Result<(), PutError>) -> Outcome {
        match answer {
            Ok(()) => Outcome::Written,
            Err(PutError::StalePut) => Outcome::Stale { key: key.into() },
            Err(PutError::OutcomeUnknown { .. }) => Outcome::Unknown,
            Err(PutError::Request(RequestError::Unavailable { reason })) => {
                self.refused(&reason);
                Outcome::Refused
            }
            Err(other) => self.unexpected("a write", &other.to_string()),
        }
    }

    async fn txn(&self, random: &mut Random) {
        let mut known = BTreeMap::new();
        for _ in 0..random.between(1, 4) {
            let key = load::key(random);
            let Some(version) = self.learn(&key, random).await else { return };
            known.insert(key, version);
        }
        let mut txn = self.client.txn();
        let (mut checks, mut writes) = (Vec::new(), Vec::new());
        let count = known.len();
        for (key, current) in known {
            let next = || self.load.recorder.next_version(&key, current);
            match random.weighted(&[u64::from(count > 1), 3, 1]) {
                0 => {
                    let version = current.unwrap_or(0);
                    txn = txn.check(key.clone(), Version::new(version));
                    checks.push((key.into(), version));
                }
                1 => {
                    let (version, stamp, length) = (next(), self.load.recorder.stamp(), load::length(random));
                    txn = txn.put(key.clone(), stamp.value(length), Version::new(version));
                    writes.push(Write { key: key.into(), state: State { version, value: Some(stamp) } });
                }
                _ => {
                    let version = next();
                    txn = txn.delete(key.clone(), Version::new(version));
                    writes.push(Write { key: key.into(), state: State { version, value: None } });
                }
            }
        }
        let question = self.load.recorder.ask(self.id, Asked::Txn { checks, writes });
        let outcome = match txn.commit().await {
            Ok(revision) => Outcome::Committed { revision: revision.get() },
            Err(TxnError::StaleKey { key }) => Outcome::Stale { key: key.trim_matches('"').into() },
            Err(TxnError::OutcomeUnknown { .. }) => Outcome::Unknown,
            Err(TxnError::Request(RequestError::Unavailable { reason })) => {
                self.refused(&reason);
                Outcome::Refused
            }
            Err(other) => self.unexpected("a TXN", &other.to_string()),
        };
        question.ends(outcome);
    }

    async fn list(&self, prefix: &str, after: &str, limit: u32) -> Outcome {
        let asked = Asked::List { prefix: prefix.into(), after: after.into(), limit };
        let question = self.load.recorder.ask(self.id, asked);
        let outcome = match self.client.list(prefix.to_owned(), after.to_owned(), limit).await {
            Ok(entries) => {
                let entries = entries.iter().map(|(key, now)| frame::write(key, Some(&now.value), now.version));
                Outcome::Listed { entries: entries.collect() }
            }
            Err(RequestError::Unavailable { .. }) => Outcome::Refused,
            Err(other) => self.unexpected("a LIST", &other.to_string()),
        };
        question.ends(outcome.clone());
        outcome
    }

    async fn barrier(&self) -> Option<u64> {
        let question = self.load.recorder.ask(self.id, Asked::Barrier);
        match self.client.barrier().await {
            Ok(revision) => {
                question.ends(Outcome::Passed { revision: revision.get() });
                Some(revision.get())
            }
            Err(RequestError::Unavailable { .. }) => {
                question.ends(Outcome::Refused);
                None
            }
            Err(other) => {
                question.ends(self.unexpected("a barrier", &other.to_string()));
                None
            }
        }
    }

    /// What a replica shows behind a barrier is as good as asked of the server.
    async fn read_behind_barrier(&self, random: &mut Random) {
        let Some(replica) = random.pick(&self.replicas) else { return };
        let prefix = String::from_utf8_lossy(replica.prefix()).into_owned();
        let asked = Asked::List { prefix: prefix.as_str().into(), after: "".into(), limit: u32::MAX };
        let question = self.load.recorder.ask(self.id, asked);
        self.load.recorder.count("reads behind a barrier", 1);
        let passed = replica.barrier().await;
        let seen = self.load.recorder.see(self.id, &prefix, || replica.snapshot());
        match (passed, seen) {
            (Ok(_), Some(sight)) => {
                let entries = sight.keys.into_iter().map(|(key, state)| Write { key, state }).collect();
                question.ends(Outcome::Listed { entries });
            }
            (Err(RequestError::Unavailable { .. }), _) => question.ends(Outcome::Refused),
            (Ok(_), None) => {
                question.ends(self.unexpected("a barrier", "a replica that shows nothing"));
            }
            (Err(other), _) => question.ends(self.unexpected("a barrier", &other.to_string())),
        }
    }

    /// Waits until the last write was accepted, and until all replicas show that.
    async fn settle(self, mut load: Load) {
        let Some(truth) = load.settled().await else { return };
        let deadline = Instant::now() + SETTLE;
        let mut differs = String::new();
        let is_past = |passed: Option<u64>| passed.is_some_and(|revision| revision >= truth.revision);
        let healed = timeout_at(deadline, async {
            while !is_past(self.barrier().await) {
                sleep(Duration::from_millis(50)).await;
            }
            for replica in &self.replicas {
                while let Err(found) = self.is_true(replica, &truth) {
                    differs = found;
                    sleep(Duration::from_millis(50)).await;
                }
            }
        });
        if healed.await.is_err() {
            let (id, revision) = (self.id, truth.revision);
            load.recorder.find(format!("client {id} does not see revision {revision} within {SETTLE:?}: {differs}"));
        }
    }

    /// Whether a replica shows what the store holds in the end.
    fn is_true(&self, replica: &Replica, truth: &Truth) -> Result<(), String> {
        let prefix = String::from_utf8_lossy(replica.prefix()).into_owned();
        let seen = self.load.recorder.see(self.id, &prefix, || replica.snapshot());
        let Some(sight) = seen else { return Err(format!("{prefix:?} shows nothing")) };
        if !sight.is_current || sight.revision < truth.revision {
            return Err(format!("{prefix:?} is at revision {}, current: {}", sight.revision, sight.is_current));
        }
        let is_under = |(key, _): &(&Key, &State)| key.starts_with(&prefix);
        let expected: BTreeMap<_, _> =
            truth.keys.iter().filter(is_under).map(|(key, state)| (key.clone(), *state)).collect();
        // Something that was on the way may have been accepted after the last write: then the revision is a later one.
        if sight.revision == truth.revision && sight.keys != expected {
            return Err(format!("{prefix:?}: expected {expected:?}, found {:?}", sight.keys));
        }
        Ok(())
    }

    fn refused(&self, reason: &str) {
        if reason.contains("the disk refuses") {
            self.load.recorder.count(FULL, 1);
        }
    }

    fn unexpected(&self, asked: &str, found: &str) -> Outcome {
        self.load.recorder.find(format!("client {}: expected an answer to {asked}, found {found}", self.id));
        Outcome::Refused
    }
}

/// Asks for all that there is, by a client that nobody has used before; and before that, writes the last key.
pub(super) async fn judge(load: &Load) -> Option<(Truth, Write)> {
    let id = load.recorder.client();
    let (client, _) = connect(load, id).await?;
    let caller = Caller { id, load: load.clone(), client, replicas: Vec::new() };
    let deadline = Instant::now() + SETTLE;
    let judged = timeout_at(deadline, async {
        let (revision, last) = loop {
            let known = match caller.get(load::LAST).await {
                Outcome::Found(state) => Some(state.version),
                Outcome::NotFound { deleted_at } => deleted_at,
                _ => continue,
            };
            let (version, stamp) = (load.recorder.next_version(load::LAST, known), load.recorder.stamp());
            let write = Write { key: load::LAST.into(), state: State { version, value: Some(stamp) } };
            let asked = Asked::Txn { checks: Vec::new(), writes: vec![write.clone()] };
            let question = load.recorder.ask(id, asked);
            let txn = caller.client.txn().put(load::LAST, stamp.value(Stamp::LENGTH), Version::new(version));
            match txn.commit().await {
                Ok(revision) => {
                    question.ends(Outcome::Committed { revision: revision.get() });
                    break (revision.get(), write);
                }
                Err(TxnError::OutcomeUnknown { .. }) => question.ends(Outcome::Unknown),
                Err(TxnError::StaleKey { key }) => question.ends(Outcome::Stale { key: key.trim_matches('"').into() }),
                Err(_) => question.ends(Outcome::Refused),
            }
            sleep(Duration::from_millis(100)).await;
        };
        loop {
            if let Outcome::Listed { entries } = caller.list("", "", u32::MAX).await {
                let keys = entries.into_iter().map(|write| (write.key, write.state)).collect();
                return (Truth { revision, keys }, last);
            }
        }
    });
    judged.await.ok()
}

/// Writes large values for so long, or until a full disk has refused some. Answers whether it has.
pub(super) async fn flood(load: &Load, mut random: Random, lasts: Duration) -> bool {
    let id = load.recorder.client();
    let Some((client, _)) = connect(load, id).await else { return false };
    let before = load.recorder.times(FULL);
    let until = Instant::now() + lasts;
    let mut callers = tokio::task::JoinSet::new();
    for key in FLOOD {
        let caller = Caller { id, load: load.clone(), client: client.clone(), replicas: Vec::new() };
        let mut random = random.fork();
        callers.spawn(async move {
            while Instant::now() < until && caller.load.recorder.times(FULL) < before + ENOUGH {
                if let Some(known) = caller.learn(key, &mut random).await {
                    let version = caller.load.recorder.next_version(key, known);
                    caller.put_of(key, version, LARGE).await;
                }
            }
        });
    }
    while callers.join_next().await.is_some() {}
    load.recorder.times(FULL) > before
}
