//! What an attack consists of.

use super::context::{AttackContext, Bound, Scale};
use super::error::AttackError;
use super::options::SecurityMode;
use std::pin::Pin;
use std::sync::Arc;

/// What is done, by whoever attacks.
type AttackFn = fn(Arc<AttackContext>) -> Pin<Box<dyn Future<Output = Result<(), AttackError>> + Send>>;

/// A way to attack a server.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// What it is called.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub description: &'static str,
    /// What the server must be for it.
    pub requires: SecurityMode,
    /// What the server is started with.
    pub(super) flags: &'static [&'static str],
    /// What holds it.
    pub(super) bound: fn(Scale) -> Bound,
    /// What is there before anything is measured.
    pub(super) prepare: AttackFn,
    /// Says that it is [enough](AttackContext::enough) when all of it has been there once, and ends when it [is told](AttackContext::end).
    pub(super) run: AttackFn,
}

/// What most of them have in common: any server will do, as it is by default, and nothing has to be there before.
pub(super) const DEFAULTS: Attack = Attack {
    name: "",
    description: "",
    requires: SecurityMode::Plain,
    flags: &[],
    bound: |_| Bound::new("", "", 0, 0),
    prepare: |_| Box::pin(async { Ok(()) }),
    // So that one that has none of its own is found.
    run: |_| Box::pin(async { Err(AttackError::unexpected("an attack", "none")) }),
};
