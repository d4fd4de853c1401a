//! The acceptor: what happens between an accepted socket and a connection that is served.
//!
//! It limits unauthenticated connections, performs the TLS handshake, and decides what a connection is granted without a
//! password. It never reads frames; `connection.rs` does.

use crate::access::{AccessControl, Authenticator, Grant, MustUseTls, TooManyUnauthenticated, UnauthenticatedPermit};
use crate::broadcaster::{Broadcaster, Registration};
use crate::connection::{self, Peer, Service};
use crate::tls::{self, HandshakeError, Tls};
use arc_swap::ArcSwap;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use syncline_core::server::TLS_ONLY;
use syncline_store::Store;
use syncline_tls::Socket;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

/// How long the handshake of a client may take if the server then only sends a refusal.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Turns accepted sockets into connections.
pub(crate) struct Acceptor {
    /// The TLS configuration for new connections. `None` if the server was started without TLS; that never changes.
    tls: Option<ArcSwap<Tls>>,
    /// How long a connection may take to authenticate.
    authorize_within: Duration,
    authenticator: Arc<Authenticator>,
    broadcaster: Arc<Broadcaster>,
}

/// A handle that changes the configuration of a running server.
#[derive(Clone)]
pub struct Handle(Arc<Acceptor>);

/// An error: TLS cannot be configured on a server that was started without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected a server with TLS, found one that was started without; restart it, because its clients speak no TLS")]
pub struct PlainServer;

impl Handle {
    /// Sets the TLS configuration for new connections. Existing connections are not affected.
    ///
    /// # Errors
    /// Returns [`PlainServer`] if the server was started without TLS.
    pub fn set_tls(&self, tls: Tls) -> Result<(), PlainServer> {
        self.0.tls.as_ref().ok_or(PlainServer)?.store(Arc::new(tls));
        Ok(())
    }

