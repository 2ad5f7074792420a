//! How a socket is called, in configurations and in packets.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// A socket: `udp:10.0.0.1:5060`, `tls:[2001:db8::1]`, or that of a tag: `udp:vip`, `vip`.
///
/// Written out, it is as genuine nodes write it into packets: an IPv6 address in brackets, in capitals and with each zero
/// (OpenSIPS `ip_addr.h`, `ip_addr2a`), the port always; a socket with a tag by its protocol and tag from 3.0 on, and by its
/// address before (`socket_info.h`, `socket2str`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketName {
    /// `None`: a tag, and nobody says of which.
    protocol: Option<&'static str>,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Addr(SocketAddr),
    Tag(Box<str>),
}

/// What is no name of a socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no socket: {expected}")]
pub struct SocketNameError {
    text: String,
    expected: &'static str,
}

impl SocketName {
    /// Whether it is called by a tag.
    #[must_use]
    pub const fn is_tag(&self) -> bool {
        matches!(self.place, Place::Tag(_))
    }

    /// The tag by which it is called, if it is.
    pub(super) fn tag(&self) -> Option<&str> {
        match &self.place {
            Place::Addr(_) => None,
            Place::Tag(tag) => Some(tag),
        }
    }

    pub(super) const fn protocol(&self) -> Option<&'static str> {
        self.protocol
    }

    /// Itself, with the protocol of `other` if it has none of its own.
    pub(super) fn completed(&self, other: &Self) -> Self {
        Self {
            protocol: self.protocol.or(other.protocol),
            place: self.place.clone(),
        }
    }

    /// Itself if it has a protocol, else itself for each; in the same order for all names.
    pub(super) fn each_protocol(&self) -> impl Iterator<Item = Self> {
        let protocols = match self.protocol {
            Some(protocol) => vec![protocol],
            None => PROTOCOLS.map(|(name, _)| name).to_vec(),
        };
        let place = self.place.clone();
        protocols.into_iter().map(move |protocol| Self {
            protocol: Some(protocol),
            place: place.clone(),
        })
    }

    /// All that a packet may call it: receivers take an address without its usual port, in small letters or shortened, too.
    pub(super) fn spellings(&self) -> Vec<String> {
        let mut all = vec![self.to_string()];
        let protocol = self.protocol.unwrap_or_default();
        if let Place::Addr(addr) = &self.place {
            let hosts = match addr.ip() {
                IpAddr::V4(ip) => vec![ip.to_string()],
                IpAddr::V6(ip) => {
                    let whole = Whole(ip.into()).to_string();
                    vec![whole.to_ascii_lowercase(), format!("[{ip}]"), whole]
                }
            };
            for host in hosts {
                all.push(format!("{protocol}:{host}:{}", addr.port()));
                if addr.port() == usual_port(protocol) {
                    all.push(format!("{protocol}:{host}"));
                }
            }
        }
        all
    }
}

impl FromStr for SocketName {
    type Err = SocketNameError;

    fn from_str(text: &str) -> Result<Self, SocketNameError> {
        let wrong = |expected| SocketNameError {
            text: text.to_owned(),
            expected,
        };
        let Some((protocol, place)) = text.split_once(':') else {
            let is_tag = is_tag(text) && protocol_of(text).is_none();
            return is_tag
                .then(|| Self {
                    protocol: None,
                    place: Place::Tag(text.into()),
                })
                .ok_or_else(|| wrong(EXPECTED));
        };
        let protocol = protocol_of(protocol).ok_or_else(|| wrong(PROTOCOL_EXPECTED))?;
        let place = match address(place, usual_port(protocol)) {
            Some(addr) if addr.ip().is_unspecified() || addr.port() == 0 => {
                return Err(wrong(ONE_EXPECTED));
            }
            Some(addr) => Place::Addr(addr),
            None if is_tag(place) => Place::Tag(place.into()),
            None => return Err(wrong(EXPECTED)),
        };
        Ok(Self {
            protocol: Some(protocol),
            place,
        })
    }
}

impl fmt::Display for SocketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(protocol) = self.protocol {
            write!(f, "{protocol}:")?;
        }
        match &self.place {
            Place::Addr(addr) => write!(f, "{}:{}", Whole(addr.ip()), addr.port()),
            Place::Tag(tag) => f.write_str(tag),
        }
    }
}

/// An address as genuine nodes write it.
struct Whole(IpAddr);

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => ip.fmt(f),
            IpAddr::V6(ip) => {
                let [first, rest @ ..] = ip.segments();
                write!(f, "[{first:X}")?;
                for segment in rest {
                    write!(f, ":{segment:X}")?;
                }
                f.write_str("]")
            }
        }
    }
}

/// `IP` or `IP:PORT`, an IPv6 address in brackets.
fn address(text: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        // Without a scope: packets have none.
        return Some((addr.ip(), addr.port()).into());
    }
    let bracketed = text.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
    let ip = match bracketed {
        Some(ip) => IpAddr::V6(ip.parse().ok()?),
        None => IpAddr::V4(text.parse().ok()?),
    };
    Some((ip, port).into())
}

/// No dots: an address that is mistyped, or a host name, is not to be taken for one. Not only digits: that would be a port.
fn is_tag(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=TAG_LEN_MAX).contains(&text.len())
        && text.bytes().all(is_part)
        && !text.bytes().all(|byte| byte.is_ascii_digit())
}

fn protocol_of(text: &str) -> Option<&'static str> {
    let mut known = PROTOCOLS.iter().map(|(name, _)| *name);
    known.find(|name| name.eq_ignore_ascii_case(text))
}

fn usual_port(protocol: &str) -> u16 {
    let known = PROTOCOLS.iter().find(|(name, _)| *name == protocol);
    known.map_or(5060, |(_, port)| *port)
}

const EXPECTED: &str = "PROTOCOL:IP:PORT or a tag expected, such as udp:10.0.0.1:5060 or udp:vip";
const PROTOCOL_EXPECTED: &str =
    "a protocol in front expected, one of udp, tcp, tls, sctp, ws, wss, ipsec";
const ONE_EXPECTED: &str = "one address and port expected, not any";

const TAG_LEN_MAX: usize = 64;

/// Protocols of SIP and their usual ports. (OpenSIPS `trans.h` and the `_port` parameters of its transports.)
const PROTOCOLS: [(&str, u16); 7] = [
    ("udp", 5060),
    ("tcp", 5060),
    ("tls", 5061),
    ("sctp", 5060),
    ("ws", 80),
    ("wss", 443),
    ("ipsec", 5062),
];
