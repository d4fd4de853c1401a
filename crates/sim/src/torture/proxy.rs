//! The proxy between clients and server. It delays, throttles, stalls, discards and cuts their traffic, and records
//! every frame.
//!
//! ```text
//!   client ──▶ listener of its own ──▶ connection ──▶ server
//!                                        │  conditions of each direction
//!                                        └─ transcript
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

/// The longest time to connect to the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The buffer size of sockets on both sides. It is small, so that the server notices slow readers.
const SOCKET_BUFFER: usize = 16 * 1024;

/// The size of a read.
const READ_SIZE: usize = 16 * 1024;

/// The server to which connections are relayed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    /// The store that is served there.
    pub(super) store: usize,
}

/// The proxy of a round. All connections are closed when this is dropped.
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
    /// Whether connections may have faults.
    faults_enabled: watch::Sender<bool>,
    /// Whether all traffic is lost.
    is_partitioned: watch::Sender<bool>,
}

/// An open connection.
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

    /// Listens for a client, and returns the address. Connections are relayed to the current upstream.
    pub(super) async fn listen(&self, client: u64) -> io::Result<String> {
        let socket = TcpSocket::new_v4()?;
        // Must be set before `listen`: accepted sockets inherit it.
        socket.set_send_buffer_size(u32::try_from(SOCKET_BUFFER).unwrap_or(u32::MAX))?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = socket.listen(1024)?;
        let address = listener.local_addr()?.to_string();
        let task = tokio::spawn(accept(self.shared.clone(), listener, client));
        self.listeners.lock().push(task.abort_handle());
        Ok(address)
    }

    /// Sets the server for new connections. They are reset while there is none.
    pub(super) fn set_upstream(&self, upstream: Option<Upstream>) {
        *self.shared.upstream.lock() = upstream;
    }

    /// Starts or ends a partition. At its end, connections that have lost bytes are reset.
    pub(super) fn set_partitioned(&self, is_partitioned: bool) {
        self.shared.is_partitioned.send_replace(is_partitioned);
    }

    /// Cuts all connections at once, and returns their number.
    pub(super) fn cut_all(&self) -> usize {
        let connections = self.shared.connections.lock();
        for open in connections.values() {
            open.conditions.send_modify(|conditions| conditions.cut = Some(Cut::Reset));
        }
        connections.len()
    }

    /// Stalls the traffic to the client on half of the connections, and returns their number.
    pub(super) fn stall_half(&self, random: &mut Random) -> usize {
        self.impair_half(random, |_, conditions| conditions.down = Impairment::Stalled)
    }

    /// Discards the traffic on half of the connections, in one direction or both, and returns their number.
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

    /// Heals all connections. Those that have lost bytes are reset.
    pub(super) fn heal(&self) {
        for open in self.shared.connections.lock().values() {
            open.conditions.send_modify(Conditions::heal);
        }
    }

    /// Heals all connections, and injects no more faults.
    pub(super) fn stop_faults(&self) {
        self.set_partitioned(false);
        self.shared.faults_enabled.send_replace(false);
    }

    /// Returns the connection, the client and the transcript of each open connection.
    pub(super) fn transcripts(&self) -> Vec<(u64, u64, Arc<TranscriptBuilder>)> {
        let connections = self.shared.connections.lock();
        connections.iter().map(|(connection, open)| (*connection, open.client, open.transcript.clone())).collect()
    }

    /// Closes all listeners and connections, and records the transcripts of open connections.
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
                // During a partition, a new connection receives nothing. It is reset at the end of the partition.
                wait_until(&mut shared.is_partitioned.subscribe(), false).await;
                return reset(&stream);
            }
            let upstream = *shared.upstream.lock();
            match upstream {
                Some(upstream) => match timeout(CONNECT_TIMEOUT, connect(upstream.address)).await {
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

/// Makes the next close reset the connection and discard unsent bytes.
fn reset(stream: &TcpStream) {
    // If this fails, the connection is closed without a reset, which is acceptable.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Relays a connection until it ends.
fn relay(shared: &Arc<Shared>, client: u64, store: usize, stream: TcpStream, server: TcpStream) {
    let connection = shared.recorder.next_connection();
    let transcript = Arc::new(TranscriptBuilder::new(connection, client, store, shared.recorder.now()));
    let conditions = watch::Sender::new(Conditions::default());
    shared.recorder.count("connections", 1);
    // The lock is held until the connection is registered, so that the task finds it there when it ends.
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
                // The client or the server has closed it.
                None => shared.recorder.count("connections closed by a peer", 1),
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

/// Injects faults into a connection now and then, until a fault cuts it.
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
        let is_applied = conditions.send_if_modified(|conditions| {
            let may_change = *conditions == Conditions::default();
            if may_change {
                *conditions = planned.conditions;
            }
            may_change
        });
        shared.recorder.count(planned.name, u64::from(is_applied));
        tokio::select! {
            () = wait_for_cut(&mut ended) => return,
            () = wait_until(&mut enabled, false) => {}
            () = sleep(planned.duration) => {}
        }
        conditions.send_modify(|conditions| {
            conditions.heal();
            conditions.cut = conditions.cut.or(planned.then);
        });
    }
}

/// Waits until a flag has the wanted value.
async fn wait_until(flag: &mut watch::Receiver<bool>, wanted: bool) {
    // The sender lives at least as long as this task.
    let _ = flag.wait_for(|value| *value == wanted).await;
}

/// Waits until the connection must be cut.
async fn wait_for_cut(conditions: &mut watch::Receiver<Conditions>) {
    let _ = conditions.wait_for(|conditions| conditions.cut.is_some()).await;
}

/// Copies bytes in one direction until the connection ends.
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
            // Bytes are missing before these.
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
                // Take the time before the write, so that no response can have an earlier time.
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
