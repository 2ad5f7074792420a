//! The SIP sockets of the node in whose place this process stands.
//!
//! Nothing is served there. But a genuine node refuses a dialog whose sockets are not among its own, and forgets the socket of
//! such a contact (OpenSIPS 1.11 to 3.6: `grep_sock_info` in `modules/dialog/dlg_replication.c` and
//! `modules/usrloc/ureplication.c`). So who is to take over from our records wants to know which those are.

use std::net::IpAddr;

use binrush_store::sockets::{SocketMap, SocketName, SocketSet, Target};

/// Sockets by the names that packets call them: `udp:10.0.0.1:5060`, `udp:TAG`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sockets {
    set: SocketSet,
    /// One is not an address, so that nobody here knows what it stands for.
    is_open: bool,
    /// Names with a tag, and the address that each stands for.
    tagged: Vec<(String, String)>,
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
        let ip = host.parse::<IpAddr>().ok();
        let Some(ip) = ip.filter(|ip| !ip.is_unspecified()) else {
            self.is_open = true;
            return;
        };
        let host = match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        let protocols = match &protocol {
            Some(protocol) => std::slice::from_ref(protocol),
            None => &["udp", "tcp"][..],
        };
        for protocol in protocols {
            // One that no record names is passed over: HEP, SMPP, MSRP.
            let is_named = self.name(&format!("{protocol}:{host}{port}"));
            if let Some(tag) = tag.filter(|_| is_named) {
                let tagged = format!("{protocol}:{tag}");
                self.is_open |= !self.name(&tagged);
                let address = format!("{protocol}:{host}{}", full_port(protocol, &port));
                self.tagged.push((tagged, address));
            }
        }
    }

    /// Whether a genuine node with these would know `socket`, which may be empty. Where none is configured nobody knows, and each
    /// is as good as any.
    #[inline]
    #[must_use]
    pub fn know(&self, socket: &[u8]) -> bool {
        socket.is_empty() || self.know_all() || self.set.has(socket)
    }

    /// Whether each is as good as any.
    #[inline]
    #[must_use]
    pub fn know_all(&self) -> bool {
        self.is_open || self.set.is_empty()
    }

    /// The names with a tag (`udp:TAG`) and what a genuine node calls each of these sockets itself: `udp:192.0.2.1:5060`.
    #[must_use]
    pub fn tagged(&self) -> &[(String, String)] {
        &self.tagged
    }

    /// Where records go back to by `map`. It has the sockets that are `named`; if none is, those to which the map leads, and
    /// these.
    #[must_use]
    pub fn target(&self, map: SocketMap, named: SocketSet) -> Target {
        let known = if !named.is_empty() {
            Some(named)
        } else if self.is_open {
            None
        } else {
            let mut known = map.targets();
            known.extend(&self.set);
            Some(known)
        };
        Target::new(map, known)
    }

    /// Whether `name` is one of a socket.
    fn name(&mut self, name: &str) -> bool {
        let Ok(name) = name.parse::<SocketName>() else {
            return false;
        };
        // Nobody has so many; who has would be told that records are of nobody.
        self.is_open |= self.set.len() == NAMES_MAX;
        if !self.is_open {
            self.set.insert(&name);
        }
        true
    }
}

/// `port` with its colon, or the one that `protocol` has without (3.6 `config.h`, `SIP_PORT`, `SIPS_PORT`; RFC 7118 section 5.6 for ws and wss).
fn full_port<'p>(protocol: &str, port: &'p str) -> &'p str {
    match (port, protocol.to_ascii_lowercase().as_str()) {
        ("", "tls") => ":5061",
        ("", "ws") => ":80",
        ("", "wss") => ":443",
        ("", _) => ":5060",
        _ => port,
    }
}

/// A limit, as everything has one.
const NAMES_MAX: usize = 1024;

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
            "udp:vip",
            "vip",
            "tls:[2001:db8::1]:5071",
            "tls:[2001:DB8:0:0:0:0:0:1]:5071",
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
            "tcp:vip",
            "other",
        ] {
            assert!(!sockets.know(unknown.as_bytes()), "{unknown}");
        }
    }

    #[test]
    fn a_tag_stands_for_an_address_with_its_port() {
        let mut sockets = Sockets::default();
        sockets.add(Some("udp"), "192.0.2.1", None, Some("vip"));
        sockets.add(Some("tls"), "2001:db8::1", None, Some("safe"));
        sockets.add(Some("tcp"), "192.0.2.2", Some(5080), Some("side"));
        sockets.add(Some("hep_udp"), "192.0.2.3", None, Some("trace"));
        sockets.add(Some("udp"), "192.0.2.4", None, None);
        let tagged: Vec<_> = { sockets.tagged().iter() }
            .map(|(name, address)| (name.as_str(), address.as_str()))
            .collect();
        assert_eq!(
            tagged,
            [
                ("udp:vip", "udp:192.0.2.1:5060"),
                ("tls:safe", "tls:[2001:db8::1]:5061"),
                ("tcp:side", "tcp:192.0.2.2:5080"),
            ]
        );
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

    #[test]
    fn records_go_back_to_what_is_named_or_mapped_to_or_ours() {
        let mut sockets = Sockets::default();
        let map = || SocketMap::parse("udp:192.0.2.1=udp:192.0.2.9").unwrap();
        let has = |target: &Target, socket: &str| {
            let has = target
                .sockets()
                .map(|sockets| sockets.has(socket.as_bytes()));
            has.unwrap_or(true)
        };
        let none = sockets.target(SocketMap::default(), SocketSet::default());
        assert_eq!(none.sockets(), None, "nobody knows");
        sockets.add(Some("udp"), "192.0.2.7", None, None);
        let known = sockets.target(map(), SocketSet::default());
        assert!(has(&known, "udp:192.0.2.9:5060") && has(&known, "udp:192.0.2.7:5060"));
        assert!(!has(&known, "udp:192.0.2.1:5060"));
        let mut named = SocketSet::default();
        named.insert(&"udp:192.0.2.8".parse().unwrap());
        let known = sockets.target(map(), named.clone());
        assert!(has(&known, "udp:192.0.2.8:5060") && !has(&known, "udp:192.0.2.9:5060"));
        sockets.add(Some("udp"), "eth0", None, None);
        assert_eq!(sockets.target(map(), SocketSet::default()).sockets(), None);
        assert!(!has(&sockets.target(map(), named), "udp:192.0.2.9:5060"));
    }
}