    /// Replaces the access control.
    ///
    /// The server ends every connection whose grant the new access control does not give, unchanged, and sends it an ERROR
    /// with the reason. Such a connection receives nothing that is committed after this call. Other connections are not
    /// affected.
    ///
    /// # Errors
    /// Returns [`MustUseTls`], and changes nothing, if `access` requires passwords and the server was started without TLS.
    pub fn set_access(&self, access: AccessControl) -> Result<(), MustUseTls> {
        self.0.authenticator.replace(access)?;
        self.0.broadcaster.wake_all();
        Ok(())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Acceptor {
    pub(crate) fn new(
        tls: Option<Tls>,
        authorize_within: Duration,
        authenticator: Arc<Authenticator>,
        broadcaster: Arc<Broadcaster>,
    ) -> Arc<Self> {
        let tls = tls.map(ArcSwap::from_pointee);
        Arc::new(Self { tls, authorize_within, authenticator, broadcaster })
    }

    pub(crate) fn handle(self: &Arc<Self>) -> Handle {
        Handle(self.clone())
    }

    /// Acquires the permit of an unauthenticated connection. Returns `None` if connections need not authenticate.
    ///
    /// # Errors
    /// Returns [`TooManyUnauthenticated`] if a limit is reached.
    pub(crate) fn acquire_permit(
        &self,
        peer: SocketAddr,
    ) -> Result<Option<UnauthenticatedPermit>, TooManyUnauthenticated> {
        if self.tls.is_none() && self.authenticator.policy().is_open() {
            return Ok(None);
        }
        self.authenticator.unauthenticated.acquire(peer.into()).map(Some)
    }

    /// Performs the TLS handshake, if the server has TLS, and then serves the connection until it ends.
    ///
    /// # Errors
    /// Returns the error of the socket if it fails.
    pub(crate) async fn serve<S: Store>(
        &self,
        service: &Service<S>,
        registration: Registration,
        socket: TcpStream,
        addr: SocketAddr,
        permit: Option<UnauthenticatedPermit>,
    ) -> io::Result<()> {
        let deadline = Instant::now() + self.authorize_within;
        let mut peer = Peer::new(addr, permit, deadline);
        let Some(tls) = self.tls.as_ref().map(ArcSwap::load_full) else {
            let speaks_tls = || self.log_probe(addr, "the client speaks TLS, and this server does not (--tls-cert)");
            peer.grant(Grant::Anybody);
            peer.speaks_tls = Some(&speaks_tls);
            return connection::serve(service, registration, Socket::from(socket), peer).await;
        };
        let shutdown = || {
            poll_fn(|context| {
                // Registers for notifications first, so that a shutdown between the two lines is not missed.
                registration.handle.notify.notified(context);
                if registration.broadcaster.is_shutting_down() { Poll::Ready(()) } else { Poll::Pending }
            })
        };
        let mut first = [0];
        let has_started = tokio::select! {
            // Closed without a reason, because the client could not read one before the handshake.
            () = peer.evicted() => return Ok(()),
            has_started = timeout_at(deadline, socket.peek(&mut first)) => has_started.is_ok(),
            () = shutdown() => return Ok(()),
        };
        peer.end_silence();
        if peer.is_evicted() {
            return Ok(());
        }
        if !has_started {
            self.log_probe(addr, format_args!("no TLS handshake within {:?}", self.authorize_within));
            return Ok(());
        }
        let handshake = tokio::select! {
            handshake = timeout_at(deadline, Box::pin(tls::accept(tls.config(), socket))) => handshake,
            () = shutdown() => return Ok(()),
        };
        match handshake {
            Ok(Ok(accepted)) => {
                if let Some(grant) = self.grant_without_password(&tls, accepted.certificate_names.as_deref()) {
                    peer.grant(grant);
                }
                peer.begin_silence();
                connection::serve(service, registration, accepted.socket, peer).await
            }
            Ok(Err(error)) => Box::pin(self.reject(error, addr)).await,
            Err(_) => {
                self.log_probe(addr, format_args!("no TLS handshake within {:?}", self.authorize_within));
                Ok(())
            }
        }
    }

    /// Sends a client the reason why it is refused, within time limits, and ends its connection.
    ///
    /// # Errors
    /// Returns the error of the socket if it fails.
    pub(crate) async fn refuse(&self, socket: TcpStream, reason: &str) -> io::Result<()> {
        let Some(tls) = self.tls.as_ref().map(ArcSwap::load_full) else {
            return connection::refuse(Socket::from(socket), reason).await;
        };
        match timeout(REFUSAL_TIMEOUT.min(self.authorize_within), Box::pin(tls::accept(tls.config(), socket))).await {
            Ok(Ok(accepted)) => connection::refuse(accepted.socket, reason).await,
            // Closed without a reason, as when there are too many refusals at once.
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }

    /// Ends a connection whose TLS handshake has failed.
    async fn reject(&self, error: HandshakeError, peer: SocketAddr) -> io::Result<()> {
        match error {
            // Probably a port scan or a health check, so nothing is logged.
            HandshakeError::Closed => Ok(()),
            HandshakeError::NotTls(socket) => {
                let reason = "the client speaks no TLS, and this server nothing else (synclines://HOST:PORT)";
                self.log_probe(peer, reason);
                // Clients of the protocol can decode this frame. To other clients it does no harm.
                connection::refuse(Socket::from(socket), TLS_ONLY).await
            }
            HandshakeError::Failed(socket, error) => {
                self.log_rejection(peer, tls::FailureReason(&error));
                // The alert may still be in flight. Closing the socket while it has unread input would discard the alert.
                connection::linger(Socket::from(socket)).await
            }
        }
    }

    /// Returns what a client is granted after the handshake, without a password. No other function decides that.
    ///
    /// The handshake has verified the certificate. If the server demands one, no handshake succeeds without it.
    fn grant_without_password(&self, tls: &Tls, certificate_names: Option<&[String]>) -> Option<Grant> {
        let policy = self.authenticator.policy();
        match certificate_names {
            Some(names) => policy.grant_for_certificate(names),
            None => (policy.is_open() && !tls.requests_certificates()).then_some(Grant::Anybody),
        }
    }

    /// Logs that a client speaks another protocol, at a limited rate.
    fn log_probe(&self, peer: SocketAddr, reason: impl fmt::Display) {
        self.authenticator.log_probe(peer, reason);
    }

    /// Logs why a client was rejected, at a limited rate.
    pub(crate) fn log_rejection(&self, peer: SocketAddr, reason: impl fmt::Display) {
        self.authenticator.log_rejection(peer, reason);
    }
}
