//! What the load generator does.

use super::Measured;
use super::link::{FIRST, Link};
use super::random::Random;
use crate::args::Bench;
use crate::failure::Failure;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use syncline_client::Dialer;
use syncline_wire::{Message, Revision, Tag, Version};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

/// The bytes of a time at the front of a value.
pub(crate) const STAMP: usize = 8;

/// How many requests are in flight while keys are looked up or written before the measurement.
const PREPARING: usize = 2048;

/// How long deliveries may still come when no more is written.
const LATE: Duration = Duration::from_secs(10);

/// The keys of one connection: every n-th, with the version that each is at.
struct Keys {
    first: u64,
    step: u64,
    versions: Vec<u64>,
}

impl Keys {
    fn of(args: &Bench, connection: u64, connections: u64) -> Self {
        let count = args.keys.saturating_sub(connection).div_ceil(connections).max(1);
        Self { first: connection, step: connections, versions: (0..count).map(|_| 0).collect() }
    }

    fn name(&self, place: usize) -> Bytes {
        key(self.first + place as u64 * self.step)
    }

    /// Learns which version each key is at: an earlier run may have left it.
    async fn learn(&mut self, link: &mut Link) -> Result<(), Failure> {
        self.each(
            link,
            |keys, place| Message::get(FIRST, keys.name(place)),
            |keys, place, answer| {
                let version = match answer {
                    Message::Put(put) => put.version.get(),
                    Message::Error(error) if error.text.ends_with(b"not found") => 0,
                    other => return Err(unexpected(&other)),
                };
                if let Some(known) = keys.versions.get_mut(place) {
                    *known = version;
                }
                Ok(())
            },
        )
        .await
    }

    /// Puts each key once.
    async fn fill(&mut self, link: &mut Link, value: &Bytes) -> Result<(), Failure> {
        self.each(
            link,
            |keys, place| keys.put(place, FIRST, value.clone()),
            |_, _, answer| match answer {
                Message::Put(_) => Ok(()),
                other => Err(unexpected(&other)),
            },
        )
        .await
    }

    /// Sends a request for each key, many in flight, and takes the answers.
    async fn each(
        &mut self,
        link: &mut Link,
        mut request: impl FnMut(&mut Self, usize) -> Message,
        mut take: impl FnMut(&mut Self, usize, Message) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut asked = 0;
        for answered in 0..self.versions.len() {
            while asked < self.versions.len() && asked < answered + PREPARING {
                link.send(&request(self, asked))?;
                asked += 1;
            }
            take(self, answered, link.answer().await?)?;
        }
        Ok(())
    }

    /// The next put of a key.
    fn put(&mut self, place: usize, tag: Tag, value: Bytes) -> Message {
        let name = self.name(place);
        let version = self.versions.get_mut(place).map_or(1, |version| {
            *version += 1;
            *version
        });
        Message::put(tag, name, value, Version::new(version))
    }
}

fn key(number: u64) -> Bytes {
    // 24 bytes for up to a billion keys.
    format!("syncline-bench/{number:09}").into()
}

fn unexpected(message: &Message) -> Failure {
    Failure::Unavailable(format!("expected the answer to a request, found {message}"))
}

/// Compare-and-swap: each connection writes its own keys, beside watchers that read nothing meanwhile.
pub(crate) async fn put(args: &Bench, dialer: &Arc<Dialer>) -> Result<(Measured, Duration), Failure> {
    let mut stalled = Vec::new();
    for _ in 0..args.stalled {
        let mut link = Link::open(dialer, false).await?;
        follow(&mut link, PREFIX).await?;
        stalled.push(link);
    }
    let (mut measured, took) = put_alone(args, dialer).await?;
    for mut link in stalled {
        measured.woken += wake(&mut link).await?;
    }
    Ok((measured, took))
}

/// Has a watcher read that has not for a while; answers how many changes it is sent until it holds the latest of every key.
async fn wake(link: &mut Link) -> Result<u64, Failure> {
    link.send(&Message::mark(FIRST, Revision::ZERO))?;
    let mut changes = 0;
    loop {
        match link.receive().await? {
            Message::Mark(mark) if mark.tag == FIRST => return Ok(changes),
            Message::Mark(_) => {}
            _ => changes += 1,
        }
    }
}

