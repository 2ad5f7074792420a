//! Which clusters there are: whether what was said of each fits together, and fits the rest of the configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use binrush_wire::{MAX_PACKET_LEN_4_0, Release};

use super::capability::{self, Copies, Wanted};
use super::{Clusters, Written};
use crate::access::Cidr;
use crate::cluster::config::{
    CLUSTERS_MAX, CapabilityConfig, ClusterConfig, NODES_MAX, NodeConfig, SyncLimits, Timers,
};
use crate::config::error::{Problem, Topic, quoted};
use crate::config::listener::Listener;
use crate::config::modules::Part;
use crate::config::parameters::Parameters;
use crate::config::source::{Excerpt, Place};
use crate::link::LINKS_MAX;
use crate::stream::PeerTable;
use crate::tls::TlsDomain;

/// What the rest of the configuration says about clusters.
#[derive(Debug, Clone, Copy)]
pub(in crate::config) struct Around<'a> {
    pub(in crate::config) parameters: &'a Parameters,
    pub(in crate::config) listeners: &'a [Listener],
    /// What is known of the other nodes.
    pub(in crate::config) senders: &'a PeerTable,
    /// The domains for connections that we begin, in the order in which they are asked.
    pub(in crate::config) client_domains: &'a [TlsDomain],
    /// Where `clusterer` is loaded, if it is.
    pub(in crate::config) loaded: Option<&'a Place>,
    /// `cluster_release`.
    pub(in crate::config) release: Release,
    /// `cluster_learn`.
    pub(in crate::config) learn: &'a [Cidr],
    /// `hold_bytes`.
    pub(in crate::config) hold_bytes: Option<usize>,
}

/// What the parameters amount to.
#[derive(Debug, Default)]
pub(in crate::config) struct Settled {
    /// By id.
    pub(in crate::config) clusters: Vec<ClusterConfig>,
    pub(in crate::config) problems: Vec<Problem>,
    pub(in crate::config) warnings: Vec<(Topic, Place, String)>,
}

/// What was said of one cluster.
#[derive(Debug, Default)]
struct Draft<'a> {
    me: Option<&'a Written>,
    neighbours: Vec<&'a Written>,
}

impl Clusters {
    /// The clusters, each with all that is known of it from the start.
    pub(in crate::config) fn settle(&self, around: Around<'_>) -> Settled {
        let mut settled = Settled::default();
        if self.was_refused {
            return settled;
        }
        if self.nodes.is_empty() {
            settled.tell_why_there_is_none(around);
            return settled;
        }
        settled.tell_of_the_database(&self.nodes[0], around.parameters);
        let drafts = settled.drafts(&self.nodes);
        let my_id = settled.my_id(self, around.parameters);
        let mut clusters = BTreeMap::new();
        for (id, draft) in &drafts {
            let cluster = settled.cluster(*id, draft, my_id, around);
            clusters.extend(cluster.map(|cluster| (*id, cluster)));
        }
        let known: Vec<i32> = drafts.into_keys().collect();
        self.settle_tags(&mut settled, &known, &mut clusters);
        self.settle_capabilities(&mut settled, &known, &mut clusters, around.parameters);
        settled.clusters = clusters.into_values().collect();
        settled
    }

    fn settle_tags(
        &self,
        settled: &mut Settled,
        known: &[i32],
        clusters: &mut BTreeMap<i32, ClusterConfig>,
    ) {
        for (tag, excerpt) in &self.tags {
            let name = quoted(&tag.name);
            if !known.contains(&tag.cluster) {
                let message = format!("sharing_tag: {}", no_cluster(tag.cluster, known));
                settled.refuse(excerpt, message);
                continue;
            }
            // One that is not among the clusters was refused for something else.
            let Some(cluster) = clusters.get_mut(&tag.cluster) else {
                continue;
            };
            if tag.is_active {
                let message = format!(
                    "binrush takes no sharing tag by itself: it knows {name} of cluster {} as backup, and tells which node \
                     has it",
                    tag.cluster
                );
                settled.warn(Topic::Other, excerpt, message);
            }
            if cluster.tags.contains(&tag.name) {
                continue;
            }
            if cluster.tags.len() == TAGS_MAX {
                let message = format!(
                    "sharing_tag: {name} is one tag too many: at most {TAGS_MAX} expected in a cluster"
                );
                settled.refuse(excerpt, message);
                continue;
            }
            cluster.tags.push(tag.name.clone());
        }
    }

