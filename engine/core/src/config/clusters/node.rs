//! `cluster_id=1, node_id=2, url=bin:10.0.0.2:5555, flags=seed`: a node as `my_node_info` and `neighbor_node_info` write it.

use crate::config::error::quoted;
use crate::config::listener::Protocol;
use crate::config::peers::{self, Peer};

/// What was written about a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeInfo {
    pub(super) cluster: i32,
    /// `my_node_info` may leave it to `my_node_id`.
    pub(super) id: Option<i32>,
    pub(super) protocol: Protocol,
    pub(super) host: Peer,
    pub(super) port: Option<u16>,
    /// The whole URL as it is written.
    pub(super) url: String,
    pub(super) sip_addr: String,
    pub(super) priority: i32,
    pub(super) retries: i32,
    pub(super) is_seed: bool,
}

impl NodeInfo {
    /// Reads the value of `my_node_info` (`is_me`) or `neighbor_node_info`.
    ///
    /// Keys that nobody knows are ignored, and of a key that is there twice the first counts (3.6 `clusterer_mod.c`,
    /// `parse_param_node_info`). What is not said is 3: the script has the default of the retries for the priority too
    /// (3.6 `node_info.c`, `provision_neighbor`).
    ///
    /// # Errors
    /// What is wrong with it, to be put behind the name of the parameter.
    pub(super) fn parse(text: &str, is_me: bool) -> Result<Self, String> {
        let field = |key: &str| {
            let mut fields = text.split(',').filter_map(|field| field.split_once('='));
            let found = fields.find(|(known, _)| known.trim() == key);
            found.map(|(_, value)| value.trim())
        };
        let required: &[&str] = match is_me {
            true => &["cluster_id", "url"],
            false => &["cluster_id", "node_id", "url"],
        };
        if let Some(missing) = required.iter().find(|key| field(key).is_none()) {
            let form: Vec<_> = required.iter().map(|key| format!("{key}=...")).collect();
            let form = form.join(", ");
            return Err(format!("{missing} is missing: \"{form}\" expected"));
        }
        let number = |key: &str, low: i32| -> Result<Option<i32>, String> {
            let Some(value) = field(key) else {
                return Ok(None);
            };
            let number = value.parse().ok().filter(|number| *number >= low);
            number.map(Some).ok_or_else(|| {
                format!("{key}: a number from {low} expected, not {}", quoted(value))
            })
        };
        let word = |key: &str| {
            let value = field(key).unwrap_or_default();
            if value.len() > TEXT_LEN_MAX || value.contains(char::is_control) {
                return Err(format!(
                    "{key}: at most {TEXT_LEN_MAX} characters expected, not {}",
                    quoted(value)
                ));
            }
            Ok(value)
        };
        let url = word("url")?;
        let address = peers::address(url, &[Protocol::Bin.name(), Protocol::Bins.name()])?;
        let protocol = address.protocol.and_then(Protocol::named);
        Ok(Self {
            cluster: number("cluster_id", 1)?.unwrap_or_default(),
            id: number("node_id", 1)?,
            protocol: protocol.unwrap_or(Protocol::Bin),
            host: address.host,
            port: address.port,
            url: url.to_owned(),
            sip_addr: word("sip_addr")?.to_owned(),
            priority: number("priority", 0)?.unwrap_or(RETRIES),
            retries: number("no_ping_retries", 0)?.unwrap_or(RETRIES),
            is_seed: field("flags").is_some_and(|flags| flags.starts_with("seed")),
        })
    }
}

/// PINGs more to a silent node, when nothing is said (3.6 `node_info.h`, `DEFAULT_NO_PING_RETRIES`).
const RETRIES: i32 = 3;

/// Bytes of a URL and of a SIP address: the description of all nodes of a cluster has to fit into one packet. The columns
/// of OpenSIPS's table have 64.
const TEXT_LEN_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_read_as_the_genuine_configurations_write_them() {
        let text = "cluster_id=7, node_id=1, url=bin:127.0.136.1:5577, flags=seed";
        let node = NodeInfo {
            cluster: 7,
            id: Some(1),
            protocol: Protocol::Bin,
            host: Peer::Address("127.0.136.1".parse().unwrap()),
            port: Some(5577),
            url: "bin:127.0.136.1:5577".to_owned(),
            sip_addr: String::new(),
            priority: 3,
            retries: 3,
            is_seed: true,
        };
        assert_eq!(NodeInfo::parse(text, false), Ok(node.clone()));
        assert_eq!(NodeInfo::parse(text, true), Ok(node));
    }

    #[test]
    fn what_may_be_said_of_a_node_is_read_in_any_order_and_the_rest_is_ignored() {
        let text = "priority=50,url=bins:[2001:db8::1],no_ping_retries=0,sip_addr=10.0.0.1:5060,cluster_id=1,color=red, flags = x,\
                    cluster_id=2";
        let node = NodeInfo::parse(text, true).unwrap();
        assert_eq!((node.cluster, node.id), (1, None));
        assert_eq!((node.protocol, node.port), (Protocol::Bins, None));
        assert_eq!((node.priority, node.retries), (50, 0));
        assert_eq!((&node.sip_addr[..], node.is_seed), ("10.0.0.1:5060", false));
        let name = NodeInfo::parse("cluster_id=1,node_id=2,url=node-2:5555", false).unwrap();
        assert_eq!(name.host, Peer::Name("node-2".into()));
        assert_eq!(name.protocol, Protocol::Bin);
    }

    #[test]
    fn a_node_without_what_it_needs_is_refused() {
        let long = format!("cluster_id=1,node_id=2,url=bin:{}:5555", "x".repeat(128));
        let sip = format!(
            "cluster_id=1,node_id=2,url=bin:10.0.0.1,sip_addr={}",
            "x".repeat(129)
        );
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
            (
                "cluster_id=1,node_id=2147483648,url=bin:10.0.0.1",
                "node_id: a number from 1 expected",
            ),
            (
                "cluster_id=1,node_id=2,url=bin:10.0.0.1,priority=-1",
                "priority: a number from 0 expected",
            ),
            (
                "cluster_id=1,node_id=2,url=bin:10.0.0.1,no_ping_retries=",
                "no_ping_retries: a number from 0 expected, not \"\"",
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
            (&long, "url: at most 128 characters"),
            (&sip, "sip_addr: at most 128 characters"),
        ] {
            let error = NodeInfo::parse(text, false).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
