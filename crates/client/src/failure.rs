//! Why a request has not got what it asked for, and what each thing that a user does makes of that.

use crate::{BaseOnly, GetError, PutError, RequestError, TxnError};
use syncline_core::client::Response;
use syncline_wire::EncodeError;

/// Why a request has not got what it asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It can't be encoded.
    Encode(EncodeError),
    /// The server does not know such requests.
    BaseOnly,
    /// It never left the client.
    NotSent { reason: String },
    /// It may have reached the server, or not.
    Lost { reason: String },
    /// The server has answered something else.
    Answered(Response),
}

impl From<Failure> for RequestError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Encode(bad) => Self::TooLarge { text: bad.to_string() },
            Failure::BaseOnly => BaseOnly.into(),
            Failure::NotSent { reason } | Failure::Lost { reason } => Self::Unavailable { reason },
            Failure::Answered(Response::TooLarge { text }) => Self::TooLarge { text },
            Failure::Answered(Response::NotPermitted { missing }) => Self::NotPermitted { missing },
            Failure::Answered(Response::Unavailable { reason }) => Self::Unavailable { reason },
            Failure::Answered(Response::Refused { text }) => Self::Refused { text },
            Failure::Answered(other) => {
                Self::Refused { text: format!("expected an answer to what was asked, found {other:?}") }
            }
        }
    }
}

impl From<Failure> for GetError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Answered(Response::NotFound { deleted_at }) => Self::NotFound { deleted_at },
            failure => match failure.into() {
                // Every server knows GET.
                RequestError::BaseOnly(base_only) => Self::Refused { text: base_only.to_string() },
                RequestError::TooLarge { text } => Self::TooLarge { text },
                RequestError::NotPermitted { missing } => Self::NotPermitted { missing },
                RequestError::Unavailable { reason } => Self::Unavailable { reason },
                RequestError::Refused { text } => Self::Refused { text },
            },
        }
    }
}

/// What is said of a write of which it is known that nothing came of it: the errors of all writes have the same variants.
macro_rules! refusal_of_a_write {
    ($failure:expr) => {
        match RequestError::from($failure) {
            RequestError::BaseOnly(base_only) => base_only.into(),
            RequestError::TooLarge { text } => Self::TooLarge { text },
            RequestError::NotPermitted { missing } => Self::NotPermitted { missing },
            RequestError::Unavailable { reason } => Self::Unavailable { reason },
            RequestError::Refused { text } => Self::Refused { text },
        }
    };
}

impl From<Failure> for PutError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Answered(Response::Stale) => Self::StalePut,
            Failure::Lost { reason } => Self::OutcomeUnknown { reason },
            failure => refusal_of_a_write!(failure),
        }
    }
}

impl From<Failure> for TxnError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Answered(Response::StaleKey { key }) => Self::StaleKey { key },
            Failure::Lost { reason } => Self::OutcomeUnknown { reason },
            failure => refusal_of_a_write!(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_unknown_to_writers_and_unavailable_to_readers() {
        let lost = || Failure::Lost { reason: "cut".into() };
        assert_eq!(PutError::from(lost()), PutError::OutcomeUnknown { reason: "cut".into() });
        assert_eq!(TxnError::from(lost()), TxnError::OutcomeUnknown { reason: "cut".into() });
        assert_eq!(GetError::from(lost()), GetError::Unavailable { reason: "cut".into() });
        assert_eq!(RequestError::from(lost()), RequestError::Unavailable { reason: "cut".into() });
    }

    #[test]
    fn what_was_not_sent_is_unavailable_to_all() {
        let failure = || Failure::NotSent { reason: "late".into() };
        assert_eq!(PutError::from(failure()), PutError::Unavailable { reason: "late".into() });
        assert_eq!(TxnError::from(failure()), TxnError::Unavailable { reason: "late".into() });
        assert_eq!(GetError::from(failure()), GetError::Unavailable { reason: "late".into() });
    }

    #[test]
    fn an_answer_to_something_else_is_refused() {
        let text = "expected an answer to what was asked, found Written";
        assert_eq!(
            RequestError::from(Failure::Answered(Response::Written)),
            RequestError::Refused { text: text.into() }
        );
    }
}
