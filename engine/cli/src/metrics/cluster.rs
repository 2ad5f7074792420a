//! The families about clusters.
//!
//! Labels are the cluster's id, a node's id, and a capability or a sharing tag of our configuration: what other nodes
//! call theirs is never a label. The one exception is `binrush_cluster_node_info`, which has the URL and the release of a
//! node, those of a learned one as it tells them; it is one sample for each node, and a new series when they change. So
//! the samples of a page are bounded by the configuration and by the nodes that a cluster may have. Our own node has none
//! but its id, in `binrush_cluster_info`.

use binrush_engine::cluster::facts::{
    CapabilityFacts, ClusterFacts, CopyState, LinkState, MessageFacts, NodeFacts, TagFacts,
};
use prometheus::proto::{Metric, MetricFamily};

use super::family::{counter, counters, gauge, gauges};

/// What there is to say about the clusters of a process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clusters {
    pub(crate) facts: Vec<ClusterFacts>,
    /// Sharing tags of the configuration, by cluster.
    pub(crate) tags: Vec<(i32, Vec<String>)>,
    /// Lines about clusters that were not told, because too many came, by kind.
    pub(crate) left_out: Vec<(&'static str, u64)>,
    /// Why this process is no node of them any more, or nobody knows.
    pub(crate) trouble: Option<String>,
}

/// Name, meaning and value; where there is none, there is no sample.
type ByNode = (&'static str, &'static str, fn(&NodeFacts) -> Option<f64>);

/// The same of our capabilities.
type ByCapability = (
    &'static str,
    &'static str,
    fn(&CapabilityFacts) -> Option<f64>,
);

/// What became of a message, and how many did.
type Fate = (&'static str, fn(&MessageFacts) -> u64);

/// All of them; those without a value are for the caller to leave out.
pub(super) fn families(clusters: &Clusters) -> Vec<MetricFamily> {
    let each = || clusters.facts.iter().map(Labelled::new);
    let mut families = vec![
        gauges(
            "binrush_cluster_info",
            "Always 1; the labels say which node of a cluster this process is.",
            each().map(|of| of.info()),
        ),
        gauges(
            "binrush_cluster_node_info",
            "Always 1; the labels say where a node listens, what its release is, and whether it was learned.",
            each().flat_map(|of| of.node_infos()),
        ),
    ];
    families.extend(NODE_GAUGES.map(|(name, help, value)| {
        gauges(name, help, each().flat_map(|of| of.nodes(gauge, value)))
    }));
    families.extend(NODE_COUNTERS.map(|(name, help, value)| {
        counters(name, help, each().flat_map(|of| of.nodes(counter, value)))
    }));
    families.push(gauges(
        "binrush_cluster_node_synced",
        "1 while a node says that its copy of a capability of ours is synced, else 0.",
        each().flat_map(|of| of.synced()),
    ));
    families.push(gauges(
        "binrush_cluster_copy_state",
        "What our copy of a capability is worth: 1 for the state that it is in, 0 for the others.",
        each().flat_map(|of| of.copy_states()),
    ));
    families.push(gauges(
        "binrush_cluster_peer_state",
        "What we have of what a node told of a capability: 1 for the state that it is in (verified, suspect: something was \
         missed, syncing), 0 for the others.",
        each().flat_map(|of| of.peer_states()),
    ));
    families.extend(CAPABILITY_GAUGES.map(|(name, help, value)| {
        gauges(
            name,
            help,
            each().flat_map(|of| of.capabilities(gauge, value)),
        )
    }));
    families.extend(CAPABILITY_COUNTERS.map(|(name, help, value)| {
        counters(
            name,
            help,
            each().flat_map(|of| of.capabilities(counter, value)),
        )
    }));
    families.push(counters(
        "binrush_cluster_messages_total",
        "Messages of a cluster's own by kind: that came and were taken, that came and were ignored, that were sent.",
        each().flat_map(|of| of.messages()),
    ));
    families.push(gauges(
        "binrush_cluster_tag_node",
        "The id of the node that took a sharing tag last; 0 before any did.",
        each().flat_map(|of| of.tags(&clusters.tags)),
    ));
    families.push(counters(
        "binrush_cluster_notices_left_out_total",
        "Messages of scripts, commands, sharing tags and warnings that were not told one by one, because too many came; \
         missed are events of any kind that found no room, dropped is what the clusters' thread did not read in time.",
        clusters
            .left_out
            .iter()
            .map(|(kind, count)| counter(&[("kind", kind)], *count as f64)),
    ));
    families
}

/// A cluster, and what its label says.
struct Labelled<'a> {
    cluster: &'a ClusterFacts,
    id: String,
}

