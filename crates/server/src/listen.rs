//! The address that a server listens on: its form, and what it resolves to.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use tokio::net::lookup_host;

/// Splits `HOST:PORT`. Returns the host without brackets. An IPv6 address must be in brackets, and may end with the name or
/// number of a network interface: `[fe80::1%eth0]:6660`.
fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok().filter(|_| !port.starts_with('+'))?;
    let Some(bracketed) = host.strip_prefix('[') else {
        return (!host.is_empty() && !host.contains(':')).then_some((host, port));
    };
    let host = bracketed.strip_suffix(']')?;
    let (address, zone) = host.split_once('%').unwrap_or((host, "0"));
    (address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty()).then_some((host, port))
}

/// Returns whether an address to listen on has the form `HOST:PORT`. Whether the host exists is not checked.
pub fn is_listen_address(address: &str) -> bool {
    host_and_port(address).is_some()
}

/// Returns the addresses that `HOST:PORT` stands for.
pub(crate) async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    let malformed = "expected HOST:PORT, with an IPv6 address in brackets as in [::1]:6660";
    let (host, port) = host_and_port(address).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, malformed))?;
    // The system would report "invalid argument".
    if host.parse().is_ok_and(|address: Ipv6Addr| address.is_unicast_link_local()) {
        let expected = "expected the network interface of a link-local address, as in [fe80::1%eth0]:6660, found none";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, expected));
    }
    match (lookup_host((host, port)).await, host.split_once('%')) {
        (Ok(addresses), _) => Ok(addresses.collect()),
        (Err(_), Some((_, zone))) => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("expected the name or number of a network interface after %, found {zone:?}"),
        )),
        (Err(error), None) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_an_address_to_listen_on_is_checked() {
        for (address, expected) in [
            ("127.0.0.1:0", Some(("127.0.0.1", 0))),
            ("db.example.org:6660", Some(("db.example.org", 6660))),
            ("[::]:6660", Some(("::", 6660))),
            ("[fe80::1%eth0]:6660", Some(("fe80::1%eth0", 6660))),
            ("[fe80::1%2]:6660", Some(("fe80::1%2", 6660))),
        ] {
            assert_eq!(host_and_port(address), expected, "{address}");
        }
        for address in [
            "",
            "6660",
            ":6660",
            "a",
            "a:",
            "a:65536",
            "a:+1",
            "a:1 ",
            "::1:6660",
            "[::1]",
            "[::1",
            "[a]:1",
            "[fe80::1%]:1",
        ] {
            assert!(!is_listen_address(address), "{address}");
        }
    }

    #[tokio::test]
    async fn a_network_interface_is_known_by_name_and_number() {
        let of_number = resolve("[fe80::1%1]:7").await.unwrap();
        let SocketAddr::V6(address) = of_number.first().unwrap() else { panic!("{of_number:?}") };
        assert_eq!((address.scope_id(), address.port()), (1, 7));
        let unknown = resolve("[fe80::1%nosuch0]:7").await.unwrap_err().to_string();
        assert_eq!(unknown, "expected the name or number of a network interface after %, found \"nosuch0\"");
        let missing = resolve("[fe80::1]:7").await.unwrap_err().to_string();
        assert!(missing.starts_with("expected the network interface of a link-local address"), "{missing}");
        let malformed = resolve("::1:7").await.unwrap_err().to_string();
        assert_eq!(malformed, "expected HOST:PORT, with an IPv6 address in brackets as in [::1]:6660");
    }
}
