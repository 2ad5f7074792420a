//! The SIP sockets of the node in whose place this process stands.
//!
//! Nothing is served there. But a genuine node refuses a dialog whose sockets are not among its own, and forgets the socket of
//! such a contact (OpenSIPS 1.11 to 3.6: `grep_sock_info` in `modules/dialog/dlg_replication.c` and
//! `modules/usrloc/ureplication.c`). So who is to take over from our records wants to know which those are.

use std::net::{IpAddr, SocketAddr};

/// Sockets by the names that packets call them: `udp:10.0.0.1:5060`, or a tag.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sockets {
    /// Few: they are looked through one by one.
    names: Vec<Box<[u8]>>,
    /// One is not an address, so that nobody here knows what it stands for.
    is_open: bool,
}

impl Sockets {
    /// Adds one as it is configured; without a protocol it is of all that a 1.x node listens on there.
    pub fn add(
        &mut self,
        protocol: Option<&str>,
        host: &str,
        port: Option<u16>,
        tag: Option<&str>,
    ) {
        let Ok(ip) = host.parse::<IpAddr>() else {
            self.is_open = true;
            return;
        };
        if ip.is_unspecified() {
            self.is_open = true;
            return;
        }
        let lower = protocol.map(str::to_ascii_lowercase);
        let protocols = match &lower {
            Some(protocol) => vec![&protocol[..]],
            None => vec!["udp", "tcp"],
        };
        for protocol in protocols {
            let usual = usual_port(protocol);
            let addr = SocketAddr::from((ip, port.unwrap_or(usual)));
            self.name(format!("{protocol}:{addr}"));
            if addr.port() == usual {
                self.name(match ip {
                    IpAddr::V4(ip) => format!("{protocol}:{ip}"),
                    IpAddr::V6(ip) => format!("{protocol}:[{ip}]"),
                });
            }
        }
        if let Some(tag) = tag {
            self.name(tag.to_owned());
        }
    }

    /// Whether a genuine node with these would know `socket`, which may be empty. Where none is configured nobody knows, and each
    /// is as good as any.
    #[inline]
    #[must_use]
    pub fn know(&self, socket: &[u8]) -> bool {
        socket.is_empty() || self.know_all() || self.names.iter().any(|name| **name == *socket)
    }

    /// Whether each is as good as any.
    #[inline]
    #[must_use]
    pub const fn know_all(&self) -> bool {
        self.is_open || self.names.is_empty()
    }

    fn name(&mut self, name: String) {
        let name = name.into_bytes().into_boxed_slice();
        if self.names.contains(&name) {
            return;
        }
        // Nobody has so many; who has would be told that records are of nobody.
        self.is_open |= self.names.len() == NAMES_MAX;
        if !self.is_open {
            self.names.push(name);
        }
    }
}

/// (OpenSIPS `trans.h` and the `_port` parameters of its transports.)
fn usual_port(protocol: &str) -> u16 {
    match protocol {
        "tls" => 5061,
        "ws" => 80,
        "wss" => 443,
        "hep_udp" | "hep_tcp" => 9060,
        _ => 5060,
    }
}

/// Each is looked at for each record.
const NAMES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_known_by_address_and_by_tag() {
        let mut sockets = Sockets::default();
        assert!(sockets.know(b"udp:192.0.2.9:5060"), "none is configured");
        sockets.add(Some("UDP"), "192.0.2.1", None, Some("vip"));
        sockets.add(Some("tls"), "2001:db8::1", Some(5071), None);
        sockets.add(None, "192.0.2.2", Some(5080), None);
        for known in [
            "",
            "udp:192.0.2.1:5060",
            "udp:192.0.2.1",
            "vip",
            "tls:[2001:db8::1]:5071",
            "tcp:192.0.2.2:5080",
            "udp:192.0.2.2:5080",
        ] {
            assert!(sockets.know(known.as_bytes()), "{known}");
        }
        for unknown in [
            "tcp:192.0.2.1:5060",
            "udp:192.0.2.1:5070",
            "udp:192.0.2.9:5060",
            "tls:[2001:db8::1]",
            "other",
        ] {
            assert!(!sockets.know(unknown.as_bytes()), "{unknown}");
        }
    }

    #[test]
    fn a_name_or_all_addresses_may_be_any() {
        for host in ["eth0", "sip.example.org", "*", "0.0.0.0"] {
            let mut sockets = Sockets::default();
            sockets.add(Some("udp"), "192.0.2.1", None, None);
            assert!(!sockets.know(b"udp:192.0.2.9:5060"));
            sockets.add(Some("udp"), host, None, None);
            assert!(sockets.know(b"udp:192.0.2.9:5060"), "{host}");
        }
    }
}