impl<'a> Labelled<'a> {
    fn new(cluster: &'a ClusterFacts) -> Self {
        let id = cluster.cluster.to_string();
        Self { cluster, id }
    }

    fn info(&self) -> Metric {
        let me = self.cluster.me.to_string();
        gauge(&[("cluster", &self.id), ("node", &me)], 1.0)
    }

    fn node_infos(&self) -> Vec<Metric> {
        let info = |node: &NodeFacts| {
            let labels = [
                ("cluster", self.id.as_str()),
                ("node", &node.id.to_string()),
                ("url", &printable(&node.url)),
                ("release", &printable(&node.release)),
                ("learned", if node.learned { "yes" } else { "no" }),
            ];
            gauge(&labels, 1.0)
        };
        self.others().map(info).collect()
    }

    fn nodes(
        &self,
        metric: fn(&[(&str, &str)], f64) -> Metric,
        value: fn(&NodeFacts) -> Option<f64>,
    ) -> Vec<Metric> {
        let sample = |node: &NodeFacts| {
            let id = node.id.to_string();
            let labels = [("cluster", self.id.as_str()), ("node", &id)];
            Some(metric(&labels, value(node)?))
        };
        self.others().filter_map(sample).collect()
    }

    fn synced(&self) -> Vec<Metric> {
        let mut metrics = Vec::new();
        for node in self.others() {
            let id = node.id.to_string();
            for ours in &self.cluster.capabilities {
                let mut theirs = node.capabilities.iter();
                let Some((_, synced)) = theirs.find(|(name, _)| *name == ours.name) else {
                    continue;
                };
                let labels = [
                    ("cluster", self.id.as_str()),
                    ("node", &id),
                    ("capability", &printable(&ours.name)),
                ];
                metrics.push(gauge(&labels, f64::from(u8::from(*synced))));
            }
        }
        metrics
    }

    fn copy_states(&self) -> Vec<Metric> {
        let states = |each: &'a CapabilityFacts| {
            COPY_STATES.map(|state| {
                let labels = [
                    ("cluster", self.id.as_str()),
                    ("capability", &printable(&each.name)),
                    ("state", state.symbol()),
                ];
                gauge(&labels, f64::from(u8::from(each.state == state)))
            })
        };
        self.cluster.capabilities.iter().flat_map(states).collect()
    }

    fn peer_states(&self) -> Vec<Metric> {
        let mut metrics = Vec::new();
        for capability in &self.cluster.capabilities {
            let name = printable(&capability.name);
            for peer in &capability.peers {
                metrics.extend(PEER_STATES.map(|state| {
                    let labels = [
                        ("cluster", self.id.as_str()),
                        ("capability", &name),
                        ("node", &peer.node.to_string()),
                        ("state", state.symbol()),
                    ];
                    gauge(&labels, f64::from(u8::from(peer.state == state)))
                }));
            }
        }
        metrics
    }

    fn capabilities(
        &self,
        metric: fn(&[(&str, &str)], f64) -> Metric,
        value: fn(&CapabilityFacts) -> Option<f64>,
    ) -> Vec<Metric> {
        let sample = |each: &CapabilityFacts| {
            let labels = [
                ("cluster", self.id.as_str()),
                ("capability", &printable(&each.name)),
            ];
            Some(metric(&labels, value(each)?))
        };
        let all = self.cluster.capabilities.iter();
        all.filter_map(sample).collect()
    }

    fn messages(&self) -> Vec<Metric> {
        let fates = |each: &'a MessageFacts| {
            // Also those that are zero: a rate needs the value before the first one.
            FATES.map(|(fate, count)| {
                let labels = [
                    ("cluster", self.id.as_str()),
                    ("kind", each.kind),
                    ("fate", fate),
                ];
                counter(&labels, count(each) as f64)
            })
        };
        self.cluster.messages.iter().flat_map(fates).collect()
    }

    /// Of those in `configured`: any node may tell of a tag that nobody knows.
    fn tags(&self, configured: &[(i32, Vec<String>)]) -> Vec<Metric> {
        let ours = configured
            .iter()
            .filter(|(cluster, _)| *cluster == self.cluster.cluster);
        let is_ours =
            |tag: &&TagFacts| { ours.clone() }.any(|(_, names)| names.contains(&tag.name));
        let sample = |tag: &TagFacts| {
            let labels = [
                ("cluster", self.id.as_str()),
                ("tag", &printable(&tag.name)),
            ];
            gauge(&labels, f64::from(tag.active.unwrap_or(0)))
        };
        let tags = self.cluster.tags.iter();
        tags.filter(is_ours).map(sample).collect()
    }

    fn others(&self) -> impl Iterator<Item = &'a NodeFacts> {
        self.cluster.nodes.iter().filter(|node| !node.is_me)
    }
}

