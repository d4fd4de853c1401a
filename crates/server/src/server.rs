//! The listener: takes connections in, and ends everything in order.

use crate::acceptor::{Acceptor, Handle};
use crate::access::{Authenticator, MustUseTls};
use crate::broadcaster::Broadcaster;
use crate::committer::{self, CommitQueue};
use crate::config::{Config, InputError};
use crate::connection::Service;
use crate::input_budget::InputBudget;
use crate::priority_gate::{ARRIVE_AT_ONCE, PriorityGate};
use socket2::{SockRef, TcpKeepalive};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use syncline_core::ConnId;
use syncline_core::server::{LimitError, ServerParameters};
use syncline_store::Store;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, error, info, warn};

/// How long a shutdown waits for connections to take what they are owed.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// How many connections are told at once that there is no place for them; any more are closed without a word.
const MAX_REFUSALS: usize = 64;

/// How many connections may wait to be taken in; Linux makes it at most `net.core.somaxconn`. Where there is no place for one,
/// its client asks again after a second, then after two more: all that were cut off together come together.
const BACKLOG: i32 = 65_535;

/// How long the listener rests after it could not accept: usually file descriptors have run out, and some come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A peer that is gone without a word is found after this: with nothing to send to it, by keepalive; with something, by
/// the time that it takes nothing of it.
const PEER_TIMEOUT: Duration = Duration::from_secs(120);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// The server could not be made.
#[derive(Debug, Error)]
pub enum BindError {
    /// A limit contradicts the protocol.
    #[error("a limit can't be: {0}")]
    Limits(#[from] LimitError),
    /// There would be no room for a request that is allowed.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Passwords would travel in the clear.
    #[error(transparent)]
    MustUseTls(#[from] MustUseTls),
    /// What is remembered of passwords could be guessed.
    #[error("the system gives no random numbers")]
    NoRandomNumbers,
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address, as configured.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The committer's thread can't be started.
    #[error("can't start the committer's thread: {0}")]
    Thread(io::Error),
}

/// The server could not go on.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The committer has died of a fault in the program. What it had acknowledged is in the store.
    #[error("the committer has died; what it had acknowledged is in the store")]
    CommitterDied,
}

/// A server that listens, and serves once it [runs](Server::run).
pub struct Server<S> {
    listener: TcpListener,
    local_addr: SocketAddr,
    max_connections: usize,
    broadcaster: Arc<Broadcaster>,
    acceptor: Arc<Acceptor>,
    service: Arc<Service<S>>,
    /// Resolves when the committer's thread has ended; to an error where it died.
    committer: oneshot::Receiver<()>,
    ends_committer: EndsCommitter<S>,
}

/// Ends the committer's thread, and so lets go of the store, when it is dropped: also where a server never runs, or is
/// not run to its end.
struct EndsCommitter<S>(Arc<Service<S>>);

impl<S> Drop for EndsCommitter<S> {
    fn drop(&mut self) {
        self.0.queue.close();
    }
}

impl<S: Store> Server<S> {
    /// Listens on the configured address, and starts the committer. From now on clients can connect; they are served
    /// once the server [runs](Server::run).
    ///
    /// # Errors
    /// [`BindError`] where a limit, the address or the system does not allow it.
    pub async fn bind(config: Config, store: S) -> Result<Self, BindError> {
        let limits = config.limits.validated()?;
        config.check_input()?;
        let has_tls = config.tls.is_some();
        config.access.check(has_tls)?;
        let authenticator = Authenticator::new(config.access, has_tls, config.max_unauthenticated);
        let authenticator = authenticator.map_err(|_| BindError::NoRandomNumbers)?;
        let listen = |source| BindError::Listen { address: config.listen.clone(), source };
        let listener = TcpListener::bind(&config.listen).await.map_err(listen)?;
        // Once more: that sets how many may wait to be taken in.
        SockRef::from(&listener).listen(BACKLOG).map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;

        let broadcaster = Broadcaster::follow(&store, config.recent_log);
        let parameters = ServerParameters { limits, store: store.id(), heartbeat: config.heartbeat };
        let queue = CommitQueue::new(config.max_queue);
        let authorize_within = config.authorize_within;
        let acceptor = Acceptor::new(config.tls, authorize_within, authenticator.clone(), broadcaster.clone());
        let input_budget = InputBudget::new(config.max_input);
        let started = Instant::now();
        let (send_gate, arrival_gate) = (PriorityGate::to_send(), PriorityGate::to_arrive());
        let service = Arc::new(Service {
            store,
            queue,
            input_budget,
            send_gate,
            arrival_gate,
            parameters,
            authenticator,
            authorize_within,
            started,
        });

        let (ended, committer) = oneshot::channel();
        let (of_committer, followers) = (service.clone(), broadcaster.clone());
        let committing = async move {
            committer::run(&of_committer.store, &of_committer.queue, &followers).await;
            // The store is closed by who holds it last: not by somebody whom nobody waits for.
            drop(of_committer);
            // Dropped without this where it panics.
            let _ = ended.send(());
        };
        if service.store.blocks() {
            let runtime = runtime::Handle::current();
            let committing = move || runtime.block_on(committing);
            thread::Builder::new().name("committer".into()).spawn(committing).map_err(BindError::Thread)?;
        } else {
            // To and from a task is a shorter way.
            tokio::spawn(committing);
        }
        let ends_committer = EndsCommitter(service.clone());
        let max_connections = config.max_connections;
        Ok(Self { listener, local_addr, max_connections, broadcaster, acceptor, service, committer, ends_committer })
    }

