//! Network addresses of nodes.
//!
//! Written as libp2p multiaddresses, `/ip4/10.0.0.7/tcp/4001` for TCP and
//! `/ip4/10.0.0.7/udp/4001/quic-v1` for QUIC (RFC 9000); `host:port` is read as well, as TCP.
//! An error names the position at which the text stops making sense.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::types::limits::ADDRESS_LEN_MAX;

/// Where a node listens: a host, and a port of a transport.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// IP address or DNS name.
    pub host: Host,
    /// What carries the connection.
    pub transport: Transport,
    /// TCP or UDP port; 0 only where a free one is asked for.
    pub port: u16,
}

/// What carries a connection to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP, with TLS 1.3 and a multiplexer on it.
    Tcp,
    /// QUIC version 1, over UDP.
    Quic,
}

/// The host part of an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A literal IP address.
    Ip(IpAddr),
    /// A name to be resolved at each dial.
    Dns(String),
}

/// Where and why an address does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("address {text:?} is wrong at character {position}: {reason}")]
pub struct AddressError {
    /// The text, cut to a printable length.
    pub text: String,
    /// Character position, counted from 1.
    pub position: usize,
    /// What was expected there.
    pub reason: &'static str,
}

impl Address {
    /// The address of a TCP socket.
    pub fn from_socket(socket: SocketAddr) -> Self {
        Self::new(socket, Transport::Tcp)
    }

    /// The address of a socket of a transport.
    pub fn new(socket: SocketAddr, transport: Transport) -> Self {
        Self { host: Host::Ip(socket.ip()), transport, port: socket.port() }
    }

    /// The socket, if the host needs no resolving.
    pub fn socket(&self) -> Option<SocketAddr> {
        match &self.host {
            Host::Ip(ip) => Some(SocketAddr::new(*ip, self.port)),
            Host::Dns(_) => None,
        }
    }

    /// True for addresses that only this machine can reach.
    pub fn is_loopback(&self) -> bool {
        matches!(&self.host, Host::Ip(ip) if ip.is_loopback())
    }

    /// True for 0.0.0.0 and ::, which can be listened on but not dialled.
    pub fn is_unspecified(&self) -> bool {
        matches!(&self.host, Host::Ip(ip) if ip.is_unspecified())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V4(ip)) => write!(f, "/ip4/{ip}")?,
            Host::Ip(IpAddr::V6(ip)) => write!(f, "/ip6/{ip}")?,
            Host::Dns(name) => write!(f, "/dns/{name}")?,
        }
        match self.transport {
            Transport::Tcp => write!(f, "/tcp/{}", self.port),
            Transport::Quic => write!(f, "/udp/{}/quic-v1", self.port),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let fail = |position: usize, reason| AddressError {
            text: text.chars().take(100).collect(),
            position: position + 1,
            reason,
        };
        if text.len() > ADDRESS_LEN_MAX {
            return Err(fail(ADDRESS_LEN_MAX, "it goes on after the longest address allowed"));
        }
        if text.starts_with('/') {
            parse_multiaddr(text, fail)
        } else {
            parse_host_port(text, fail)
        }
    }
}

