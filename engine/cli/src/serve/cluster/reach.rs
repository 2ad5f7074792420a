//! Whether the other nodes can reach us: they connect to the address that they know us by, and from theirs.

use binrush_engine::cluster::config::{ClusterConfig, NodeConfig};
use binrush_engine::config::{Endpoint, Protocol};
use binrush_engine::engine::StreamConfig;
use binrush_engine::{Access, Cidr};

/// The first of `clusters` whose node of ours is met at none of the listeners of `streams`, and that node.
pub(in crate::serve) fn unmet<'a>(
    clusters: &'a [ClusterConfig],
    streams: &StreamConfig,
) -> Option<(i32, &'a NodeConfig)> {
    let at = |protocol, addrs: &[_]| -> Vec<_> {
        let addrs = addrs.iter().copied();
        addrs.map(|addr| Endpoint { protocol, addr }).collect()
    };
    let mut listeners = at(Protocol::Bin, &streams.listen);
    listeners.extend(at(Protocol::Bins, &streams.listen_tls));
    let is_met = |me: &NodeConfig| {
        let mut listeners = listeners.iter();
        listeners.any(|listener| me.url.is_met_at(*listener))
    };
    let mut own = clusters.iter().map(|each| (each.id, &each.me));
    own.find(|(_, me)| !is_met(me))
}

/// What it means for each node of `clusters`, and for those who may become one, that `access`, which is of the command
/// line, does not let them in.
pub(in crate::serve) fn kept_out(clusters: &[ClusterConfig], access: &Access) -> Vec<String> {
    let of_cluster = |cluster: &ClusterConfig| {
        let id = cluster.id;
        let nodes = cluster.neighbours.iter();
        let nodes = nodes.map(|node| (node.id, node.url.addr.ip()));
        let nodes = nodes.filter(|(_, ip)| !access.allows(*ip));
        let nodes = nodes.map(|(node, ip)| {
            format!(
                "{ip} is node {node} of cluster {id}, but --allow does not let it in: its packets are dropped"
            )
        });
        let learned = cluster.learn.iter();
        let learned = learned.filter(|range| in_both(**range, access).is_empty());
        let learned = learned.map(|range| {
            format!(
                "nodes of {range} may introduce themselves in cluster {id}, but --allow does not let them in: their \
                 packets are dropped"
            )
        });
        nodes.chain(learned).collect::<Vec<_>>()
    };
    clusters.iter().flat_map(of_cluster).collect()
}

/// Lets in by `access` whom `before` did of the nodes of `clusters`, and of those who may become one: as long as we run
/// as a node, the others have to reach us. What there is no room for is told.
pub(in crate::serve) fn keep_in(
    access: &mut Access,
    before: &Access,
    clusters: &[ClusterConfig],
) -> Vec<String> {
    let nodes = clusters.iter().flat_map(|each| &each.neighbours);
    let nodes = nodes.map(|node| Cidr::from(node.url.addr.ip()));
    let learned = clusters.iter().flat_map(|each| each.learn.iter().copied());
    let wanted = nodes.chain(learned);
    let had = wanted.flat_map(|range| in_both(range, before));
    let refused = had.filter_map(|range| access.allow(range).err());
    refused
        .map(|full| format!("{full}: nodes of the clusters that run are not let in any more"))
        .collect()
}

/// What of `range` is in `access`.
fn in_both(range: Cidr, access: &Access) -> Vec<Cidr> {
    if access.is_any() {
        return vec![range];
    }
    let covers = |one: Cidr, other: Cidr| {
        one.contains(other.network()) && one.prefix_len() <= other.prefix_len()
    };
    let known = access.cidrs().iter().copied();
    known
        .filter_map(|known| match covers(known, range) {
            true => Some(range),
            false => covers(range, known).then_some(known),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::cluster::tests::cluster;

    #[test]
    fn nodes_of_running_clusters_stay_let_in_and_nobody_else_comes_in() {
        let mut learns = cluster(1, "10.0.0.2");
        learns.learn = vec!["10.1.0.0/24".parse().unwrap()];
        let both = [learns, cluster(2, "10.2.0.2")];
        let mut before = Access::loopback();
        for range in ["10.0.0.0/24", "10.1.0.0/24"] {
            before.allow(range.parse().unwrap()).unwrap();
        }
        let mut access = Access::loopback();
        assert!(keep_in(&mut access, &before, &both).is_empty());
        let lets_in = |ip: &str| access.allows(ip.parse().unwrap());
        assert!(lets_in("10.0.0.2") && lets_in("10.1.0.77"));
        assert!(!lets_in("10.0.0.3"), "no node is there");
        assert!(!lets_in("10.2.0.2"), "it was not let in before");
        // Of a network no more than was let in before; of everybody, the nodes.
        let mut few = Access::nobody();
        few.allow("10.1.0.0/30".parse().unwrap()).unwrap();
        for (before, last) in [(few, false), (Access::any(), true)] {
            let mut access = Access::nobody();
            keep_in(&mut access, &before, &both);
            let lets_in = |ip: &str| access.allows(ip.parse().unwrap());
            assert_eq!((lets_in("10.1.0.3"), lets_in("10.1.0.4")), (true, last));
            assert!(!lets_in("10.3.0.1"));
        }
    }

    #[test]
    fn who_is_kept_out_is_named_one_by_one_or_by_where_they_come_from() {
        let mut learns = cluster(1, "10.0.0.2");
        learns.learn = vec![
            "10.1.0.0/24".parse().unwrap(),
            "10.2.0.0/24".parse().unwrap(),
        ];
        let clusters = [learns, cluster(2, "10.0.0.3")];
        assert!(kept_out(&clusters, &Access::any()).is_empty());
        let mut access = Access::nobody();
        for range in ["10.0.0.2", "10.1.0.7"] {
            access.allow(range.parse().unwrap()).unwrap();
        }
        let told = kept_out(&clusters, &access);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].starts_with("nodes of 10.2.0.0/24 may introduce themselves in cluster 1,"),
            "{told:?}"
        );
        assert!(
            told[1].starts_with("10.0.0.3 is node 2 of cluster 2,"),
            "{told:?}"
        );
    }

    #[test]
    fn a_node_is_met_at_its_own_address_and_that_of_its_family_in_its_protocol() {
        let streams = |bin: &[&str], bins: &[&str]| {
            let parsed = |of: &[&str]| of.iter().map(|addr| addr.parse().unwrap()).collect();
            StreamConfig {
                listen: parsed(bin),
                listen_tls: parsed(bins),
                ..StreamConfig::default()
            }
        };
        let mut clusters = [cluster(1, "127.0.0.2"), cluster(2, "127.0.0.3")];
        clusters[1].me.url = "bins:127.0.0.1:5556".parse().unwrap();
        let unmet = |bin: &[&str], bins: &[&str]| {
            unmet(&clusters, &streams(bin, bins)).map(|(cluster, _)| cluster)
        };
        let (bin, bins) = ("127.0.0.1:5555", "127.0.0.1:5556");
        assert_eq!(unmet(&["[::1]:5555", bin], &[bins]), None);
        assert_eq!(unmet(&["0.0.0.0:5555"], &["0.0.0.0:5556"]), None);
        for other in ["[::]:5555", "127.0.0.1:0", "127.0.0.9:5555", bins] {
            assert_eq!(unmet(&[other], &[bins]), Some(1), "{other}");
        }
        assert_eq!(unmet(&[bin, bins], &[]), Some(2));
    }
}
