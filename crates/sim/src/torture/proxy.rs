//! What stands between clients and server: delays, trickles, stalls, swallows and cuts what they say to each other, and puts
//! down every frame.
//!
//! ```text
//!   client ──▶ listener of its own ──▶ connection ──▶ server
//!                                        │  each way has its weather
//!                                        └─ tape: the transcript
//! ```

use super::recorder::Recorder;
use super::tape::Tape;
use super::weather::{self, End, Way, Weather};
use crate::Random;
use crate::history::Direction;
use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use socket2::SockRef;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// How long the way to the server may take.
const CONNECT: Duration = Duration::from_secs(1);

/// What the sockets on both sides hold at the least: so little that who reads slowly is felt by the server.
const SOCKET_BUFFER: usize = 16 * 1024;

/// How much is read at once.
const READ_SIZE: usize = 16 * 1024;

/// Where connections lead to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// The store that is served there.
    pub(super) store: usize,
}

/// The proxies of a round. All of it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Proxy {
    shared: Arc<Shared>,
    listeners: Mutex<Vec<AbortHandle>>,
}

#[derive(Debug)]
struct Shared {
    recorder: Arc<Recorder>,
    target: Mutex<Option<Target>>,
    random: Mutex<Random>,
    connections: Mutex<BTreeMap<u64, Open>>,
    /// Whether there may be faults.
    is_stormy: watch::Sender<bool>,
    /// Whether nothing gets through.
    is_parted: watch::Sender<bool>,
}

/// A connection that is open.
#[derive(Debug)]
struct Open {
    client: u64,
    weather: watch::Sender<Weather>,
    tape: Arc<Tape>,
    task: AbortHandle,
}

impl Proxy {
    pub(super) fn new(recorder: Arc<Recorder>, random: Random) -> Arc<Self> {
        let shared = Shared {
            recorder,
            target: Mutex::default(),
            random: Mutex::new(random),
            connections: Mutex::default(),
            is_stormy: watch::Sender::new(true),
            is_parted: watch::Sender::new(false),
        };
        Arc::new(Self { shared: Arc::new(shared), listeners: Mutex::default() })
    }

    /// An address that leads a client to the server, whichever that is.
    pub(super) async fn listen(&self, client: u64) -> io::Result<String> {
        let socket = TcpSocket::new_v4()?;
        // Before it listens: what it accepts inherits it.
        socket.set_send_buffer_size(u32::try_from(SOCKET_BUFFER).unwrap_or(u32::MAX))?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = socket.listen(1024)?;
        let address = listener.local_addr()?.to_string();
        let task = tokio::spawn(accept(self.shared.clone(), listener, client));
        self.listeners.lock().push(task.abort_handle());
        Ok(address)
    }

    /// From now on connections lead there; or nowhere.
    pub(super) fn lead_to(&self, target: Option<Target>) {
        *self.shared.target.lock() = target;
    }

    /// Nothing gets through any more, or again: then what was open is lost.
    pub(super) fn part(&self, is_parted: bool) {
        self.shared.is_parted.send_replace(is_parted);
    }

    /// Cuts all connections at once.
    pub(super) fn cut_all(&self) -> usize {
        let connections = self.shared.connections.lock();
        for open in connections.values() {
            open.weather.send_modify(|weather| weather.end = Some(End::Reset));
        }
        connections.len()
    }

    /// Half of the connections tell their clients nothing any more. How many that are.
    pub(super) fn stall(&self, random: &mut Random) -> usize {
        self.befall_half(random, |_, weather| weather.down = Way::Stalled)
    }

    /// Half of the connections swallow what is said to them, one way or both. How many that are.
    pub(super) fn swallow(&self, random: &mut Random) -> usize {
        self.befall_half(random, |random, weather| {
            let ways = random.below(3);
            if ways != 0 {
                weather.up = Way::Lost;
            }
            if ways != 1 {
                weather.down = Way::Lost;
            }
        })
    }

    fn befall_half(&self, random: &mut Random, change: impl Fn(&mut Random, &mut Weather)) -> usize {
        let connections = self.shared.connections.lock();
        let mut befallen = 0;
        for open in connections.values().skip(usize::from(random.chance(50))).step_by(2) {
            open.weather.send_modify(|weather| change(random, weather));
            befallen += 1;
        }
        befallen
    }

    /// What is stalled goes on; what has swallowed something is lost.
    pub(super) fn go_on(&self) {
        for open in self.shared.connections.lock().values() {
            open.weather.send_modify(Weather::clear_up);
        }
    }

    /// From now on all weather is fair.
    pub(super) fn clear_up(&self) {
        self.part(false);
        self.shared.is_stormy.send_replace(false);
    }

    /// The tapes of the connections that are open.
    pub(super) fn tapes(&self) -> Vec<(u64, u64, Arc<Tape>)> {
        let connections = self.shared.connections.lock();
        connections.iter().map(|(connection, open)| (*connection, open.client, open.tape.clone())).collect()
    }

