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

/// The node that this value of a parameter names; `None` when the parameter names none.
///
/// # Errors
/// What is wrong with the value.
pub(super) fn peer(part: Part, name: &str, value: &Value) -> Result<Option<Peer>, String> {
    let Value::Text(text) = value else {
        return Ok(None);
    };
    match (part, name) {
        (Part::Clusterer, "my_node_info") => node(text, &["cluster_id", "url"]).map(Some),
        (Part::Clusterer, "neighbor_node_info") => {
            node(text, &["cluster_id", "node_id", "url"]).map(Some)
        }
        (Part::Dialog, "replicate_dialogs_to") | (Part::Usrloc, "replicate_contacts_to") => {
            address(text, &["udp"]).map(Some)
        }
        _ => Ok(None),
    }
}

/// `cluster_id=1, node_id=2, url=bin:10.0.0.2:5555, flags=seed`: what stands behind `url`.
///
/// Keys that nobody knows are ignored (3.6 `clusterer_mod.c`, `parse_param_node_info`).
fn node(text: &str, required: &[&str]) -> Result<Peer, String> {
    let field = |key: &str| {
        let mut fields = text.split(',').filter_map(|field| field.split_once('='));
        fields
            .find(|(known, _)| known.trim() == key)
            .map(|(_, value)| value.trim())
    };
    if let Some(missing) = required.iter().find(|key| field(key).is_none()) {
        let form = required
            .iter()
            .map(|key| format!("{key}=..."))
            .collect::<Vec<_>>()
            .join(", ");
        return Err(format!("{missing} is missing: \"{form}\" expected"));
    }
    for (key, low) in [
        ("cluster_id", 1),
        ("node_id", 1),
        ("no_ping_retries", 0),
        ("priority", 0),
    ] {
        if let Some(value) = field(key)
            && !value.parse::<i32>().is_ok_and(|value| value >= low)
        {
            return Err(format!(
                "{key}: a number from {low} expected, not {}",
                quoted(value)
            ));
        }
    }
    address(field("url").unwrap_or_default(), &["bin", "bins"])
}

/// `[PROTOCOL:]HOST[:PORT]`.
fn address(text: &str, protocols: &[&str]) -> Result<Peer, String> {
    let refused = || {
        format!(
            "{} is no address: {}:IP:PORT expected, IPv6 in brackets",
            quoted(text),
            protocols[0]
        )
    };
    let rest = text
        .split_once(':')
        .filter(|(protocol, _)| {
            protocols
                .iter()
                .any(|known| known.eq_ignore_ascii_case(protocol))
        })
        .map_or(text, |(_, rest)| rest);
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
    match port_text {
        None => Ok(host),
        Some(text) if text.contains(':') => Err(refused()),
        Some(text) => port(text).map(|_| host),
    }
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
    fn nodes_of_clusters_are_read_as_the_genuine_configurations_write_them() {
        let mine = |text| found(Part::Clusterer, "my_node_info", text);
        let other = |text| found(Part::Clusterer, "neighbor_node_info", text);
        assert_eq!(
            mine("cluster_id=1, url=bin:127.0.36.1:5566, flags=seed"),
            ip("127.0.36.1")
        );
        assert_eq!(
            other("cluster_id=7, node_id=1, url=bin:127.0.136.1:5577, flags=seed"),
            ip("127.0.136.1")
        );
        assert_eq!(
            other("url=[2001:db8::1],node_id=2,cluster_id=1,color=red"),
            ip("2001:db8::1")
        );
        let name = Peer::Name("node-2.example.com".into());
        assert_eq!(
            other("cluster_id=1,node_id=2,url=bins:node-2.example.com:5556"),
            Ok(Some(name))
        );
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
    fn a_node_without_what_it_needs_is_refused() {
        for (text, told) in [
            ("", "cluster_id is missing"),
            ("cluster_id=1,node_id=2", "url is missing"),
            ("cluster_id=1,url=bin:10.0.0.1:5555", "node_id is missing"),
            (
                "cluster_id=0,node_id=2,url=bin:10.0.0.1",
                "cluster_id: a number from 1 expected, not \"0\"",
            ),
            (
                "cluster_id=1,node_id=x,url=bin:10.0.0.1",
                "node_id: a number from 1 expected, not \"x\"",
            ),
            ("cluster_id=1,node_id=2,url=", "bin:IP:PORT expected"),
            (
                "cluster_id=1,node_id=2,url=udp:10.0.0.1:5060",
                "bin:IP:PORT expected",
            ),
            (
                "cluster_id=1,node_id=2,url=bin:10.0.0.300:5555",
                "bin:IP:PORT expected",
            ),
            ("cluster_id=1,node_id=2,url=bin:10.0.0.1:x", "no port"),
            (
                "cluster_id=1,node_id=2,url=bin:[::1",
                "bin:IP:PORT expected",
            ),
            (
                "cluster_id=1,node_id=2,url=bin:[::1]x",
                "bin:IP:PORT expected",
            ),
        ] {
            let error = found(Part::Clusterer, "neighbor_node_info", text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
