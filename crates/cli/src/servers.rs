//! Where the servers are, and how a command connects to them: the one place where any does.

use crate::failure::Failure;
use std::path::PathBuf;
use syncline_client::{Client, Cursor, Dialer, Endpoint, Endpoints, Identity, Options, Pem, Position, Tls};

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
}

/// Where servers listen by default.
const DEFAULT: &str = "127.0.0.1:6660";

impl ServersArg {
    pub(crate) fn endpoints(&self) -> Endpoints {
        self.addresses.clone().into()
    }

    /// A client of the servers.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        Ok(Client::connect_with(self.endpoints(), self.options()).await?)
    }

    /// A cursor on what they hold.
    pub(crate) async fn cursor(&self, prefix: Vec<u8>, since: Option<Position>) -> Result<Cursor, Failure> {
        Ok(Cursor::open(self.endpoints(), prefix, since, self.options()).await?)
    }

    /// For who speaks the protocol alone: sockets, and where they lead to.
    pub(crate) fn dialer(&self) -> Result<Dialer, Failure> {
        Ok(Dialer::new(&self.endpoints(), &self.tls())?)
    }

    fn options(&self) -> Options {
        Options { tls: self.tls(), ..Options::default() }
    }

    fn tls(&self) -> Tls {
        let identity = self.tls_cert.as_ref().zip(self.tls_key.as_ref());
        Tls {
            ca: self.tls_ca.as_ref().map(Pem::file),
            identity: identity.map(|(certificate, key)| Identity::files(certificate, key)),
        }
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
