//! The access control in force, and what it grants.

use super::control::AccessControl;
use super::hash::Hash;
use super::source::Source;
use super::users::{Credential, User};
use parking_lot::Mutex;
use ring::hmac::{self, Key, Tag};
use std::collections::BTreeMap;
use std::sync::Arc;
use syncline_core::Rights;
use syncline_wire::Password;
use tokio::sync::OnceCell;

/// What a connection was granted access by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    /// Access is open.
    Anybody,
    /// A verified certificate, while no users are configured.
    Certificate,
    /// The password that all clients share.
    Password(Arc<Hash>),
    /// The password or the certificate of this user.
    User(Arc<User>),
}

impl Grant {
    /// Returns the rights that it gives.
    pub(crate) fn rights(&self) -> Arc<Rights> {
        match self {
            Self::User(user) => user.rights.clone(),
            Self::Anybody | Self::Certificate | Self::Password(_) => Arc::new(Rights::all()),
        }
    }

    /// Returns the name of the user, if it is the grant of a user.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::User(user) => Some(&user.name),
            Self::Anybody | Self::Certificate | Self::Password(_) => None,
        }
    }
}

/// The access control in force, and the passwords that were verified under it.
///
/// It is never changed, only replaced. So a new policy starts without remembered passwords.
pub(crate) struct Policy {
    /// Distinguishes this policy from the ones before and after it.
    pub(crate) generation: u64,
    control: AccessControl,
    /// The keyed hash of the last verified password of each user; under `None`, that of the shared password.
    remembered: Mutex<BTreeMap<Option<String>, Tag>>,
    /// The verifications in progress. Bounded by the connections that wait for them.
    pending: Mutex<BTreeMap<VerificationId, Arc<OnceCell<Option<Grant>>>>>,
}

/// Identifies a verification: the address, and the keyed hash of the password.
type VerificationId = (Source, Vec<u8>);

/// What an AUTH claims, before it is verified.
#[derive(Clone)]
pub(super) struct Claim {
    /// The hash to verify against, in any case, so that all claims take equally long. `None` if no user has a password.
    pub(super) hash: Option<Arc<Hash>>,
    /// The password, without the name of the user.
    pub(super) password: Password,
    /// What the right password grants. `None` if no password of this claim grants anything.
    pub(super) grant: Option<Grant>,
}

impl Policy {
    pub(super) fn new(generation: u64, control: AccessControl) -> Self {
        Self { generation, control, remembered: Mutex::default(), pending: Mutex::default() }
    }

    /// Returns whether clients need not authenticate.
    pub(crate) const fn is_open(&self) -> bool {
        !self.control.is_required()
    }

    /// Returns what a certificate with these names grants. The TLS handshake must have verified it.
    pub(crate) fn grant_for_certificate(&self, names: &[String]) -> Option<Grant> {
        match &self.control {
            AccessControl::Open => Some(Grant::Anybody),
            AccessControl::Password(_) => Some(Grant::Certificate),
            AccessControl::Users(users) => users.get_by_certificate(names).cloned().map(Grant::User),
        }
    }

    /// Returns whether a grant, possibly of an earlier policy, is still valid and unchanged.
    pub(crate) fn still_grants(&self, grant: &Grant) -> bool {
        match (&self.control, grant) {
            (AccessControl::Open, Grant::Anybody) | (AccessControl::Password(_), Grant::Certificate) => true,
            (AccessControl::Password(hash), Grant::Password(granted)) => hash == granted,
            (AccessControl::Users(users), Grant::User(user)) => users.get(&user.name) == Some(user),
            _ => false,
        }
    }

    /// Returns the name of the user that an AUTH claims to come from, if such a user exists.
    pub(super) fn user_name(&self, presented: &Password) -> Option<&str> {
        let AccessControl::Users(users) = &self.control else { return None };
        let name = presented.expose().split(|byte| *byte == b':').next()?;
        users.get(str::from_utf8(name).ok()?).map(|user| &*user.name)
    }

    /// Returns what an AUTH claims, or `None` if access is open.
    pub(super) fn claim(&self, presented: &Password, key: &Key) -> Option<Claim> {
        Some(match &self.control {
            AccessControl::Open => return None,
            AccessControl::Password(hash) => {
                let grant = Some(Grant::Password(hash.clone()));
                Claim { hash: Some(hash.clone()), password: presented.clone(), grant }
            }
            AccessControl::Users(users) => {
                let presented = presented.expose();
                let (name, password) = match presented.iter().position(|byte| *byte == b':') {
                    Some(colon) => (presented.slice(..colon), Password::new(presented.slice(colon + 1..))),
                    None => (presented.clone(), Password::default()),
                };
                let user = str::from_utf8(&name).ok().and_then(|name| users.get(name));
                if let Some(user) = user
                    && let Credential::Password(hash) = &user.credential
                    && name.len() < presented.len()
                {
                    return Some(Claim { hash: Some(hash.clone()), password, grant: Some(Grant::User(user.clone())) });
                }
                let hashes = users.hashes().count();
                let hash = pick(key, &name, hashes).and_then(|nth| users.hashes().nth(nth)).cloned();
                Claim { hash, password, grant: None }
            }
        })
    }

    /// Returns whether this password was verified before.
    pub(super) fn is_remembered(&self, claim: &Claim, presented: &Password, key: &Key) -> bool {
        let Some(grant) = &claim.grant else { return false };
        let remembered = self.remembered.lock().get(&grant.name().map(str::to_owned)).copied();
        remembered.is_some_and(|tag| hmac::verify(key, presented.expose(), tag.as_ref()).is_ok())
    }

    /// Remembers a password that was verified.
    pub(super) fn remember(&self, grant: &Grant, presented: &Password, key: &Key) {
        self.remembered.lock().insert(grant.name().map(str::to_owned), hmac::sign(key, presented.expose()));
    }

    /// Joins the verification of this password for this address, or starts it. If several connections of one address
    /// present the same password at once, one verification serves all of them.
    pub(super) fn join_verification(&self, source: Source, presented: &Password, key: &Key) -> PendingVerification<'_> {
        let id = (source, hmac::sign(key, presented.expose()).as_ref().to_vec());
        let outcome = self.pending.lock().entry(id.clone()).or_default().clone();
        PendingVerification { policy: self, id, outcome }
    }
}

/// A verification in progress, held by each connection that waits for it.
pub(super) struct PendingVerification<'a> {
    policy: &'a Policy,
    id: VerificationId,
    pub(super) outcome: Arc<OnceCell<Option<Grant>>>,
}

impl Drop for PendingVerification<'_> {
    fn drop(&mut self) {
        // Outcomes are not kept: the first connection that has the outcome, or is cancelled, removes the entry.
        let mut pending = self.policy.pending.lock();
        if pending.get(&self.id).is_some_and(|outcome| Arc::ptr_eq(outcome, &self.outcome)) {
            pending.remove(&self.id);
        }
    }
}

/// Returns a number below `count` that is always the same for a name, or `None` if `count` is 0.
fn pick(key: &Key, name: &[u8], count: usize) -> Option<usize> {
    let tag = hmac::sign(key, name);
    let number =
        tag.as_ref().iter().take(size_of::<u32>()).fold(0_usize, |number, byte| number << 8 | usize::from(*byte));
    number.checked_rem(count)
}
