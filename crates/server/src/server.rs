//! The server: accepts connections, and shuts everything down in order.

use crate::acceptor::{Acceptor, Handle};
use crate::access::{Authenticator, MustUseTls};
use crate::broadcaster::Broadcaster;
use crate::committer::{self, CommitQueue};
use crate::config::{Config, InputError};
use crate::connection::Service;
use crate::input_budget::InputBudget;
use crate::priority_gate::{MAX_ARRIVALS, PriorityGate};
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

/// How long a shutdown waits for connections to receive their pending responses.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// The number of connections that are sent a refusal at once. Further ones are closed without a response.
const MAX_REFUSALS: usize = 64;

/// The length of the kernel's accept queue. Linux limits it to `net.core.somaxconn`.
///
/// It must be long, because all clients of a server that restarts reconnect at the same time. If the queue is full, the
/// kernel of a client tries again only after one second, and then after two more.
const BACKLOG: i32 = 65_535;

/// The pause after a failed accept. Usually the process has run out of file descriptors, and some are about to be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The time after which a silent peer is considered dead: keepalive detects it on an idle connection, and the TCP user
/// timeout on one with unacknowledged data.
const PEER_TIMEOUT: Duration = Duration::from_secs(120);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// A server could not be created.
///
/// It is exhaustive on purpose: `syncline serve` maps every variant to an exit code.
#[derive(Debug, Error)]
pub enum BindError {
    /// A limit contradicts the protocol.
    #[error("invalid limit: {0}")]
    Limits(#[from] LimitError),
    /// The largest request that the limits allow does not fit into the input budget.
    #[error("invalid input budget: {0}")]
    Input(#[from] InputError),
    /// Access control requires passwords, and there is no TLS.
    #[error(transparent)]
    MustUseTls(#[from] MustUseTls),
    /// The system provides no random numbers, which the authenticator needs for its key.
    #[error("the system provides no random numbers")]
    NoRandomNumbers,
    /// The server cannot listen on the address.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address, as configured.
        address: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The thread of the committer cannot be started.
    #[error("can't start the committer's thread: {0}")]
    Thread(io::Error),
}

/// A running server failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The committer panicked. Every acknowledged write is in the store.
    #[error("the committer panicked; every acknowledged write is in the store")]
    CommitterPanicked,
}

/// A server that listens for connections. Call [`run`](Server::run) to serve them.
pub struct Server<S> {
    listener: TcpListener,
    local_addr: SocketAddr,
    max_connections: usize,
    broadcaster: Arc<Broadcaster>,
    acceptor: Arc<Acceptor>,
    service: Arc<Service<S>>,
    /// Resolves when the committer has ended, to an error if it panicked.
    committer: oneshot::Receiver<()>,
    committer_guard: CommitterGuard<S>,
}

/// Ends the committer when it is dropped, so that the committer releases the store. Covers servers that never run, and
/// those whose `run` is cancelled.
struct CommitterGuard<S>(Arc<Service<S>>);

impl<S> Drop for CommitterGuard<S> {
    fn drop(&mut self) {
        self.0.queue.close();
    }
}

impl<S: Store> Server<S> {
    /// Listens on the configured address, and starts the committer. Clients can connect from now on, and are served as soon
    /// as the server [runs](Server::run).
    ///
    /// # Errors
    /// Returns [`BindError`] if the configuration is invalid, or if the system refuses.
    pub async fn bind(config: Config, store: S) -> Result<Self, BindError> {
        let limits = config.limits.validated()?;
        config.check_input()?;
        let has_tls = config.tls.is_some();
        config.access.check(has_tls)?;
        let authenticator = Authenticator::new(config.access, has_tls, config.max_unauthenticated);
        let authenticator = authenticator.map_err(|_| BindError::NoRandomNumbers)?;
        let listen = |source| BindError::Listen { address: config.listen.clone(), source };
        let listener = TcpListener::bind(&config.listen).await.map_err(listen)?;
        // Listens a second time, because that sets the length of the accept queue.
        SockRef::from(&listener).listen(BACKLOG).map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;

        let broadcaster = Broadcaster::follow(&store, config.recent_log);
        let parameters = ServerParameters { limits, store: store.id(), heartbeat: config.heartbeat };
        let queue = CommitQueue::new(config.max_queue);
        let authorize_within = config.authorize_within;
        let acceptor = Acceptor::new(config.tls, authorize_within, authenticator.clone(), broadcaster.clone());
        let input_budget = InputBudget::new(config.max_input);
        let started = Instant::now();
        let (send_gate, arrival_gate) = (PriorityGate::for_sends(), PriorityGate::for_arrivals());
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
            log_lines_dropped: config.log_lines_dropped,
        });

        let (ended, committer) = oneshot::channel();
        let (committer_service, committer_broadcaster) = (service.clone(), broadcaster.clone());
        let committing = async move {
            committer::run(&committer_service.store, &committer_service.queue, &committer_broadcaster).await;
            // Releases the store before `run` returns, because dropping the last reference closes the store.
            drop(committer_service);
            // After a panic, the sender is dropped without a message.
            let _ = ended.send(());
        };
        if service.store.blocks() {
            let runtime = runtime::Handle::current();
            let committing = move || runtime.block_on(committing);
            thread::Builder::new().name("committer".into()).spawn(committing).map_err(BindError::Thread)?;
        } else {
            // A task costs less than a thread, which would have to be woken for every batch.
            tokio::spawn(committing);
        }
        let committer_guard = CommitterGuard(service.clone());
        let max_connections = config.max_connections;
        Ok(Self { listener, local_addr, max_connections, broadcaster, acceptor, service, committer, committer_guard })
    }

