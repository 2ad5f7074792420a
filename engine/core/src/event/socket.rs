//! Where subscribers are, as OpenSIPS writes it: `unix:/path`, or the bare path, and `udp:address:port`.
//! (1.11 `modules/event_datagram/README`; `event_datagram.c`, `datagram_parse`.)

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A socket that takes datagrams.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventSocket {
    /// An absolute path of at most [`PATH_LEN_MAX`] bytes.
    Unix(PathBuf),
    /// An address and a port that is not 0.
    Udp(SocketAddr),
}

/// Why a text names no socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// It is neither `unix:`, nor `udp:`, nor a path.
    #[error("{0:?} is no socket of a subscriber: unix:/PATH, /PATH or udp:ADDRESS:PORT expected")]
    Transport(String),
    /// It does not begin with `/`.
    #[error(
        "unix: an absolute path expected, not {0:?}: nobody knows in which folder a server stands"
    )]
    RelativePath(String),
    /// The kernel has no room for it. (unix(7), `sun_path`.)
    #[error("unix: a path of at most {PATH_LEN_MAX} bytes expected, and this one has {0}")]
    PathTooLong(usize),
    /// It ends early for the kernel.
    #[error("unix: a path without a byte of 0 expected")]
    PathWithNul,
    /// Nothing stands behind a last colon.
    #[error("udp: a port expected behind {0:?}, such as udp:127.0.0.1:8081")]
    NoPort(String),
    /// It is none.
    #[error("udp: a port from 1 to 65535 expected, not {0:?}")]
    Port(String),
    /// It is none.
    #[error(
        "udp: an address expected, such as 127.0.0.1 or [::1], not {0:?}: names are not resolved here, as that may take long"
    )]
    Address(String),
}

/// Bytes of a path: `sun_path` has 108, with a 0 at its end. (unix(7).)
pub const PATH_LEN_MAX: usize = 107;

impl FromStr for EventSocket {
    type Err = SocketError;

    fn from_str(text: &str) -> Result<Self, SocketError> {
        if let Some(rest) = text.strip_prefix("udp:") {
            return udp(rest).map(Self::Udp);
        }
        match text.strip_prefix("unix:") {
            Some(path) => unix(path).map(Self::Unix),
            None if text.starts_with('/') => unix(text).map(Self::Unix),
            None => Err(SocketError::Transport(text.chars().take(120).collect())),
        }
    }
}

fn unix(path: &str) -> Result<PathBuf, SocketError> {
    if !path.starts_with('/') {
        return Err(SocketError::RelativePath(path.to_owned()));
    }
    if path.len() > PATH_LEN_MAX {
        return Err(SocketError::PathTooLong(path.len()));
    }
    if path.contains('\0') {
        return Err(SocketError::PathWithNul);
    }
    Ok(PathBuf::from(path))
}

/// The port is behind the last colon; an IPv6 address in brackets, or without.
fn udp(text: &str) -> Result<SocketAddr, SocketError> {
    let no_port = || SocketError::NoPort(format!("udp:{text}"));
    if text.starts_with('[') && text.ends_with(']') {
        return Err(no_port());
    }
    let (address, port) = text.rsplit_once(':').ok_or_else(no_port)?;
    if port.is_empty() {
        return Err(no_port());
    }
    let number = port.parse::<u16>().ok().filter(|number| *number > 0);
    let number = number.filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()));
    let number = number.ok_or_else(|| SocketError::Port(port.to_owned()))?;
    let inner = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let ip = match inner {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => address.parse().ok(),
    };
    let ip = ip.ok_or_else(|| SocketError::Address(address.to_owned()))?;
    Ok(SocketAddr::new(ip, number))
}

impl EventSocket {
    /// Its path, if it has one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Udp(_) => None,
        }
    }
}

impl fmt::Display for EventSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // It came from a text.
            Self::Unix(path) => {
                write!(
                    f,
                    "unix:{}",
                    String::from_utf8_lossy(path.as_os_str().as_bytes())
                )
            }
            Self::Udp(addr) => write!(f, "udp:{addr}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_a_path_or_an_address_with_a_port() {
        for (text, shown) in [
            (
                "unix:/tmp/opensips_event.sock",
                "unix:/tmp/opensips_event.sock",
            ),
            ("/run/e.sock", "unix:/run/e.sock"),
            ("udp:127.0.0.1:8081", "udp:127.0.0.1:8081"),
            ("udp:[2001:db8::1]:8081", "udp:[2001:db8::1]:8081"),
            ("udp:2001:db8::1:8081", "udp:[2001:db8::1]:8081"),
        ] {
            let socket: EventSocket = text.parse().unwrap();
            assert_eq!(socket.to_string(), shown);
            assert_eq!(shown.parse(), Ok(socket));
        }
    }

    #[test]
    fn a_path_has_107_bytes_and_no_more() {
        let path = |len: usize| format!("unix:/{}", "p".repeat(len - 1));
        assert!(path(107).parse::<EventSocket>().is_ok());
        assert_eq!(
            path(108).parse::<EventSocket>(),
            Err(SocketError::PathTooLong(108))
        );
    }

    #[test]
    fn what_is_no_socket_is_told_by_name() {
        let wrong = |text: &str| text.parse::<EventSocket>().unwrap_err();
        for text in ["", "tcp:127.0.0.1:8081", "127.0.0.1:8081", "UDP:1.2.3.4:5"] {
            assert_eq!(wrong(text), SocketError::Transport(text.into()));
        }
        for text in ["unix:", "unix:run/e.sock"] {
            assert!(matches!(wrong(text), SocketError::RelativePath(_)));
        }
        assert_eq!(wrong("/a\0b"), SocketError::PathWithNul);
        for text in ["udp:", "udp:127.0.0.1", "udp:127.0.0.1:", "udp:[::1]"] {
            assert!(matches!(wrong(text), SocketError::NoPort(_)), "{text}");
        }
        for text in [
            "udp:127.0.0.1:0",
            "udp:127.0.0.1:65536",
            "udp:127.0.0.1:+5",
            "udp:h:x",
        ] {
            assert!(matches!(wrong(text), SocketError::Port(_)), "{text}");
        }
        for text in [
            "udp::8081",
            "udp:localhost:8081",
            "udp:[127.0.0.1]:8081",
            "udp:[::1:8081",
        ] {
            assert!(matches!(wrong(text), SocketError::Address(_)), "{text}");
        }
    }
}
