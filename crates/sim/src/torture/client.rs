//! A production client that uses all kinds of requests, and has replicas.

use super::context::{self, ClientContext, FinalState, PREFIXES, WaitToken};
use crate::Random;
use crate::frame;
use crate::history::{Invocation, Key, Outcome, Stamp, State, Write};
use std::collections::BTreeMap;
use std::time::Duration;
use syncline_client::{Client, GetError, PutError, Replica, RequestError, TxnError, Version, Versioned};
use tokio::time::{Instant, sleep, timeout_at};

/// The longest time for a client to see the last write in the end.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The number of tasks that share a client.
const CALLERS: usize = 2;

/// The keys of a flood. A task per key writes large values until the server has refused at least `MIN_REFUSED` of them.
const FLOOD: [&str; 4] = ["flood", "a/b/flood", "b/flood", "hot/flood"];
const MIN_REFUSED: u64 = 20;
pub(super) const LARGE_VALUE: usize = 60_000;

/// The prefix of the keys of a hoard, and their maximum number. A task per client writes its share of the keys.
const HOARD: &str = "hoard/";
const MAX_HOARD: u64 = 800;
const HOARDERS: u64 = 4;

/// How often a deletion without a response is repeated.
const MAX_DELETIONS: usize = 20;

/// The name of the count of these refusals.
const REFUSED_BY_FULL_DISK: &str = "writes refused by a full disk";

/// A task that uses a client.
#[derive(Clone)]
struct Caller {
    id: u64,
    context: ClientContext,
    client: Client,
    replicas: Vec<Replica>,
}

/// Runs a client that sends requests during the load, and then waits until the round is done.
pub(super) async fn run(
    mut context: ClientContext,
    writing: WaitToken,
    settling: WaitToken,
    mut random: Random,
    replicas: usize,
) {
    let id = context.recorder.next_client();
    let Some((client, address)) = connect(&context, id).await else { return };
    let mut caller = Caller { id, context: context.clone(), client, replicas: Vec::new() };
    let first = usize::try_from(random.below(PREFIXES.len() as u64)).unwrap_or(0);
    let prefixes: Vec<_> = PREFIXES.iter().cycle().skip(first).take(replicas).copied().collect();
    let mut observers = tokio::task::JoinSet::new();
    for prefix in prefixes {
        while !context.is_done() {
            match caller.client.watch(prefix).await {
                Ok(replica) => {
                    observers.spawn(record_replica(context.clone(), id, replica.clone(), random.fork()));
                    caller.replicas.push(replica);
                    break;
                }
                // The client reconnects by itself.
                Err(RequestError::Unavailable { .. }) => {}
                Err(other) => {
                    return context
                        .recorder
                        .add_finding(format!("client {id} at {address}: a WATCH of {prefix:?}: {other}"));
                }
            }
        }
    }
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(caller.clone().run(random.fork()));
    }
    while let Some(ended) = callers.join_next().await {
        if let Err(error) = ended {
            context.recorder.add_finding(format!("client {id}: {error}"));
        }
    }
    // After this barrier, the outcome of all earlier requests is decided.
    let _ = caller.barrier().await;
    drop(writing);
    caller.settle(context.clone()).await;
    drop(settling);
    context.wait_until_done().await;
    observers.shutdown().await;
}

