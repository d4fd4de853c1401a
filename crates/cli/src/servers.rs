//! The flags that name the server, and the connections that commands make with them.

use crate::failure::Failure;
use std::ffi::OsString;
use std::fmt::Display;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use syncline_client::{Client, Cursor, Dialer, Endpoint, Endpoints, Identity, Options, Password, Pem, Position, Tls};
use syncline_config::read_bounded;

/// The flags that every client command accepts.
#[derive(Clone, clap::Args)]
pub(crate) struct ServersArg {
    /// The server. HOST:PORT and syncline://HOST:PORT are the same; synclines://HOST:PORT speaks TLS. Several
    /// addresses, separated by commas, are alternative addresses of one server: the command uses the first that answers
    #[arg(long = "addr", env = "SYNCLINE_ADDR", value_name = "HOST:PORT", value_delimiter = ',', default_value = DEFAULT)]
    addresses: Vec<Endpoint>,

    /// The CAs that may have signed the server's certificate, in PEM; without it, the CAs that the system trusts
    #[arg(long, env = "SYNCLINE_TLS_CA", value_name = "FILE", help_heading = "TLS")]
    tls_ca: Option<PathBuf>,

    /// The certificate of this client, in PEM
    #[arg(long, env = "SYNCLINE_TLS_CERT", value_name = "FILE", requires = "tls_key", help_heading = "TLS")]
    tls_cert: Option<PathBuf>,

    /// The private key of that certificate, in PEM
    #[arg(long, env = "SYNCLINE_TLS_KEY", value_name = "FILE", requires = "tls_cert", help_heading = "TLS")]
    tls_key: Option<PathBuf>,

    /// The name of the user, if the server has users
    #[arg(long, env = "SYNCLINE_USER", value_name = "NAME", help_heading = "Password")]
    user: Option<String>,

    /// A file with the password, which is sent over TLS only. The variable SYNCLINE_PASSWORD may contain the password
    /// instead. There is no flag for the password itself, because all users of a machine can see command lines
    #[arg(long, env = "SYNCLINE_PASSWORD_FILE", value_name = "FILE", help_heading = "Password")]
    password_file: Option<PathBuf>,
}

/// The environment variable that may contain the password.
const PASSWORD: &str = "SYNCLINE_PASSWORD";

/// The largest password file, in bytes.
const MAX_PASSWORD_FILE: usize = 64 * 1024;

/// Reads the password from a file, without the newline that editors append.
fn read_password(file: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable =
        |reason: &dyn Display| Failure::Usage(format!("can't read a password from {}: {reason}", file.display()));
    let mut secret = read_bounded(file, MAX_PASSWORD_FILE).map_err(|error| unreadable(&error))?;
    if secret.ends_with(b"\n") {
        secret.pop();
        if secret.ends_with(b"\r") {
            secret.pop();
        }
    }
    if secret.is_empty() {
        return Err(unreadable(&"the file is empty"));
    }
    Ok(secret)
}

/// The default address, on which servers listen by default.
const DEFAULT: &str = "127.0.0.1:6660";

impl ServersArg {
    pub(crate) fn endpoints(&self) -> Endpoints {
        self.addresses.clone().into()
    }

    /// Connects a client.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        Ok(Client::connect_with(self.endpoints(), self.options()?).await?)
    }

    /// Opens a cursor on the keys under a prefix.
    pub(crate) async fn cursor(&self, prefix: Vec<u8>, since: Option<Position>) -> Result<Cursor, Failure> {
        Ok(Cursor::open(self.endpoints(), prefix, since, self.options()?).await?)
    }

    /// Returns a dialer, for commands that speak the protocol without the client library.
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
            // An empty variable counts as not set, as for flags.
            None => std::env::var_os(PASSWORD).map(OsString::into_vec).filter(|password| !password.is_empty()),
        };
        match (&self.user, secret) {
            (None, secret) => Ok(secret.map(Password::new)),
            (Some(name), Some(secret)) => Ok(Some(Password::of_user(name, &secret))),
            (Some(name), None) => Err(Failure::Usage(format!(
                "expected the password of {name}, found none: set --password-file or SYNCLINE_PASSWORD_FILE to a file with the password, or {PASSWORD} to the password"
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
    fn clients_connect_to_the_address_on_which_servers_listen_by_default() {
        assert_eq!(DEFAULT, syncline_server::Config::default().listen);
    }
}