    /// Returns the address that the server listens on.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Returns a handle that changes the configuration while the server runs.
    pub fn handle(&self) -> Handle {
        self.acceptor.handle()
    }

    /// Serves connections until `shutdown` resolves.
    ///
    /// It then accepts no more connections, completes the requests in flight, sends every connection an ERROR, closes it,
    /// and returns.
    ///
    /// # Errors
    /// Returns [`ServeError`] if the server fails.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut connections = JoinSet::new();
        let mut refusals = JoinSet::new();
        let mut next_id: u64 = 0;
        let committer_panicked = loop {
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
                        if next_id.is_multiple_of(MAX_ARRIVALS.into()) {
                            // Existing connections are served in between.
                            yield_now().await;
                        }
                        configure_socket(&socket, peer);
                        let permit = if connections.len() < self.max_connections {
                            self.acceptor.acquire_permit(peer).map_err(|error| error.to_string())
                        } else {
                            Err("too many connections".to_owned())
                        };
                        match permit {
                            Ok(permit) => {
                                debug!(%id, %peer, "connected");
                                let registration = self.broadcaster.register(id);
                                let (service, acceptor) = (self.service.clone(), self.acceptor.clone());
                                connections.spawn(async move {
                                    let ended = acceptor.serve(&service, registration, socket, peer, permit).await;
                                    (id, ended)
                                });
                            }
                            Err(reason) => {
                                self.acceptor.log_rejection(peer, &reason);
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
            warn!(
                connections = connections.len(),
                "closing connections that did not receive their pending responses in time"
            );
            connections.shutdown().await;
        }
        drop(self.committer_guard);
        if committer_panicked || self.committer.await.is_err() {
            error!("the committer panicked");
            return Err(ServeError::CommitterPanicked);
        }
        info!("shut down");
        Ok(())
    }
}

/// Sets the options that send small responses at once and detect dead peers.
fn configure_socket(socket: &TcpStream, peer: SocketAddr) {
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
        // The connection works without the options.
        debug!(%peer, %error, "can't set socket options");
    }
}

/// Logs the end of a connection.
fn log_end(ended: Result<(ConnId, io::Result<()>), tokio::task::JoinError>) {
    match ended {
        Ok((id, Ok(()))) => debug!(%id, "disconnected"),
        Ok((id, Err(error))) => debug!(%id, %error, "connection lost"),
        Err(error) => error!(%error, "the task of a connection panicked"),
    }
}
