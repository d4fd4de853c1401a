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
use syncline_core::ConnId;
use syncline_wire::{EscapedBytes, Password};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tracing::{debug, error, info, warn};

/// The number of characters of a user's name that the log shows.
const MAX_LOGGED_NAME: usize = 64;

/// The result of an AUTH: what the password grants, `None` if it is wrong, or an error if it was not verified.
pub(crate) type AuthResult = Result<Option<Grant>, TooManyAuthorizations>;

/// Authenticates connections under the access control in force.
pub(crate) struct Authenticator {
    policy: ArcSwap<Policy>,
    /// The generation of `policy`, or of the policy that is about to replace it. Cheaper to read than `policy`.
    generation: AtomicU64,
    has_tls: bool,
    /// Generated at start and never stored. The hashes of remembered passwords are worthless without it.
    key: Key,
    queue: Arc<FairQueue>,
    /// Memory for verifications, to be reused. There are at most as many as verifications that run at once.
    workspaces: Arc<Mutex<Vec<Workspace>>>,
    failed_attempts: Mutex<FailedAttempts>,
    pub(crate) unauthenticated: Unauthenticated,
    /// Counted where the hash is computed, so that tests can check that it is computed.
    verifications: Arc<AtomicU64>,
    log_throttle: Throttle,
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
            workspaces: Arc::default(),
            failed_attempts: Mutex::default(),
            unauthenticated: Unauthenticated::new(max_unauthenticated),
            verifications: Arc::default(),
            log_throttle: Throttle::new(Instant::now()),
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

    /// Verifies the password of an AUTH, under the policy that is in force at the end of the verification.
    ///
    /// # Errors
    /// Returns [`TooManyAuthorizations`] if the address of the peer has too many verifications at once.
    pub(crate) async fn authenticate(self: Arc<Self>, id: ConnId, peer: SocketAddr, presented: Password) -> AuthResult {
        loop {
            let policy = self.policy.load_full();
            let result = self.authenticate_under(&policy, peer.into(), &presented).await;
            // A policy that was replaced meanwhile may accept another password, or reject this one.
            if self.policy().generation == policy.generation {
                self.log_result(id, peer, policy.user_name(&presented), &result);
                return result;
            }
        }
    }

    async fn authenticate_under(&self, policy: &Policy, source: Source, presented: &Password) -> AuthResult {
        let Some(claim) = policy.claim(presented, &self.key) else { return Ok(None) };
        if policy.is_remembered(&claim, presented, &self.key) {
            return Ok(claim.grant);
        }
        let pending = policy.join_verification(source, presented, &self.key);
        pending.outcome.get_or_try_init(|| self.verify(policy, source, &claim, presented)).await.cloned()
    }

    async fn verify(&self, policy: &Policy, source: Source, claim: &Claim, presented: &Password) -> AuthResult {
        let slot = self.queue.enter(source)?;
        let run_permit = slot.run_permit().await;
        // Another connection may have presented the same password in the meantime.
        if policy.is_remembered(claim, presented, &self.key) {
            return Ok(claim.grant.clone());
        }
        let (hash, password) = (claim.hash.clone(), claim.password.clone());
        let (workspaces, verifications) = (self.workspaces.clone(), self.verifications.clone());
        let verified = spawn_blocking(move || {
            let mut workspace = workspaces.lock().pop().unwrap_or_default();
            let is_right = hash.is_some_and(|hash| {
                verifications.fetch_add(1, Ordering::Relaxed);
                hash.verify_within(&mut workspace, password.expose())
            });
            workspaces.lock().push(workspace);
            // Held until the computation ends, even if no connection waits for the outcome any more.
            drop(run_permit);
            (is_right, slot)
        });
        let (is_right, _slot) = match verified.await {
            Ok((is_right, slot)) => (is_right, Some(slot)),
            Err(error) => {
                error!(%error, "the verification of a password panicked");
                (false, None)
            }
        };
        if is_right && let Some(grant) = &claim.grant {
            policy.remember(grant, presented, &self.key);
            return Ok(Some(grant.clone()));
        }
        let delay = self.failed_attempts.lock().record(source, Instant::now());
        sleep(delay).await;
        Ok(None)
    }

    /// Logs the result of an AUTH. A presented name that is not the name of a user is never logged: it may be a password.
    fn log_result(&self, id: ConnId, peer: SocketAddr, name: Option<&str>, result: &AuthResult) {
        let user = name.map(|name| EscapedBytes::new(name.as_bytes(), MAX_LOGGED_NAME).to_string());
        let user = user.as_deref().unwrap_or("unknown");
        match result {
            Ok(Some(_)) => info!(%id, %peer, user, "authorized"),
            Ok(None) => self.log_rejection(peer, format_args!("wrong password, user {user}")),
            Err(TooManyAuthorizations) => self.log_rejection(peer, "too many authorizations from its address at once"),
        }
    }

    /// Logs why a client was rejected. The number of such lines per second is limited, so that clients cannot fill the log.
    pub(crate) fn log_rejection(&self, peer: SocketAddr, reason: impl fmt::Display) {
        match self.log_throttle.allow(Instant::now()) {
            Some(0) => warn!(%peer, "client rejected: {reason}"),
            Some(suppressed) => warn!(%peer, suppressed, "client rejected: {reason}"),
            None => debug!(%peer, "client rejected: {reason}"),
        }
    }
}
