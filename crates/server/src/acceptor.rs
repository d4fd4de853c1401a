//! The door of a server: what happens between an accepted socket and a connection that is served.

use crate::access::{AccessControl, Authenticator, Grant, MustUseTls, TooManyUnauthenticated, UnauthenticatedPermit};
use crate::broadcaster::{Broadcaster, Registration};
use crate::connection::{self, Peer, Service};
use crate::tls::{self, NoTls, Tls};
use arc_swap::ArcSwap;
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

/// How long somebody for whom there is no place may take for the handshake after which that is told.
const REFUSAL: Duration = Duration::from_secs(2);

/// Lets connections in.
pub(crate) struct Acceptor {
    /// What new connections are met with; `None`: this server speaks no TLS, now and later.
    tls: Option<ArcSwap<Tls>>,
    /// How long a stranger may take until it is known who it is.
    authorize_within: Duration,
    authenticator: Arc<Authenticator>,
    broadcaster: Arc<Broadcaster>,
}

/// A hold on a server that serves.
#[derive(Clone)]
pub struct Handle(Arc<Acceptor>);

/// A server that was started without TLS can't be given any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected a server that was started with TLS, found one without: its clients would be cut off; start it anew")]
pub struct PlainServer;

impl Handle {
    /// Meets new connections with this from now on. Those that there are stay as they are.
    ///
    /// # Errors
    /// [`PlainServer`] where the server was started without TLS.
    pub fn set_tls(&self, tls: Tls) -> Result<(), PlainServer> {
        self.0.tls.as_ref().ok_or(PlainServer)?.store(Arc::new(tls));
        Ok(())
    }

    /// Puts other access control in force. Connections to which it does not grant what they were granted, unchanged, are
    /// told so and end; all others stay undisturbed. Nothing that is committed after this is told to those that end.
    ///
    /// # Errors
    /// [`MustUseTls`] where that requires passwords, and the server was started without TLS; nothing has changed then.
    pub fn set_access(&self, access: AccessControl) -> Result<(), MustUseTls> {
        self.0.authenticator.replace(access)?;
        self.0.broadcaster.wake_all();
        Ok(())
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

    /// A place for somebody of whom nothing is known yet; `None`: nothing needs to be known.
    ///
    /// # Errors
    /// [`TooManyUnauthenticated`] where there are too many of those.
    pub(crate) fn place(&self, peer: SocketAddr) -> Result<Option<UnauthenticatedPermit>, TooManyUnauthenticated> {
        if self.tls.is_none() && self.authenticator.rules().is_open() {
            return Ok(None);
        }
        self.authenticator.unauthenticated.enter(peer.into()).map(Some)
    }

    /// Learns who a client is, and serves it.
    ///
    /// # Errors
    /// What the socket says when it fails.
    pub(crate) async fn admit<S: Store>(
        &self,
        service: &Service<S>,
        registration: Registration,
        socket: TcpStream,
        addr: SocketAddr,
        place: Option<UnauthenticatedPermit>,
    ) -> io::Result<()> {
        let deadline = Instant::now() + self.authorize_within;
        let mut peer = Peer::new(addr, place, deadline);
        let Some(tls) = self.tls.as_ref().map(ArcSwap::load_full) else {
            let speaks_tls = || self.complain(addr, "the client speaks TLS, and this server does not (--tls-cert)");
            peer.grant(Grant::Anybody);
            peer.speaks_tls = Some(&speaks_tls);
            return connection::serve(service, registration, Socket::from(socket), peer).await;
        };
        let shut_down = poll_fn(|context| {
            // Listened to first, so that no ring between the two is missed.
            registration.handle.notify.notified(context);
            if registration.broadcaster.is_shutting_down() { Poll::Ready(()) } else { Poll::Pending }
        });
        let handshake = tokio::select! {
            handshake = timeout_at(deadline, Box::pin(tls::accept(tls.config(), socket))) => handshake,
            () = shut_down => return Ok(()),
        };
        match handshake {
            Ok(Ok(met)) => {
                if let Some(grant) = self.grant(&tls, met.names.as_deref()) {
                    peer.grant(grant);
                }
                connection::serve(service, registration, met.socket, peer).await
            }
            Ok(Err(no_tls)) => Box::pin(self.turn_away(no_tls, addr)).await,
            Err(_) => {
                self.complain(addr, format_args!("no TLS handshake within {:?}", self.authorize_within));
                Ok(())
            }
        }
    }

    /// Tells a client for which there is no place, within bounds.
    ///
    /// # Errors
    /// What the socket says when it fails.
    pub(crate) async fn refuse(&self, socket: TcpStream, reason: &str) -> io::Result<()> {
        let Some(tls) = self.tls.as_ref().map(ArcSwap::load_full) else {
            return connection::refuse(Socket::from(socket), reason).await;
        };
        match timeout(REFUSAL.min(self.authorize_within), Box::pin(tls::accept(tls.config(), socket))).await {
            Ok(Ok(met)) => connection::refuse(met.socket, reason).await,
            // It gets no word of it, as if there were no room for one more refusal.
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }

    /// Ends a connection that speaks no TLS, or has failed to.
    async fn turn_away(&self, no_tls: NoTls, peer: SocketAddr) -> io::Result<()> {
        match no_tls {
            // Whoever only looks whether the port is open: nothing to tell people.
            NoTls::Gone => Ok(()),
            NoTls::Plain(socket) => {
                self.complain(peer, "the client speaks no TLS, and this server nothing else (synclines://HOST:PORT)");
                // Programs that speak in frames can read this; no others are harmed by it.
                connection::refuse(Socket::from(socket), TLS_ONLY).await
            }
            NoTls::Failed(socket, error) => {
                self.complain(peer, tls::Reason(&error));
                // The alert is on its way; closing on what the client has sent behind would throw it away.
                connection::linger(Socket::from(socket)).await
            }
        }
    }

    /// What a client may do whose handshake is done, without a password: the one place where that is chosen. What it has
    /// shown was verified in the handshake, and where a certificate is demanded, there is no handshake without.
    fn grant(&self, tls: &Tls, certified: Option<&[String]>) -> Option<Grant> {
        let rules = self.authenticator.rules();
        match certified {
            Some(names) => rules.certified(names),
            None => (rules.is_open() && !tls.asks_clients()).then_some(Grant::Anybody),
        }
    }

    /// Tells people why somebody was not let in; who causes many such lines does not fill the log.
    pub(crate) fn complain(&self, peer: SocketAddr, reason: impl std::fmt::Display) {
        self.authenticator.complain(peer, reason);
    }
}
