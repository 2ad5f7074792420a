//! Addresses to listen on.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use super::error::{Problem, quoted};
use super::source::{Place, Source};
use super::syntax::Socket;

/// What is spoken at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// BIN in the clear: UDP, as 1.x has it, and TCP, as later releases do.
    Bin,
    /// BIN over TLS.
    Bins,
}

/// An address, and what is spoken there: `bin:10.0.0.1:5555`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// What is spoken.
    pub protocol: Protocol,
    /// Where; port 0 takes a free one.
    pub addr: SocketAddr,
}

/// An address of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// What to listen on.
    pub endpoint: Endpoint,
    /// Whether it is written as 1.x does (`bin_listen`), which has no TCP for BIN.
    pub datagrams_only: bool,
    /// The name that a script has for it (`tag NAME`).
    pub tag: Option<String>,
    /// Where it stands.
    pub place: Place,
}

/// An address without its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Host {
    ip: IpAddr,
    /// The number of the interface that a link-local address belongs to; otherwise 0.
    scope: u32,
}

/// An endpoint is not written as one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EndpointError(String);

impl Protocol {
    /// Its name in front of an address.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bin => "bin",
            Self::Bins => "bins",
        }
    }

    /// The port when none is written and none is set (`bin_port`, `bins_port`).
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Bin => 5555,
            Self::Bins => 5556,
        }
    }

    /// The protocol with this name, in upper or lower case; `None` for those of SIP.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Bin, Self::Bins]
            .into_iter()
            .find(|known| known.name().eq_ignore_ascii_case(name))
    }
}

impl Endpoint {
    /// Whether one socket would keep the other from being bound: the same address and port, also where one is for
    /// TLS, or an address and the wildcard of its family. Two times port 0 are two ports.
    #[must_use]
    pub fn collides(self, other: Self) -> bool {
        let (mine, theirs) = (self.addr, other.addr);
        let is_wild = mine.ip().is_unspecified() || theirs.ip().is_unspecified();
        mine.port() == theirs.port()
            && mine.port() != 0
            && (mine == theirs || (is_wild && mine.is_ipv4() == theirs.is_ipv4()))
    }

    /// Whether who connects to this comes to `listener`: the same address, or the wildcard of its family. Nobody knows
    /// beforehand which port is the free one of port 0.
    #[must_use]
    pub fn is_met_at(self, listener: Self) -> bool {
        let (ip, at) = (self.addr.ip(), listener.addr.ip());
        self.protocol == listener.protocol
            && self.addr.port() != 0
            && self.addr.port() == listener.addr.port()
            && (ip == at || (at.is_unspecified() && at.is_ipv4() == ip.is_ipv4()))
    }
}

impl Host {
    pub(super) const fn at(self, port: u16) -> SocketAddr {
        match self.ip {
            IpAddr::V4(_) => SocketAddr::new(self.ip, port),
            IpAddr::V6(ip) => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, self.scope)),
        }
    }
}

/// The address and the port of `socket`; the port is `None` when none is written.
pub(super) fn address(
    source: &Source,
    socket: &Socket<'_>,
) -> Result<(Host, Option<u16>), Problem> {
    let written = &socket.host;
    let host = host(&written.value).map_err(|message| source.problem(written.span, message))?;
    let port = socket.port.map(|written| {
        port(written.value).map_err(|message| source.problem(written.span, message))
    });
    Ok((host, port.transpose()?))
}

/// An address without brackets; a link-local one has the number of its interface behind `%` (RFC 4007, section 11).
fn host(text: &str) -> Result<Host, String> {
    let Some((address, zone)) = text.split_once('%') else {
        return ip(text).map(|ip| Host { ip, scope: 0 });
    };
    let ip = ip(address)?;
    if !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        return Err(format!(
            "{ip} is no link-local address: no interface expected behind it"
        ));
    }
    let is_number = zone.bytes().all(|c| c.is_ascii_digit());
    match zone.parse() {
        Ok(scope @ 1..) if is_number => Ok(Host { ip, scope }),
        _ => Err(format!(
            "{} is no number of an interface: {ip}%2 expected (`ip link` lists the numbers)",
            quoted(zone)
        )),
    }
}