async fn put_alone(args: &Bench, dialer: &Arc<Dialer>) -> Result<(Measured, Duration), Failure> {
    let value = Bytes::from(vec![b'v'; args.value_size.0]);
    on_every_connection(args, |args, connection| {
        let (value, dialer) = (value.clone(), dialer.clone());
        async move {
            let mut keys = Keys::of(&args, connection, args.connections);
            let mut link = Link::open(&dialer, args.base).await?;
            keys.learn(&mut link).await?;
            let mut place = 0;
            let next = move |tag| {
                place = (place + 1) % keys.versions.len();
                keys.put(place, tag, value.clone())
            };
            Ok((link, next))
        }
    })
    .await
}

/// Reads of random keys.
pub(crate) async fn get(args: &Bench, dialer: &Arc<Dialer>) -> Result<(Measured, Duration), Failure> {
    let value = Bytes::from(vec![b'v'; args.value_size.0]);
    let mut keys = Keys::of(args, 0, 1);
    let mut link = Link::open(dialer, args.base).await?;
    keys.learn(&mut link).await?;
    keys.fill(&mut link, &value).await?;
    on_every_connection(args, |args, connection| {
        let dialer = dialer.clone();
        async move {
            let link = Link::open(&dialer, args.base).await?;
            let mut random = Random::new(connection);
            let next = move |tag| Message::get(tag, key(random.below(args.keys)));
            Ok((link, next))
        }
    })
    .await
}

/// Prepares every connection, and then has each keep its depth of requests in flight, all at the same time.
async fn on_every_connection<P, N>(
    args: &Bench,
    prepare: impl Fn(Arc<Bench>, u64) -> P,
) -> Result<(Measured, Duration), Failure>
where
    P: Future<Output = Result<(Link, N), Failure>> + Send + 'static,
    N: FnMut(Tag) -> Message + Send + 'static,
{
    let args = Arc::new(args.clone());
    let mut prepared = Vec::new();
    for connection in 0..args.connections {
        prepared.push(prepare(args.clone(), connection).await?);
    }
    let started = Instant::now();
    let mut running = JoinSet::new();
    for (link, next) in prepared {
        running.spawn(closed_loop(link, args.depth, None, started + args.time, next));
    }
    let all = gather(running).await?;
    Ok((all, started.elapsed()))
}

/// Keeps `depth` requests in flight until a time, but sends no two of them within `pause`; then waits for the last answers.
async fn closed_loop(
    mut link: Link,
    depth: u64,
    pause: Option<Duration>,
    until: Instant,
    mut next: impl FnMut(Tag) -> Message,
) -> Result<Measured, Failure> {
    let mut measured = Measured::new()?;
    let mut sent = VecDeque::new();
    let mut tag = 0_u16;
    let mut due = Instant::now();
    loop {
        let now = Instant::now();
        while now < until && now >= due && (sent.len() as u64) < depth {
            tag = tag % 60_000 + 1;
            link.send(&next(Tag::new(tag)))?;
            sent.push_back(now);
            if let Some(pause) = pause {
                due += pause;
            }
        }
        if sent.is_empty() && now >= until {
            return Ok(measured);
        }
        if due > now {
            // Cut short where it is time for the next one.
            timeout_at(due.into(), link.turn()).await.unwrap_or(Ok(()))?;
        } else {
            link.turn().await?;
        }
        while let Some(message) = link.next()? {
            match message {
                Message::Put(put) if put.tag == Tag::BROADCAST => measured.broadcasts += 1,
                Message::Put(_) => measured.record(sent.pop_front().map_or(Duration::ZERO, |sent| sent.elapsed())),
                other => return Err(unexpected(&other)),
            }
        }
    }
}

/// What the keys of the load generator begin with.
const PREFIX: &str = "syncline-bench/";

