//! The warning about a server that is open to other machines.
//!
//! It is a warning only: in a private network or a container, an open server may be what the operator wants.

use crate::args::Serve;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long `--check-config` waits for the addresses of a host.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);

const CHOICES: &str = "--users, --auth-hash-file or --tls-client-ca, or listen on 127.0.0.1 only (--listen)";

/// Who may use a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exposure {
    /// Clients that have a password or a certificate.
    Authenticated,
    /// All clients that can connect, over connections that are encrypted.
    OpenWithTls,
    /// All clients that can connect.
    Open,
}

impl Exposure {
    pub(crate) fn of(args: &Serve) -> Self {
        if args.users.is_some() || args.auth_hash_file.is_some() || args.tls_client_ca.is_some() {
            Self::Authenticated
        } else if args.tls_cert.is_some() {
            Self::OpenWithTls
        } else {
            Self::Open
        }
    }

    /// Returns the warning for a server that listens on an address, or `None` if there is nothing to warn about.
    pub(crate) fn warning(self, address: &str, ip: IpAddr) -> Option<String> {
        if ip.to_canonical().is_loopback() {
            return None;
        }
        let anyone = format!("anyone who can reach {address} can read, change and delete all data");
        match self {
            Self::Authenticated => None,
            Self::OpenWithTls => Some(format!("{anyone}, because the server has TLS but no users: set {CHOICES}")),
            Self::Open => Some(format!(
                "{anyone}, because the server has neither TLS nor users: set --tls-cert and --tls-key with {CHOICES}"
            )),
        }
    }

    /// Returns the warning for a server that would listen on `listen`, which may contain the name of a host.
    pub(crate) fn warning_before(self, listen: &str) -> Option<String> {
        if self == Self::Authenticated {
            return None;
        }
        match resolve(listen) {
            Ok(addresses) => addresses.into_iter().find_map(|address| self.warning(listen, address.ip())),
            Err(error) => Some(format!("can't determine which machines can reach {listen}: {error}")),
        }
    }
}

/// Returns the addresses of `HOST:PORT`. The system has no limit of its own for the time that this takes.
fn resolve(listen: &str) -> io::Result<Vec<SocketAddr>> {
    let (sender, receiver) = mpsc::channel();
    let text = listen.to_owned();
    let lookup = move || sender.send(text.to_socket_addrs().map(Iterator::collect));
    thread::Builder::new().name("resolver".into()).spawn(lookup)?;
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no address within {RESOLVE_TIMEOUT:?}"));
    receiver.recv_timeout(RESOLVE_TIMEOUT).map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_warned(exposure: Exposure, listen: &str) -> bool {
        exposure
            .warning_before(listen)
            .is_some_and(|text| text.starts_with(&format!("anyone who can reach {listen} can ")))
    }

    #[test]
    fn an_open_server_is_warned_about_unless_only_this_machine_reaches_it() {
        for listen in ["0.0.0.0:1", "[::]:1", "192.168.1.2:1", "[fe80::1]:1", "8.8.8.8:1", "[::ffff:10.0.0.1]:1"] {
            assert!(is_warned(Exposure::Open, listen) && is_warned(Exposure::OpenWithTls, listen), "{listen}");
            assert_eq!(Exposure::Authenticated.warning_before(listen), None, "{listen}");
        }
        for listen in ["127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1"] {
            assert_eq!(Exposure::Open.warning_before(listen), None, "{listen}");
            assert_eq!(Exposure::OpenWithTls.warning_before(listen), None, "{listen}");
        }
    }

    #[test]
    fn an_unknown_host_is_reported_as_unknown() {
        let warning = Exposure::Open.warning_before("no-such-host.invalid:1").unwrap();
        assert!(warning.starts_with("can't determine which machines can reach no-such-host.invalid:1: "), "{warning}");
    }
}
