//! Where the servers are, and how a command connects to them: the one place where any does.

use crate::failure::Failure;
use crate::settings::read_bounded;
use std::ffi::OsString;
use std::fmt::Display;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use syncline_client::{Client, Cursor, Dialer, Endpoint, Endpoints, Identity, Options, Password, Pem, Position, Tls};

#[derive(Clone, clap::Args)]
pub(crate) struct ServersArg {
    /// The server; where several serve the same store, all of them, of which the first that answers is taken.
    /// syncline://HOST:PORT is the same as HOST:PORT; synclines://HOST:PORT speaks TLS
    #[arg(long = "addr", env = "SYNCLINE_ADDR", value_name = "HOST:PORT", value_delimiter = ',', default_value = DEFAULT)]
    addresses: Vec<Endpoint>,

    /// The CAs that may have signed the server's certificate, in PEM; without it, those that the system trusts
    #[arg(long, env = "SYNCLINE_TLS_CA", value_name = "FILE", help_heading = "TLS")]
    tls_ca: Option<PathBuf>,

    /// The certificate that this client shows, in PEM
    #[arg(long, env = "SYNCLINE_TLS_CERT", value_name = "FILE", requires = "tls_key", help_heading = "TLS")]
    tls_cert: Option<PathBuf>,

    /// The key of that certificate, in PEM
    #[arg(long, env = "SYNCLINE_TLS_KEY", value_name = "FILE", requires = "tls_cert", help_heading = "TLS")]
    tls_key: Option<PathBuf>,

    /// Who asks, where the server knows users
    #[arg(long, env = "SYNCLINE_USER", value_name = "NAME", help_heading = "Password")]
    user: Option<String>,

    /// A file that holds the password, which is sent over TLS only. Without it, SYNCLINE_PASSWORD may hold it; there is no
    /// flag for the password itself, for everybody on this machine sees the command lines of all processes
    #[arg(long, env = "SYNCLINE_PASSWORD_FILE", value_name = "FILE", help_heading = "Password")]
    password_file: Option<PathBuf>,
}

/// The environment variable that may hold the password.
const PASSWORD: &str = "SYNCLINE_PASSWORD";

/// The largest file that a password is read from.
const MAX_PASSWORD_FILE: usize = 64 * 1024;

/// The password that a file holds; the newline that editors put behind it is no part of it.
fn read_password(file: &Path) -> Result<Vec<u8>, Failure> {
    let unread = |why: &dyn Display| Failure::Usage(format!("can't read a password from {}: {why}", file.display()));
    let mut secret = read_bounded(file, MAX_PASSWORD_FILE).map_err(|error| unread(&error))?;
    if secret.ends_with(b"\n") {
        secret.pop();
        if secret.ends_with(b"\r") {
            secret.pop();
        }
    }
    if secret.is_empty() {
        return Err(unread(&"it is empty"));
    }
    Ok(secret)
}

/// Where servers listen by default.
const DEFAULT: &str = "127.0.0.1:6660";

impl ServersArg {
    pub(crate) fn endpoints(&self) -> Endpoints {
        self.addresses.clone().into()
    }

    /// A client of the servers.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        Ok(Client::connect_with(self.endpoints(), self.options()?).await?)
    }

    /// A cursor on what they hold.
    pub(crate) async fn cursor(&self, prefix: Vec<u8>, since: Option<Position>) -> Result<Cursor, Failure> {
        Ok(Cursor::open(self.endpoints(), prefix, since, self.options()?).await?)
    }

    /// For who speaks the protocol alone: sockets, and where they lead to.
    pub(crate) fn dialer(&self) -> Result<Dialer, Failure> {
        Ok(Dialer::new(&self.endpoints(), &self.options()?)?)
    }

    fn options(&self) -> Result<Options, Failure> {
        let mut options = Options::default();
        options.tls = self.tls();
        options.password = self.password()?;
        Ok(options)
    }

    fn password(&self) -> Result<Option<Password>, Failure> {
        let secret = match &self.password_file {
            Some(file) => Some(read_password(file)?),
            None => std::env::var_os(PASSWORD).map(OsString::into_vec),
        };
        match (&self.user, secret) {
            (None, secret) => Ok(secret.map(Password::new)),
            (Some(name), Some(secret)) => Ok(Some(Password::of_user(name, &secret))),
            (Some(name), None) => Err(Failure::Usage(format!(
                "expected the password of {name}, found none: --password-file or SYNCLINE_PASSWORD_FILE names a file that holds it, or {PASSWORD} does"
            ))),
        }
    }

    fn tls(&self) -> Tls {
        let identity = self.tls_cert.as_ref().zip(self.tls_key.as_ref());
        let mut tls = Tls::default();
        tls.ca = self.tls_ca.as_ref().map(Pem::file);
        tls.identity = identity.map(|(certificate, key)| Identity::files(certificate, key));
        tls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_connect_to_where_servers_listen() {
        assert_eq!(DEFAULT, syncline_server::Config::default().listen);
    }
}
