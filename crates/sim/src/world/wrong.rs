//! Deliberately wrong variants, which test the checkers. Each breaks one promise as a plausible bug would.
//!
//! The variants are wrong at the boundary between the drivers and `core`: in what a driver passes to `core`, in the
//! order in which it does what `core` asks for, and in how it handles the output. The released code contains none of
//! them.

use crate::check::Promise;

/// A deliberately wrong variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// A MARK is sent before the last change that it covers.
    MarkTooEarly,
    /// A catch-up page reports an earlier head than the one at which it was read, so MARKs are sent before the
    /// catch-up is complete.
    HorizonForgotten,
    /// When a connection switches from the recent log to the store, the first change from the store is lost.
    LostAtCatchUp,
    /// A resume omits deletions.
    TombstoneSkipped,
    /// A page ends between two writes of a transaction, followed by a MARK.
    HalfATransaction,
    /// A crash keeps only the first half of a transaction's writes.
    TornByACrash,
    /// Writes are answered and broadcast before they are synced.
    AcknowledgedBeforeSynced,
    /// The response to an own write is sent after the next write.
    OwnWriteOutOfOrder,
    /// A client mistakes a restored store for the one that it knew, and applies the changes over its old state.
    AppliedOverOldState,
    /// A restored backup keeps the id of the earlier store.
    RestoredUnderTheOldId,
    /// A catch-up starts one revision too early.
    ToldTwice,
    /// A GET returns the state before the last commits.
    StaleRead,
    /// A client answers its caller before it shows what a MARK has completed.
    AnsweredBeforeShown,
    /// On a new connection, a replica shows what it showed on an earlier one.
    ShownAgain,
    /// No heartbeat is ever sent.
    NoHeartbeat,
    /// The recent log discards nothing.
    EndlessLog,
    /// A waiting connection is not woken when the log grows.
    LostWakeup,
    /// A client that has lost its connection sends a write again, and reports the outcome of the second attempt.
    WriteSentAgain,
    /// A cursor that has lost its connection continues from the head of the next server, instead of its own position.
    ResumedFromTheHead,
}

impl Wrong {
    /// All variants.
    pub const ALL: [Self; 19] = [
        Self::MarkTooEarly,
        Self::HorizonForgotten,
        Self::LostAtCatchUp,
        Self::TombstoneSkipped,
        Self::HalfATransaction,
        Self::TornByACrash,
        Self::AcknowledgedBeforeSynced,
        Self::OwnWriteOutOfOrder,
        Self::AppliedOverOldState,
        Self::RestoredUnderTheOldId,
        Self::ToldTwice,
        Self::StaleRead,
        Self::AnsweredBeforeShown,
        Self::ShownAgain,
        Self::NoHeartbeat,
        Self::EndlessLog,
        Self::LostWakeup,
        Self::WriteSentAgain,
        Self::ResumedFromTheHead,
    ];

    /// Returns the variant of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|wrong| format!("{wrong:?}").eq_ignore_ascii_case(name))
    }

    /// Returns the promise that the variant breaks. The checker of that promise must find it.
    pub const fn breaks(self) -> Promise {
        match self {
            Self::MarkTooEarly | Self::HorizonForgotten | Self::AppliedOverOldState | Self::RestoredUnderTheOldId => {
                Promise::Marked
            }
            Self::LostAtCatchUp => Promise::Reliable,
            Self::TombstoneSkipped | Self::ResumedFromTheHead => Promise::Resumable,
            Self::HalfATransaction | Self::TornByACrash => Promise::Atomic,
            Self::AcknowledgedBeforeSynced => Promise::Durable,
            Self::OwnWriteOutOfOrder => Promise::Ordered,
            Self::ToldTwice => Promise::Unique,
            Self::StaleRead | Self::WriteSentAgain => Promise::Linearizable,
            Self::AnsweredBeforeShown => Promise::ReadYourWrites,
            Self::ShownAgain => Promise::Monotonic,
            Self::NoHeartbeat | Self::EndlessLog | Self::LostWakeup => Promise::Bounded,
        }
    }
}
