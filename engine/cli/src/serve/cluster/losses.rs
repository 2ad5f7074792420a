//! Connections of nodes that ended here with packets in them that nobody read.

use std::collections::BTreeSet;
use std::net::IpAddr;

use binrush_engine::Cidr;
use binrush_engine::cluster::config::ClusterConfig;
use binrush_engine::stream::counts::PEER_ROWS_MAX;
use binrush_engine::stream::{CloseReason, StreamCounts, StreamSnapshot};

/// Says when a node believes that we have what we have not: its copy and ours differ from then on, and a sync is due.
///
/// Nodes stream, so what came as a datagram says nothing of them; nor does a connection that the other end ended, which
/// knows that it did. What strangers send is not looked at, or whoever may connect could keep all copies in doubt.
#[derive(Debug)]
pub(super) struct Losses(Vec<OfCluster>);

/// A source address, and what its connections came to.
type Row<'a> = (IpAddr, &'a StreamCounts);

#[derive(Debug)]
struct OfCluster {
    id: i32,
    nodes: BTreeSet<IpAddr>,
    /// Where nodes may come from that nobody named.
    learn: Vec<Cidr>,
    /// At the last look.
    lost: u64,
}

impl Losses {
    pub(super) fn new(clusters: &[ClusterConfig]) -> Self {
        let of = |cluster: &ClusterConfig| {
            let nodes = cluster.neighbours.iter();
            OfCluster {
                id: cluster.id,
                nodes: nodes
                    .map(|node| node.url.addr.ip().to_canonical())
                    .collect(),
                learn: cluster.learn.clone(),
                lost: 0,
            }
        };
        Self(clusters.iter().map(of).collect())
    }

    /// Clusters in which more was lost than at the last call, and how many connections it was lost with.
    pub(super) fn due(&mut self, streams: &StreamSnapshot) -> Vec<(i32, u64)> {
        let peers = streams.peers.iter();
        let rows: Vec<Row<'_>> = peers
            .map(|peer| (peer.addr.to_canonical(), &peer.counts))
            .collect();
        self.due_among(&rows, &streams.others)
    }

    fn due_among(&mut self, rows: &[Row<'_>], others: &StreamCounts) -> Vec<(i32, u64)> {
        let look = |cluster: &mut OfCluster| {
            let lost = cluster.lost(rows, others);
            let more = lost.saturating_sub(cluster.lost);
            cluster.lost = lost;
            (more > 0).then_some((cluster.id, more))
        };
        self.0.iter_mut().filter_map(look).collect()
    }
}

impl OfCluster {
    fn lost(&self, rows: &[Row<'_>], others: &StreamCounts) -> u64 {
        let own = rows.iter().filter(|(addr, _)| self.has(*addr));
        let own: u64 = own.map(|(_, counts)| lost_with(counts)).sum();
        // Nodes have rows before anybody comes, and strangers do not take those that are for who may become one. But there
        // is an end to rows, and a node behind it is among the others: rather one sync too many than a loss unseen.
        let has_row = |node: &IpAddr| rows.iter().any(|(addr, _)| addr == node);
        let learned_have = self.learn.is_empty() || rows.len() < PEER_ROWS_MAX;
        match learned_have && self.nodes.iter().all(has_row) {
            true => own,
            false => own + lost_with(others),
        }
    }

    fn has(&self, addr: IpAddr) -> bool {
        self.nodes.contains(&addr) || self.learn.iter().any(|range| range.contains(addr))
    }
}

/// Connections that we ended, with what was in them.
pub(in crate::serve) fn lost_with(counts: &StreamCounts) -> u64 {
    OUR_DOING
        .map(|reason| counts.closed_for(reason))
        .iter()
        .sum()
}

const OUR_DOING: [CloseReason; 5] = [
    CloseReason::Memory,
    CloseReason::FrameDeadline,
    CloseReason::TooManyPieces,
    CloseReason::BadMarker,
    CloseReason::BadLength,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::cluster::tests::cluster;

    fn ended(reason: CloseReason, count: u64) -> StreamCounts {
        let mut counts = StreamCounts::default();
        counts.closed[reason as usize] = count;
        counts
    }

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_we_end_of_a_node_is_a_loss_once_and_what_it_ends_is_none() {
        let none = StreamCounts::default();
        for reason in CloseReason::ALL {
            let mut losses = Losses::new(&[cluster(7, "127.0.0.2")]);
            let counts = ended(reason, 2);
            let rows = [(addr("127.0.0.2"), &counts)];
            let expected = match OUR_DOING.contains(&reason) {
                true => vec![(7, 2)],
                false => vec![],
            };
            assert_eq!(losses.due_among(&rows, &none), expected, "{reason:?}");
            let again = losses.due_among(&rows, &none);
            assert!(again.is_empty(), "{reason:?} is told once");
        }
        let full = StreamSnapshot::default();
        assert!(Losses::new(&[]).due(&full).is_empty());
    }

    #[test]
    fn only_the_cluster_is_in_doubt_whose_node_it_is() {
        let (none, counts) = (StreamCounts::default(), ended(CloseReason::Memory, 1));
        let rows = [(addr("127.0.0.2"), &none), (addr("127.0.0.3"), &counts)];
        let mut losses = Losses::new(&[cluster(7, "127.0.0.2"), cluster(9, "127.0.0.3")]);
        assert_eq!(losses.due_among(&rows, &none), [(9, 1)]);
    }

    #[test]
    fn strangers_put_no_copy_in_doubt() {
        let (none, counts) = (StreamCounts::default(), ended(CloseReason::BadMarker, 5));
        let rows = [(addr("127.0.0.2"), &none), (addr("127.0.0.9"), &counts)];
        let mut losses = Losses::new(&[cluster(7, "127.0.0.2")]);
        assert!(losses.due_among(&rows, &counts).is_empty());
        // But for those among whom a node may be: where it may come from, and where it has no row of its own.
        let mut learns = cluster(7, "127.0.0.2");
        learns.learn = vec!["127.0.0.8/30".parse().unwrap()];
        let mut learning = Losses::new(&[learns]);
        assert_eq!(learning.due_among(&rows, &counts), [(7, 5)]);
        let others = (0..=255).map(|n| (IpAddr::from([10, 0, 0, n]), &none));
        let full: Vec<Row<'_>> = rows.into_iter().chain(others).collect();
        let full = &full[..PEER_ROWS_MAX];
        assert_eq!(learning.due_among(full, &counts), [(7, 5)]);
        assert!(losses.due_among(full, &counts).is_empty());
        assert_eq!(losses.due_among(&rows[1..], &counts), [(7, 5)]);
    }
}
