//! Why a command has failed, and the exit code for it.

use std::io;
use std::process::ExitCode;
use syncline_client::{ConnectError, CursorError, GetError, PutError, RequestError, TlsError, TxnError, UpdateError};
use syncline_store::OpenError;

/// The exit codes, as `--help` shows them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  fine
  1  the key is not there
  2  the command line, the configuration, a key or a value can't be
  3  stale: the version is not the current one plus 1; nothing was written (import: of the keys in conflict)
  4  unavailable: the server can't be reached, or can't do it for now; nothing was written
  5  the outcome is unknown: the connection was lost while the write was in flight
  6  the data directory is damaged, or not one; nothing was changed
  7  a command that --exec has run has failed
  8  not permitted: a right is missing, or the password is wrong or missing; nothing was written";

/// Where passwords come from.
const PASSWORD_HINT: &str =
    "--password-file or SYNCLINE_PASSWORD_FILE names a file that holds it; --user or SYNCLINE_USER says who asks.";

/// Why a command has failed.
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
    /// Nobody reads what is printed any more, as after `| head`: no failure, only the end.
    NobodyReads,
}

impl Failure {
    /// What to tell people.
    pub(crate) fn message(&self) -> Option<&str> {
        match self {
            Self::NotFound(message)
            | Self::Usage(message)
            | Self::Stale(message)
            | Self::Unavailable(message)
            | Self::OutcomeUnknown(message)
            | Self::Damaged(message)
            | Self::Exec(message)
            | Self::NotPermitted(message) => Some(message),
            Self::NobodyReads => None,
        }
    }

    /// What to tell programs.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::NobodyReads => 0,
            Self::NotFound(_) => 1,
            Self::Usage(_) => 2,
            Self::Stale(_) => 3,
            Self::Unavailable(_) => 4,
            Self::OutcomeUnknown(_) => 5,
            Self::Damaged(_) => 6,
            Self::Exec(_) => 7,
            Self::NotPermitted(_) => 8,
        })
    }

    /// As it is, of a line of the input.
    pub(crate) fn in_line(self, number: u64) -> Self {
        let told = |message| format!("line {number}: {message}");
        match self {
            Self::NotFound(message) => Self::NotFound(told(message)),
            Self::Usage(message) => Self::Usage(told(message)),
            Self::Stale(message) => Self::Stale(told(message)),
            Self::Unavailable(message) => Self::Unavailable(told(message)),
            Self::OutcomeUnknown(message) => Self::OutcomeUnknown(told(message)),
            Self::Damaged(message) => Self::Damaged(told(message)),
            Self::Exec(message) => Self::Exec(told(message)),
            Self::NotPermitted(message) => Self::NotPermitted(told(message)),
            Self::NobodyReads => Self::NobodyReads,
        }
    }

    /// What could not be printed.
    pub(crate) fn printing(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::Unavailable(format!("can't write the output: {error}")),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let hint = match &error {
            ConnectError::Endpoint(_)
            | ConnectError::Pem(_)
            | ConnectError::Password(_)
            | ConnectError::PasswordWithoutTls { .. } => return Self::Usage(error.to_string()),
            ConnectError::NoRoots { .. } | ConnectError::Tls { problem: TlsError::UnknownCa { .. }, .. } => {
                "--tls-ca or SYNCLINE_TLS_CA names a file with the CA."
            }
            ConnectError::Tls { problem: TlsError::CertificateDemanded, .. } => {
                "--tls-cert and --tls-key, or SYNCLINE_TLS_CERT and SYNCLINE_TLS_KEY, name the files."
            }
            ConnectError::Tls { .. } => return Self::Unavailable(error.to_string()),
            ConnectError::BadPassword { .. } => return Self::NotPermitted(error.to_string()),
            ConnectError::PasswordRequired { .. } => {
                return Self::NotPermitted(format!("{error}\n{PASSWORD_HINT}"));
            }
            _ => "Is a server running there? `syncline serve` starts one; --addr or SYNCLINE_ADDR says where it is.",
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
            RequestError::NotPermitted { .. } => Self::NotPermitted(message),
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
            OpenError::Foreign { .. } | OpenError::Format { .. } | OpenError::Damaged { .. } => Self::Damaged(message),
        }
    }
}