/// Connects, and retries until that succeeds or the round is done.
pub(super) async fn connect(context: &ClientContext, id: u64) -> Option<(Client, String)> {
    let address = match context.proxy.listen(id).await {
        Ok(address) => address,
        Err(error) => {
            context.recorder.add_finding(format!("can't listen: {error}"));
            return None;
        }
    };
    while !context.is_done() {
        match Client::connect_with(address.clone(), context::client_options()).await {
            Ok(client) => return Some((client, address)),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
    None
}

/// Records what a replica shows, now and then after it has changed.
async fn record_replica(mut context: ClientContext, id: u64, mut replica: Replica, mut random: Random) {
    let prefix = String::from_utf8_lossy(replica.prefix()).into_owned();
    loop {
        tokio::select! {
            () = context.wait_until_done() => return,
            _ = replica.changed() => {}
        }
        context.recorder.record_replica(id, &prefix, || replica.snapshot());
        sleep(Duration::from_millis(random.spread(5, 300))).await;
    }
}

impl Caller {
    async fn run(self, mut random: Random) {
        while self.context.is_loading() {
            self.run_random_operation(&mut random).await;
            sleep(context::random_pause(&mut random)).await;
        }
    }

    async fn run_random_operation(&self, random: &mut Random) {
        let key = context::random_key(random);
        match random.weighted(&[20, 40, 12, 12, 5, 10, 4, 4]) {
            0 => drop(self.get(&key).await),
            1 => {
                let known = self.current_version(&key, random).await;
                if let Some(known) = known {
                    self.put(&key, self.context.recorder.next_version(&key, known), random).await;
                }
            }
            2 => {
                if let Some(known) = self.current_version(&key, random).await {
                    self.delete(&key, self.context.recorder.next_version(&key, known)).await;
                }
            }
            3 => self.txn(random).await,
            4 => drop(self.list(random.pick(&PREFIXES).unwrap_or(&""), &key, 10).await),
            5 => self.read_behind_barrier(random).await,
            6 => {
                let _ = self.barrier().await;
            }
            // A write without a read before it.
            _ => self.put(&key, self.context.recorder.next_version(&key, None), random).await,
        }
    }

    /// Returns the version of a key according to the server or a replica. The inner `None` means that the key has no
    /// known version, the outer `None` that the read has failed.
    async fn current_version(&self, key: &str, random: &mut Random) -> Option<Option<u64>> {
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
        let operation = self.context.recorder.begin(self.id, Invocation::Get { key: key.into() });
        let outcome = match self.client.get(key.to_owned()).await {
            Ok(Versioned { value, version }) => {
                Outcome::Found(State { version: version.get(), value: Some(Stamp::of(&value)) })
            }
            Err(GetError::NotFound { deleted_at }) => Outcome::NotFound { deleted_at: deleted_at.map(Version::get) },
            Err(GetError::Request(RequestError::Unavailable { .. })) => Outcome::Refused,
            Err(other) => self.unexpected("a GET", &other.to_string()),
        };
        operation.finish(outcome.clone());
        outcome
    }

    async fn put(&self, key: &str, version: u64, random: &mut Random) {
        self.put_with_length(key, version, context::random_length(random)).await;
    }

    async fn put_with_length(&self, key: &str, version: u64, length: usize) {
        let stamp = self.context.recorder.next_stamp();
        let write = Write { key: key.into(), state: State { version, value: Some(stamp) } };
        let operation = self.context.recorder.begin(self.id, Invocation::Write(write));
        let response = self.client.put(key.to_owned(), stamp.value(length), Version::new(version)).await;
        operation.finish(self.written(key, response));
    }

    async fn delete(&self, key: &str, version: u64) -> Outcome {
        let write = Write { key: key.into(), state: State { version, value: None } };
        let operation = self.context.recorder.begin(self.id, Invocation::Write(write));
        let response = self.client.delete(key.to_owned(), Version::new(version)).await;
        let outcome = self.written(key, response);
        operation.finish(outcome.clone());
        outcome
    }

    fn written(&self, key: &str, response: Result<(), PutError>) -> Outcome {
        match response {
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
            let key = context::random_key(random);
            let Some(version) = self.current_version(&key, random).await else { return };
            known.insert(key, version);
        }
        let mut txn = self.client.txn();
        let (mut checks, mut writes) = (Vec::new(), Vec::new());
        let count = known.len();
        for (key, current) in known {
            let next = || self.context.recorder.next_version(&key, current);
            match random.weighted(&[u64::from(count > 1), 3, 1]) {
                0 => {
                    let version = current.unwrap_or(0);
                    txn = txn.check(key.clone(), Version::new(version));
                    checks.push((key.into(), version));
                }
                1 => {
                    let (version, stamp, length) =
                        (next(), self.context.recorder.next_stamp(), context::random_length(random));
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
        let operation = self.context.recorder.begin(self.id, Invocation::Txn { checks, writes });
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
        operation.finish(outcome);
    }

    async fn list(&self, prefix: &str, after: &str, limit: u32) -> Outcome {
        let asked = Invocation::List { prefix: prefix.into(), after: after.into(), limit };
        let operation = self.context.recorder.begin(self.id, asked);
        let outcome = match self.client.list(prefix.to_owned(), after.to_owned(), limit).await {
            Ok(entries) => {
                let entries = entries.iter().map(|(key, now)| frame::write(key, Some(&now.value), now.version));
                Outcome::Listed { entries: entries.collect() }
            }
            Err(RequestError::Unavailable { .. }) => Outcome::Refused,
            Err(other) => self.unexpected("a LIST", &other.to_string()),
        };
        operation.finish(outcome.clone());
        outcome
    }

    async fn barrier(&self) -> Option<u64> {
        let operation = self.context.recorder.begin(self.id, Invocation::Barrier);
        match self.client.barrier().await {
            Ok(revision) => {
                operation.finish(Outcome::Passed { revision: revision.get() });
                Some(revision.get())
            }
            Err(RequestError::Unavailable { .. }) => {
                operation.finish(Outcome::Refused);
                None
            }
            Err(other) => {
                operation.finish(self.unexpected("a barrier", &other.to_string()));
                None
            }
        }
    }

    /// Reads a replica after a barrier, and records this as a LIST, since both must return the same.
    async fn read_behind_barrier(&self, random: &mut Random) {
        let Some(replica) = random.pick(&self.replicas) else { return };
        let prefix = String::from_utf8_lossy(replica.prefix()).into_owned();
        let asked = Invocation::List { prefix: prefix.as_str().into(), after: "".into(), limit: u32::MAX };
        let operation = self.context.recorder.begin(self.id, asked);
        self.context.recorder.count("reads behind a barrier", 1);
        let passed = replica.barrier().await;
        let seen = self.context.recorder.record_replica(self.id, &prefix, || replica.snapshot());
        match (passed, seen) {
            (Ok(_), Some(sight)) => {
                let entries = sight.keys.into_iter().map(|(key, state)| Write { key, state }).collect();
                operation.finish(Outcome::Listed { entries });
            }
            (Err(RequestError::Unavailable { .. }), _) => operation.finish(Outcome::Refused),
            (Ok(_), None) => {
                operation.finish(self.unexpected("a barrier", "a replica that shows nothing"));
            }
            (Err(other), _) => operation.finish(self.unexpected("a barrier", &other.to_string())),
        }
    }

    /// Waits until the last write was accepted and all replicas show it.
    async fn settle(self, mut context: ClientContext) {
        let Some(final_state) = context.wait_for_final_state().await else { return };
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        let mut differs = String::new();
        let is_past = |passed: Option<u64>| passed.is_some_and(|revision| revision >= final_state.revision);
        let healed = timeout_at(deadline, async {
            while !is_past(self.barrier().await) {
                sleep(Duration::from_millis(50)).await;
            }
            for replica in &self.replicas {
                while let Err(found) = self.matches_final_state(replica, &final_state) {
                    differs = found;
                    sleep(Duration::from_millis(50)).await;
                }
            }
        });
        if healed.await.is_err() {
            let (id, revision) = (self.id, final_state.revision);
            context.recorder.add_finding(format!(
                "client {id} does not see revision {revision} within {SETTLE_TIMEOUT:?}: {differs}"
            ));
        }
    }

    /// Checks that a replica shows the final state, and returns the difference as an error.
    fn matches_final_state(&self, replica: &Replica, final_state: &FinalState) -> Result<(), String> {
        let prefix = String::from_utf8_lossy(replica.prefix()).into_owned();
        let seen = self.context.recorder.record_replica(self.id, &prefix, || replica.snapshot());
        let Some(sight) = seen else { return Err(format!("{prefix:?} shows nothing")) };
        if !sight.is_current || sight.revision < final_state.revision {
            return Err(format!("{prefix:?} is at revision {}, current: {}", sight.revision, sight.is_current));
        }
        let is_under = |(key, _): &(&Key, &State)| key.starts_with(&prefix);
        let expected: BTreeMap<_, _> =
            final_state.keys.iter().filter(is_under).map(|(key, state)| (key.clone(), *state)).collect();
        // A request that was in flight may have been accepted after the last write. The revision is later then.
        if sight.revision == final_state.revision && sight.keys != expected {
            return Err(format!("{prefix:?}: expected {expected:?}, found {:?}", sight.keys));
        }
        Ok(())
    }

    fn refused(&self, reason: &str) {
        if reason.contains("the disk refuses") {
            self.context.recorder.count(REFUSED_BY_FULL_DISK, 1);
        }
    }

    fn unexpected(&self, request: &str, found: &str) -> Outcome {
        self.context
            .recorder
            .add_finding(format!("client {}: expected a response to {request}, found {found}", self.id));
        Outcome::Refused
    }
}

/// Writes the last key, and then reads the whole store, with a new client.
pub(super) async fn read_final_state(context: &ClientContext) -> Option<(FinalState, Write)> {
    let id = context.recorder.next_client();
    let (client, _) = connect(context, id).await?;
    let caller = Caller { id, context: context.clone(), client, replicas: Vec::new() };
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    let result = timeout_at(deadline, async {
        let (revision, last) = loop {
            let known = match caller.get(context::LAST_KEY).await {
                Outcome::Found(state) => Some(state.version),
                Outcome::NotFound { deleted_at } => deleted_at,
                _ => continue,
            };
            let (version, stamp) =
                (context.recorder.next_version(context::LAST_KEY, known), context.recorder.next_stamp());
            let write = Write { key: context::LAST_KEY.into(), state: State { version, value: Some(stamp) } };
            let asked = Invocation::Txn { checks: Vec::new(), writes: vec![write.clone()] };
            let operation = context.recorder.begin(id, asked);
            let txn = caller.client.txn().put(context::LAST_KEY, stamp.value(Stamp::LENGTH), Version::new(version));
            match txn.commit().await {
                Ok(revision) => {
                    operation.finish(Outcome::Committed { revision: revision.get() });
                    break (revision.get(), write);
                }
                Err(TxnError::OutcomeUnknown { .. }) => operation.finish(Outcome::Unknown),
                Err(TxnError::StaleKey { key }) => {
                    operation.finish(Outcome::Stale { key: key.trim_matches('"').into() });
                }
                Err(_) => operation.finish(Outcome::Refused),
            }
            sleep(Duration::from_millis(100)).await;
        };
        loop {
            if let Outcome::Listed { entries } = caller.list("", "", u32::MAX).await {
                let keys = entries.into_iter().map(|write| (write.key, write.state)).collect();
                return (FinalState { revision, keys }, last);
            }
        }
    });
    result.await.ok()
}

/// Writes large values for a time, or until a full disk has refused some. Returns whether it has.
pub(super) async fn flood(context: &ClientContext, mut random: Random, duration: Duration) -> bool {
    let id = context.recorder.next_client();
    let Some((client, _)) = connect(context, id).await else { return false };
    let before = context.recorder.count_of(REFUSED_BY_FULL_DISK);
    let until = Instant::now() + duration;
    let mut callers = tokio::task::JoinSet::new();
    for key in FLOOD {
        let caller = Caller { id, context: context.clone(), client: client.clone(), replicas: Vec::new() };
        let mut random = random.fork();
        callers.spawn(async move {
            while Instant::now() < until
                && caller.context.recorder.count_of(REFUSED_BY_FULL_DISK) < before + MIN_REFUSED
            {
                if let Some(known) = caller.current_version(key, &mut random).await {
                    let version = caller.context.recorder.next_version(key, known);
                    caller.put_with_length(key, version, LARGE_VALUE).await;
                }
            }
        });
    }
    while callers.join_next().await.is_some() {}
    context.recorder.count_of(REFUSED_BY_FULL_DISK) > before
}

/// Writes large values to as many keys as possible, for a time, or until a full disk has refused some. Deletions of these
/// keys free space.
pub(super) async fn hoard(context: &ClientContext, mut random: Random, duration: Duration) {
    let id = context.recorder.next_client();
    let Some((client, _)) = connect(context, id).await else { return };
    let before = context.recorder.count_of(REFUSED_BY_FULL_DISK);
    let until = Instant::now() + duration;
    let mut callers = tokio::task::JoinSet::new();
    for first in 0..HOARDERS {
        let caller = Caller { id, context: context.clone(), client: client.clone(), replicas: Vec::new() };
        let mut random = random.fork();
        callers.spawn(async move {
            for number in (first..MAX_HOARD).step_by(usize::try_from(HOARDERS).unwrap_or(1)) {
                let refused = caller.context.recorder.count_of(REFUSED_BY_FULL_DISK);
                if Instant::now() >= until || refused >= before + MIN_REFUSED {
                    return;
                }
                let key = format!("{HOARD}{number}");
                let Some(known) = caller.current_version(&key, &mut random).await else { continue };
                let version = caller.context.recorder.next_version(&key, known);
                caller.put_with_length(&key, version, LARGE_VALUE).await;
            }
        });
    }
    while callers.join_next().await.is_some() {}
}

/// Deletes all keys of the hoard. Returns the deletions that were refused, or `None` if there is no hoard.
pub(super) async fn delete_hoard(context: &ClientContext) -> Option<Vec<String>> {
    let id = context.recorder.next_client();
    let (client, _) = connect(context, id).await?;
    let caller = Caller { id, context: context.clone(), client, replicas: Vec::new() };
    let mut keys = None;
    for _ in 0..MAX_DELETIONS {
        if let Outcome::Listed { entries } = caller.list(HOARD, "", u32::MAX).await {
            keys = Some(entries);
            break;
        }
    }
    let keys = keys.filter(|keys| !keys.is_empty())?;
    let mut refusals = Vec::new();
    for Write { key, state } in keys {
        for _ in 0..MAX_DELETIONS {
            let version = caller.context.recorder.next_version(&key, Some(state.version));
            match caller.delete(&key, version).await {
                // Without a response, the same deletion can be repeated: it is stale if it has succeeded.
                Outcome::Unknown => {}
                Outcome::Refused => {
                    refusals.push(key.to_string());
                    break;
                }
                _ => break,
            }
        }
    }
    Some(refusals)
}