/// A text of the configuration, or of another node, in characters that every scraper takes.
fn printable(text: &str) -> String {
    text.escape_debug().to_string()
}

fn yes(is: bool) -> Option<f64> {
    Some(f64::from(u8::from(is)))
}

fn millis(ms: u64) -> f64 {
    ms as f64 / 1e3
}

const NODE_GAUGES: [ByNode; 5] = [
    (
        "binrush_cluster_node_up",
        "1 while our link to a node is up, else 0.",
        |node| yes(node.link == LinkState::Up),
    ),
    (
        "binrush_cluster_node_reachable",
        "1 while there is a way to a node, by our link or over other nodes, else 0.",
        |node| yes(node.next_hop.is_some()),
    ),
    (
        "binrush_cluster_node_neighbours",
        "Nodes that a node says it has a link to.",
        |node| Some(node.neighbours.len() as f64),
    ),
    (
        "binrush_cluster_node_heard_seconds",
        "Time since something came from a node; none before the first time.",
        |node| node.heard_ms.map(millis),
    ),
    (
        "binrush_cluster_node_pong_seconds",
        "Time that the last PONG of a node took; none before the first one.",
        |node| node.pong_ms.map(millis),
    ),
];

const NODE_COUNTERS: [ByNode; 2] = [
    (
        "binrush_cluster_node_ups_total",
        "Times that our link to a node came up.",
        |node| Some(node.ups as f64),
    ),
    (
        "binrush_cluster_node_downs_total",
        "Times that our link to a node went down.",
        |node| Some(node.downs as f64),
    ),
];

const CAPABILITY_GAUGES: [ByCapability; 11] = [
    (
        "binrush_cluster_copy_offered",
        "1 while other nodes are told that they can sync a capability from us, else 0.",
        |each| yes(each.advertised),
    ),
    (
        "binrush_cluster_sync_running",
        "1 while a donor gives us the records of a capability, else 0.",
        |each| yes(each.sync.is_some()),
    ),
    (
        "binrush_cluster_sync_age_seconds",
        "Time since the sync that is running was asked for.",
        |each| each.sync.as_ref().map(|sync| millis(sync.since_ms)),
    ),
    (
        "binrush_cluster_sync_chunks",
        "Chunks that the sync that is running has applied.",
        |each| each.sync.as_ref().map(|sync| sync.applied as f64),
    ),
    (
        "binrush_cluster_sync_held_packets",
        "Live packets that are held back until a sync ends.",
        |each| Some(each.sync.as_ref().map_or(0.0, |sync| sync.held as f64)),
    ),
    (
        "binrush_cluster_sync_held_bytes",
        "Bytes of live packets that are held back until a sync ends.",
        |each| {
            Some(
                each.sync
                    .as_ref()
                    .map_or(0.0, |sync| sync.held_bytes as f64),
            )
        },
    ),
    (
        "binrush_cluster_last_sync_seconds",
        "Time that the last sync of a capability took; none before the first one ended.",
        |each| each.last_sync.map(|(_, _, _, took_ms)| millis(took_ms)),
    ),
    (
        "binrush_cluster_donations_running",
        "Nodes that are given the records of a capability now.",
        |each| Some(each.donations.len() as f64),
    ),
    (
        "binrush_cluster_requests_waiting",
        "Nodes that asked for the records of a capability, and wait until our copy is verified.",
        |each| Some(each.requests_waiting.len() as f64),
    ),
    (
        "binrush_cluster_records",
        "Records of a capability that are kept here.",
        |each| Some(each.kept?.records as f64),
    ),
    (
        "binrush_cluster_records_bytes",
        "Memory that the records of a capability take here.",
        |each| Some(each.kept?.bytes as f64),
    ),
];

