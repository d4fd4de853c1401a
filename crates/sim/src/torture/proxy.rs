//! What stands between clients and server: delays, trickles, stalls, swallows and cuts what they say to each other, and puts
//! down every frame.
//!
//! ```text
//!   client ──▶ listener of its own ──▶ connection ──▶ server
//!                                        │  each way has its conditions
//!                                        └─ transcript: the transcript
//! ```

use super::conditions::{self, Conditions, Cut, Impairment};
use super::recorder::Recorder;
use super::transcript::TranscriptBuilder;
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
pub(super) struct Upstream {
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
    upstream: Mutex<Option<Upstream>>,
    random: Mutex<Random>,
    connections: Mutex<BTreeMap<u64, OpenConnection>>,
    /// Whether there may be faults.
    faults_enabled: watch::Sender<bool>,
    /// Whether nothing gets through.
    is_partitioned: watch::Sender<bool>,
}

/// A connection that is open.
#[derive(Debug)]
struct OpenConnection {
    client: u64,
    conditions: watch::Sender<Conditions>,
    transcript: Arc<TranscriptBuilder>,
    task: AbortHandle,
}

impl Proxy {
    pub(super) fn new(recorder: Arc<Recorder>, random: Random) -> Arc<Self> {
        let shared = Shared {
            recorder,
            upstream: Mutex::default(),
            random: Mutex::new(random),
            connections: Mutex::default(),
            faults_enabled: watch::Sender::new(true),
            is_partitioned: watch::Sender::new(false),
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
    pub(super) fn set_upstream(&self, upstream: Option<Upstream>) {
        *self.shared.upstream.lock() = upstream;
    }

    /// Nothing gets through any more, or again: then what was open is lost.
    pub(super) fn set_partitioned(&self, is_partitioned: bool) {
        self.shared.is_partitioned.send_replace(is_partitioned);
    }

    /// Cuts all connections at once.
    pub(super) fn cut_all(&self) -> usize {
        let connections = self.shared.connections.lock();
        for open in connections.values() {
            open.conditions.send_modify(|conditions| conditions.cut = Some(Cut::Reset));
        }
        connections.len()
    }

    /// Half of the connections tell their clients nothing any more. How many that are.
    pub(super) fn stall_half(&self, random: &mut Random) -> usize {
        self.impair_half(random, |_, conditions| conditions.down = Impairment::Stalled)
    }

    /// Half of the connections swallow what is said to them, one way or both. How many that are.
    pub(super) fn blackhole_half(&self, random: &mut Random) -> usize {
        self.impair_half(random, |random, conditions| {
            let ways = random.below(3);
            if ways != 0 {
                conditions.up = Impairment::Blackhole;
            }
            if ways != 1 {
                conditions.down = Impairment::Blackhole;
            }
        })
    }

    fn impair_half(&self, random: &mut Random, change: impl Fn(&mut Random, &mut Conditions)) -> usize {
        let connections = self.shared.connections.lock();
        let mut impaired = 0;
        for open in connections.values().skip(usize::from(random.chance(50))).step_by(2) {
            open.conditions.send_modify(|conditions| change(random, conditions));
            impaired += 1;
        }
        impaired
    }

    /// What is stalled goes on; what has blackholed something is lost.
    pub(super) fn heal(&self) {
        for open in self.shared.connections.lock().values() {
            open.conditions.send_modify(Conditions::heal);
        }
    }

    /// From now on all conditions is fair.
    pub(super) fn stop_faults(&self) {
        self.set_partitioned(false);
        self.shared.faults_enabled.send_replace(false);
    }

    /// The transcripts of the connections that are open.
    pub(super) fn transcripts(&self) -> Vec<(u64, u64, Arc<TranscriptBuilder>)> {
        let connections = self.shared.connections.lock();
        connections.iter().map(|(connection, open)| (*connection, open.client, open.transcript.clone())).collect()
    }

    /// Ends everything; what went over the connections that are still open is put down.
    pub(super) fn close(&self) {
        self.listeners.lock().drain(..).for_each(|listener| listener.abort());
        let connections = std::mem::take(&mut *self.shared.connections.lock());
        for open in connections.into_values() {
            open.task.abort();
            self.shared.recorder.add_transcript(open.transcript.take());
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
            if *shared.is_partitioned.borrow() {
                // Whoever connects hears nothing, until there is something to hear again.
                wait_until(&mut shared.is_partitioned.subscribe(), false).await;
                return reset(&stream);
            }
            let upstream = *shared.upstream.lock();
            match upstream {
                Some(upstream) => match timeout(CONNECT, connect(upstream.address)).await {
                    Ok(Ok(server)) => relay(&shared, client, upstream.store, stream, server),
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
fn relay(shared: &Arc<Shared>, client: u64, store: usize, stream: TcpStream, server: TcpStream) {
    let connection = shared.recorder.next_connection();
    let transcript = Arc::new(TranscriptBuilder::new(connection, client, store, shared.recorder.now()));
    let conditions = watch::Sender::new(Conditions::default());
    shared.recorder.count("connections", 1);
    // Held until it is among the open ones, so that its end finds it there.
    let mut connections = shared.connections.lock();
    let task = tokio::spawn({
        let (shared, transcript, conditions) = (shared.clone(), transcript.clone(), conditions.clone());
        let random = shared.random.lock().fork();
        async move {
            let _ = (stream.set_nodelay(true), server.set_nodelay(true));
            let (up, down) = (conditions.subscribe(), conditions.subscribe());
            tokio::select! {
                _ = pump(&stream, &server, up, Direction::Sent, &transcript, &shared.recorder) => {}
                _ = pump(&server, &stream, down, Direction::Received, &transcript, &shared.recorder) => {}
                () = inject_faults(&shared, &conditions, random) => {}
            }
            match conditions.borrow().cut {
                Some(Cut::Close) => {}
                Some(Cut::Reset) => (reset(&stream), reset(&server)).0,
                // One of them has ended it.
                None => shared.recorder.count("connections ended by a peer", 1),
            }
            if transcript.has_partial_frame() {
                shared.recorder.count("connections cut within a frame", 1);
            }
            if let Some(open) = shared.connections.lock().remove(&connection) {
                shared.recorder.add_transcript(open.transcript.take());
            }
        }
    });
    connections.insert(connection, OpenConnection { client, conditions, transcript, task: task.abort_handle() });
}

/// Changes the conditions of a connection now and then, until that ends it.
async fn inject_faults(shared: &Shared, conditions: &watch::Sender<Conditions>, mut random: Random) {
    let (mut enabled, mut partitioned) = (shared.faults_enabled.subscribe(), shared.is_partitioned.subscribe());
    let mut ended = conditions.subscribe();
    loop {
        let faults_enabled = *enabled.borrow_and_update();
        if !faults_enabled {
            conditions.send_modify(Conditions::heal);
        }
        let planned = conditions::next_fault(&mut random);
        tokio::select! {
            () = wait_for_cut(&mut ended) => return,
            _ = enabled.changed() => continue,
            () = wait_until(&mut partitioned, true) => {
                let now = Conditions { up: Impairment::Blackhole, down: Impairment::Blackhole, cut: None };
                conditions.send_replace(now);
                wait_until(&mut partitioned, false).await;
                conditions.send_modify(Conditions::heal);
                continue;
            }
            () = sleep(planned.after), if faults_enabled => {}
        }
        let is_so = conditions.send_if_modified(|conditions| {
            let may_change = *conditions == Conditions::default();
            if may_change {
                *conditions = planned.conditions;
            }
            may_change
        });
        shared.recorder.count(planned.name, u64::from(is_so));
        tokio::select! {
            () = wait_for_cut(&mut ended) => return,
            () = wait_until(&mut enabled, false) => {}
            () = sleep(planned.lasts) => {}
        }
        conditions.send_modify(|conditions| {
            conditions.heal();
            conditions.cut = conditions.cut.or(planned.then);
        });
    }
}

/// Waits until that is so.
async fn wait_until(what: &mut watch::Receiver<bool>, wanted: bool) {
    // Whoever could change it lives as long as this does.
    let _ = what.wait_for(|is_so| *is_so == wanted).await;
}

/// Waits until the connection is to be cut.
async fn wait_for_cut(conditions: &mut watch::Receiver<Conditions>) {
    let _ = conditions.wait_for(|conditions| conditions.cut.is_some()).await;
}

/// Carries bytes one way, until there are no more.
async fn pump(
    from: &TcpStream,
    to: &TcpStream,
    mut conditions: watch::Receiver<Conditions>,
    direction: Direction,
    transcript: &TranscriptBuilder,
    recorder: &Recorder,
) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(READ_SIZE);
    let mut has_lost = false;
    loop {
        let impairment = conditions.borrow_and_update().impairment(direction);
        if impairment == Impairment::Blackhole {
            has_lost |= !buffer.is_empty();
            buffer.clear();
        } else if has_lost {
            // What comes now does not go on where the peer has stopped.
            return Err(ErrorKind::ConnectionReset.into());
        }
        buffer.reserve(READ_SIZE);
        let has_room = buffer.is_empty() && impairment != Impairment::Stalled;
        let has_output = !buffer.is_empty() && impairment != Impairment::Stalled;
        tokio::select! {
            changed = conditions.changed() => changed.map_err(|_| ErrorKind::Other)?,
            ready = from.readable(), if has_room => {
                ready?;
                match from.try_read_buf(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(_) if direction == Direction::Sent => transcript.sent(&buffer, recorder),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            ready = writable(to, impairment), if has_output => {
                ready?;
                let most = impairment.chunk().min(buffer.len());
                // Before it is there, so that nobody answers it earlier.
                let at = recorder.now();
                let front = buffer.get(..most).unwrap_or_default();
                match to.try_write(front) {
                    Ok(written) => {
                        if direction == Direction::Received {
                            transcript.received(at, buffer.get(..written).unwrap_or_default(), recorder);
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

async fn writable(to: &TcpStream, impairment: Impairment) -> io::Result<()> {
    if let Some(pause) = impairment.pause() {
        sleep(pause).await;
    }
    to.writable().await
}
