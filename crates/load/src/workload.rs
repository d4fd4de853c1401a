//! The workloads: reads, compare-and-swap, fan-out, snapshots.

use crate::keys::{stamp, write};
use crate::{Error, Event, Keys, Link, Measured, Pace, Peer, Random, Request, Response, Work, closed_loop};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Barrier;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How many requests are in flight while keys are read or written before the measurement.
const PREPARING: u16 = 2048;

/// The time limit of preparations, which end by themselves.
const NO_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// How many requests are sent at the same time, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many connections send requests.
    pub connections: usize,
    /// How many requests are in flight on each.
    pub depth: u16,
    /// How long the measurement lasts.
    pub time: Duration,
}

/// The parameters of a fan-out: one connection writes, the others watch.
#[derive(Clone, Copy, Debug)]
pub struct Fanout {
    /// How many connections receive every change.
    pub watchers: usize,
    /// How many writes are in flight.
    pub depth: u16,
    /// The most writes per second.
    pub rate: Option<u32>,
    /// How long the writer writes.
    pub time: Duration,
    /// How long deliveries may still arrive after the last write.
    pub late: Duration,
}

/// Reads of random keys, whose versions and values are known.
struct Reads {
    keys: Keys,
    random: Random,
}

impl Work for Reads {
    fn next(&mut self) -> Option<(usize, Request)> {
        let key = usize::try_from(self.random.below(self.keys.count() as u64)).unwrap_or(0);
        Some((key, Request::Get { key: self.keys.name(key) }))
    }

    fn check(&mut self, key: usize, answer: &Response) -> Result<(), Error> {
        match answer {
            Response::Found { value, version } if *version == self.keys.version(key) => self.keys.check(key, value),
            other => Err(Error::unexpected(format!("version {}", self.keys.version(key)), other.redacted())),
        }
    }
}

/// Writes of every n-th key, one after the other, each with the version that it replaces.
struct Writes {
    keys: Keys,
    place: usize,
    first: usize,
    step: usize,
    /// Whether the server increments versions by 1, so that two writes of a key may be in flight.
    counts: bool,
    /// How many writes are left. `None`: no limit.
    rest: Option<usize>,
    written: u64,
    epoch: Instant,
}

impl Writes {
    fn new(peer: &impl Peer, keys: &Keys, first: usize, step: usize) -> Self {
        let (keys, counts) = (keys.clone(), peer.counts());
        Self { keys, place: first, first, step, counts, rest: None, written: 0, epoch: Instant::now() }
    }

    /// Returns the next write of a key.
    fn put(&mut self, key: usize, stamp: u64) -> Request {
        self.written += 1;
        let replaces = self.keys.version(key);
        if self.counts {
            self.keys.set_version(key, replaces + 1);
        }
        Request::Put { key: self.keys.name(key), value: self.keys.value(key, stamp, self.written), replaces }
    }

    /// Writes the last key, which is the end for watchers.
    async fn end(&mut self, link: &mut Link) -> Result<(), Error> {
        let last = self.keys.last();
        let request = self.put(last, 0);
        let (answer, _) = link.ask(&request).await?;
        self.check(last, &answer)
    }
}

impl Work for Writes {
    fn next(&mut self) -> Option<(usize, Request)> {
        if let Some(rest) = &mut self.rest {
            *rest = rest.checked_sub(1)?;
        }
        let key = self.place;
        self.place += self.step;
        if self.place >= self.keys.count() {
            self.place = self.first;
        }
        // 0 marks the last value.
        let now = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1);
        Some((key, self.put(key, now)))
    }

    fn check(&mut self, key: usize, answer: &Response) -> Result<(), Error> {
        match answer {
            Response::Written { version } | Response::Found { version, .. } => {
                let known = self.keys.version(key);
                match self.counts {
                    // A later write of the same key may be in flight already.
                    true if *version <= known && *version > 0 => Ok(()),
                    false if *version > known => {
                        self.keys.set_version(key, *version);
                        Ok(())
                    }
                    _ => Err(Error::unexpected(format!("a version after {known}"), version.to_string())),
                }
            }
            other => Err(Error::unexpected("a write to be accepted", other.redacted())),
        }
    }
}

/// Reads each key once, the last key included.
struct ReadAll {
    keys: Keys,
    place: usize,
}

impl Work for ReadAll {
    fn next(&mut self) -> Option<(usize, Request)> {
        let key = self.place;
        self.place += 1;
        (key <= self.keys.last()).then(|| (key, Request::Get { key: self.keys.name(key) }))
    }

    fn check(&mut self, key: usize, answer: &Response) -> Result<(), Error> {
        let version = match answer {
            Response::Found { version, .. } => *version,
            Response::Missing => 0,
            other => return Err(Error::unexpected("a value", other.redacted())),
        };
        self.keys.set_version(key, version);
        Ok(())
    }
}

/// Returns the pace of a connection that prepares a measurement.
fn preparing() -> Pace {
    Pace { depth: PREPARING, pause: None, until: Instant::now() + NO_LIMIT }
}

