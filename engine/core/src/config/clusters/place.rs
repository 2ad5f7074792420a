//! Where a node is: an address that can be connected to, and for this node one that it listens on.

use std::net::SocketAddr;

use binrush_wire::{Generation, Release};

use super::Written;
use super::settle::{Around, SHOWN_MAX, Settled};
use crate::cluster::config::NodeConfig;
use crate::config::error::quoted;
use crate::config::listener::{Endpoint, Protocol};
use crate::config::peers::Peer;

impl Settled {
    /// This node, at one of the addresses that it listens on (3.6 `node_info.c`, `add_node_info`: `grep_sock_info`).
    pub(super) fn me(
        &mut self,
        written: &Written,
        id: i32,
        around: Around<'_>,
    ) -> Option<NodeConfig> {
        let node = self.node(written, id, around)?;
        let url = node.url;
        let mut streams = around
            .listeners
            .iter()
            .filter(|listener| !listener.datagrams_only)
            .map(|listener| listener.endpoint);
        if streams.any(|endpoint| url.is_met_at(endpoint)) {
            return Some(node);
        }
        let known = around.listeners.iter().take(SHOWN_MAX);
        let known: Vec<_> = known
            .map(|listener| match listener.datagrams_only {
                true => format!("{} (datagrams only)", listener.endpoint),
                false => listener.endpoint.to_string(),
            })
            .collect();
        let known = match known.len() {
            // What is wrong with them is told already.
            0 => return None,
            _ => known.join(", "),
        };
        let message = format!(
            "my_node_info: {url} is no address that this node listens on: one of {known} expected, or `listen = {url}`"
        );
        self.refuse(&written.excerpt, message);
        None
    }

    /// Another node: one that can be reached from `me`, and speaks what clusters have spoken since 2.4.
    pub(super) fn neighbour(
        &mut self,
        written: &Written,
        me: Endpoint,
        around: Around<'_>,
    ) -> Option<NodeConfig> {
        let mut node = self.node(written, written.info.id?, around)?;
        let family = |url: Endpoint| if url.addr.is_ipv4() { "IPv4" } else { "IPv6" };
        if family(node.url) != family(me) {
            // Our links come from the address by which the others know us, and that is none of the other family.
            let message = format!(
                "neighbor_node_info: {} is an address of {}, and this node is at {me} in the cluster: one of {} expected",
                node.url,
                family(node.url),
                family(me)
            );
            self.refuse(&written.excerpt, message);
            return None;
        }
        let domains = around.client_domains;
        if node.url.protocol == Protocol::Bins
            && !domains.iter().any(|domain| domain.is_for(node.url.addr))
        {
            let message = format!(
                "neighbor_node_info: {} is reached over TLS, for which `modparam(\"tls_mgm\", \"client_domain\", \"nodes\")` \
                 and its \"ca_list\" as \"[nodes]/path/of/file.pem\" are expected{}",
                node.url,
                match domains.len() {
                    0 => "",
                    _ => " (the match_ip_address of none of the client domains fits)",
                }
            );
            self.refuse(&written.excerpt, message);
            return None;
        }
        let known = around.senders.of(node.url.addr.ip());
        if known.generation != Generation::Modern || known.release == Some(Release::V2_3) {
            let message = format!(
                "neighbor_node_info: node {} is of 2.2 or 2.3, as `peer` says of {}: nodes of clusters are of 2.4 or later",
                node.id,
                node.url.addr.ip()
            );
            self.refuse(&written.excerpt, message);
            return None;
        }
        node.release = known.release;
        Some(node)
    }

    /// A node that can be connected to.
    fn node(&mut self, written: &Written, id: i32, around: Around<'_>) -> Option<NodeConfig> {
        let Written { info, is_me, .. } = written;
        let name = match is_me {
            true => "my_node_info",
            false => "neighbor_node_info",
        };
        let ip = match &info.host {
            Peer::Address(ip) => ip.to_canonical(),
            Peer::Name(host) => {
                let message = format!(
                    "{name}: {} is a name: write the address (names are not looked up)",
                    quoted(host)
                );
                self.refuse(&written.excerpt, message);
                return None;
            }
        };
        let protocol = info.protocol;
        let port = info
            .port
            .unwrap_or_else(|| around.parameters.default_port(protocol));
        if ip.is_unspecified() || ip.is_multicast() || port == 0 {
            let message = format!(
                "{name}: {} is no address that others can connect to: one address and its port expected",
                quoted(&info.url)
            );
            self.refuse(&written.excerpt, message);
            return None;
        }
        let addr = SocketAddr::new(ip, port);
        Some(NodeConfig {
            id,
            url: Endpoint { protocol, addr },
            url_text: info.url.clone(),
            sip_addr: info.sip_addr.clone(),
            priority: info.priority,
            retries: info.retries,
            is_seed: info.is_seed,
            release: None,
        })
    }
}
