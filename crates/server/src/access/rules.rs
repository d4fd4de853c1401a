//! The access control that is in force, and whom it has let in.

use super::AccessControl;
use super::hash::Hash;
use super::source::Source;
use super::users::{Proof, User};
use parking_lot::Mutex;
use ring::hmac::{self, Key, Tag};
use std::collections::BTreeMap;
use std::sync::Arc;
use syncline_core::Rights;
use syncline_wire::Password;
use tokio::sync::OnceCell;

/// By what somebody was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    /// Nothing is required.
    Anybody,
    /// A certificate that was verified, where no users are configured.
    Certificate,
    /// The one password.
    Password(Arc<Hash>),
    /// Being this user.
    User(Arc<User>),
}

impl Grant {
    /// What it gives the right to.
    pub(crate) fn rights(&self) -> Arc<Rights> {
        match self {
            Self::User(user) => user.rights.clone(),
            Self::Anybody | Self::Certificate | Self::Password(_) => Arc::new(Rights::all()),
        }
    }

    /// The name of the user, if it is one.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::User(user) => Some(&user.name),
            Self::Anybody | Self::Certificate | Self::Password(_) => None,
        }
    }
}

/// Access control in force. Another takes its place; what was remembered under this one is then forgotten with it.
pub(crate) struct Rules {
    /// Tells it from those before and after it.
    pub(crate) generation: u64,
    control: AccessControl,
    /// The last right password of each user, under a key; that of no user is the one password's.
    right: Mutex<BTreeMap<Option<String>, Tag>>,
    /// What is being verified right now. Bounded by the connections that wait for it.
    under_way: Mutex<BTreeMap<Question, Arc<OnceCell<Option<Grant>>>>>,
}

/// Which address asks about which password, under a key.
type Question = (Source, Vec<u8>);

/// What a password claims.
pub(super) struct Claim {
    /// What is to be verified in any case, so that all claims take as long; `None`: nobody has a password.
    pub(super) hash: Option<Arc<Hash>>,
    /// The part of AUTH's password that is the password.
    pub(super) password: Password,
    /// What a right password gives; `None`: whatever is verified, nothing.
    pub(super) grant: Option<Grant>,
}

impl Rules {
    pub(super) fn new(generation: u64, control: AccessControl) -> Self {
        Self { generation, control, right: Mutex::default(), under_way: Mutex::default() }
    }

    pub(crate) const fn is_open(&self) -> bool {
        !self.control.is_required()
    }

    /// What somebody is granted whose certificate has these names, of a handshake that has verified it.
    pub(crate) fn certified(&self, names: &[String]) -> Option<Grant> {
        match &self.control {
            AccessControl::Open => Some(Grant::Anybody),
            AccessControl::Password(_) => Some(Grant::Certificate),
            AccessControl::Users(users) => users.certified(names).cloned().map(Grant::User),
        }
    }

    /// Whether what was granted, maybe by earlier rules, still is, unchanged.
    pub(crate) fn still_grant(&self, grant: &Grant) -> bool {
        match (&self.control, grant) {
            (AccessControl::Open, Grant::Anybody) | (AccessControl::Password(_), Grant::Certificate) => true,
            (AccessControl::Password(hash), Grant::Password(shown)) => hash == shown,
            (AccessControl::Users(users), Grant::User(user)) => users.named(&user.name) == Some(user),
            _ => false,
        }
    }

    /// The name of the user that an AUTH claims to come from, where there is that user.
    pub(super) fn name(&self, shown: &Password) -> Option<&str> {
        let AccessControl::Users(users) = &self.control else { return None };
        let name = shown.expose().split(|byte| *byte == b':').next()?;
        users.named(str::from_utf8(name).ok()?).map(|user| &*user.name)
    }

    /// What an AUTH claims. `None`: there are no passwords.
    pub(super) fn claim(&self, shown: &Password, key: &Key) -> Option<Claim> {
        Some(match &self.control {
            AccessControl::Open => return None,
            AccessControl::Password(hash) => {
                let grant = Some(Grant::Password(hash.clone()));
                Claim { hash: Some(hash.clone()), password: shown.clone(), grant }
            }
            AccessControl::Users(users) => {
                let shown = shown.expose();
                let (name, password) = match shown.iter().position(|byte| *byte == b':') {
                    Some(colon) => (shown.slice(..colon), Password::new(shown.slice(colon + 1..))),
                    None => (shown.clone(), Password::default()),
                };
                let user = str::from_utf8(&name).ok().and_then(|name| users.named(name));
                if let Some(user) = user
                    && let Proof::Password(hash) = &user.proof
                    && name.len() < shown.len()
                {
                    return Some(Claim { hash: Some(hash.clone()), password, grant: Some(Grant::User(user.clone())) });
                }
                let hashes = users.hashes().count();
                let hash = pick(key, &name, hashes).and_then(|nth| users.hashes().nth(nth)).cloned();
                Claim { hash, password, grant: None }
            }
        })
    }

    /// Whether this password was right before.
    pub(super) fn knows(&self, claim: &Claim, shown: &Password, key: &Key) -> bool {
        let Some(grant) = &claim.grant else { return false };
        let right = self.right.lock().get(&grant.name().map(str::to_owned)).copied();
        right.is_some_and(|right| hmac::verify(key, shown.expose(), right.as_ref()).is_ok())
    }

    /// This password was right.
    pub(super) fn remember(&self, grant: &Grant, shown: &Password, key: &Key) {
        self.right.lock().insert(grant.name().map(str::to_owned), hmac::sign(key, shown.expose()));
    }

    /// Where the same address asks the same at once, only one of them is to do the work.
    pub(super) fn share(&self, source: Source, shown: &Password, key: &Key) -> Shared<'_> {
        let question = (source, hmac::sign(key, shown.expose()).as_ref().to_vec());
        let answer = self.under_way.lock().entry(question.clone()).or_default().clone();
        Shared { rules: self, question, answer }
    }
}

/// One of those who wait for the same answer.
pub(super) struct Shared<'a> {
    rules: &'a Rules,
    question: Question,
    pub(super) answer: Arc<OnceCell<Option<Grant>>>,
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        // Answers are not kept: this one, by whoever has it or goes away without it first.
        let mut under_way = self.rules.under_way.lock();
        if under_way.get(&self.question).is_some_and(|answer| Arc::ptr_eq(answer, &self.answer)) {
            under_way.remove(&self.question);
        }
    }
}

/// One of `count`, always the same for a name.
fn pick(key: &Key, name: &[u8], count: usize) -> Option<usize> {
    let tag = hmac::sign(key, name);
    let number =
        tag.as_ref().iter().take(size_of::<u32>()).fold(0_usize, |number, byte| number << 8 | usize::from(*byte));
    number.checked_rem(count)
}