/// Reads the version of each key, which an earlier run may have written.
///
/// # Errors
/// [`Error`] if a connection fails, or a response is wrong.
pub async fn learn(peer: &impl Peer, keys: &Keys) -> Result<(), Error> {
    closed_loop(&mut peer.open().await?, preparing(), &mut ReadAll { keys: keys.clone(), place: 0 }).await?;
    Ok(())
}

/// Writes each key once.
///
/// # Errors
/// [`Error`] if a connection fails, or a response is wrong.
pub async fn fill(peer: &impl Peer, keys: &Keys) -> Result<(), Error> {
    let mut writes = Writes::new(peer, keys, 0, 1);
    writes.rest = Some(keys.count());
    closed_loop(&mut peer.open().await?, preparing(), &mut writes).await?;
    Ok(())
}

/// Reads random keys, and checks their values and versions.
///
/// # Errors
/// [`Error`] if a connection fails, or a response is wrong.
pub async fn get<P: Peer>(peer: &P, keys: &Keys, load: Load) -> Result<(Measured, Duration), Error> {
    on_every_connection(peer, load, |connection| Reads { keys: keys.clone(), random: Random::new(connection as u64) })
        .await
}

/// The most requests that a paced reader has in flight.
const MAX_LATE: u16 = 8192;

/// Reads random keys over one connection, one after each pause, for a time or until `end` receives something.
///
/// Sends to `connected` once the connection is open. Does not wait for a response before the next request, except when
/// too many requests are in flight.
///
/// # Errors
/// [`Error`] if a connection fails, or a response is wrong.
pub async fn get_until(
    peer: &impl Peer,
    keys: &Keys,
    pause: Duration,
    time: Duration,
    connected: oneshot::Sender<()>,
    mut end: oneshot::Receiver<()>,
) -> Result<Measured, Error> {
    let mut link = peer.open().await?;
    let _ = connected.send(());
    let pace = Pace { depth: MAX_LATE, pause: Some(pause), until: Instant::now() + time };
    let reads = Reads { keys: keys.clone(), random: Random::new(0) };
    let mut work = Until { work: reads, is_over: || !matches!(end.try_recv(), Err(TryRecvError::Empty)) };
    closed_loop(&mut link, pace, &mut work).await
}

/// Work that a condition ends early.
struct Until<W, E> {
    work: W,
    is_over: E,
}

impl<W: Work, E: FnMut() -> bool> Work for Until<W, E> {
    fn next(&mut self) -> Option<(usize, Request)> {
        if (self.is_over)() { None } else { self.work.next() }
    }

    fn check(&mut self, key: usize, answer: &Response) -> Result<(), Error> {
        self.work.check(key, answer)
    }
}

/// Writes `puts` times over one connection, one key after the other, and then the last key. Stops early after `time`.
/// Returns how many writes there were, that of the last key included.
///
/// # Errors
/// [`Error`] if a connection fails, or a response is wrong.
pub async fn write_all(
    peer: &impl Peer,
    keys: &Keys,
    puts: usize,
    depth: u16,
    time: Duration,
) -> Result<(Measured, u64), Error> {
    let mut link = peer.open().await?;
    let mut work = Writes::new(peer, keys, 0, 1);
    work.rest = Some(puts);
    let pace = Pace { depth, pause: None, until: Instant::now() + time };
    let measured = closed_loop(&mut link, pace, &mut work).await?;
    work.end(&mut link).await?;
    Ok((measured, work.written))
}

/// Measures compare-and-swap: each connection writes its own keys.
///
/// # Errors
/// [`Error`] if a connection fails, or a response is wrong.
pub async fn put<P: Peer>(peer: &P, keys: &Keys, load: Load) -> Result<(Measured, Duration), Error> {
    // With fewer keys than connections, some write the same keys, and their writes may be stale.
    let step = load.connections;
    on_every_connection(peer, load, |connection| Writes::new(peer, keys, connection % keys.count(), step)).await
}

/// Opens every connection, and then runs the closed loop on all of them at the same time.
async fn on_every_connection<P: Peer, W: Work + Send + 'static>(
    peer: &P,
    load: Load,
    work: impl Fn(usize) -> W,
) -> Result<(Measured, Duration), Error> {
    let mut prepared = Vec::new();
    for connection in 0..load.connections {
        prepared.push((peer.open().await?, work(connection)));
    }
    let started = Instant::now();
    let pace = Pace { depth: load.depth, pause: None, until: started + load.time };
    let mut running = JoinSet::new();
    for (mut link, mut work) in prepared {
        running.spawn(async move { closed_loop(&mut link, pace, &mut work).await });
    }
    let all = gather(running).await?;
    Ok((all, started.elapsed()))
}

/// Returns a connection that receives every change from now on.
///
/// # Errors
/// [`Error`] if a connection fails, or a response is wrong.
pub async fn follow(peer: &impl Peer) -> Result<Link, Error> {
    let mut link = peer.open().await?;
    match link.ask(&Request::Follow { since: None }).await? {
        (Response::Watermark { .. } | Response::Missing, _) => Ok(link),
        (other, _) => Err(Error::unexpected("to be sent changes", other.redacted())),
    }
}