fn parse_multiaddr(
    text: &str,
    fail: impl Fn(usize, &'static str) -> AddressError,
) -> Result<Address, AddressError> {
    let mut position = 1;
    let mut next = |expected| {
        let rest = text.get(position..).filter(|rest| !rest.is_empty());
        let Some(rest) = rest else { return Err(fail(text.len(), expected)) };
        let part = rest.split('/').next().unwrap_or_default();
        let at = position;
        position += part.len() + 1;
        if part.is_empty() { Err(fail(at, expected)) } else { Ok((at, part)) }
    };
    let (kind_at, kind) = next("expected ip4, ip6 or dns")?;
    let (host_at, host) = next("expected a host")?;
    let host = match kind {
        "ip4" => Host::Ip(IpAddr::V4(
            host.parse::<Ipv4Addr>().map_err(|_| fail(host_at, "expected an IPv4 address"))?,
        )),
        "ip6" => Host::Ip(IpAddr::V6(
            host.parse::<Ipv6Addr>().map_err(|_| fail(host_at, "expected an IPv6 address"))?,
        )),
        "dns" | "dns4" | "dns6" => {
            dns_name(host).ok_or_else(|| fail(host_at, "expected a DNS name"))?
        }
        _ => return Err(fail(kind_at, "expected ip4, ip6 or dns")),
    };
    let (carrier_at, carrier) = next("expected /tcp/PORT or /udp/PORT/quic-v1")?;
    if !["tcp", "udp"].contains(&carrier) {
        return Err(fail(carrier_at, "expected tcp or udp"));
    }
    let (port_at, port) = next("expected a port")?;
    let port = port.parse().map_err(|_| fail(port_at, "expected a port from 0 to 65535"))?;
    let transport = if carrier == "udp" {
        let (quic_at, quic) = next("expected /quic-v1")?;
        if quic != "quic-v1" {
            return Err(fail(quic_at, "expected quic-v1"));
        }
        Transport::Quic
    } else {
        Transport::Tcp
    };
    if position <= text.len() {
        return Err(fail(position - 1, "expected the end of the address"));
    }
    Ok(Address { host, transport, port })
}

fn parse_host_port(
    text: &str,
    fail: impl Fn(usize, &'static str) -> AddressError,
) -> Result<Address, AddressError> {
    let colon = text
        .rfind(':')
        .ok_or_else(|| fail(text.len(), "expected HOST:PORT or /ip4/IP/tcp/PORT"))?;
    let (host, port) = (&text[..colon], &text[colon + 1..]);
    let port = port.parse().map_err(|_| fail(colon + 1, "expected a port from 0 to 65535"))?;
    let host = if let Some(inside) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Host::Ip(IpAddr::V6(inside.parse().map_err(|_| fail(1, "expected an IPv6 address"))?))
    } else if let Ok(ip) = host.parse::<Ipv4Addr>() {
        Host::Ip(IpAddr::V4(ip))
    } else {
        dns_name(host).ok_or_else(|| fail(0, "expected a host name or an IP address"))?
    };
    Ok(Address { host, transport: Transport::Tcp, port })
}

/// A DNS name by the letters-digits-hyphen rule of RFC 1123, not all digits (that would be a
/// mistyped IP address).
fn dns_name(text: &str) -> Option<Host> {
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (text.len() <= 253 && !numeric && text.split('.').all(label_ok))
        .then(|| Host::Dns(text.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_come_out_canonical() {
        for (given, canonical) in [
            ("10.0.0.7:4001", "/ip4/10.0.0.7/tcp/4001"),
            ("[::1]:4001", "/ip6/::1/tcp/4001"),
            ("Boot.Example:4001", "/dns/boot.example/tcp/4001"),
            ("/dns/bzzz-bootstrap/tcp/4001", "/dns/bzzz-bootstrap/tcp/4001"),
            ("/ip6/fe80::1/tcp/0", "/ip6/fe80::1/tcp/0"),
            ("/ip4/10.0.0.7/udp/4001/quic-v1", "/ip4/10.0.0.7/udp/4001/quic-v1"),
            ("/dns4/Boot/udp/1/quic-v1", "/dns/boot/udp/1/quic-v1"),
        ] {
            let address: Address = given.parse().unwrap();
            assert_eq!(address.to_string(), canonical);
            assert_eq!(canonical.parse::<Address>().unwrap(), address);
        }
    }

    #[test]
    fn errors_name_the_position() {
        for (given, position) in [
            ("/ip4/300.0.0.1/tcp/1", 6),
            ("/ip5/1.2.3.4/tcp/1", 2),
            ("/ip4/1.2.3.4/udp/1", 19),
            ("/ip4/1.2.3.4/udp/1/quic", 20),
            ("/ip4/1.2.3.4/udp/1/quic-v1/x", 27),
            ("/ip4/1.2.3.4/sctp/1", 14),
            ("/ip4/1.2.3.4/tcp/70000", 18),
            ("/ip4/1.2.3.4/tcp/1/p2p/x", 19),
            ("/ip4/1.2.3.4", 13),
            ("10.0.0.1", 9),
            ("10.0.0:99", 1),
            ("host:port", 6),
            ("", 1),
        ] {
            let error = given.parse::<Address>().unwrap_err();
            assert_eq!(error.position, position, "{given}: {error}");
        }
        assert!("a".repeat(1000).parse::<Address>().is_err());
    }
}