    /// Where it listens.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// A hold on the server, for while it serves.
    pub fn handle(&self) -> Handle {
        self.acceptor.handle()
    }

    /// Serves until `shutdown` resolves; then takes in no more connections, decides on what was asked, tells every
    /// connection, and returns.
    ///
    /// # Errors
    /// [`ServeError`] where the server can't go on.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut connections = JoinSet::new();
        let mut refusals = JoinSet::new();
        let mut next_id: u64 = 0;
        let died = loop {
            tokio::select! {
                () = &mut shutdown => break false,
                _ = &mut self.committer => break true,
                Some(ended) = connections.join_next() => log_end(ended),
                Some(ended) = refusals.join_next() => log_end(ended),
                accepted = self.listener.accept() => match accepted {
                    Err(error) => {
                        warn!(%error, "can't accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                    Ok((socket, peer)) => {
                        let id = ConnId::new(next_id);
                        next_id += 1;
                        if next_id.is_multiple_of(ARRIVE_AT_ONCE.into()) {
                            // Those who are here already are served meanwhile.
                            yield_now().await;
                        }
                        prepare(&socket, peer);
                        let place = if connections.len() < self.max_connections {
                            self.acceptor.place(peer).map_err(|crowded| crowded.to_string())
                        } else {
                            Err("too many connections".to_owned())
                        };
                        match place {
                            Ok(place) => {
                                debug!(%id, %peer, "connected");
                                let registration = self.broadcaster.register(id);
                                let (service, acceptor) = (self.service.clone(), self.acceptor.clone());
                                connections.spawn(async move {
                                    let ended = acceptor.admit(&service, registration, socket, peer, place).await;
                                    (id, ended)
                                });
                            }
                            Err(reason) => {
                                self.acceptor.complain(peer, &reason);
                                if refusals.len() < MAX_REFUSALS {
                                    let acceptor = self.acceptor.clone();
                                    refusals.spawn(async move { (id, acceptor.refuse(socket, &reason).await) });
                                }
                            }
                        }
                    }
                },
            }
        };
        drop(self.listener);
        info!(connections = connections.len(), "shutting down");
        self.broadcaster.shut_down();
        let all_ended = async {
            while let Some(ended) = connections.join_next().await {
                log_end(ended);
            }
        };
        if timeout(SHUTDOWN_GRACE, all_ended).await.is_err() {
            warn!(connections = connections.len(), "cut off: they did not take what they were owed");
            connections.shutdown().await;
        }
        drop(self.ends_committer);
        if died || self.committer.await.is_err() {
            error!("the committer has died");
            return Err(ServeError::CommitterDied);
        }
        info!("shut down");
        Ok(())
    }
}

/// Has small answers sent at once, and dead peers found.
fn prepare(socket: &TcpStream, peer: SocketAddr) {
    let options = || {
        socket.set_nodelay(true)?;
        let socket = SockRef::from(socket);
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
        socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(PEER_TIMEOUT))?;
        Ok::<_, io::Error>(())
    };
    if let Err(error) = options() {
        // The connection works without them.
        debug!(%peer, %error, "can't set socket options");
    }
}

fn log_end(ended: Result<(ConnId, io::Result<()>), tokio::task::JoinError>) {
    match ended {
        Ok((id, Ok(()))) => debug!(%id, "disconnected"),
        Ok((id, Err(error))) => debug!(%id, %error, "connection lost"),
        Err(error) => error!(%error, "a connection's task has died"),
    }
}
