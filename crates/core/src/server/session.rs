//! Who may read and write.
//!
//! ```text
//!            AUTH                        wrong password
//!  Stranger ──────▶ Verifying ─────────────────────────────▶ Stranger
//!                       │ right password
//!                       ▼
//!  Access::Open ────▶ Open(Authorized)
//! ```

/// What a server demands before it serves a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Open,
    /// The first request must be an AUTH with the right password.
    Password,
}

/// The proof that a connection may read and write: whoever does must show it, and only this file makes one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Authorized(());

/// How far a connection has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Session {
    /// It must authorize itself first.
    Stranger,
    /// Its password is being checked.
    Verifying,
    /// It may read and write.
    Open(Authorized),
}

impl Session {
    /// A connection has come in.
    pub(super) const fn new(access: Access) -> Self {
        match access {
            Access::Open => Self::Open(Authorized(())),
            Access::Password => Self::Stranger,
        }
    }

    /// The password of [`Session::Verifying`] was right. The one place where a stranger is let in.
    pub(super) const fn verified() -> Self {
        Self::Open(Authorized(()))
    }
}
