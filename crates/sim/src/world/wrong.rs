//! Deliberately wrong variants, with which the checkers are tested: each breaks one promise as a plausible bug would.
//!
//! They are wrong where a driver meets the decisions of `core`: what it tells them, in which order it does as they ask, and
//! what it makes of their output. So the code that is released holds none of them.

use crate::check::Promise;

/// A deliberately wrong variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// A MARK is sent before the last change that it stands for.
    MarkTooEarly,
    /// A page that is read for somebody who has fallen behind says that it was read at an earlier head than it was: MARKs
    /// come while it is still being told.
    HorizonForgotten,
    /// When a connection changes from the recent log to the store, the first change that the store tells is lost.
    LostAtCatchUp,
    /// A resume is not told of what was deleted meanwhile.
    TombstoneSkipped,
    /// A page ends between two writes of a transaction, and a MARK stands there.
    HalfATransaction,
    /// After a crash, only the first half of a transaction's writes is there.
    TornByACrash,
    /// Writes are answered, and sent on, before they are synced.
    AcknowledgedBeforeSynced,
    /// An own write is answered behind the write that came after it.
    OwnWriteOutOfOrder,
    /// A client takes a store that was restored for the one that it knew: what that tells is applied over the old state.
    AppliedOverOldState,
    /// A backup is restored, and keeps the store's id.
    RestoredUnderTheOldId,
    /// A catch-up begins one revision too early.
    ToldTwice,
    /// A GET is answered from the state that was there before the last commits.
    StaleRead,
    /// A client answers its caller before it shows what a MARK has completed.
    AnsweredBeforeShown,
    /// A replica shows, on a new connection, what it showed on an earlier one.
    ShownAgain,
    /// No heartbeat is ever sent.
    NoHeartbeat,
    /// The recent log forgets nothing.
    EndlessLog,
    /// A connection that waits is not woken when the log grows.
    LostWakeup,
    /// A client that has lost its connection sends a write again, and tells what became of that.
    WriteSentAgain,
    /// A cursor that has lost its connection goes on from the head that the next server tells, not from where it was.
    ResumedFromTheHead,
}

impl Wrong {
    /// All of them.
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

    /// The variant of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|wrong| format!("{wrong:?}").eq_ignore_ascii_case(name))
    }

    /// The promise that it breaks; its checker must find that.
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
