//! The failures of commands, with their messages and exit codes.

use crate::ending;
use std::io;
use std::process::ExitCode;
use syncline_client::{ConnectError, CursorError, GetError, PutError, RequestError, TlsError, TxnError, UpdateError};
use syncline_store::OpenError;
use tokio::signal::unix::SignalKind;

/// The exit codes, as `--help` shows them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  success; also if the reader of the output is gone, as in `... | head`
  1  the key does not exist
  2  invalid command line, configuration, key or value
  3  stale: the version is not the current version plus 1; nothing was written
     (import: the keys in conflict were not written)
  4  unavailable: the server cannot be reached, or it or the system cannot serve
     the request now; nothing was written
  5  outcome unknown: the connection was lost while a write was in flight
  6  the data directory or backup is damaged, or is not one; it is unchanged
  7  a command that --exec ran failed
  8  not permitted: a right is missing, or the password is wrong or missing;
     nothing was written
  9  the output cannot be written, for example to a full disk; what the command
     wrote to the server was committed
  128 + N: signal N ended the command, if it could do so in order";

/// How to provide a password.
const PASSWORD_HINT: &str = "Set --password-file or SYNCLINE_PASSWORD_FILE to a file with the password, and --user or SYNCLINE_USER to the name of the user, if the server has users.";

/// The reason why a command failed, with a message for each kind except the last.
#[derive(Debug)]
pub(crate) enum Failure {
    NotFound(String),
    Usage(String),
    Stale(String),
    Unavailable(String),
    OutcomeUnknown(String),
    Damaged(String),
    Exec(String),
    NotPermitted(String),
    Output(String),
    /// A signal has ended the command, which has no more to say.
    Signal(SignalKind),
    /// The reader of stdout is gone, as in `… | head`. The command ends without a message, successfully.
    OutputClosed,
}

impl Failure {
    /// Returns the message for stderr.
    pub(crate) fn message(&self) -> Option<&str> {
        match self {
            Self::NotFound(message)
            | Self::Usage(message)
            | Self::Stale(message)
            | Self::Unavailable(message)
            | Self::OutcomeUnknown(message)
            | Self::Damaged(message)
            | Self::Exec(message)
            | Self::NotPermitted(message)
            | Self::Output(message) => Some(message),
            Self::Signal(_) | Self::OutputClosed => None,
        }
    }

    /// Returns the exit code, as [`EXIT_CODES`] lists it.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::OutputClosed => 0,
            Self::NotFound(_) => 1,
            Self::Usage(_) => 2,
            Self::Stale(_) => 3,
            Self::Unavailable(_) => 4,
            Self::OutcomeUnknown(_) => 5,
            Self::Damaged(_) => 6,
            Self::Exec(_) => 7,
            Self::NotPermitted(_) => 8,
            Self::Output(_) => 9,
            Self::Signal(signal) => u8::try_from(ending::exit_code(*signal)).unwrap_or(u8::MAX),
        })
    }

    /// Returns the same failure with the number of the input line in front of the message.
    pub(crate) fn in_line(self, number: u64) -> Self {
        let prefixed = |message| format!("line {number}: {message}");
        match self {
            Self::NotFound(message) => Self::NotFound(prefixed(message)),
            Self::Usage(message) => Self::Usage(prefixed(message)),
            Self::Stale(message) => Self::Stale(prefixed(message)),
            Self::Unavailable(message) => Self::Unavailable(prefixed(message)),
            Self::OutcomeUnknown(message) => Self::OutcomeUnknown(prefixed(message)),
            Self::Damaged(message) => Self::Damaged(prefixed(message)),
            Self::Exec(message) => Self::Exec(prefixed(message)),
            Self::NotPermitted(message) => Self::NotPermitted(prefixed(message)),
            Self::Output(message) => Self::Output(prefixed(message)),
            Self::Signal(signal) => Self::Signal(signal),
            Self::OutputClosed => Self::OutputClosed,
        }
    }

    /// Returns the failure for an error of writing to stdout.
    pub(crate) fn printing(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Output(format!("can't write the output: {error}")),
        }
    }

    /// Returns the same failure of printing with the fact that `done` was done before.
    pub(crate) fn after(self, done: &str) -> Self {
        match self {
            Self::Output(message) => Self::Output(format!("{done}, but {message}")),
            other => other,
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let hint = match error.cause() {
            ConnectError::Endpoint(_)
            | ConnectError::Pem(_)
            | ConnectError::Password(_)
            | ConnectError::PasswordWithoutTls { .. } => return Self::Usage(error.to_string()),
            ConnectError::NoRoots { .. } | ConnectError::Tls { problem: TlsError::UnknownCa { .. }, .. } => {
                "Set --tls-ca or SYNCLINE_TLS_CA to a file with the CA."
            }
            ConnectError::Tls { problem: TlsError::CertificateDemanded, .. } => {
                "Set --tls-cert and --tls-key, or SYNCLINE_TLS_CERT and SYNCLINE_TLS_KEY, to the files."
            }
            ConnectError::Tls { .. } => return Self::Unavailable(error.to_string()),
            ConnectError::BadPassword { .. } => return Self::NotPermitted(error.to_string()),
            ConnectError::PasswordRequired { .. } => {
                return Self::NotPermitted(format!("{error}\n{PASSWORD_HINT}"));
            }
            _ => {
                "Is a server running there? `syncline serve` starts one; --addr or SYNCLINE_ADDR names another address."
            }
        };
        Self::Unavailable(format!("{error}\n{hint}"))
    }
}

