//! The parts of an attack.

use super::context::{AttackContext, Bound, Scale};
use super::error::AttackError;
use super::options::SecurityMode;
use std::pin::Pin;
use std::sync::Arc;

/// The work of an attack, or of its preparation.
type AttackFn = fn(Arc<AttackContext>) -> Pin<Box<dyn Future<Output = Result<(), AttackError>> + Send>>;

/// A kind of attack on a server.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// The name on the command line.
    pub name: &'static str,
    /// What the attack does, in one sentence.
    pub description: &'static str,
    /// The security mode that the attack requires.
    pub requires: SecurityMode,
    /// Additional flags of the server.
    pub(super) flags: &'static [&'static str],
    /// What limits the attack.
    pub(super) bound: fn(Scale) -> Bound,
    /// Prepares the store before anything is measured.
    pub(super) prepare: AttackFn,
    /// Runs the attack. It [reports](AttackContext::report_complete) when it has reached its full extent once, and ends
    /// after [`AttackContext::stop`].
    pub(super) run: AttackFn,
}

/// The defaults of attacks: any server with default settings, and no preparation.
pub(super) const DEFAULTS: Attack = Attack {
    name: "",
    description: "",
    requires: SecurityMode::Plain,
    flags: &[],
    bound: |_| Bound::new("", "", 0, 0),
    prepare: |_| Box::pin(async { Ok(()) }),
    // An attack without work of its own fails.
    run: |_| Box::pin(async { Err(AttackError::unexpected("an attack", "none")) }),
};