    fn settle_capabilities(
        &self,
        settled: &mut Settled,
        known: &[i32],
        clusters: &mut BTreeMap<i32, ClusterConfig>,
        parameters: &Parameters,
    ) {
        for wanted in capability::wanted(parameters) {
            let Wanted {
                part,
                parameter,
                cluster,
                capability,
                copy,
            } = wanted;
            let excerpt = &self.places[&(part, parameter)];
            if !known.contains(&cluster) {
                settled.refuse(
                    excerpt,
                    format!("{parameter}: {}", no_cluster(cluster, known)),
                );
                continue;
            }
            let sync = match copy {
                Copies::Synced => true,
                Copies::Live => false,
                Copies::Assumed(doubt) => {
                    settled.warn(Topic::Other, excerpt, format!("{parameter}: {doubt}"));
                    true
                }
                Copies::None(why) => {
                    settled.warn(Topic::Other, excerpt, format!("{parameter}: {why}"));
                    continue;
                }
                Copies::Wrong(expected) => {
                    settled.refuse(excerpt, format!("{parameter}: {expected}"));
                    continue;
                }
            };
            if let Some(cluster) = clusters.get_mut(&cluster) {
                let name = capability.to_owned();
                cluster.capabilities.push(CapabilityConfig { name, sync });
            }
        }
    }
}

impl Settled {
    pub(super) fn refuse(&mut self, excerpt: &Excerpt, message: impl Into<String>) {
        self.problems.push(Problem::at(excerpt.clone(), message));
    }

    fn warn(&mut self, topic: Topic, excerpt: &Excerpt, message: String) {
        self.warnings.push((topic, excerpt.place.clone(), message));
    }

    /// Without nodes nobody is met, which an operator with a database does not expect.
    fn tell_why_there_is_none(&mut self, around: Around<'_>) {
        let Some(place) = around.loaded else {
            return;
        };
        let why = match around.parameters.int(Part::Clusterer, "db_mode") {
            Some(0) => "no my_node_info says which node this is",
            _ => "OpenSIPS has the nodes in a database (db_mode), and binrush does not read one",
        };
        let message = format!(
            "clusterer: {why}, so this node is in no cluster, and the packets of clusters are read and counted: `modparam(\
             \"clusterer\", \"my_node_info\", \"cluster_id=1, node_id=2, url=bin:IP:PORT\")` and neighbor_node_info for each \
             other node, with db_mode 0"
        );
        self.warnings.push((Topic::Other, place.clone(), message));
    }

    /// A genuine node ignores what the script says of nodes as long as `db_mode` is 1, which it is by itself.
    fn tell_of_the_database(&mut self, first: &Written, parameters: &Parameters) {
        if parameters.int(Part::Clusterer, "db_mode") != Some(0) {
            let message = "the nodes written here count, though db_mode is not 0: binrush reads no database (OpenSIPS would read \
                           them there, and ignore these)";
            self.warn(Topic::Other, &first.excerpt, message.to_owned());
        }
    }

