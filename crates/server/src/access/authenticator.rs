//! Verifies passwords, and bounds what that costs.
//!
//! A password that was verified before is recognised at once, by a keyed hash of it. Any other password is verified on a
//! blocking thread, in an order that is fair between addresses (`fair_queue.rs`). The response to a wrong password is
//! delayed (`failed_attempts.rs`). During the delay it occupies a slot of its own address, and no resource of any other.

use super::control::{AccessControl, MustUseTls};
use super::failed_attempts::FailedAttempts;
use super::fair_queue::{FairQueue, TooManyAuthorizations};
use super::hash::Workspace;
use super::policy::{Claim, Grant, Policy};
use super::source::Source;
use super::unauthenticated::Unauthenticated;
use crate::throttle::Throttle;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use ring::error::Unspecified;
use ring::hmac::{HMAC_SHA256, Key};
use ring::rand::SystemRandom;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;
use syncline_core::ConnId;
use syncline_wire::{EscapedBytes, Password};
use thiserror::Error;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, error, info, warn};

/// The number of characters of a user's name that the log shows.
const MAX_LOGGED_NAME: usize = 64;

/// The longest time until the response to an AUTH: existing clients give up after 5 s, and must see the reason before.
pub(super) const RESPOND_WITHIN: Duration = Duration::from_secs(2);

/// The result of an AUTH: what the password grants, `None` if it is wrong, or an error if it was not verified.
pub(crate) type AuthResult = Result<Option<Grant>, NotVerified>;

/// Why a password was not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum NotVerified {
    /// The address has as many authorizations at once as it may have.
    #[error(transparent)]
    TooMany(#[from] TooManyAuthorizations),
    /// The verification did not end in time, because others came first or because the hash is costly.
    #[error("the password could not be verified within {RESPOND_WITHIN:?}; try again later")]
    TooSlow,
}

/// Authenticates connections under the access control in force.
pub(crate) struct Authenticator {
    policy: ArcSwap<Policy>,
    /// The generation of `policy`, or of the policy that is about to replace it. Cheaper to read than `policy`.
    generation: AtomicU64,
    has_tls: bool,
    /// Generated at start and never stored. The hashes of remembered passwords are worthless without it.
    key: Key,
    pub(super) queue: Arc<FairQueue>,
    /// Memory for verifications, to be reused. There are at most as many as verifications that run at once.
    workspaces: Mutex<Vec<Workspace>>,
    failed_attempts: Mutex<FailedAttempts>,
    pub(crate) unauthenticated: Arc<Unauthenticated>,
    /// Counted where the hash is computed, so that tests can check that it is computed.
    verifications: AtomicU64,
    rejections: Throttle,
    /// Apart from `rejections`, so that probes cannot suppress the lines about wrong passwords.
    probes: Throttle,
}

impl Authenticator {
    /// Creates an authenticator with this access control in force.
    ///
    /// # Errors
    /// Returns [`Unspecified`] if the system provides no random numbers.
    pub(crate) fn new(
        control: AccessControl,
        has_tls: bool,
        max_unauthenticated: usize,
    ) -> Result<Arc<Self>, Unspecified> {
        let key = Key::generate(HMAC_SHA256, &SystemRandom::new())?;
        // Half of the processors verify passwords. The other half continues to serve authenticated connections.
        let max_running = available_parallelism().map_or(1, NonZero::get) / 2;
        Ok(Arc::new(Self {
            policy: ArcSwap::from_pointee(Policy::new(0, control)),
            generation: AtomicU64::new(0),
            has_tls,
            key,
            queue: FairQueue::new(max_running),
            workspaces: Mutex::default(),
            failed_attempts: Mutex::default(),
            unauthenticated: Unauthenticated::new(max_unauthenticated),
            verifications: AtomicU64::new(0),
            rejections: Throttle::new(Instant::now()),
            probes: Throttle::new(Instant::now()),
        }))
    }

    /// Replaces the access control in force. The caller must then wake all connections, so that they check their grants.
    ///
    /// # Errors
    /// Returns [`MustUseTls`], and changes nothing, if the new access control requires passwords and there is no TLS.
    pub(crate) fn replace(&self, control: AccessControl) -> Result<(), MustUseTls> {
        control.check(self.has_tls)?;
        // The generation first: a connection that sees the new one checks again until the new policy is in force.
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        self.policy.store(Arc::new(Policy::new(generation, control)));
        Ok(())
    }

    /// Returns the generation of the policy. As long as it does not change, neither does the policy.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Returns the policy in force.
    pub(crate) fn policy(&self) -> arc_swap::Guard<Arc<Policy>> {
        self.policy.load()
    }

    /// Returns the number of passwords that were verified by computing a hash.
    pub(crate) fn verifications(&self) -> u64 {
        self.verifications.load(Ordering::Relaxed)
    }