    /// Ends everything; what went over the connections that are still open is put down.
    pub(super) fn close(&self) {
        self.listeners.lock().drain(..).for_each(|listener| listener.abort());
        let connections = std::mem::take(&mut *self.shared.connections.lock());
        for open in connections.into_values() {
            open.task.abort();
            self.shared.recorder.transcript(open.tape.take());
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.close();
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, client: u64) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = shared.clone();
        tokio::spawn(async move {
            if *shared.is_parted.borrow() {
                // Whoever connects hears nothing, until there is something to hear again.
                becomes(&mut shared.is_parted.subscribe(), false).await;
                return reset(&stream);
            }
            let target = *shared.target.lock();
            match target {
                Some(target) => match timeout(CONNECT, connect(target.address)).await {
                    Ok(Ok(server)) => carry(&shared, client, target.store, stream, server),
                    _ => reset(&stream),
                },
                None => reset(&stream),
            }
        });
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(u32::try_from(SOCKET_BUFFER).unwrap_or(u32::MAX))?;
    socket.connect(address).await
}

/// The next close tells the peer that the connection has failed, and throws away what is on the way.
fn reset(stream: &TcpStream) {
    // Then it is closed in the other way: as good.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Carries a connection to its end.
fn carry(shared: &Arc<Shared>, client: u64, store: usize, stream: TcpStream, server: TcpStream) {
    let connection = shared.recorder.connection();
    let tape = Arc::new(Tape::new(connection, client, store, shared.recorder.now()));
    let weather = watch::Sender::new(Weather::default());
    shared.recorder.count("connections", 1);
    // Held until it is among the open ones, so that its end finds it there.
    let mut connections = shared.connections.lock();
    let task = tokio::spawn({
        let (shared, tape, weather) = (shared.clone(), tape.clone(), weather.clone());
        let random = shared.random.lock().fork();
        async move {
            let _ = (stream.set_nodelay(true), server.set_nodelay(true));
            let (up, down) = (weather.subscribe(), weather.subscribe());
            tokio::select! {
                _ = pump(&stream, &server, up, Direction::Sent, &tape, &shared.recorder) => {}
                _ = pump(&server, &stream, down, Direction::Received, &tape, &shared.recorder) => {}
                () = change(&shared, &weather, random) => {}
            }
            match weather.borrow().end {
                Some(End::Close) => {}
                Some(End::Reset) => (reset(&stream), reset(&server)).0,
                // One of them has ended it.
                None => shared.recorder.count("connections ended by a peer", 1),
            }
            if tape.is_torn() {
                shared.recorder.count("connections cut within a frame", 1);
            }
            if let Some(open) = shared.connections.lock().remove(&connection) {
                shared.recorder.transcript(open.tape.take());
            }
        }
    });
    connections.insert(connection, Open { client, weather, tape, task: task.abort_handle() });
}

/// Changes the weather of a connection now and then, until that ends it.
async fn change(shared: &Shared, weather: &watch::Sender<Weather>, mut random: Random) {
    let (mut stormy, mut parted) = (shared.is_stormy.subscribe(), shared.is_parted.subscribe());
    let mut ended = weather.subscribe();
    loop {
        let is_stormy = *stormy.borrow_and_update();
        if !is_stormy {
            weather.send_modify(Weather::clear_up);
        }
        let forecast = weather::forecast(&mut random);
        tokio::select! {
            () = ends(&mut ended) => return,
            _ = stormy.changed() => continue,
            () = becomes(&mut parted, true) => {
                let now = Weather { up: Way::Lost, down: Way::Lost, end: None };
                weather.send_replace(now);
                becomes(&mut parted, false).await;
                weather.send_modify(Weather::clear_up);
                continue;
            }
            () = sleep(forecast.after), if is_stormy => {}
        }
        let is_so = weather.send_if_modified(|weather| {
            let may_change = *weather == Weather::default();
            if may_change {
                *weather = forecast.weather;
            }
            may_change
        });
        shared.recorder.count(forecast.name, u64::from(is_so));
        tokio::select! {
            () = ends(&mut ended) => return,
            () = becomes(&mut stormy, false) => {}
            () = sleep(forecast.lasts) => {}
        }
        weather.send_modify(|weather| {
            weather.clear_up();
            weather.end = weather.end.or(forecast.then);
        });
    }
}

/// Waits until that is so.
async fn becomes(what: &mut watch::Receiver<bool>, wanted: bool) {
    // Whoever could change it lives as long as this does.
    let _ = what.wait_for(|is_so| *is_so == wanted).await;
}

/// Waits until the connection is to be cut.
async fn ends(weather: &mut watch::Receiver<Weather>) {
    let _ = weather.wait_for(|weather| weather.end.is_some()).await;
}

/// Carries bytes one way, until there are no more.
async fn pump(
    from: &TcpStream,
    to: &TcpStream,
    mut weather: watch::Receiver<Weather>,
    direction: Direction,
    tape: &Tape,
    recorder: &Recorder,
) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(READ_SIZE);
    let mut has_lost = false;
    loop {
        let way = weather.borrow_and_update().way(direction);
        if way == Way::Lost {
            has_lost |= !buffer.is_empty();
            buffer.clear();
        } else if has_lost {
            // What comes now does not go on where the peer has stopped.
            return Err(ErrorKind::ConnectionReset.into());
        }
        buffer.reserve(READ_SIZE);
        let has_room = buffer.is_empty() && way != Way::Stalled;
        let has_output = !buffer.is_empty() && way != Way::Stalled;
        tokio::select! {
            changed = weather.changed() => changed.map_err(|_| ErrorKind::Other)?,
            ready = from.readable(), if has_room => {
                ready?;
                match from.try_read_buf(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(_) if direction == Direction::Sent => tape.sent(&buffer, recorder),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            ready = writable(to, way), if has_output => {
                ready?;
                let most = way.at_once().min(buffer.len());
                // Before it is there, so that nobody answers it earlier.
                let at = recorder.now();
                let front = buffer.get(..most).unwrap_or_default();
                match to.try_write(front) {
                    Ok(written) => {
                        if direction == Direction::Received {
                            tape.received(at, buffer.get(..written).unwrap_or_default(), recorder);
                        }
                        buffer.advance(written);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

async fn writable(to: &TcpStream, way: Way) -> io::Result<()> {
    if let Some(pause) = way.pause() {
        sleep(pause).await;
    }
    to.writable().await
}