impl From<syncline_load::Error> for Failure {
    fn from(error: syncline_load::Error) -> Self {
        match error {
            syncline_load::Error::Connect(error) => error.into(),
            syncline_load::Error::Request(error) => Self::Usage(error.to_string()),
            error => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<GetError> for Failure {
    fn from(error: GetError) -> Self {
        let message = error.to_string();
        match error {
            GetError::NotFound { .. } => Self::NotFound(message),
            GetError::Request(error) => error.into(),
            _ => Self::Unavailable(message),
        }
    }
}

impl From<PutError> for Failure {
    fn from(error: PutError) -> Self {
        let message = error.to_string();
        match error {
            PutError::StalePut => Self::Stale(message),
            PutError::OutcomeUnknown { .. } => Self::OutcomeUnknown(message),
            PutError::Request(error) => error.into(),
            _ => Self::Unavailable(message),
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let message = error.to_string();
        match error {
            RequestError::BaseOnly(_) | RequestError::TooLarge { .. } | RequestError::Refused { .. } => {
                Self::Usage(message)
            }
            RequestError::NotPermitted { .. } | RequestError::NotAuthorized { .. } => Self::NotPermitted(message),
            _ => Self::Unavailable(message),
        }
    }
}

impl From<CursorError> for Failure {
    fn from(error: CursorError) -> Self {
        match error {
            CursorError::Connect(error) => error.into(),
            CursorError::Request(error) => error.into(),
            error => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<TxnError> for Failure {
    fn from(error: TxnError) -> Self {
        let message = error.to_string();
        match error {
            TxnError::StaleKey { .. } => Self::Stale(message),
            TxnError::OutcomeUnknown { .. } => Self::OutcomeUnknown(message),
            TxnError::Request(error) => error.into(),
            _ => Self::Unavailable(message),
        }
    }
}

impl From<UpdateError> for Failure {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::Get(error) => error.into(),
            UpdateError::Put(error) => error.into(),
            UpdateError::Contended { .. } => Self::Stale(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let message = error.to_string();
        match error {
            OpenError::Io { .. } | OpenError::Locked { .. } | OpenError::Unavailable(_) => Self::Unavailable(message),
            OpenError::InvalidPath { .. } => Self::Usage(message),
            OpenError::Foreign { .. } | OpenError::Format { .. } | OpenError::Damaged { .. } => Self::Damaged(message),
        }
    }
}