    /// What was said, by the id of the cluster: each node once, and no more than there can be.
    fn drafts<'a>(&mut self, nodes: &'a [Written]) -> BTreeMap<i32, Draft<'a>> {
        let mut drafts = BTreeMap::<i32, Draft<'_>>::new();
        let mut links = 0;
        for written in nodes {
            let id = written.info.cluster;
            if !drafts.contains_key(&id) && drafts.len() == CLUSTERS_MAX {
                let message = format!(
                    "one cluster too many: at most {CLUSTERS_MAX} expected, {id} is one more"
                );
                self.refuse(&written.excerpt, message);
                return drafts;
            }
            let draft = drafts.entry(id).or_default();
            let before = match written.is_me {
                true => draft.me,
                false => {
                    let mut known = draft.neighbours.iter();
                    known
                        .find(|known| known.info.id == written.info.id)
                        .copied()
                }
            };
            if let Some(before) = before {
                let what = match (written.is_me, written.info.id) {
                    (false, Some(node)) => format!("node {node}"),
                    _ => "my_node_info".to_owned(),
                };
                let place = &before.excerpt.place;
                let message = format!(
                    "{what} of cluster {id} is there already, in {place}: each node once expected"
                );
                self.refuse(&written.excerpt, message);
            } else if written.is_me {
                draft.me = Some(written);
            } else if draft.neighbours.len() + 1 == NODES_MAX {
                let message = format!(
                    "one node too many: at most {NODES_MAX} expected in cluster {id}, this one included"
                );
                self.refuse(&written.excerpt, message);
                return drafts;
            } else if links == LINKS_MAX {
                // Each needs a link, and who got none would be down for good.
                let message = format!(
                    "one neighbour too many: at most {LINKS_MAX} expected in all clusters together"
                );
                self.refuse(&written.excerpt, message);
                return drafts;
            } else {
                draft.neighbours.push(written);
                links += 1;
            }
        }
        drafts
    }

    /// Our id, which is the same in all clusters: that of `my_node_id`, or of the first `my_node_info` that has one.
    fn my_id(&mut self, clusters: &Clusters, parameters: &Parameters) -> Option<i32> {
        let mine = clusters.nodes.iter().filter(|written| written.is_me);
        let mut said = parameters
            .int(Part::Clusterer, "my_node_id")
            .map(|id| (id, &clusters.places[&(Part::Clusterer, "my_node_id")]));
        for written in mine {
            match (written.info.id, said) {
                (Some(id), None) => said = Some((id, &written.excerpt)),
                (Some(id), Some((known, excerpt))) if id != known => {
                    let place = &excerpt.place;
                    let message = format!(
                        "my_node_info: node_id {known} expected, as in {place}, not {id}: a node has one id in all clusters"
                    );
                    self.refuse(&written.excerpt, message);
                }
                _ => {}
            }
        }
        said.map(|(id, _)| id)
    }

    fn cluster(
        &mut self,
        id: i32,
        draft: &Draft<'_>,
        my_id: Option<i32>,
        around: Around<'_>,
    ) -> Option<ClusterConfig> {
        let Some(written) = draft.me else {
            let message = format!(
                "cluster {id} has no my_node_info: `modparam(\"clusterer\", \"my_node_info\", \"cluster_id={id}, \
                 url=bin:IP:PORT\")` expected, with an address of `listen`"
            );
            self.refuse(&draft.neighbours.first()?.excerpt, message);
            return None;
        };
        let Some(my_id) = my_id else {
            let message = "my_node_info: node_id is missing: \"cluster_id=..., node_id=..., url=...\" expected, or `modparam(\
                           \"clusterer\", \"my_node_id\", 1)`";
            self.refuse(&written.excerpt, message);
            return None;
        };
        let me = self.me(written, my_id, around)?;
        let mut neighbours = Vec::<NodeConfig>::new();
        for written in &draft.neighbours {
            let Some(node) = self.neighbour(written, me.url, around) else {
                continue;
            };
            let known = || neighbours.iter().chain([&me]);
            let at_its_address = known().find(|known| known.url.addr == node.url.addr);
            if node.id == my_id {
                let message = format!(
                    "neighbor_node_info: node {my_id} of cluster {id} is this one: the id of another expected"
                );
                self.refuse(&written.excerpt, message);
            } else if let Some(known) = at_its_address {
                let message = format!(
                    "neighbor_node_info: {} is node {} of cluster {id}: the address of another expected",
                    node.url.addr, known.id
                );
                self.refuse(&written.excerpt, message);
            } else {
                neighbours.push(node);
            }
        }
        if draft.neighbours.is_empty() && around.learn.is_empty() {
            let message = format!(
                "this node is alone in cluster {id}: neighbor_node_info for each other one, or `modparam(\"binrush\", \
                 \"cluster_learn\", \"10.0.0.0/24\")` for those that introduce themselves"
            );
            self.warn(Topic::Other, &written.excerpt, message);
        }
        Some(ClusterConfig {
            id,
            me,
            neighbours,
            timers: timers(around.parameters),
            release: around.release,
            learn: around.learn.to_vec(),
            capabilities: Vec::new(),
            tags: Vec::new(),
            sync: self.sync_limits(written, around),
        })
    }

    fn sync_limits(&mut self, written: &Written, around: Around<'_>) -> SyncLimits {
        let defaults = SyncLimits::default();
        let wanted = number(around.parameters, "sync_packet_size");
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        // One warning, however many clusters there are.
        let is_told = self
            .warnings
            .iter()
            .any(|(_, _, message)| message.starts_with("sync_packet_size"));
        if wanted > MAX_PACKET_LEN_4_0 && !is_told {
            let message = format!(
                "sync_packet_size: packets of {wanted} bytes cannot be sent: they have {MAX_PACKET_LEN_4_0}, which is the most"
            );
            self.warn(Topic::Other, &written.excerpt, message);
        }
        SyncLimits {
            hold_bytes: around.hold_bytes.unwrap_or(defaults.hold_bytes),
            packet_len: wanted.min(MAX_PACKET_LEN_4_0),
            ..defaults
        }
    }
}

fn timers(parameters: &Parameters) -> Timers {
    let seconds = |name| Duration::from_secs(number(parameters, name).into());
    let ping_timeout = Duration::from_millis(number(parameters, "ping_timeout").into());
    Timers {
        ping_interval: seconds("ping_interval"),
        ping_timeout,
        // 0 is at each tick of a genuine node's timer; here it must not mean all the time.
        node_timeout: seconds("node_timeout").max(ping_timeout),
        seed_fallback: seconds("seed_fallback_interval"),
        sync_timeout: seconds("sync_timeout"),
    }
}

/// The number in effect for a parameter of `clusterer` that has a default.
fn number(parameters: &Parameters, name: &str) -> u32 {
    let number = parameters.int(Part::Clusterer, name);
    let number = number.expect("it has a default");
    u32::try_from(number).expect("the table has no negative one")
}

fn no_cluster(cluster: i32, known: &[i32]) -> String {
    let shown: Vec<_> = known.iter().take(SHOWN_MAX).map(i32::to_string).collect();
    let more = if known.len() > SHOWN_MAX { ", ..." } else { "" };
    format!(
        "there is no cluster {cluster}: one that a my_node_info is for expected ({}{more})",
        shown.join(", ")
    )
}

/// Sharing tags of one cluster.
const TAGS_MAX: usize = 64;

/// What a message lists at most.
pub(super) const SHOWN_MAX: usize = 8;