/// Lets a watcher read that has not read for a while. Returns how many changes it receives until it is up to date.
///
/// # Errors
/// [`Error`] if a connection fails, or a response is wrong.
pub async fn wake(link: &mut Link) -> Result<u64, Error> {
    Ok(link.ask(&Request::Barrier).await?.1)
}

/// Measures a snapshot: each connection receives all keys, as a new client does.
///
/// # Errors
/// [`Error`] if a connection fails, or a response is wrong.
pub async fn snapshot<P: Peer>(peer: &P, connections: usize) -> Result<(Measured, Duration), Error> {
    let mut links = Vec::new();
    for _ in 0..connections {
        links.push(peer.open().await?);
    }
    let started = Instant::now();
    let mut running = JoinSet::new();
    for mut link in links {
        running.spawn(async move {
            let mut measured = Measured::new()?;
            link.send(crate::Slot(0), &Request::Follow { since: Some(0) })?;
            loop {
                match link.receive().await? {
                    Event::Change { .. } => measured.record(started.elapsed()),
                    Event::Response(..) => return Ok(measured),
                    Event::Ready | Event::Nothing => {}
                }
            }
        });
    }
    let all = gather(running).await?;
    Ok((all, started.elapsed()))
}

/// Measures fan-out: one connection writes, the others measure how long a write takes to reach them.
///
/// Each watcher must receive the writes in order. Writes that it does not receive, because later writes of the same key
/// replaced them, are counted.
///
/// # Errors
/// [`Error`] if a connection fails, or a response is wrong.
pub async fn fanout<P: Peer>(peer: &P, keys: &Keys, fanout: Fanout) -> Result<(Measured, Duration), Error> {
    let mut writer = peer.open().await?;
    let ready = Arc::new(Barrier::new(fanout.watchers + 1));
    let mut work = Writes::new(peer, keys, 0, 1);
    let epoch = work.epoch;
    let mut watching = JoinSet::new();
    for _ in 0..fanout.watchers {
        let mut link = follow(peer).await?;
        let ready = ready.clone();
        // Allocated before the start: a thousand of them take longer than the first writes.
        let measured = Measured::new()?;
        watching.spawn(async move {
            ready.wait().await;
            watch(&mut link, epoch, measured).await
        });
    }
    ready.wait().await;
    let started = Instant::now();
    let pause = fanout.rate.map(|rate| Duration::from_secs_f64(1.0 / f64::from(rate)));
    let pace = Pace { depth: fanout.depth, pause, until: started + fanout.time };
    // A watcher that fails also ends the measurement.
    tokio::select! {
        biased;
        written = closed_loop(&mut writer, pace, &mut work) => { written?; }
        failed = first_failure(&mut watching) => return Err(failed),
    }
    work.end(&mut writer).await?;
    let all = timeout(fanout.late, gather(watching)).await;
    let all = all.map_err(|_| Error::Late { what: "delivered", within: fanout.late })??;
    Ok((all, started.elapsed()))
}

/// Measures every delivery until the last.
async fn watch(link: &mut Link, epoch: Instant, mut measured: Measured) -> Result<Measured, Error> {
    let mut last = 0;
    loop {
        link.turn().await?;
        // One clock reading for everything that arrived together.
        let now = epoch.elapsed();
        while let Some(event) = link.next_event()? {
            let Event::Change { value, place } = event else { continue };
            // If the server reports no position, the order of the writer's requests counts.
            let write = write(&value);
            if let Some(place) = place.or(write) {
                if place <= last {
                    let found = format!("write {place} after {last}");
                    return Err(Error::unexpected("changes in the order of writes", found));
                }
                last = place;
            }
            match stamp(&value) {
                Some(0) => {
                    // This is the last value. Only the others were measured.
                    measured.skipped = write.map_or(0, |write| write.saturating_sub(measured.count() + 1));
                    return Ok(measured);
                }
                Some(sent) => {
                    measured.record(now.saturating_sub(Duration::from_nanos(sent)));
                    measured.broadcasts += 1;
                }
                None => {}
            }
        }
    }
}

/// Waits until one of several tasks fails. Never returns if none does.
async fn first_failure(running: &mut JoinSet<Result<Measured, Error>>) -> Error {
    loop {
        match running.join_next().await {
            Some(Ok(Err(error))) => return error,
            Some(Ok(Ok(_))) => return Error::Broken("a watcher ended before the last write".into()),
            Some(Err(error)) => return Error::Broken(error.to_string()),
            None => std::future::pending().await,
        }
    }
}

/// Adds up the measurements of all tasks. Returns the first failure.
async fn gather(mut running: JoinSet<Result<Measured, Error>>) -> Result<Measured, Error> {
    let mut all = Measured::new()?;
    while let Some(ended) = running.join_next().await {
        all.add(&ended.map_err(|error| Error::Broken(error.to_string()))??);
    }
    Ok(all)
}