const CAPABILITY_COUNTERS: [ByCapability; 13] = [
    (
        "binrush_cluster_syncs_completed_total",
        "Syncs of a capability that brought all records of a donor.",
        |each| Some(each.completed as f64),
    ),
    (
        "binrush_cluster_syncs_abandoned_total",
        "Syncs of a capability that were given up.",
        |each| Some(each.abandoned as f64),
    ),
    (
        "binrush_cluster_donations_total",
        "Syncs of a capability that other nodes got from us.",
        |each| Some(each.donated as f64),
    ),
    (
        "binrush_cluster_donated_chunks_total",
        "Chunks in the syncs of a capability that other nodes got from us.",
        |each| Some(each.donated_chunks as f64),
    ),
    (
        "binrush_cluster_donated_without_socket_total",
        "Dialogs that were left out of syncs for other nodes, because the target lacks a socket of theirs.",
        |each| Some(each.withheld.no_socket as f64),
    ),
    (
        "binrush_cluster_donated_socketless_total",
        "Contacts that other nodes got from us without their socket, because the target lacks it.",
        |each| Some(each.withheld.socketless as f64),
    ),
    (
        "binrush_cluster_donated_provisional_total",
        "Dialogs that were left out of syncs for other nodes, because only updates told of them.",
        |each| Some(each.withheld.provisional as f64),
    ),
    (
        "binrush_cluster_records_refused_total",
        "Packets and chunks of a capability for whose record there was no room here.",
        |each| Some(each.kept?.full as f64),
    ),
    (
        "binrush_cluster_packets_astray_total",
        "Packets of a capability that change a record, or a field of one, that is not here.",
        |each| Some(each.kept?.astray as f64),
    ),
    (
        "binrush_cluster_packets_incomplete_total",
        "Packets of a capability that lack what a sync needs, so that their records are given to nobody.",
        |each| Some(each.kept?.incomplete as f64),
    ),
    (
        "binrush_cluster_records_passed_over_total",
        "Records of a capability that were passed over in syncs, because the node that asked does not read their layout.",
        |each| Some(each.kept?.passed_over as f64),
    ),
    (
        "binrush_cluster_packets_senseless_total",
        "Packets and chunks of a capability with a part that means nothing and was left out.",
        |each| Some(each.kept?.senseless as f64),
    ),
    (
        "binrush_cluster_records_expired_total",
        "Records of a capability that went because their time was over.",
        |each| Some(each.kept?.expired as f64),
    ),
];

const COPY_STATES: [CopyState; 4] = [
    CopyState::Unverified,
    CopyState::Syncing,
    CopyState::Verified,
    CopyState::Suspect,
];

/// What is had of one node is never without a word of its worth.
const PEER_STATES: [CopyState; 3] = [CopyState::Syncing, CopyState::Verified, CopyState::Suspect];

