//! Why a request failed, and how that becomes the error of an operation.

use crate::error::{BaseOnly, GetError, PutError, RequestError, TxnError};
use syncline_core::client::Response;
use syncline_wire::EncodeError;

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request cannot be encoded.
    Encode(EncodeError),
    /// The server does not support the request.
    BaseOnly,
    /// The request was never sent.
    NotSent { reason: String },
    /// The request was sent, but its response was not received.
    NoResponse { reason: String },
    /// The server responded with something else than the result of the operation.
    Response(Response),
    /// The client has given up for good. The request was not sent.
    GivenUp(RequestError),
}

impl From<Failure> for RequestError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Encode(error) => Self::TooLarge { text: error.to_string() },
            Failure::BaseOnly => BaseOnly.into(),
            Failure::NotSent { reason } | Failure::NoResponse { reason } => Self::Unavailable { reason },
            Failure::GivenUp(error) => error,
            Failure::Response(Response::TooLarge { text }) => Self::TooLarge { text },
            Failure::Response(Response::NotPermitted { missing }) => Self::NotPermitted { missing },
            Failure::Response(Response::Unavailable { reason }) => Self::Unavailable { reason },
            Failure::Response(Response::Refused { text }) => Self::Refused { text },
            Failure::Response(other) => {
                Self::Refused { text: format!("expected a response to the request, found {other:?}") }
            }
        }
    }
}

impl From<Failure> for GetError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Response(Response::NotFound { deleted_at }) => Self::NotFound { deleted_at },
            failure => Self::Request(failure.into()),
        }
    }
}

impl From<Failure> for PutError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Response(Response::Stale) => Self::StalePut,
            Failure::NoResponse { reason } => Self::OutcomeUnknown { reason },
            failure => Self::Request(failure.into()),
        }
    }
}

impl From<Failure> for TxnError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Response(Response::StaleKey { key }) => Self::StaleKey { key },
            Failure::NoResponse { reason } => Self::OutcomeUnknown { reason },
            failure => Self::Request(failure.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_response_is_unknown_to_writers_and_unavailable_to_readers() {
        let failure = || Failure::NoResponse { reason: "cut".into() };
        let unavailable = RequestError::Unavailable { reason: "cut".into() };
        assert_eq!(PutError::from(failure()), PutError::OutcomeUnknown { reason: "cut".into() });
        assert_eq!(TxnError::from(failure()), TxnError::OutcomeUnknown { reason: "cut".into() });
        assert_eq!(GetError::from(failure()), unavailable.clone().into());
        assert_eq!(RequestError::from(failure()), unavailable);
    }

    #[test]
    fn a_request_that_was_not_sent_is_unavailable_to_all() {
        let failure = || Failure::NotSent { reason: "late".into() };
        let unavailable = RequestError::Unavailable { reason: "late".into() };
        assert_eq!(PutError::from(failure()), unavailable.clone().into());
        assert_eq!(TxnError::from(failure()), unavailable.clone().into());
        assert_eq!(GetError::from(failure()), unavailable.into());
    }

    #[test]
    fn a_response_to_another_request_is_reported_as_refused() {
        let text = "expected a response to the request, found Written";
        assert_eq!(
            RequestError::from(Failure::Response(Response::Written)),
            RequestError::Refused { text: text.into() }
        );
    }
}
