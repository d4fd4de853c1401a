//! The addresses of servers, and whether they use TLS.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use thiserror::Error;

const PLAIN: &str = "syncline";
const TLS: &str = "synclines";

/// The maximum length of the name of a network interface: `IFNAMSIZ` without the terminating zero.
const MAX_ZONE: usize = 15;

/// The address of a server, and whether it uses TLS: `HOST:PORT` or `syncline://HOST:PORT` without TLS,
/// `synclines://HOST:PORT` with TLS. IPv6 addresses are written in brackets. A link-local address needs the name or number
/// of a network interface: `[fe80::1%eth0]:6660`, or `[fe80::1%25eth0]:6660` as in URIs.
///
/// ```
/// use syncline_client::Endpoint;
/// let endpoint: Endpoint = "synclines://[::1]:6660".parse()?;
/// assert!(endpoint.is_tls());
/// assert_eq!((endpoint.host(), endpoint.port()), ("::1", 6660));
/// # Ok::<_, syncline_client::EndpointError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
    is_tls: bool,
}

impl Endpoint {
    /// Returns the name or address of the host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the network interface of a link-local address: `eth0` of `fe80::1%eth0`.
    pub(crate) fn zone(&self) -> Option<&str> {
        self.host.split_once('%').map(|(_, zone)| zone)
    }

    /// Returns the host as certificates name it: without the network interface, which has a meaning on this machine only.
    pub(crate) fn host_without_zone(&self) -> &str {
        self.host.split_once('%').map_or(&self.host, |(address, _)| address)
    }

    /// Returns the port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns whether the endpoint uses TLS. A client never connects to it without TLS then.
    pub const fn is_tls(&self) -> bool {
        self.is_tls
    }
}

/// A text is not an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The scheme is neither `syncline` nor `synclines`.
    #[error("{endpoint}: expected the scheme syncline:// or, for TLS, synclines://, found {scheme}://")]
    Scheme {
        /// The whole text.
        endpoint: String,
        /// The scheme.
        scheme: String,
    },
    /// The port is missing.
    #[error("{endpoint}: expected HOST:PORT, found no port; servers listen on 6660 by default")]
    NoPort {
        /// The whole text.
        endpoint: String,
    },
    /// The port is not a number from 1 to 65535.
    #[error("{endpoint}: expected a port from 1 to 65535, found {port:?}")]
    Port {
        /// The whole text.
        endpoint: String,
        /// The port.
        port: String,
    },
    /// The network interface after `%` is missing or invalid.
    #[error(
        "{endpoint}: expected the name or number of a network interface after %, as in [fe80::1%eth0]:6660, found {zone:?}"
    )]
    Zone {
        /// The whole text.
        endpoint: String,
        /// The text after `%`.
        zone: String,
    },
    /// There is a user or password in front of the host. The text does not contain it.
    #[error("{host}: expected HOST:PORT, found a user in front of it; the user and the password are set separately")]
    UserInfo {
        /// What follows the user.
        host: String,
    },
    /// The host is not a valid name or address.
    #[error(
        "{endpoint}: expected the name or address of a host, found {host:?}; IPv6 addresses are written in brackets: [::1]"
    )]
    Host {
        /// The whole text.
        endpoint: String,
        /// The host.
        host: String,
    },
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(endpoint: &str) -> Result<Self, EndpointError> {
        // This comes first, because the texts of the other errors would show a password.
        if let Some((_, host)) = endpoint.rsplit_once('@') {
            return Err(EndpointError::UserInfo { host: host.into() });
        }
        let text = || endpoint.to_owned();
        let (is_tls, rest) = match endpoint.split_once("://") {
            None => (false, endpoint),
            Some((PLAIN, rest)) => (false, rest),
            Some((TLS, rest)) => (true, rest),
            Some((scheme, _)) => return Err(EndpointError::Scheme { endpoint: text(), scheme: scheme.into() }),
        };
        let bracketed = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (host, port) = match bracketed {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => rest.rsplit_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let is_host = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
        let host = match bracketed {
            Some(_) => in_brackets(endpoint, host)?,
            None if !host.is_empty() && host.chars().all(is_host) => host.to_owned(),
            None => return Err(EndpointError::Host { endpoint: text(), host: host.into() }),
        };
        let port = port.ok_or_else(|| EndpointError::NoPort { endpoint: text() })?;
        match port.parse() {
            // A number that is parsed may have a sign.
            Ok(port_number @ 1..) if !port.starts_with('+') => Ok(Self { host, port: port_number, is_tls }),
            _ => Err(EndpointError::Port { endpoint: text(), port: port.into() }),
        }
    }
}

