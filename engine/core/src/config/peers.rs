//! The addresses of other nodes, where parameters name them: who may send without being allowed by name.

use std::net::{IpAddr, Ipv6Addr};

use super::error::quoted;
use super::listener::port;
use super::modules::Part;
use super::syntax::Value;

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Peer {
    Address(IpAddr),
    /// A name. It is not looked up: who may send must not depend on a name server.
    Name(String),
}

/// An address as parameters write it: `[PROTOCOL:]HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address<'a> {
    /// As it is written; one of those that were expected.
    pub(super) protocol: Option<&'a str>,
    pub(super) host: Peer,
    pub(super) port: Option<u16>,
}

/// The node that this value of a parameter of 1.x names; `None` when the parameter names none. The nodes of clusters
/// are in [`clusters`](super::clusters).
///
/// # Errors
/// What is wrong with the value.
pub(super) fn peer(part: Part, name: &str, value: &Value) -> Result<Option<Peer>, String> {
    match (part, name, value) {
        (Part::Dialog, "replicate_dialogs_to", Value::Text(text))
        | (Part::Usrloc, "replicate_contacts_to", Value::Text(text)) => {
            address(text, &["udp"]).map(|found| Some(found.host))
        }
        _ => Ok(None),
    }
}

/// Reads `[PROTOCOL:]HOST[:PORT]` with one of these `protocols`, in upper or lower case.
///
/// # Errors
/// What was expected instead.
pub(super) fn address<'a>(text: &'a str, protocols: &[&str]) -> Result<Address<'a>, String> {
    let refused = || {
        format!(
            "{} is no address: {}:IP:PORT expected, IPv6 in brackets",
            quoted(text),
            protocols[0]
        )
    };
    let (protocol, rest) = text
        .split_once(':')
        .filter(|(protocol, _)| {
            protocols
                .iter()
                .any(|known| known.eq_ignore_ascii_case(protocol))
        })
        .map_or((None, text), |(protocol, rest)| (Some(protocol), rest));
    let (host, port_text) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']').ok_or_else(refused)?;
            let ip: Ipv6Addr = host.parse().map_err(|_| refused())?;
            match behind.strip_prefix(':') {
                None if !behind.is_empty() => return Err(refused()),
                port => (Peer::Address(ip.into()), port),
            }
        }
        None => {
            let (host, port) = rest
                .split_once(':')
                .map_or((rest, None), |(host, port)| (host, Some(port)));
            let named = |name: &str| {
                let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
                let numeric = name.chars().all(|c| c.is_ascii_digit() || c == '.');
                (!numeric && name.chars().all(is_name)).then(|| Peer::Name(name.to_owned()))
            };
            let ip = host.parse().ok().map(Peer::Address);
            (ip.or_else(|| named(host)).ok_or_else(refused)?, port)
        }
    };
    if port_text.is_some_and(|port| port.contains(':')) {
        return Err(refused());
    }
    Ok(Address {
        protocol,
        host,
        port: port_text.map(port).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(part: Part, name: &str, text: &str) -> Result<Option<Peer>, String> {
        peer(part, name, &Value::Text(text.to_owned()))
    }

    fn ip(text: &str) -> Result<Option<Peer>, String> {
        Ok(Some(Peer::Address(text.parse().unwrap())))
    }

    #[test]
    fn destinations_of_1_x_are_read() {
        let dialogs = |text| found(Part::Dialog, "replicate_dialogs_to", text);
        assert_eq!(dialogs("78.46.64.50:5062"), ip("78.46.64.50"));
        assert_eq!(dialogs("udp:10.0.0.2:5062"), ip("10.0.0.2"));
        assert_eq!(
            found(Part::Usrloc, "replicate_contacts_to", "10.0.0.3"),
            ip("10.0.0.3")
        );
    }

    #[test]
    fn what_names_nobody_is_no_peer() {
        assert_eq!(found(Part::Dialog, "db_url", "10.0.0.1:5555"), Ok(None));
        // The id of a cluster, in 2.2 and 2.3.
        assert_eq!(
            peer(Part::Dialog, "replicate_dialogs_to", &Value::Int(1)),
            Ok(None)
        );
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_was_expected() {
        for (text, told) in [
            ("", "udp:IP:PORT expected"),
            ("bin:10.0.0.1:5555", "udp:IP:PORT expected"),
            ("10.0.0.300:5555", "udp:IP:PORT expected"),
            ("10.0.0.1:x", "no port"),
            ("10.0.0.1:5:5", "udp:IP:PORT expected"),
            ("[::1", "udp:IP:PORT expected"),
            ("[::1]x", "udp:IP:PORT expected"),
        ] {
            let error = found(Part::Dialog, "replicate_dialogs_to", text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn an_address_is_taken_apart() {
        let found = address("BINS:[2001:db8::1]:5556", &["bin", "bins"]).unwrap();
        let host = Peer::Address("2001:db8::1".parse().unwrap());
        assert_eq!(
            (found.protocol, found.host, found.port),
            (Some("BINS"), host, Some(5556))
        );
        let found = address("node-2", &["bin"]).unwrap();
        let host = Peer::Name("node-2".to_owned());
        assert_eq!((found.protocol, found.host, found.port), (None, host, None));
    }
}
