//! Decides who comes in: the work that AUTH costs, and who pays for it.
//!
//! A password that was right before is known at once, by a keyed hash of it. Any other is verified on a thread where it
//! blocks nobody; the turns are fair between addresses (`fair_queue.rs`). A wrong one is told late (`guesses.rs`): meanwhile
//! it keeps a place of its address, and nothing of anybody else's.

use super::fair_queue::{FairQueue, TooMany};
use super::guesses::Guesses;
use super::hash::Workspace;
use super::rules::{Claim, Grant, Rules};
use super::source::Source;
use super::unauthenticated::Unauthenticated;
use super::{AccessControl, MustUseTls};
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

/// How many characters of a user's name the log shows.
const NAME_SHOWN: usize = 64;

/// What became of an AUTH: what it is granted, or nothing; or it was not looked at.
pub(crate) type Judgement = Result<Option<Grant>, TooMany>;

/// Decides who comes in.
pub(crate) struct Authenticator {
    rules: ArcSwap<Rules>,
    /// The generation of those, or of those that are about to take their place: quick to look at.
    generation: AtomicU64,
    has_tls: bool,
    /// Made at the start, and kept nowhere: what is remembered of passwords is worth nothing without it.
    key: Key,
    turns: Arc<FairQueue>,
    /// The memory that verifications need, for the next ones: at most as many as run at once.
    workspaces: Arc<Mutex<Vec<Workspace>>>,
    guesses: Mutex<Guesses>,
    pub(crate) unauthenticated: Unauthenticated,
    /// Counted where the work is done, so that tests can hold to it that it is done.
    verifications: Arc<AtomicU64>,
    complaints: Throttle,
}

impl Authenticator {
    /// Puts access control in force.
    ///
    /// # Errors
    /// [`Unspecified`] where the system gives no random numbers.
    pub(crate) fn new(
        control: AccessControl,
        has_tls: bool,
        max_unauthenticated: usize,
    ) -> Result<Arc<Self>, Unspecified> {
        let key = Key::generate(HMAC_SHA256, &SystemRandom::new())?;
        // Half of the processors, so that the other half serves those who are in.
        let at_once = available_parallelism().map_or(1, NonZero::get) / 2;
        Ok(Arc::new(Self {
            rules: ArcSwap::from_pointee(Rules::new(0, control)),
            generation: AtomicU64::new(0),
            has_tls,
            key,
            turns: FairQueue::new(at_once),
            workspaces: Arc::default(),
            guesses: Mutex::default(),
            unauthenticated: Unauthenticated::new(max_unauthenticated),
            verifications: Arc::default(),
            complaints: Throttle::new(Instant::now()),
        }))
    }

    /// Puts other access control in force. Connections are to look at [`Authenticator::rules`] then.
    ///
    /// # Errors
    /// [`MustUseTls`] where that requires passwords, and there is no TLS; nothing has changed then.
    pub(crate) fn replace(&self, control: AccessControl) -> Result<(), MustUseTls> {
        control.check(self.has_tls)?;
        // First: who sees that there are others looks again until they are in force.
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        self.rules.store(Arc::new(Rules::new(generation, control)));
        Ok(())
    }

    /// Which rules are in force: while this stays the same, so do they.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// What is in force.
    pub(crate) fn rules(&self) -> arc_swap::Guard<Arc<Rules>> {
        self.rules.load()
    }

    /// How many passwords were verified.
    pub(crate) fn verifications(&self) -> u64 {
        self.verifications.load(Ordering::Relaxed)
    }

    /// Judges an AUTH by what is in force at the end.
    ///
    /// # Errors
    /// [`TooMany`] where its address asks for too much at once.
    pub(crate) async fn judge(self: Arc<Self>, id: ConnId, peer: SocketAddr, shown: Password) -> Judgement {
        loop {
            let rules = self.rules.load_full();
            let judgement = self.judge_by(&rules, peer.into(), &shown).await;
            // Else it may be that nobody would be let in by it any more, or somebody would.
            if self.rules().generation == rules.generation {
                self.tell(id, peer, rules.name(&shown), &judgement);
                return judgement;
            }
        }
    }

    async fn judge_by(&self, rules: &Rules, source: Source, shown: &Password) -> Judgement {
        let Some(claim) = rules.claim(shown, &self.key) else { return Ok(None) };
        if rules.knows(&claim, shown, &self.key) {
            return Ok(claim.grant);
        }
        let shared = rules.share(source, shown, &self.key);
        shared.answer.get_or_try_init(|| self.verify(rules, source, &claim, shown)).await.cloned()
    }

    async fn verify(&self, rules: &Rules, source: Source, claim: &Claim, shown: &Password) -> Judgement {
        let place = self.turns.enter(source)?;
        let turn = place.turn().await;
        // Somebody else may have shown it meanwhile.
        if rules.knows(claim, shown, &self.key) {
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
            // Kept until here also where nobody waits for it any more.
            drop(turn);
            (is_right, place)
        });
        let (is_right, _place) = match verified.await {
            Ok((is_right, place)) => (is_right, Some(place)),
            Err(error) => {
                error!(%error, "the verification of a password has died");
                (false, None)
            }
        };
        if is_right && let Some(grant) = &claim.grant {
            rules.remember(grant, shown, &self.key);
            return Ok(Some(grant.clone()));
        }
        let delay = self.guesses.lock().wrong(source, Instant::now());
        sleep(delay).await;
        Ok(None)
    }

    /// Tells people. The name that was shown stands there only where it is that of a user: else it may be a password.
    fn tell(&self, id: ConnId, peer: SocketAddr, name: Option<&str>, judgement: &Judgement) {
        let user = name.map(|name| EscapedBytes::new(name.as_bytes(), NAME_SHOWN).to_string());
        let user = user.as_deref().unwrap_or("unknown");
        match judgement {
            Ok(Some(_)) => info!(%id, %peer, user, "authorized"),
            Ok(None) => self.complain(peer, format_args!("wrong password, user {user}")),
            Err(TooMany) => self.complain(peer, "too many authorizations from its address at once"),
        }
    }

    /// Tells people why somebody was not let in; who causes many such lines does not fill the log.
    pub(crate) fn complain(&self, peer: SocketAddr, reason: impl fmt::Display) {
        match self.complaints.admit(Instant::now()) {
            Some(0) => warn!(%peer, "not let in: {reason}"),
            Some(left_out) => warn!(%peer, left_out, "not let in: {reason}"),
            None => debug!(%peer, "not let in: {reason}"),
        }
    }
}