/// An address as OpenSIPS writes it, without brackets.
fn ip(host: &str) -> Result<IpAddr, String> {
    if let Ok(ip) = host.parse() {
        return Ok(ip);
    }
    let shown = quoted(host);
    Err(match host {
        "*" => "* is no address: write 0.0.0.0 for all of IPv4, or [::] for all of IPv6".into(),
        "" => "an address expected before the port, such as 10.0.0.1 or [2001:db8::1]".into(),
        host if host.contains(':') => format!("{shown} is no IPv6 address"),
        host if host.chars().all(|c| c.is_ascii_digit() || c == '.') => {
            format!(
                "{shown} is no IPv4 address: four numbers from 0 to 255 expected, without leading zeros"
            )
        }
        _ => {
            format!("{shown} is a name: write the address (names and interfaces are not looked up)")
        }
    })
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    let refused = || match text.split_once('-') {
        Some((low, high)) if port(low).is_ok() && port(high).is_ok() => {
            format!("{text} is a range of ports: write a listener for each")
        }
        _ => format!(
            "{} is no port: a number from 0 to 65535 expected",
            quoted(text)
        ),
    };
    match text.bytes().all(|c| c.is_ascii_digit()) {
        true => text.parse().map_err(|_| refused()),
        false => Err(refused()),
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// `bin:IP:PORT`, IPv6 in brackets; the port may be left out: 5555 for `bin:`, 5556 for `bins:`.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        endpoint(text)
            .map_err(|message| EndpointError(format!("{} is no endpoint: {message}", quoted(text))))
    }
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    let (protocol, rest) = text.split_once(':').unwrap_or(("", text));
    let protocol = Protocol::named(protocol).ok_or("bin:IP:PORT expected, IPv6 in brackets")?;
    let (address, port_text) = match rest.strip_prefix('[') {
        None => rest
            .split_once(':')
            .map_or((rest, None), |(host, port)| (host, Some(port))),
        Some(rest) => {
            let (address, behind) = rest.split_once(']').ok_or("\"]\" expected")?;
            let port = behind.strip_prefix(':');
            if port.is_none() && !behind.is_empty() {
                return Err("\":\" and a port expected behind \"]\"".into());
            }
            let unscoped = address.split('%').next().unwrap_or_default();
            if unscoped.parse::<Ipv6Addr>().is_err() {
                return Err(format!("{} is no IPv6 address", quoted(address)));
            }
            (address, port)
        }
    };
    if port_text.is_some_and(|port| port.contains(':')) {
        return Err("an IPv6 address stands in brackets: bin:[::1]:5555 expected".into());
    }
    let host = host(address)?;
    let port = port_text.map_or_else(|| Ok(protocol.default_port()), port)?;
    let addr = host.at(port);
    Ok(Endpoint { protocol, addr })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.protocol.name(), self.addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_read_as_it_is_written() {
        for text in [
            "bin:10.0.0.1:5566",
            "bins:[2001:db8::1]:0",
            "bin:[::]:65535",
            "bin:[fe80::1%2]:5555",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for (text, full) in [
            ("bin:127.0.0.1", "bin:127.0.0.1:5555"),
            ("BINS:[::1]", "bins:[::1]:5556"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), full);
        }
    }

    #[test]
    fn what_is_no_endpoint_is_told_with_what_was_expected() {
        for (text, told) in [
            ("", "bin:IP:PORT expected"),
            ("10.0.0.1:5555", "bin:IP:PORT expected"),
            ("udp:10.0.0.1:5060", "bin:IP:PORT expected"),
            ("bin:", "an address expected"),
            ("bin:*:5555", "write 0.0.0.0"),
            ("bin:host:5555", "write the address"),
            ("bin:10.0.0.256:5555", "no IPv4 address"),
            ("bin:10.0.0.1:65536", "0 to 65535"),
            ("bin:10.0.0.1:", "no port"),
            ("bin:10.0.0.1:+1", "no port"),
            ("bin:10.0.0.1:5000-5010", "a listener for each"),
            ("bin:::1:5555", "in brackets"),
            ("bin:[::1", "\"]\" expected"),
            ("bin:[::1]5555", "\":\" and a port expected"),
            ("bin:[10.0.0.1]:5555", "no IPv6 address"),
            ("bin:[fe80::1%lo]:5555", "fe80::1%2 expected"),
            ("bin:[fe80::1%]:5555", "no number of an interface"),
            ("bin:[fe80::1%0]:5555", "no number of an interface"),
            ("bin:[fe80::1%+2]:5555", "no number of an interface"),
            ("bin:[fe80::1%4294967296]:5555", "no number of an interface"),
            ("bin:[::1%2]:5555", "no link-local address"),
            ("bin:10.0.0.1%2:5555", "no link-local address"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