/// Watches what changes under a prefix from now on.
async fn follow(link: &mut Link, prefix: &'static str) -> Result<(), Failure> {
    // The head: of what is there already, nothing is wanted.
    link.send(&Message::mark(FIRST, Revision::ZERO))?;
    let Message::Mark(head) = link.answer().await? else { return Ok(()) };
    link.send(&Message::watch(FIRST, prefix, head.revision))?;
    match link.answer().await? {
        Message::Mark(_) => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// Everything that is there, to each connection, as to a client that has just come.
pub(crate) async fn snapshot(args: &Bench, dialer: &Arc<Dialer>) -> Result<(Measured, Duration), Failure> {
    let value = Bytes::from(vec![b'v'; args.value_size.0]);
    let mut keys = Keys::of(args, 0, 1);
    let mut link = Link::open(dialer, false).await?;
    keys.learn(&mut link).await?;
    keys.fill(&mut link, &value).await?;
    let mut links = Vec::new();
    for _ in 0..args.connections {
        links.push(Link::open(dialer, false).await?);
    }
    let started = Instant::now();
    let mut running = JoinSet::new();
    for mut link in links {
        running.spawn(async move {
            let mut measured = Measured::new()?;
            link.send(&Message::watch(FIRST, PREFIX, Revision::ZERO))?;
            loop {
                match link.receive().await? {
                    Message::Mark(mark) if mark.tag == FIRST => return Ok(measured),
                    Message::Mark(_) => {}
                    _ => measured.record(started.elapsed()),
                }
            }
        });
    }
    let all = gather(running).await?;
    Ok((all, started.elapsed()))
}

/// One connection writes, the others measure how long it takes until they are sent it.
pub(crate) async fn fanout(args: &Bench, dialer: &Arc<Dialer>) -> Result<(Measured, Duration), Failure> {
    let epoch = Instant::now();
    let mut keys = Keys::of(args, 0, 1);
    let mut writer = Link::open(dialer, args.base).await?;
    keys.learn(&mut writer).await?;
    let ready = Arc::new(Barrier::new(usize::try_from(args.connections).unwrap_or(usize::MAX).saturating_add(1)));
    let last = Bytes::from_static(b"syncline-bench/last");
    let mut watching = JoinSet::new();
    for _ in 0..args.connections {
        let mut link = Link::open(dialer, args.base).await?;
        if args.base {
            // Once this is answered, the server has taken the connection in.
            link.send(&Message::get(FIRST, last.clone()))?;
            link.answer().await?;
        } else {
            follow(&mut link, PREFIX).await?;
        }
        let (ready, last) = (ready.clone(), last.clone());
        watching.spawn(async move {
            ready.wait().await;
            watch(link, epoch, &last).await
        });
    }
    ready.wait().await;
    let started = Instant::now();
    let size = args.value_size.0;
    let mut place = 0;
    let pause = args.rate.map(|rate| Duration::from_secs_f64(1.0 / f64::from(rate)));
    closed_loop(writer, args.depth, pause, started + args.time, move |tag| {
        place = (place + 1) % keys.versions.len();
        let mut value = vec![b'v'; size];
        let now = u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if let Some(stamp) = value.first_chunk_mut::<STAMP>() {
            *stamp = now.to_le_bytes();
        }
        keys.put(place, tag, value.into())
    })
    .await?;
    // The end, for the watchers: the next version of a key of its own.
    let mut link = Link::open(dialer, args.base).await?;
    link.send(&Message::get(FIRST, last.clone()))?;
    let version = match link.answer().await? {
        Message::Put(put) => put.version.next().unwrap_or(Version::MAX),
        _ => Version::new(1),
    };
    link.send(&Message::put(Tag::new(2), last, vec![0; STAMP], version))?;
    link.answer().await?;
    let deadline = tokio::time::Instant::now() + LATE;
    let all = timeout_at(deadline, gather(watching)).await;
    let all = all.map_err(|_| Failure::Unavailable(format!("not everything was delivered within {LATE:?}")))??;
    Ok((all, started.elapsed()))
}

/// Measures every delivery until the last.
async fn watch(mut link: Link, epoch: Instant, last: &Bytes) -> Result<Measured, Failure> {
    let mut measured = Measured::new()?;
    loop {
        match link.receive().await? {
            Message::Put(put) if put.key == last => return Ok(measured),
            Message::Put(put) => {
                let Some(stamp) = put.value.first_chunk::<STAMP>() else { continue };
                let sent = Duration::from_nanos(u64::from_le_bytes(*stamp));
                measured.record(epoch.elapsed().saturating_sub(sent));
                measured.broadcasts += 1;
            }
            Message::Mark(_) => {}
            other => return Err(unexpected(&other)),
        }
    }
}

/// Adds up what all have measured; the first failure ends it.
async fn gather(mut running: JoinSet<Result<Measured, Failure>>) -> Result<Measured, Failure> {
    let mut all = Measured::new()?;
    while let Some(ended) = running.join_next().await {
        all.add(&ended.map_err(|error| Failure::Unavailable(error.to_string()))??);
    }
    Ok(all)
}
