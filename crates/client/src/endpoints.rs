//! The addresses of servers, and whether they use TLS.

use std::fmt;
use std::str::FromStr;
use thiserror::Error;

const PLAIN: &str = "syncline";
const TLS: &str = "synclines";

/// The address of a server, and whether it uses TLS: `HOST:PORT` or `syncline://HOST:PORT` without TLS,
/// `synclines://HOST:PORT` with TLS. IPv6 addresses are written in brackets.
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
        let is_address = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '.' | '%') || c.is_ascii_alphanumeric();
        let is_valid = if bracketed.is_some() {
            host.contains(':') && host.chars().all(is_address)
        } else {
            host.chars().all(is_host)
        };
        if host.is_empty() || !is_valid {
            return Err(EndpointError::Host { endpoint: text(), host: host.into() });
        }
        let port = port.ok_or_else(|| EndpointError::NoPort { endpoint: text() })?;
        match port.parse() {
            Ok(port @ 1..) => Ok(Self { host: host.into(), port, is_tls }),
            _ => Err(EndpointError::Port { endpoint: text(), port: port.into() }),
        }
    }
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
            ("user@a:1", "expected the name or address of a host, found \"user@a\""),
        ] {
            let error = parsed(endpoint).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{endpoint}: {expected}")), "{endpoint}: {error}");
        }
    }
}