    /// Verifies the password of an AUTH, under the policy that is in force at the end of the verification. Returns within
    /// [`RESPOND_WITHIN`].
    ///
    /// # Errors
    /// Returns [`NotVerified`] if the address of the peer has too many verifications at once, or if there was no time.
    pub(crate) async fn authenticate(self: Arc<Self>, id: ConnId, peer: SocketAddr, presented: Password) -> AuthResult {
        let deadline = Instant::now() + RESPOND_WITHIN;
        loop {
            let policy = self.policy.load_full();
            let result = self.authenticate_under(&policy, peer.into(), &presented, deadline).await;
            // A policy that was replaced meanwhile may accept another password, or reject this one.
            if self.policy().generation == policy.generation {
                self.log_result(id, peer, policy.user_name(&presented), &result);
                return result;
            }
        }
    }

    async fn authenticate_under(
        self: &Arc<Self>,
        policy: &Arc<Policy>,
        source: Source,
        presented: &Password,
        deadline: Instant,
    ) -> AuthResult {
        let Some(claim) = policy.claim(presented, &self.key) else { return Ok(None) };
        if policy.is_remembered(&claim, presented, &self.key) {
            return Ok(claim.grant);
        }
        let pending = policy.join_verification(source, presented, &self.key);
        let verify = || self.verify(policy, source, &claim, presented, deadline);
        pending.outcome.get_or_try_init(verify).await.cloned()
    }

    async fn verify(
        self: &Arc<Self>,
        policy: &Arc<Policy>,
        source: Source,
        claim: &Claim,
        presented: &Password,
        deadline: Instant,
    ) -> AuthResult {
        let slot = self.queue.enter(source)?;
        let verification = async {
            let run_permit = slot.run_permit().await;
            // Another connection may have presented the same password in the meantime.
            if policy.is_remembered(claim, presented, &self.key) {
                return (true, Some(slot));
            }
            let (authenticator, policy, claim, presented) =
                (self.clone(), policy.clone(), claim.clone(), presented.clone());
            let verified = spawn_blocking(move || {
                let is_right = authenticator.is_right(&claim);
                if is_right && let Some(grant) = &claim.grant {
                    // Even if the verification took too long for this connection: the next attempt then succeeds at once.
                    policy.remember(grant, &presented, &authenticator.key);
                }
                // Held until the computation ends, even if no connection waits for the outcome any more.
                drop(run_permit);
                (is_right, slot)
            });
            match verified.await {
                Ok((is_right, slot)) => (is_right, Some(slot)),
                Err(error) => {
                    error!(%error, "the verification of a password panicked");
                    (false, None)
                }
            }
        };
        let (is_right, _slot) = timeout_at(deadline, verification).await.map_err(|_| NotVerified::TooSlow)?;
        if is_right && claim.grant.is_some() {
            return Ok(claim.grant.clone());
        }
        let now = Instant::now();
        let delay = self.failed_attempts.lock().record(source, now);
        sleep_until((now + delay).min(deadline)).await;
        Ok(None)
    }

    /// Computes the hash of the password. This takes tens of milliseconds or more.
    fn is_right(&self, claim: &Claim) -> bool {
        let mut workspace = self.workspaces.lock().pop().unwrap_or_default();
        let is_right = claim.hash.as_ref().is_some_and(|hash| {
            self.verifications.fetch_add(1, Ordering::Relaxed);
            hash.verify_within(&mut workspace, claim.password.expose())
        });
        self.workspaces.lock().push(workspace);
        is_right
    }

    /// Logs the result of an AUTH. A presented name that is not the name of a user is never logged: it may be a password.
    fn log_result(&self, id: ConnId, peer: SocketAddr, name: Option<&str>, result: &AuthResult) {
        let user = name.map(|name| EscapedBytes::new(name.as_bytes(), MAX_LOGGED_NAME).to_string());
        let user = user.as_deref().unwrap_or("unknown");
        match result {
            Ok(Some(_)) => info!(%id, %peer, user, "authorized"),
            Ok(None) => self.log_rejection(peer, format_args!("wrong password, user {user}")),
            Err(NotVerified::TooMany(_)) => {
                self.log_rejection(peer, "too many authorizations from its address at once")
            }
            Err(NotVerified::TooSlow) => {
                self.log_rejection(peer, format_args!("its password could not be verified within {RESPOND_WITHIN:?}"));
            }
        }
    }

    /// Logs why a client was rejected. The number of such lines per second is limited, so that clients cannot fill the log.
    pub(crate) fn log_rejection(&self, peer: SocketAddr, reason: impl fmt::Display) {
        match self.rejections.allow(Instant::now()) {
            Some(0) => warn!(%peer, "client rejected: {reason}"),
            Some(suppressed) => warn!(%peer, suppressed, "client rejected: {reason}"),
            None => debug!(%peer, "client rejected: {reason}"),
        }
    }

    /// Logs that a client speaks another protocol or nothing at all: a port scan, a health check, or a client that tries TLS
    /// first. This needs no action, so it is no warning. The number of such lines per second is limited.
    pub(crate) fn log_probe(&self, peer: SocketAddr, reason: impl fmt::Display) {
        match self.probes.allow(Instant::now()) {
            Some(0) => info!(%peer, "client rejected: {reason}"),
            Some(suppressed) => info!(%peer, suppressed, "client rejected: {reason}"),
            None => debug!(%peer, "client rejected: {reason}"),
        }
    }
}