/// Returns the IPv6 address in brackets, with its network interface if it has one.
fn in_brackets(endpoint: &str, host: &str) -> Result<String, EndpointError> {
    let (address, zone) = host.split_once('%').map_or((host, None), |(address, zone)| (address, Some(zone)));
    if address.parse::<Ipv6Addr>().is_err() {
        return Err(EndpointError::Host { endpoint: endpoint.into(), host: host.into() });
    }
    let Some(zone) = zone else { return Ok(address.into()) };
    // URIs write `%25` for `%`. No interface has a name of digits.
    let zone =
        zone.strip_prefix("25").filter(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic())).unwrap_or(zone);
    let is_zone = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if zone.is_empty() || zone.len() > MAX_ZONE || !zone.chars().all(is_zone) {
        return Err(EndpointError::Zone { endpoint: endpoint.into(), zone: zone.into() });
    }
    Ok(format!("{address}%{zone}"))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_tls {
            write!(f, "{TLS}://")?;
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

/// One or several [endpoints](Endpoint). A client is connected to one of them at a time.
///
/// ```
/// use syncline_client::Endpoints;
/// let one: Endpoints = "127.0.0.1:6660".into();
/// let two: Endpoints = ["synclines://a.example:6660", "synclines://b.example:6660"].into();
/// assert_eq!(one.to_string(), "127.0.0.1:6660");
/// assert_eq!(two.to_string(), "synclines://a.example:6660, synclines://b.example:6660");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints(Vec<String>);

impl Endpoints {
    /// Parses all endpoints.
    ///
    /// # Errors
    /// [`EndpointError`] of the first malformed endpoint.
    pub fn parsed(&self) -> Result<Vec<Endpoint>, EndpointError> {
        self.0.iter().map(|endpoint| endpoint.parse()).collect()
    }
}

impl From<&str> for Endpoints {
    fn from(address: &str) -> Self {
        Self(vec![address.to_owned()])
    }
}

impl From<String> for Endpoints {
    fn from(address: String) -> Self {
        Self(vec![address])
    }
}

impl From<&String> for Endpoints {
    fn from(address: &String) -> Self {
        Self(vec![address.clone()])
    }
}

impl<A: Into<String>> From<Vec<A>> for Endpoints {
    fn from(addresses: Vec<A>) -> Self {
        Self(addresses.into_iter().map(Into::into).collect())
    }
}

impl<A: Into<String>, const N: usize> From<[A; N]> for Endpoints {
    fn from(addresses: [A; N]) -> Self {
        Self(addresses.into_iter().map(Into::into).collect())
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(endpoint: &str) -> Result<Endpoint, EndpointError> {
        endpoint.parse()
    }

    #[test]
    fn endpoints_are_parsed_and_shown() {
        for (endpoint, host, port, is_tls, shown) in [
            ("a.example:6660", "a.example", 6660, false, "a.example:6660"),
            ("syncline://a_b-c:1", "a_b-c", 1, false, "a_b-c:1"),
            ("synclines://127.0.0.1:65535", "127.0.0.1", 65535, true, "synclines://127.0.0.1:65535"),
            ("synclines://[::1]:6660", "::1", 6660, true, "synclines://[::1]:6660"),
            ("[fe80::1%eth0]:6660", "fe80::1%eth0", 6660, false, "[fe80::1%eth0]:6660"),
            ("synclines://[fe80::1%25br-0.7]:1", "fe80::1%br-0.7", 1, true, "synclines://[fe80::1%br-0.7]:1"),
            ("[fe80::1%2]:6660", "fe80::1%2", 6660, false, "[fe80::1%2]:6660"),
            ("[fe80::1%25]:6660", "fe80::1%25", 6660, false, "[fe80::1%25]:6660"),
            ("[::ffff:127.0.0.1]:1", "::ffff:127.0.0.1", 1, false, "[::ffff:127.0.0.1]:1"),
        ] {
            let found = parsed(endpoint).unwrap();
            assert_eq!((found.host(), found.port(), found.is_tls()), (host, port, is_tls), "{endpoint}");
            assert_eq!(found.to_string(), shown);
            assert_eq!(parsed(shown), Ok(found), "the shown form parses");
        }
    }

    #[test]
    fn malformed_endpoints_are_reported_with_what_was_expected() {
        for (endpoint, expected) in [
            ("https://a:1", "expected the scheme syncline:// or, for TLS, synclines://, found https://"),
            (
                "tls:a:1",
                "expected the name or address of a host, found \"tls:a\"; IPv6 addresses are written in brackets: [::1]",
            ),
            ("::1:6660", "expected the name or address of a host, found \"::1\"; IPv6"),
            ("a.example", "expected HOST:PORT, found no port; servers listen on 6660 by default"),
            ("synclines://a.example", "expected HOST:PORT, found no port"),
            ("[::1]", "expected HOST:PORT, found no port"),
            ("[a]:1", "expected the name or address of a host, found \"a\""),
            (":6660", "expected the name or address of a host, found \"\""),
            ("", "expected the name or address of a host, found \"\""),
            ("a:0", "expected a port from 1 to 65535, found \"0\""),
            ("a:65536", "expected a port from 1 to 65535, found \"65536\""),
            ("a:6660/", "expected a port from 1 to 65535, found \"6660/\""),
            ("a:+1", "expected a port from 1 to 65535, found \"+1\""),
            ("a:1 ", "expected a port from 1 to 65535, found \"1 \""),
            (" a:1", "expected the name or address of a host, found \" a\""),
            (
                "[fe80::1%]:1",
                "expected the name or number of a network interface after %, as in [fe80::1%eth0]:6660, found \"\"",
            ),
            ("[fe80::1%a b]:1", "expected the name or number of a network interface after %"),
            ("[fe80::1%0123456789abcdef]:1", "expected the name or number of a network interface after %"),
            (
                "fe80::1%eth0:6660",
                "expected the name or address of a host, found \"fe80::1%eth0\"; IPv6 addresses are written in",
            ),
            ("a%eth0:6660", "expected the name or address of a host, found \"a%eth0\""),
            ("[fe80::1%eth0]", "expected HOST:PORT, found no port"),
            ("[fe80::1%eth0:6660", "expected the name or address of a host, found"),
            ("[127.0.0.1]:1", "expected the name or address of a host, found \"127.0.0.1\""),
            ("synclines//a:1", "expected the name or address of a host, found \"synclines//a\""),
        ] {
            let error = parsed(endpoint).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{endpoint}: {expected}")), "{endpoint}: {error}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_shown() {
        for endpoint in ["synclines://ann:s3cr3t@a.example:6660", "ann:s3cr3t@a.example:6660"] {
            let error = parsed(endpoint).unwrap_err().to_string();
            let expected = "a.example:6660: expected HOST:PORT, found a user in front of it; the user and the password are set separately";
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn the_network_interface_is_no_part_of_the_name_in_a_certificate() {
        let endpoint = parsed("synclines://[fe80::1%eth0]:1").unwrap();
        assert_eq!((endpoint.host_without_zone(), endpoint.zone()), ("fe80::1", Some("eth0")));
        let endpoint = parsed("a.example:1").unwrap();
        assert_eq!((endpoint.host_without_zone(), endpoint.zone()), ("a.example", None));
    }
}