const FATES: [Fate; 3] = [
    ("received", |each| each.received),
    ("ignored", |each| each.ignored),
    ("sent", |each| each.sent),
];

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::exposition::Exposition;
    use super::*;
    use crate::control::facts::tests::sample;
    use crate::metrics::Tables;
    use binrush_engine::cluster::config::{CLUSTERS_MAX, NODES_MAX};

    #[track_caller]
    fn page(clusters: Vec<ClusterFacts>) -> Exposition {
        let text = text(clusters);
        Exposition::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn text(facts: Vec<ClusterFacts>) -> String {
        let clusters = Clusters {
            facts,
            tags: vec![(1, vec!["vip".into(), "spare".into()])],
            ..Clusters::default()
        };
        Status::default().with(clusters, Tables::default()).text()
    }

    #[test]
    fn what_is_known_of_nodes_stands_under_their_ids() {
        let page = page(vec![sample()]);
        let of = |name: &str, node| {
            let name = format!("binrush_cluster_{name}");
            page.value(&name, &[("cluster", "1"), ("node", node)])
        };
        for (name, first, second) in [
            ("node_up", Some(1.0), Some(0.0)),
            ("node_reachable", Some(1.0), Some(0.0)),
            ("node_neighbours", Some(1.0), Some(1.0)),
            ("node_heard_seconds", Some(0.012), Some(5.24)),
            ("node_pong_seconds", Some(0.001), None),
            ("node_ups_total", Some(2.0), Some(0.0)),
            ("node_downs_total", Some(1.0), Some(0.0)),
        ] {
            assert_eq!((of(name, "1"), of(name, "12")), (first, second), "{name}");
            assert_eq!(of(name, "3"), None, "{name}: we are no other node");
        }
        assert_eq!(of("info", "3"), Some(1.0));
        let info = [
            ("cluster", "1"),
            ("node", "12"),
            ("url", "bin:10.0.0.12:5566"),
            ("release", "2.4 (told)"),
            ("learned", "yes"),
        ];
        assert_eq!(page.value("binrush_cluster_node_info", &info), Some(1.0));
    }

    #[test]
    fn what_our_copies_are_worth_stands_under_their_capabilities() {
        let page = page(vec![sample()]);
        let of = |name: &str, capability| {
            let name = format!("binrush_cluster_{name}");
            page.value(&name, &[("cluster", "1"), ("capability", capability)])
        };
        for (name, first, second) in [
            ("copy_offered", Some(0.0), Some(1.0)),
            ("sync_running", Some(1.0), Some(0.0)),
            ("sync_age_seconds", Some(2.3), None),
            ("sync_chunks", Some(12_000.0), None),
            ("sync_held_packets", Some(120.0), Some(0.0)),
            ("sync_held_bytes", Some(40_960.0), Some(0.0)),
            ("last_sync_seconds", Some(15.0), Some(1.204)),
            ("donations_running", Some(0.0), Some(1.0)),
            ("requests_waiting", Some(1.0), Some(0.0)),
            ("syncs_completed_total", Some(0.0), Some(2.0)),
            ("syncs_abandoned_total", Some(1.0), Some(0.0)),
            ("donations_total", Some(0.0), Some(3.0)),
            ("donated_chunks_total", Some(0.0), Some(240_000.0)),
            ("donated_without_socket_total", Some(0.0), Some(7.0)),
            ("donated_socketless_total", Some(0.0), Some(40.0)),
            ("donated_provisional_total", Some(0.0), Some(2.0)),
            ("records", None, Some(80_000.0)),
            ("records_bytes", None, Some(35_680_000.0)),
            ("records_refused_total", None, Some(1.0)),
            ("packets_astray_total", None, Some(12.0)),
            ("packets_incomplete_total", None, Some(3.0)),
            ("records_passed_over_total", None, Some(2_000.0)),
            ("packets_senseless_total", None, Some(5.0)),
            ("records_expired_total", None, Some(700.0)),
        ] {
            let found = ["dialog-dlg-repl", "usrloc-contact-repl"].map(|each| of(name, each));
            assert_eq!(found, [first, second], "{name}");
        }
        let state = |capability, state| {
            let labels = [
                ("cluster", "1"),
                ("capability", capability),
                ("state", state),
            ];
            page.value("binrush_cluster_copy_state", &labels)
        };
        assert_eq!(state("dialog-dlg-repl", "syncing"), Some(1.0));
        assert_eq!(state("dialog-dlg-repl", "verified"), Some(0.0));
        assert_eq!(page.sum("binrush_cluster_copy_state", &[]), 2.0);
    }

    #[test]
    fn a_capability_that_only_others_have_is_never_a_label() {
        let page = page(vec![sample()]);
        let synced = |node, capability| {
            let labels = [("cluster", "1"), ("node", node), ("capability", capability)];
            page.value("binrush_cluster_node_synced", &labels)
        };
        assert_eq!(synced("1", "dialog-dlg-repl"), Some(1.0));
        assert_eq!(synced("12", "dialog-dlg-repl"), Some(0.0));
        assert_eq!(synced("1", "ratelimit-pipe-repl"), None);
        assert!(!text(vec![sample()]).contains("ratelimit"));
    }

    #[test]
    fn messages_are_told_by_kind_and_what_became_of_them() {
        let page = page(vec![sample()]);
        let count = |kind, fate| {
            let labels = [("cluster", "1"), ("kind", kind), ("fate", fate)];
            page.value("binrush_cluster_messages_total", &labels)
        };
        assert_eq!(count("ping", "received"), Some(900.0));
        assert_eq!(count("ping", "ignored"), Some(1.0));
        assert_eq!(count("ping", "sent"), Some(1800.0));
        assert_eq!(count("mi_cmd", "received"), Some(0.0));
    }

    #[test]
    fn who_has_a_tag_of_ours_is_told_and_a_tag_of_others_is_never_a_label() {
        let mut tagged = sample();
        tagged.tags.push(TagFacts {
            name: "theirs".into(),
            active: Some(12),
        });
        let page = page(vec![tagged.clone()]);
        let of = |tag| {
            page.value(
                "binrush_cluster_tag_node",
                &[("cluster", "1"), ("tag", tag)],
            )
        };
        assert_eq!((of("vip"), of("spare")), (Some(1.0), Some(0.0)));
        assert_eq!(of("theirs"), None);
        // Nor is one of ours in a cluster that we know it not of.
        tagged.cluster = 2;
        assert!(!text(vec![tagged]).contains("binrush_cluster_tag_node"));
    }

    #[test]
    fn what_was_left_out_is_counted_and_trouble_is_no_health() {
        let clusters = Clusters {
            left_out: vec![("generic", 996), ("tag", 0)],
            trouble: Some("it has ended".into()),
            ..Clusters::default()
        };
        let status = Status::default().with(clusters.clone(), Tables::default());
        assert_eq!(status.trouble.as_deref(), Some("it has ended"));
        let page = Exposition::parse(&status.text()).unwrap();
        let name = "binrush_cluster_notices_left_out_total";
        assert_eq!(page.value(name, &[("kind", "generic")]), Some(996.0));
        assert_eq!(page.value(name, &[("kind", "tag")]), Some(0.0));
        assert_eq!(page.value("binrush_healthy", &[]), Some(0.0));
        let worse = Status {
            trouble: Some("a shard has ended".into()),
            ..Status::default()
        };
        let told = worse.with(clusters, Tables::default()).trouble;
        assert_eq!(told.as_deref(), Some("a shard has ended"));
    }

    #[test]
    fn texts_of_other_nodes_are_escaped() {
        let mut odd = sample();
        odd.nodes[1].url = "bin:\"\\\n\u{9b}".into();
        odd.capabilities[0].name = "a\"b".into();
        page(vec![odd]);
    }

    #[test]
    fn without_a_cluster_nothing_is_said_of_any() {
        assert!(!text(Vec::new()).contains("binrush_cluster"));
    }

    #[test]
    fn as_many_full_clusters_as_there_may_be_are_a_page_of_bounded_size() {
        let full = |cluster: usize| {
            let mut full = sample();
            full.cluster = i32::MAX - i32::try_from(cluster).unwrap();
            full.nodes = (0..NODES_MAX)
                .map(|node| {
                    let mut copy = full.nodes[1].clone();
                    copy.id = i32::MAX - i32::try_from(node).unwrap();
                    copy
                })
                .collect();
            full
        };
        page((0..2).map(full).collect());
        let text = text((0..CLUSTERS_MAX).map(full).collect());
        assert!(text.len() < 8 << 20, "{}", text.len());
    }
}
